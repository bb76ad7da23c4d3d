"""Light-weight deformable registration, small enough to read in a day.

Data flows one way through these rooms; no module imports one that stands further down:

- `kernels`: the same for a CPU, as compiled loops; `warping` uses them by itself
- `warping`: move an image along a displacement field; combine, measure and invert such fields
- `losses`, `objective`, `metrics`: what training minimises, and what a table shows
- `networks`, `cascade`, `models`: LDR, VTN, VoxelMorph and the affine stems; stems in a row; built, saved and loaded
- `data`: scans on a grid, gathered in cohorts; `record`: where a number comes from
- `infer`: register scans, measure pairs, adapt to a pair; `deploy`: what a model costs
- `train`: draw pairs, warp, compare, step; alone or with a teacher
- `cli`: the command line

The names below are taken from the module that defines them when they are first asked for, so `import lddr` is quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOME = {
    "warping": "identity_grid warp warp_labels compose affine_displacement compose_with_affine "
    "displacement_with_affine warp_with_affine jacobian jacobian_determinant resize_displacement invert "
    "integrate_velocity",
    "losses": "covariance corrcoef corrcoef_loss smoothness orthogonality volume_change",
    "objective": "LossWeights reconstruction_loss",
    "metrics": "overlap hd95 regularity nanmean",
    "free_form": "free_form_field",
    "networks.discriminator": "Discriminator DiscriminatorReleased",
    "data.simulated": "SimulatedCohort",
    "networks": "LDR VTN VoxelMorph LDRReleased LightAffine VTNAffine",
    "cascade": "RecursiveCascade Registration",
    "models": "ModelConfig build_model save_model load_model shipped_models weights_hash",
    "errors": "InputError DivergedError",
    "data.cohort": "Cohort evaluation_pairs",
    "data.registry": "DATASETS load_cohort",
    "data.nifti": "Scan read_image read_labels write_nifti",
    "data.grid": "normalise grid_affine to_grid",
    "record": "Record Method machine read_record write_record",
    "infer.evaluate": "Registrar by_network evaluate measure summarise on_finer_grid",
    "infer.adapt": "adapt by_adapted_network",
    "infer.classical": "ants_syn elastix",
    "infer.maps": "PointMap GridMap",
    "infer.register": "bring_together find_map register",
    "infer.formats": "read_displacement save_displacement",
    "train.config": "TrainConfig DistillConfig RunConfig",
    "train.sampling": "Batch random_pairs draw_batch refuse_augmentation",
    "train.augment": "augment",
    "train.distill": "Distillation adversarial_step critic_gap gradient_penalty joint_deformation",
    "train.loop": "fit learning_rate",
    "train.teacher": "StoredTeacher extract on_the_fly",
    "train.run": "load_splits make_distillation train_run validator",
    "deploy.cost": "count_parameters count_macs peak_memory",
    "deploy.bench": "latency",
}
HOME = {name: f"lddr.{module}" for module, names in _HOME.items() for name in names.split()}  # name -> its module
__all__ = sorted(HOME)


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"lddr has no '{name}'; its names are {', '.join(__all__)}")
    return getattr(import_module(HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
