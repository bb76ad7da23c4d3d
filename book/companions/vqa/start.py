"""Weights that were learnt before any question was seen: written, read, and put into a model."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from companions.vqa.authors import authors_cdae, authors_meta, read_tensors
from companions.vqa.batches import Prepared
from companions.vqa.config import VqaConfig
from companions.vqa.meta_net import MetaNet
from companions.vqa.model import CDAE, META, VqaModel
from companions.vqa.questions import VqaData
from companions.vqa.radiology import folder, load_vqa_rad
from companions.vqa.simulated import load_simulated_vqa
from lddr.errors import InputError
from lddr.files import atomic_write

SIDE_BY_SIDE = 2  # meta-models of a model that starts from scratch and is built like MMQ's


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(path: str | Path, weights: Mapping[str, Tensor], best: Sequence[int] = (0,)) -> None:
    """Write weights, whole or not at all.

    Args:
        path: of the `.safetensors` file.
        weights: by name; those of MMQ's meta-models have their number in front.
        best: which of these are used.
    """
    with atomic_write(path) as part:
        save_file(
            {name: x.detach().contiguous() for name, x in weights.items()}, part, {"best": json.dumps(list(best))}
        )


def read_best(path: Path) -> list[int]:
    """Read which meta-models of a file are used."""
    read_tensors(path)  # refuses a file that is not there, or damaged
    with safe_open(path, "pt") as file:
        return json.loads((file.metadata() or {}).get("best", "[0]"))


def body(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Take the weights whose names begin with `prefix`, without it, and without statistics of the images."""
    kept = {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}
    return {name: x for name, x in kept.items() if "running" not in name and "batches" not in name}


def fill(net: MetaNet, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a `MetaNet`; running statistics, and what the authors' file lacks, stay as they are."""
    missing, unknown = net.load_state_dict(dict(weights), strict=False)
    if unknown or any(int(name.split(".")[1]) % 3 != 2 for name in missing):  # every third layer normalises
        raise InputError(f"These weights are not of this network ({', '.join([*unknown, *missing][:3])}).")


def starting_model(config: VqaConfig, prepared: Prepared) -> tuple[VqaModel, dict[str, str]]:
    """Build a model with the start that its settings ask for.

    Returns:
        The model, and the files it was started from with their SHA-256.

    Raises:
        InputError: weights that are not there, or that do not go with the features.
    """
    meta, cdae = config.features in META, config.features in CDAE
    several = config.features.startswith("mmq")
    if config.start == "authors" and (several or not (meta or cdae)):
        raise InputError(f"The authors' weights do not start '{config.features}'; they start meta, cdae and mevf.")
    if config.start == "pretrained" and not (meta or cdae):
        raise InputError(f"There is nothing to pre-train for the features '{config.features}'; start from scratch.")
    if config.start == "pretrained" and not config.weights:
        raise InputError("The start 'pretrained' needs the folder of the weights: give weights=FOLDER.")
    place = folder() if config.start == "authors" else Path(config.weights or "")
    meta_file = place / {"authors": "authors_maml.safetensors"}.get(config.start, "mmq" if several else "meta")
    meta_file = meta_file.with_suffix(".safetensors")
    cdae_file = place / ("authors_cdae.safetensors" if config.start == "authors" else "cdae.safetensors")
    best = (
        read_best(meta_file) if config.start == "pretrained" and meta else list(range(SIDE_BY_SIDE if several else 1))
    )
    model = VqaModel(config, prepared.vectors, len(prepared.answers), len(best))
    read: dict[str, str] = {}
    if model.image is None or config.start == "scratch":
        return model, read
    if meta:
        found = authors_meta() if config.start == "authors" else read_tensors(meta_file)
        for net, number in zip(model.image.meta, best, strict=True):
            fill(net, found if config.start == "authors" else body(found, f"{number}."))  # type: ignore[arg-type]
        read[meta_file.name] = sha256(meta_file)
    if cdae and model.image.cdae is not None:
        found = authors_cdae() if config.start == "authors" else read_tensors(cdae_file)
        model.image.cdae.load_state_dict(found)
        read[cdae_file.name] = sha256(cdae_file)
    return model, read


def data_of(name: str, split: str) -> VqaData:
    """Load a data set by name, see `companions.vqa.config`."""
    return load_vqa_rad(split) if name == "vqa_rad" else load_simulated_vqa(split)
