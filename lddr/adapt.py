"""Test-time optimisation: a trained network goes on learning on the one pair it is asked to register.

No label is needed, so it is fair; it costs as much as that many training steps, so it is no longer fast.
"""

import copy

import torch
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.training import FitConfig, reconstruction_loss


def adapt(
    model: RecursiveCascade, moving: Tensor, fixed: Tensor, config: FitConfig, repeats: int = 1
) -> RecursiveCascade:
    """A copy of the model after some steps of Adam on this pair alone (chapter 09).

    Args:
        model: a trained cascade; it is not changed.
        moving, fixed: `[1, 1, D, H, W]`.
        config: its steps, its learning rate, which stays as it is here, and the weights of its regularisers count.
        repeats: shared-weight repeats the copy will be used with, see `RecursiveCascade.forward`.
    """
    adapted = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(adapted.parameters(), lr=config.learning_rate)
    with torch.enable_grad():
        for _ in range(config.steps):
            terms = reconstruction_loss(adapted(moving, fixed, repeats), fixed, config)
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    return adapted.eval()
