"""Test-time optimisation: a trained network goes on learning on the one pair it is asked to register.

No label is needed, so it is fair; it costs as much as that many training steps, so it is no longer fast.
"""

import copy

import torch
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.infer.evaluate import Registrar, by_network
from lddr.objective import LossWeights, reconstruction_loss

USUAL = LossWeights()


def adapt(
    model: RecursiveCascade,
    moving: Tensor,
    fixed: Tensor,
    steps: int,
    learning_rate: float = 1e-3,
    loss_weights: LossWeights = USUAL,
    repeats: int = 1,
) -> RecursiveCascade:
    """Make a copy of the model that took some steps of Adam on this pair alone (chapter 09).

    Args:
        model: a trained cascade; it is not changed.
        moving, fixed: `[1, 1, D, H, W]`, on any device.
        steps, learning_rate: of Adam; the rate stays as it is here.
        loss_weights: of the regularisers.
        repeats: shared-weight repeats the copy will be used with, see `RecursiveCascade.forward`.
    """
    device = next(model.parameters()).device
    moving, fixed = moving.to(device), fixed.to(device)
    adapted = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(adapted.parameters(), lr=learning_rate)
    with torch.enable_grad():
        for _ in range(steps):
            terms = reconstruction_loss(adapted(moving, fixed, repeats), fixed, loss_weights)
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    return adapted.eval()


def by_adapted_network(
    model: RecursiveCascade,
    steps: int,
    learning_rate: float = 1e-3,
    loss_weights: LossWeights = USUAL,
    repeats: int = 1,
) -> Registrar:
    """Make a registrar that adapts the model to every pair before it registers it; arguments as of `adapt`."""

    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        adapted = adapt(model, moving, fixed, steps, learning_rate, loss_weights, repeats)
        return by_network(adapted, repeats)(moving, fixed)

    return register
