"""What a model costs, timed: seconds hold for one machine, its load and its threads; see `lddr.record.machine`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer

from lddr.deploy.cost import bytes_moved, count_macs, count_parameters, peak_memory
from lddr.models import ModelConfig, build_model


def stopwatch(call: Callable[[], Any], runs: int) -> dict[str, Any]:
    """Time a call with PyTorch's own stopwatch, which warms up, waits for a GPU, and keeps the current threads.

    Args:
        call: what is timed.
        runs: about how often, after the warm-up.

    Returns:
        `seconds` (the median), `quartiles` (a quarter of the runs lies below the first, a quarter above the second),
        and `runs`, how often it was.
    """
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    found = timer.blocked_autorange(min_run_time=runs * timer.timeit(1).mean)
    low, median, high = np.quantile(found.times, [0.25, 0.5, 0.75]).tolist()
    return {"seconds": median, "quartiles": [low, high], "runs": len(found.times)}


def registration(model: nn.Module, size: Sequence[int]) -> Callable[[], Any]:
    """Make a call that registers one pair of random volumes, on the device where the model's weights lie.

    Args:
        model: anything called as `model(moving, fixed)`; it is set to infer.
        size: (D, H, W) of the volumes.
    """
    device = next(model.parameters()).device
    moving, fixed = torch.rand(2, 1, 1, *size, generator=torch.Generator().manual_seed(0)).to(device)
    model.eval()

    @torch.no_grad()
    def call() -> Any:
        return model(moving, fixed)

    return call


def latency(model: nn.Module, size: Sequence[int], runs: int = 5) -> float:
    """Measure the median seconds of one registration, on the device where the model's weights lie.

    Args:
        model: anything called as `model(moving, fixed)`; it is left in the mode in which it is found.
        size: (D, H, W) of the volumes.
        runs: how many registrations are timed.
    """
    training = model.training
    seconds = stopwatch(registration(model, size), runs)["seconds"]
    model.train(training)
    return seconds


def network_cost(config: ModelConfig, runs: int, device: str) -> dict[str, Any]:
    """Count and time everything about one network.

    Args:
        config: how it is built, and for which volumes.
        runs: registrations that are timed.
        device: "cpu" or "cuda".

    Returns:
        `model` (what differs from the defaults of `ModelConfig`), `parameters`, `macs`, `bytes_moved`, `peak_memory`
        (bytes), and what `stopwatch` gives.
    """
    model = build_model(config, seed=0).eval()
    cost = {
        "model": config.model_dump(exclude_defaults=True),
        "parameters": count_parameters(model)["total"],
        "macs": count_macs(model, config.size),
        "bytes_moved": bytes_moved(model, config.size),
        "peak_memory": peak_memory(model, config.size),
    }
    return cost | stopwatch(registration(model.to(device), config.size), runs)
