"""Build a cascade from a short description, store it with that description, and find the shipped ones by name."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.config import Config
from lddr.errors import InputError, unreadable
from lddr.files import atomic_write
from lddr.networks import LDR, VTN, LDRReleased, LightAffine, VoxelMorph, VTNAffine

WEIGHTS = Path(__file__).parent / "weights"
Side = Annotated[int, Field(ge=16, le=512)]  # 16: four halvings leave 1
Size = Annotated[list[Side], Field(min_length=3, max_length=3)]


class ModelConfig(Config):
    """A cascade in a few words."""

    network: Literal["ldr", "ldr_released", "vtn", "voxelmorph"] = Field("ldr", description="the dense stems")
    affine: Literal["light", "vtn", "none"] = Field("light", description="the first stem")
    cascades: int = Field(1, ge=1, le=10, description="number of dense stems")
    width: int = Field(
        16, ge=1, le=64, description="channels after the first convolution of ldr and vtn (the paper: 16)"
    )
    levels: int = Field(6, ge=3, le=6, description="halvings of vtn (the paper: 6, made for sides of 128 voxels)")
    size: Size = Field([64] * 3, description="the volumes it is trained on, voxels")


class About(Config):
    """What a file of weights says about itself and what is used of it; all of it may be missing, more may be there."""

    model_config = ConfigDict(extra="allow")

    dataset: str | None = None
    spacing: float | None = Field(None, gt=0, description="millimetres between the voxels of the network's grid")
    fold: int | None = Field(None, ge=0)
    objective: str | None = None
    recipe: str | None = None
    seed: int | None = None
    licence: str | None = None


def build_model(config: ModelConfig, seed: int | None = None) -> RecursiveCascade:
    """Build an untrained cascade; near the identity, because every head starts near zero (chapter 06).

    The seed is that of the starting weights; None takes PyTorch's current state.
    """
    if seed is not None:
        torch.manual_seed(seed)
    make_dense = {
        "ldr": lambda: LDR(config.width),
        "ldr_released": LDRReleased,
        "vtn": lambda: VTN(config.width, config.cascades, config.levels),
        "voxelmorph": VoxelMorph,
    }[config.network]
    make_affine = {
        "light": lambda: LightAffine(config.width),
        "vtn": lambda: VTNAffine(config.size, config.width, config.levels),
        "none": lambda: None,
    }[config.affine]
    return RecursiveCascade(make_affine(), [make_dense() for _ in range(config.cascades)])


def save_model(
    path: str | Path, model: RecursiveCascade, config: ModelConfig, about: dict[str, Any], half: bool = True
) -> None:
    """Write weights and description into one safetensors file, whole or not at all.

    Args:
        path: where; ends in `.safetensors`.
        model, config: the cascade and how to build it again.
        about: what else a user should know: dataset, spacing, objective, dice, licence, record, ...
        half: store float16 (half the size; the loss in Dice is far below a thousandth).
    """
    weights = {k: v.detach().cpu().to(torch.float16 if half else v.dtype) for k, v in model.state_dict().items()}
    metadata = {"model": config.model_dump_json(), "about": json.dumps(about)}
    content = save(weights, metadata | {"sha256": _digest(metadata, weights)})
    with atomic_write(path) as part:  # `save_file` would leave a file that only its owner may read
        part.write_bytes(content)


def _digest(metadata: Mapping[str, str], weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of description and weights; the file format itself has no checksum."""
    digest = hashlib.sha256(json.dumps([metadata["model"], metadata["about"]]).encode())
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {list(weights[name].shape)}".encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_model(name_or_path: str | Path) -> tuple[RecursiveCascade, ModelConfig, dict[str, Any]]:
    """Load a shipped model by name, or any saved one by path (chapter 00).

    Checksums are verified: of a shipped model the one in the list of models, of a saved one its own, if it is not older
    than these.

    Args:
        name_or_path: a name from `shipped_models`, or a `.safetensors` file.

    Returns:
        The cascade (CPU, float32, ready to infer), how it is built, and what is known about it.

    Raises:
        InputError: no such model or file, not a file that `save_model` wrote, damaged, or with weights that are not
            finite.
    """
    path = Path(os.path.expanduser(name_or_path))
    manifest = shipped_models()
    shipped = manifest.get(str(name_or_path), {})
    if shipped:
        path = WEIGHTS / shipped["file"]
    elif not os.path.isfile(path):
        raise InputError(f"{name_or_path}: neither a file nor a shipped model (those are {', '.join(manifest)}).")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    damaged = InputError(f"{path}: the weights are damaged; copy or download the file again.")
    if shipped.get("sha256", "") not in ("", hashlib.sha256(content).hexdigest()):
        raise damaged
    try:
        weights = load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        described, about = json.loads(metadata["model"]), json.loads(metadata["about"])
        if metadata.get("sha256", "") not in ("", _digest(metadata, weights)):
            raise damaged
        config, _ = ModelConfig.check(described), About.check(about)
        model = build_model(config)
        model.load_state_dict(weights)  # float16 becomes float32
    except InputError as error:
        raise error if error is damaged else InputError(f"{path}: its description is not usable. {error}") from None
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError):  # the last: of another model
        message = f"{path}: not a model saved by lddr (expected a .safetensors file with its description)."
        raise InputError(message) from None
    about |= {name: shipped[name] for name in ("recipe", "seed") if name in shipped}  # older weights do not say
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise InputError(f"{path}: some weights are NaN or infinite; train the model again.")
    return model.eval(), config, about


def shipped_models() -> dict[str, dict[str, Any]]:
    """List the models of the package: name -> file, dataset, cascades, objective, dice, licence, ..."""
    return json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))


def weights_hash(model: RecursiveCascade) -> str:
    """SHA-256 of all weights, in order: two models with the same hash give the same displacements."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
