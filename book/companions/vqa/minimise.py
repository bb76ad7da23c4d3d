"""The loop of both pre-trainings: steps of Adam, and a log of the mean loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm


def minimise(
    loss: Callable[[], Tensor],
    model: nn.Module,
    learning_rate: float,
    steps: int,
    rows: int,
    progress: Callable[..., tqdm],
    title: str,
) -> list[dict[str, float]]:
    """Train a model in place.

    Args:
        loss: draws what a step works on, and computes its loss.
        model, learning_rate, steps: of Adam.
        rows: of the log, about.
        progress, title: draw the bar.

    Returns:
        The log: `step` and `loss`, the mean since the row before.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    log: list[dict[str, float]] = []
    losses: list[float] = []
    for step in progress(range(1, steps + 1), desc=title, unit="step"):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        if step % max(1, steps // rows) == 0 or step == steps:
            log.append({"step": step, "loss": sum(losses) / len(losses)})
            losses = []
    return log
