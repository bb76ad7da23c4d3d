"""Build a cascade from a short description, store it with that description, and find the shipped ones by name."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lddr.cascade import RecursiveCascade
from lddr.config import Config
from lddr.errors import InputError
from lddr.files import atomic_write
from lddr.networks import LDR, VTN, LDRReleased, LightAffine, VoxelMorph, VTNAffine

WEIGHTS = Path(__file__).parent / "weights"
Size = Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=3, max_length=3)]  # 16: four halvings leave 1


class ModelConfig(Config):
    """A cascade in a few words."""

    network: Literal["ldr", "ldr_released", "vtn", "voxelmorph"] = Field("ldr", description="the dense stems")
    affine: Literal["light", "vtn", "none"] = Field("light", description="the first stem")
    cascades: int = Field(1, ge=1, le=10, description="number of dense stems")
    width: int = Field(16, ge=1, description="channels after the first convolution of ldr and vtn (the paper: 16)")
    levels: int = Field(6, ge=3, le=6, description="halvings of vtn (the paper: 6, made for sides of 128 voxels)")
    size: Size = Field([64] * 3, description="the volumes it is trained on, voxels")


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
    with atomic_write(path) as part:
        save_file(weights, part, {"model": config.model_dump_json(), "about": json.dumps(about)})


def load_model(name_or_path: str | Path) -> tuple[RecursiveCascade, ModelConfig, dict[str, Any]]:
    """Load a shipped model by name, or any saved one by path (chapter 00).

    Args:
        name_or_path: a name from `shipped_models`, or a `.safetensors` file.

    Returns:
        The cascade (CPU, float32, ready to infer), how it is built, and what is known about it.

    Raises:
        InputError: no such model or file, or not a file that `save_model` wrote.
    """
    path = Path(name_or_path)
    manifest = shipped_models()
    shipped = manifest.get(str(name_or_path), {})
    if shipped:
        path = WEIGHTS / shipped["file"]
    elif not path.is_file():
        raise InputError(f"{name_or_path}: neither a file nor a shipped model (those are {', '.join(manifest)}).")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        config, about = ModelConfig.check(json.loads(metadata["model"])), json.loads(metadata["about"])
        model = build_model(config)
        model.load_state_dict(load_file(path))  # float16 becomes float32
    except (SafetensorError, KeyError, OSError, json.JSONDecodeError, RuntimeError):  # the last: of another model
        message = f"{path}: not a model saved by lddr (expected a .safetensors file with its description)."
        raise InputError(message) from None
    about |= {name: shipped[name] for name in ("recipe", "seed") if name in shipped}  # older weights do not say
    return model.eval(), config, about


def shipped_models() -> dict[str, dict[str, Any]]:
    """List the models of the package: name -> file, dataset, cascades, objective, dice, licence, ..."""
    return json.loads((WEIGHTS / "manifest.json").read_text())


def weights_hash(model: RecursiveCascade) -> str:
    """SHA-256 of all weights, in order: two models with the same hash give the same displacements."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
