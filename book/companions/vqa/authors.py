"""The starting weights that the authors of MEVF released, as a yardstick for ours.

`authors_maml.safetensors` holds the convolutions in TensorFlow's layout (height, width, input, output), since they were
trained with the original MAML code; `authors_cdae.safetensors` is in PyTorch's. They lie in the folder of VQA-RAD, are
no part of this project, and their training images are not known: on the official split only, a comparison is fair.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from companions.vqa.radiology import folder
from lddr.errors import InputError, unreadable

# Name in the authors' auto-encoder -> ours.
CDAE_NAMES = {
    "conv1": "encode1",
    "conv2": "encode2",
    "conv3": "encode3",
    "tran_conv1": "decode1",
    "conv4": "decode2",
    "tran_conv2": "decode3",
    "conv5": "decode4",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: no such file, or a damaged one.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    try:
        return load_file(path)
    except OSError as error:
        raise unreadable(path, error) from None
    except SafetensorError as error:
        raise InputError(f"{path}: this is no whole safetensors file ({error}); get it again.") from None


def authors_meta(place: Path | None = None) -> dict[str, Tensor]:
    """Read the authors' MAML weights by the names of `MetaNet`; batch normalisation starts afresh, as in their code."""
    found = read_tensors((place or folder()) / "authors_maml.safetensors")
    weights = {}
    for number in range(4):
        weights[f"layers.{3 * number}.weight"] = found[f"conv{number + 1}"].permute(3, 2, 0, 1).contiguous()
        weights[f"layers.{3 * number}.bias"] = found[f"b{number + 1}"]
    return weights


def authors_cdae(place: Path | None = None) -> dict[str, Tensor]:
    """Read the authors' auto-encoder by the names of `Cdae`."""
    found = read_tensors((place or folder()) / "authors_cdae.safetensors")
    return {
        f"{ours}.{end}": found[f"{theirs}.{end}"] for theirs, ours in CDAE_NAMES.items() for end in ("weight", "bias")
    }
