"""The unsupervised objective: how alike the last image is, and what an implausible map costs."""

import torch
from pydantic import Field
from torch import Tensor

from lddr.cascade import Registration
from lddr.config import Config
from lddr.losses import corrcoef_loss, orthogonality, smoothness, volume_change


class LossWeights(Config):
    """How much each regulariser weighs beside the similarity of the images; chapter 06."""

    smoothness: float = Field(1.0, ge=0, description="weight of each dense field's roughness")
    affine_weight: float = Field(0.1, ge=0, description="weight of the two affine regularisers")


def reconstruction_loss(result: Registration, fixed: Tensor, loss_weights: LossWeights) -> dict[str, Tensor]:
    """Compute the objective term by term: similarity of the LAST image, roughness of every field.

    Args:
        result: of the cascade.
        fixed: `[B, 1, D, H, W]`.
        loss_weights: of the regularisers.

    Returns:
        `l_rec` and the weighted regularisers; their sum is what is minimised.
    """
    return {
        "l_rec": corrcoef_loss(result.warped[-1], fixed),
        "smoothness": loss_weights.smoothness * torch.stack([smoothness(flow) for flow in result.flows]).sum(),
        "orthogonality": loss_weights.affine_weight * orthogonality(result.matrix),
        "volume_change": loss_weights.affine_weight * volume_change(result.matrix),
    }
