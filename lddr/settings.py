"""The parameters of the book's notebooks: one typed set for all chapters, so that one YAML file fits every notebook.

A chapter declares the parameters it uses as literals in the cell tagged `parameters`; papermill puts the values of a
YAML file or of `-p name value` after it; `Settings.from_notebook(globals())` checks the lot.
"""

from typing import Any, Literal, Self, TypeVar

from pydantic import Field

from lddr.config import Config
from lddr.data import Dataset
from lddr.distill import DistillConfig, Objective
from lddr.models import ModelConfig, Size
from lddr.training import FitConfig

Part = TypeVar("Part", bound=Config)


class Settings(FitConfig, ModelConfig, DistillConfig):
    """What can be changed from outside in a chapter: how to train, what, with which teacher, on which scans."""

    dataset: Dataset = Field("simulated_brains", description="which scans")
    subjects: int | None = Field(None, ge=2, description="use only the first so many of each split; null: all")
    train_subjects: int | None = Field(None, ge=2, description="train on the first so many only; null: all")
    fold: int = Field(0, ge=0, le=3, description="which quarter of the liver scans is the test split")
    pairs: Literal["ring", "all", "couples"] = Field("ring", description="of the test subjects, see `evaluation_pairs`")
    fine_size: Size | None = Field(None, description="test labels are warped on this finer grid; null: on `size`")
    objective: Objective = "none"
    start: str | None = Field(None, description="a model training starts from; null: from scratch")
    teacher: str | None = Field(None, description="a shipped model's name, or a .safetensors file; null: no teacher")
    store: str | None = Field(None, description="HDF5 file of the teacher's displacements; null: ask it on the fly")
    store_pairs: int = Field(1000, ge=1, description="random training pairs drawn for the store, doubles dropped")
    model: str = Field("simulated_brains", description="a shipped model's name, or a .safetensors file")
    moving: int = Field(0, ge=0, description="index of the moving subject in the test split")
    fixed: int = Field(1, ge=0, description="index of the fixed subject in the test split")
    fixed_file: str | None = Field(None, description="NIfTI file of the scan that stays; null: a simulated one")
    moving_file: str | None = Field(None, description="NIfTI file of the scan that is warped; null: a simulated one")
    fixed_labels_file: str | None = Field(None, description="labels of the scan that stays, to measure with")
    moving_labels_file: str | None = Field(None, description="labels of the scan that is warped, warped along")
    scans: str | None = Field(None, description="folder of NIfTI scans to fine-tune on; null: simulated ones")
    out: str | None = Field(None, description="folder for registered scans; null: a temporary one")
    folder: str | None = Field(None, description="where a training run keeps checkpoint and log; null: nowhere")
    record: str | None = Field(None, description="JSON file for the record of this run; null: none")
    weights: str | None = Field(None, description=".safetensors file for the trained weights; null: none")

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """Collect and check the parameters of a notebook.

        Args:
            namespace: `globals()` of the notebook, right after the `parameters` cell: every lower-case name in it that
                holds a plain value (number, text, list, true/false, null) counts as a parameter.

        Raises:
            InputError: an unknown name, a wrong type or a value out of range.
        """
        plain = (str, int, float, bool, list, dict, type(None))
        return cls.check({k: v for k, v in namespace.items() if isinstance(v, plain) and k[0].islower()})

    def _part(self, kind: type[Part]) -> Part:
        return kind.check({name: getattr(self, name) for name in kind.model_fields})

    @property
    def fit_config(self) -> FitConfig:
        """The part that `fit` reads."""
        return self._part(FitConfig)

    @property
    def cascade_config(self) -> ModelConfig:
        """The part that `build_model` reads."""
        return self._part(ModelConfig)

    @property
    def distill_config(self) -> DistillConfig:
        """The part that `Distillation` reads."""
        return self._part(DistillConfig)
