"""The discriminator: a network that reads a displacement and answers with one number."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Discriminator(nn.Module):
    """The discriminator of the text: a conditioning layer, then five halvings to 256 channels, and the mean feature M.

    The first layer keeps the three channels; the others have 4x4x4 kernels with stride 2 and ReLU, the last a sigmoid.
    The text calls the output "the mean feature of the last layer, M"; here M is one number, the mean over its channels
    and cells, because the gradient penalty needs one. At 128^3 the layers stand at 128, 64, 32, 16, 8 and 4 voxels, as
    in the text.

    Args:
        bounded: with the sigmoid, as the text has it; without, M is any number, as a Wasserstein critic needs.

    Source: Part 2 of the posts, Figure 3; chapter 07.
    """

    def __init__(self, bounded: bool = True) -> None:
        super().__init__()
        self.bounded = bounded
        self.condition = nn.Conv3d(3, 3, 3, padding=1)
        channels = [3, 16, 32, 64, 128, 256]
        self.halve = nn.ModuleList(nn.Conv3d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels))

    def features(self, displacement: Tensor) -> list[Tensor]:
        """Give each layer's output (the last without sigmoid) for `[B, 3, D, H, W]`, voxels, every side at least 32."""
        features = [F.relu(self.condition(displacement))]
        for halve in self.halve[:-1]:
            features.append(F.relu(halve(features[-1])))
        return [*features, self.halve[-1](features[-1])]

    def forward(self, displacement: Tensor) -> Tensor:
        """Compute the mean feature M of each displacement, `[B]`."""
        last = self.features(displacement)[-1]
        return (torch.sigmoid(last) if self.bounded else last).mean(dim=(1, 2, 3, 4))


class DiscriminatorReleased(nn.Module):
    """The discriminator of the released code: five 5x5x5 convolutions with stride 2, flattened, one number.

    The last layer has one weight for every number before it, so it belongs to one grid; another grid is averaged onto
    it first.

    Args:
        size: (D, H, W) of the displacements it is trained on.

    Source: a reading of aioz-ai/LDR_ALDK; the page "Paper and code".
    """

    def __init__(self, size: tuple[int, int, int]) -> None:
        super().__init__()
        channels = [3, 16, 32, 64, 128, 256]
        self.halve = nn.ModuleList(nn.Conv3d(a, b, 5, stride=2, padding=2) for a, b in pairwise(channels))
        d, h, w = (-(-n // 32) for n in size)  # five halvings, each rounded up
        self.grid = (d, h, w)
        self.head = nn.Linear(256 * d * h * w, 1)

    def forward(self, displacement: Tensor) -> Tensor:
        """Compute one number for each displacement `[B, 3, D, H, W]`, `[B]`."""
        x = displacement
        for halve in self.halve:
            x = F.leaky_relu(halve(x), 0.2)
        return self.head(F.adaptive_avg_pool3d(x, self.grid).flatten(1)).squeeze(1)
