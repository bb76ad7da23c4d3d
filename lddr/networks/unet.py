"""The two U-Nets: VoxelMorph, and the network that the authors' released code calls LDR."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lddr.networks.layers import fit_to, near_zero


class UNet(nn.Module):
    """Four strided 3x3x3 convolutions down, seven convolutions up, a displacement at full size.

    Args:
        down: channels of the four halving convolutions.
        up: channels of the seven convolutions on the way up, at 1/16, 1/8, 1/4, 1/2, 1/2, 1 and 1 of the grid.

    Source: Balakrishnan et al. 2019 (VoxelMorph-2).
    """

    def __init__(self, down: Sequence[int], up: Sequence[int]) -> None:
        super().__init__()
        channels = [2, *down]
        self.down = nn.ModuleList(nn.Conv3d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        inputs = [down[3], up[0] + down[2], up[1] + down[1], up[2] + down[0], up[3], up[4] + 2, up[5]]
        self.up = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in zip(inputs, up, strict=True))
        self.head = near_zero(nn.Conv3d(up[6], 3, 3, padding=1))

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Bring `moving` onto `fixed`, `[B, 1, D, H, W]` in [0, 1]: the displacement, `[B, 3, D, H, W]`, voxels."""
        skips = [torch.cat([moving, fixed], dim=1)]
        for down in self.down:
            skips.append(F.leaky_relu(down(skips[-1]), 0.2))
        x = skips.pop()
        for level, up in enumerate(self.up):
            x = F.leaky_relu(up(x), 0.2)
            if level in (0, 1, 2, 4):  # the fifth convolution refines once more at half size before the last doubling
                skip = skips.pop()
                x = torch.cat([fit_to(F.interpolate(x, scale_factor=2.0), skip.shape[2:]), skip], dim=1)
        return self.head(x)


class VoxelMorph(UNet):
    """VoxelMorph-2, the RCN paper's other base: 0.30 M parameters, most work at full resolution; chapter 11."""

    def __init__(self) -> None:
        super().__init__(down=(16, 32, 32, 32), up=(32, 32, 32, 32, 32, 16, 16))


class LDRReleased(UNet):
    """The network that the released code calls LDR, not the one of the text (that is `LDR`): 0.28 M parameters.

    Source: a reading of aioz-ai/LDR_ALDK; the page "Paper and code" sets the two side by side.
    """

    def __init__(self) -> None:
        super().__init__(down=(32, 32, 32, 16), up=(32, 32, 32, 32, 16, 16, 16))
