"""The settings of a training run, composed of parts that each say one thing.

A part is a typed `Config`; a file or a command line names the settings of all parts side by side, as no two parts use
the same name for different things. `RunConfig.check` hands each value to the parts that know its name.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from lddr.config import Config, UserPath, unknown_name
from lddr.data.registry import DatasetName
from lddr.errors import InputError
from lddr.models import ModelConfig, Size
from lddr.objective import LossWeights


class TrainConfig(Config):
    """How a model is trained, apart from the model, the images and the loss; chapter 06."""

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch: int = Field(1, ge=1, le=10_000, description="pairs a step")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, at the start")
    schedule: Literal["cosine", "paper", "released_none"] = Field("cosine", description="see `learning_rate`")
    augmentation: float = Field(0.0, ge=0, le=1, description="amplitude of the random bending of moving images")
    controls: int = Field(5, ge=5, le=32, description="control points of that bending along each axis")
    bend_fixed: bool = Field(False, description="bend fixed images as well")
    spread: float = Field(
        0.0, ge=0, le=2, description="of random turns, stretches, shears, shifts: see `random_affine`"
    )
    contrast: float = Field(0.0, ge=0, le=1, description="random tones that the network sees; see `recolour`")
    tone: float = Field(1.0, gt=0, description="power of the intensities in the loss; over 1 stretches bright tissues")
    mirror: bool = Field(False, description="mirror both images of a pair along random axes")
    seed: int = Field(0, ge=0, description="of pairs and augmentation; set the model's own before you build it")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1, description="how many of them; more than one trains data-parallel")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast in the networks")
    log_every: int = Field(10, ge=1)
    validate_every: int = Field(250, ge=1)
    checkpoint_every: int = Field(250, ge=1)


Objective = Literal["none", "l2", "warped", "paper", "wgan-gp", "released"]


class DistillConfig(Config):
    """The objective, its weights, and the learning strategy."""

    objective: Objective = "none"
    beta: float = Field(0.1, ge=0, le=1, description="share of the teacher in the joint deformation")
    gamma: float = Field(0.3, ge=0, le=1, description="weight of l_rec; l_dis has 1 - gamma")
    penalty: float = Field(0.1, ge=0, description="lambda, weight of the gradient penalty")
    every: int = Field(3, ge=1, description="the adversarial term enters on every so many steps")
    until: float = Field(1.0, ge=0, le=1, description="and only in this first share of the training")
    discriminator: Literal["text", "released"] = "text"
    discriminator_rate: float = Field(1e-4, gt=0, description="learning rate of the discriminator's Adam")


class DataConfig(Config):
    """Which scans a run is trained and tested on."""

    dataset: DatasetName = Field("simulated_brains", description="which scans")
    subjects: int | None = Field(None, ge=2, description="use only the first so many of each split; null: all")
    train_subjects: int | None = Field(None, ge=2, description="train on the first so many only; null: all")
    fold: int = Field(0, ge=0, le=3, description="which quarter of the liver scans is the test split")
    pairs: Literal["ring", "all", "couples"] = Field("ring", description="of the test subjects, see `evaluation_pairs`")
    fine_size: Size | None = Field(None, description="test labels are warped on this finer grid; null: on `size`")


class TeacherConfig(Config):
    """What training begins with and learns from besides the images."""

    start: UserPath | None = Field(None, description="a model training starts from; null: from scratch")
    teacher: UserPath | None = Field(
        None, description="a shipped model's name, or a .safetensors file; null: no teacher"
    )
    store: UserPath | None = Field(
        None, description="HDF5 file of the teacher's displacements; null: ask it on the fly"
    )
    store_pairs: int = Field(
        1000, ge=1, le=10_000_000, description="random training pairs drawn for the store, doubles dropped"
    )


class OutputConfig(Config):
    """What a run leaves behind, and where."""

    folder: UserPath | None = Field(None, description="where a training run keeps checkpoint and log; null: nowhere")
    record: UserPath | None = Field(None, description="JSON file for the record of this run; null: none")
    weights: UserPath | None = Field(None, description=".safetensors file for the trained weights; null: none")
    recipe: str = Field("plain", description="a word for this way of training, kept in the record")


PARTS: dict[str, type[Config]] = {
    "model": ModelConfig,
    "train": TrainConfig,
    "loss": LossWeights,
    "distill": DistillConfig,
    "data": DataConfig,
    "teaching": TeacherConfig,
    "output": OutputConfig,
}
FIELDS = {name: part for part in PARTS.values() for name in part.model_fields}


class RunConfig(Config):
    """One whole training run, as `lddr train` takes it."""

    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    loss: LossWeights = LossWeights()
    distill: DistillConfig = DistillConfig()
    data: DataConfig = DataConfig()
    teaching: TeacherConfig = TeacherConfig()
    output: OutputConfig = OutputConfig()

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings of flat names and values, for example read from YAML.

        Raises:
            InputError: an unknown name, a wrong type or a value out of range.
        """
        unknown = [unknown_name(name, FIELDS) for name in values if name not in FIELDS]
        if unknown:
            raise InputError(" ".join(unknown))
        parts = {key: part.check(pick(part, values)) for key, part in PARTS.items()}
        return cls(**parts)  # type: ignore[arg-type]

    def flat(self) -> dict[str, Any]:
        """List all settings by name, as a YAML file has them."""
        return {name: value for key in PARTS for name, value in getattr(self, key).model_dump().items()}


def pick(part: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the values that a part knows by name."""
    return {name: value for name, value in values.items() if name in part.model_fields}
