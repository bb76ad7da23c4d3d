"""Test-time optimisation: a trained network goes on learning on the one pair it is asked to register.

No label is needed, so it is fair; it costs as much as that many training steps, so it is no longer fast.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.errors import DivergedError
from lddr.infer.evaluate import Registrar, by_network
from lddr.objective import LossWeights, reconstruction_loss

USUAL = LossWeights()
STALLED = 1e-3  # the loss stands still if the last steps have not lowered its minimum by this share


def adapt(
    model: RecursiveCascade,
    moving: Tensor,
    fixed: Tensor,
    steps: int,
    learning_rate: float = 1e-3,
    loss_weights: LossWeights = USUAL,
    repeats: int = 1,
    patience: int | None = None,
    watch: Callable[[float], None] | None = None,
) -> RecursiveCascade:
    """Make a copy of the model that took some steps of Adam on this pair alone (chapter 09).

    Args:
        model: a trained cascade; it is not changed.
        moving, fixed: `[1, 1, D, H, W]`, on any device.
        steps, learning_rate: of Adam; the rate stays as it is here.
        loss_weights: of the regularisers.
        repeats: shared-weight repeats the copy will be used with, see `RecursiveCascade.forward`.
        patience: stop earlier if in the last so many steps the least loss fell by less than a thousandth of itself;
            None takes all steps.
        watch: is told the loss before every step.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    device = next(model.parameters()).device
    moving, fixed = moving.to(device), fixed.to(device)
    adapted = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(adapted.parameters(), lr=learning_rate)
    losses: list[float] = []
    with torch.enable_grad():
        while len(losses) < steps and not (patience and stalled(losses, patience)):
            terms = reconstruction_loss(adapted(moving, fixed, repeats), fixed, loss_weights)
            loss = torch.stack(list(terms.values())).sum()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise DivergedError(
                    f"The loss of the pair is {losses[-1]} after {len(losses) - 1} steps of adaptation."
                )
            if watch:
                watch(losses[-1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return adapted.eval()


def stalled(losses: list[float], patience: int) -> bool:
    """Say whether the last `patience` losses brought less than a thousandth beside the least one before them."""
    before, last = losses[:-patience], losses[-patience:]
    return bool(before) and min(last) > (1 - STALLED) * min(before)


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
