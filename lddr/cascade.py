"""The recursive cascade: stems that each look at what is left to do, and one composed displacement."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lddr.warping import affine_displacement, compose, compose_with_affine, warp


@dataclass
class Registration:
    """What a cascade found; chapter 03.

    Attributes:
        displacement: the total displacement, `[B, 3, D, H, W]`, voxels.
        warped: the moving image after each stem, each `[B, 1, D, H, W]`; the last one is the result.
        flows: the displacement each dense stem added, each `[B, 3, D, H, W]`, voxels.
        matrix: A of the affine stem, `[B, 3, 3]`; the identity without one.
        affine_flow: the affine map as a displacement, `[B, 3, D, H, W]`, voxels; zero without one.
    """

    displacement: Tensor
    matrix: Tensor
    affine_flow: Tensor
    warped: list[Tensor] = field(default_factory=list)
    flows: list[Tensor] = field(default_factory=list)


class RecursiveCascade(nn.Module):
    """An affine stem, then dense stems, each of which sees the moving image as warped so far.

    `I^(k)` is always the ORIGINAL moving image warped by everything found so far, so it is interpolated once
    whatever the number of stems. The affine part is composed exactly; chapter 03 derives how.

    Args:
        affine: a network that returns (A, b), or None to start from the images as they lie.
        dense: networks that return a displacement, applied in this order.

    Source: Zhao et al. 2019 (RCN), eq. 1-4; Part 1 of the posts; chapter 03.
    """

    def __init__(self, affine: nn.Module | None, dense: Sequence[nn.Module]) -> None:
        super().__init__()
        self.affine = affine
        self.dense = nn.ModuleList(dense)

    def forward(self, moving: Tensor, fixed: Tensor, repeats: int = 1) -> Registration:
        """Register `moving` to `fixed`.

        Args:
            moving, fixed: `[B, 1, D, H, W]`, intensities in [0, 1].
            repeats: how often each dense stem is applied in a row (shared-weight cascading).
        """
        if self.affine is None:
            matrix = torch.eye(3, device=moving.device).expand(len(moving), 3, 3)
            translation = torch.zeros(len(moving), 3, device=moving.device)
        else:
            # The map itself stays in float32 when the networks run in a shorter type.
            matrix, translation = (x.float() for x in self.affine(moving, fixed))
        affine_flow = affine_displacement(matrix, translation, moving.shape[2:])
        start = moving if self.affine is None else warp(moving, affine_flow)
        result = Registration(affine_flow, matrix, affine_flow, [start])
        deformation = None  # all dense flows composed, before the affine map is put in front
        for stem in self.dense:
            for _ in range(repeats):
                flow = stem(result.warped[-1], fixed).float()
                deformation = flow if deformation is None else compose(deformation, flow)
                result.displacement = compose_with_affine(matrix, affine_flow, deformation)
                result.flows.append(flow)
                result.warped.append(warp(moving, result.displacement))
        return result
