"""Affine stems: networks that predict one affine map for the whole volume."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lddr.networks.layers import near_zero
from lddr.networks.vtn import VTNEncoder


def as_affine(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Read `[B, 12]` numbers, nine of A - I, three of b, as A, `[B, 3, 3]`, and b, `[B, 3]`, voxels."""
    matrix = numbers[:, :9].view(-1, 3, 3) + torch.eye(3, device=numbers.device, dtype=numbers.dtype)
    return matrix, numbers[:, 9:]


class LightAffine(nn.Module):
    """The light affine stem of the released code: four halvings, a mean over the grid, twelve numbers.

    Source: a reading of aioz-ai/LDR_ALDK; chapter 06.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        channels = [2] + [width * 2**i for i in range(4)]
        self.down = nn.ModuleList(nn.Conv3d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.head = near_zero(nn.Linear(channels[-1], 12))

    def forward(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Bring `moving` onto `fixed`, `[B, 1, D, H, W]` in [0, 1]: A, `[B, 3, 3]`, and b, `[B, 3]`, voxels."""
        x = torch.cat([moving, fixed], dim=1)
        for down in self.down:
            x = F.relu(down(x))
        return as_affine(self.head(x.mean(dim=(2, 3, 4))))


class VTNAffine(nn.Module):
    """The teacher's affine stem: VTN's encoder, then one convolution over the whole remaining grid.

    That convolution has as many weights as the remaining grid has voxels, so it belongs to one volume size; features of
    another size are averaged onto that grid first. 14.1 M parameters at width 16 and 128^3.

    Args:
        size: (D, H, W) of the volumes it is trained on.
        width: channels after the first convolution (the paper: 16).
        levels: halvings, see `VTN`.

    Source: Zhao et al. 2020 (VTN), affine registration subnetwork; chapter 05.
    """

    def __init__(self, size: Sequence[int], width: int = 16, levels: int = 6) -> None:
        super().__init__()
        self.encoder = VTNEncoder(width, levels)
        d, h, w = (-(-n // 2**levels) for n in size)  # every halving is rounded up
        self.grid = (d, h, w)
        self.head = near_zero(nn.Conv3d(width * 2 ** (levels - 1), 12, self.grid))

    def forward(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Bring `moving` onto `fixed`, `[B, 1, D, H, W]` in [0, 1]: A, `[B, 3, 3]`, and b, `[B, 3]`, voxels."""
        features = self.encoder(moving, fixed)[-1]
        return as_affine(self.head(F.adaptive_avg_pool3d(features, self.grid)).flatten(1))
