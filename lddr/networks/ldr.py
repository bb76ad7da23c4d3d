"""LDR, the light-weight student, as the text of the posts describes it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lddr.networks.layers import near_zero


class LDR(nn.Module):
    """Four strided convolutions down, three transposed ones up, one more to a dense displacement.

    Every kernel is 4x4x4 with stride 2, so every layer halves or doubles the grid; ReLU between layers; the features of
    each level are concatenated with those coming up before they are brought further up. 1.55 M parameters at width 16.

    Source: Part 2 of the posts, Figure 1; chapter 06.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        c = width
        self.down1 = nn.Conv3d(2, c, 4, stride=2, padding=1)
        self.down2 = nn.Conv3d(c, 2 * c, 4, stride=2, padding=1)
        self.down3 = nn.Conv3d(2 * c, 4 * c, 4, stride=2, padding=1)
        self.down4 = nn.Conv3d(4 * c, 8 * c, 4, stride=2, padding=1)
        self.up3 = nn.ConvTranspose3d(8 * c, 4 * c, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose3d(8 * c, 2 * c, 4, stride=2, padding=1)
        self.up1 = nn.ConvTranspose3d(4 * c, c, 4, stride=2, padding=1)
        self.head = near_zero(nn.ConvTranspose3d(2 * c, 3, 4, stride=2, padding=1))

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Bring `moving` onto `fixed`: the displacement, `[B, 3, D, H, W]`, voxels.

        Both are `[B, 1, D, H, W]`, intensities in [0, 1], every side at least 16.
        """
        full = torch.cat([moving, fixed], dim=1)
        half = F.relu(self.down1(full))
        quarter = F.relu(self.down2(half))
        eighth = F.relu(self.down3(quarter))
        sixteenth = F.relu(self.down4(eighth))
        # output_size settles whether a side of 2n or 2n + 1 is meant: any volume size comes back as it went in.
        up = F.relu(self.up3(sixteenth, output_size=eighth.shape[2:]))
        up = F.relu(self.up2(torch.cat([eighth, up], dim=1), output_size=quarter.shape[2:]))
        up = F.relu(self.up1(torch.cat([quarter, up], dim=1), output_size=half.shape[2:]))
        return self.head(torch.cat([half, up], dim=1), output_size=full.shape[2:])
