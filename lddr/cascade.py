"""The recursive cascade: stems that each look at what is left to do, and one composed displacement."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from lddr.warping import compose, displacement_with_affine, warp_with_affine


@dataclass
class Registration:
    """What a cascade found; chapter 03.

    Attributes:
        matrix: A of the affine stem, `[B, 3, 3]`; the identity without one.
        translation: b of the affine stem, `[B, 3]`, voxels; zero without one.
        deformation: all dense flows composed, `[B, 3, D, H, W]`, voxels; None without dense stems.
        warped: the moving image after each stem, each `[B, 1, D, H, W]`; the last one is the result.
        flows: the displacement each dense stem added, each `[B, 3, D, H, W]`, voxels.
        displacement: the total displacement, `[B, 3, D, H, W]`, voxels; computed when first asked for.
        affine_flow: the affine map as a displacement, `[B, 3, D, H, W]`, voxels; zero without one; likewise.
    """

    matrix: Tensor
    translation: Tensor
    deformation: Tensor | None = None
    warped: list[Tensor] = field(default_factory=list)
    flows: list[Tensor] = field(default_factory=list)

    @cached_property
    def displacement(self) -> Tensor:
        """Join the affine map and the dense flows."""
        return self._with_affine(self.deformation)

    @cached_property
    def affine_flow(self) -> Tensor:
        """Write the affine map as a displacement."""
        return self._with_affine(None)

    def _with_affine(self, deformation: Tensor | None) -> Tensor:
        graph = self.warped[-1].requires_grad  # what is kept can be differentiated, also if first asked under no_grad
        with torch.set_grad_enabled(graph):
            return displacement_with_affine(self.matrix, self.translation, deformation, self.warped[-1].shape[2:])


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
        start = moving if self.affine is None else warp_with_affine(moving, matrix, translation)
        result = Registration(matrix, translation, warped=[start])
        for stem in self.dense:
            for _ in range(repeats):
                flow = stem(result.warped[-1], fixed).float()
                result.deformation = flow if result.deformation is None else compose(result.deformation, flow)
                result.flows.append(flow)
                result.warped.append(warp_with_affine(moving, matrix, translation, result.deformation))
        return result
