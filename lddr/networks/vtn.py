"""VTN, the base network of the teacher (Volume Tweening Network)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lddr.networks.layers import fit_to, near_zero


def leaky(x: Tensor) -> Tensor:
    """Apply LeakyReLU with VTN's slope."""
    return F.leaky_relu(x, 0.1)


class VTNEncoder(nn.Module):
    """Six halvings; from the third on each is followed by a second convolution at the same size.

    Args:
        width: channels after the first convolution (the paper: 16).
        levels: how many halvings (the paper: 6, which leave 2 voxels of 128).

    Source: Zhao et al. 2020 (VTN), Figure 3.
    """

    def __init__(self, width: int, levels: int = 6) -> None:
        super().__init__()
        channels = [2] + [width * 2**i for i in range(levels)]
        self.halve = nn.ModuleList(nn.Conv3d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.refine = nn.ModuleList(nn.Conv3d(c, c, 3, padding=1) for c in channels[3:])

    def forward(self, moving: Tensor, fixed: Tensor) -> list[Tensor]:
        """Compute features at 1/2, 1/4, ... 1/2^levels of the grid, finest first."""
        x = torch.cat([moving, fixed], dim=1)
        features = []
        for level, halve in enumerate(self.halve):
            x = leaky(halve(x))
            if level >= 2:
                x = leaky(self.refine[level - 2](x))
            features.append(x)
        return features


class VTN(nn.Module):
    """Encoder down to the coarsest grid, decoder that predicts and refines a displacement at every level.

    At each level a 3-channel field is predicted, doubled by a learnt transposed convolution, and handed on together
    with the doubled features and the encoder's features of that size. 28.3 M parameters at width 16.

    Args:
        width: channels after the first convolution (the paper: 16).
        cascades: how many such networks follow each other; each may move things by its share.
        levels: halvings (the paper: 6). On a small grid the last ones arrive at a single voxel, where 26 of the 27
            weights of a kernel only ever meet padding.

    Source: Zhao et al. 2020 (VTN), and the released code; chapter 05.
    """

    def __init__(self, width: int = 16, cascades: int = 1, levels: int = 6) -> None:
        super().__init__()
        self.scale = 20 / cascades
        self.encoder = VTNEncoder(width, levels)
        skips = [width * 2**i for i in range(levels)]
        self.predict, self.double_flow, self.double_features = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        incoming = skips[-1]
        for skip in reversed(skips[:-1]):
            self.predict.append(nn.Conv3d(incoming, 3, 3, padding=1))
            self.double_flow.append(nn.ConvTranspose3d(3, 3, 4, stride=2, padding=1, bias=False))
            self.double_features.append(nn.ConvTranspose3d(incoming, skip, 4, stride=2, padding=1, bias=False))
            incoming = skip + skip + 3
        self.head = near_zero(nn.ConvTranspose3d(incoming, 3, 4, stride=2, padding=1, bias=False))

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Bring `moving` onto `fixed`, `[B, 1, D, H, W]` in [0, 1]: the displacement, `[B, 3, D, H, W]`, voxels."""
        *skips, x = self.encoder(moving, fixed)
        levels = zip(reversed(skips), self.predict, self.double_flow, self.double_features, strict=True)
        for skip, predict, double_flow, double_features in levels:
            size = skip.shape[2:]
            flow = fit_to(double_flow(predict(x)), size)
            x = torch.cat([skip, fit_to(leaky(double_features(x)), size), flow], dim=1)
        return self.scale * fit_to(self.head(x), moving.shape[2:])
