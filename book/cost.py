"""What each network costs on one pair of 128^3 volumes: parameters, operations, bytes, memory, seconds; one record.

    python book/cost.py --threads 1 --tools    the classical tools as well, which take minutes and one thread
    python book/cost.py --threads 2

Run it on an idle machine. Each run writes `cost_cpu_1.json`, named after its threads, and, where there is a GPU, also
`cost_gpu.json`. All but the seconds is counted from shapes and is the same everywhere. Source: chapter 11.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lddr.baselines import TOOLS
from lddr.cli import at_least
from lddr.complexity import count_macs, count_parameters, peak_memory
from lddr.data import load_cohort
from lddr.models import ModelConfig, build_model
from lddr.records import provenance, write_record
from lddr.results import in_words

RECORDS = Path(__file__).parent / "records" / "cost"
# The paper's RCN has VTN stems for everything; our teacher on small grids has a light affine stem and four halvings.
SHAPES: dict[str, dict[str, Any]] = {
    "LDR": {"network": "ldr", "cascades": (1, 2, 3)},
    "LDR of the released code": {"network": "ldr_released", "cascades": (1,)},
    "VTN": {"network": "vtn", "affine": "vtn", "cascades": (1, 2, 3)},
    "VTN of our teacher": {"network": "vtn", "levels": 4, "cascades": (1, 2, 3)},
    "VoxelMorph": {"network": "voxelmorph", "cascades": (1, 3)},
}


def models(side: int) -> dict[str, ModelConfig]:
    """What is measured: name, such as "LDR, 2 cascades", -> how it is built for volumes of `side` voxels a side."""
    configs = {}
    for name, shape in SHAPES.items():
        for n in shape["cascades"]:
            config = ModelConfig.check(shape | {"cascades": n, "size": [side] * 3})
            configs[f"{name}, {in_words(n)}"] = config
    return configs


class Traffic(TorchDispatchMode):
    """Adds up, operation by operation, the bytes of the tensors that go in and of those that come out."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; a view, which moves nothing, does not count."""
        result = func(*args, **(kwargs or {}))
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        written = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        shared = {x.untyped_storage()._cdata for x in read}
        view = not func._schema.is_mutable and all(x.untyped_storage()._cdata in shared for x in written)
        if not view:
            self.total += sum(map(size_in_memory, [*read, *written]))
        return result


def size_in_memory(x: Tensor) -> int:
    """Bytes of a tensor; one that repeats itself without a copy (`expand`) counts as what is stored."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def bytes_moved(model: nn.Module, size: Sequence[int]) -> int:
    """What one registration has to fetch from memory and write back, if every operation does so for itself.

    Counted from shapes, on the meta device: for every operation that PyTorch runs (convolution, activation, joining,
    warping, ...), each input and weight once, and each output once. Views count nothing. It is neither a lower nor an
    upper limit of the true traffic: what stays in the processor's caches need not be fetched again, and convolutions
    copy their input into a layout of their own.

    Args:
        model: anything called as `model(moving, fixed)`; it is not changed.
        size: (D, H, W) of the volumes.

    Returns:
        Bytes, as float32, for one pair.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    moving, fixed = (torch.empty(1, 1, *size, device="meta") for _ in range(2))
    with torch.no_grad(), Traffic() as traffic:
        shadow(moving, fixed)
    return traffic.total


def stopwatch(call: Callable[[], Any], runs: int, warm_up: int = 1) -> dict[str, Any]:
    """How long a call takes.

    Args:
        call: what is timed.
        runs: how often.
        warm_up: calls before that, which are not timed.

    Returns:
        `seconds` (the median), `quartiles` (a quarter of the runs lies below the first, a quarter above the second),
        and `runs`.
    """
    seconds = []
    for _ in range(warm_up + runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    low, high = np.quantile(seconds[warm_up:], [0.25, 0.75]).tolist()
    return {"seconds": statistics.median(seconds[warm_up:]), "quartiles": [low, high], "runs": runs}


def network_cost(config: ModelConfig, runs: int, device: str) -> dict[str, Any]:
    """Everything about one network.

    Args:
        config: how it is built, and for which volumes.
        runs: registrations that are timed, after two that are not.
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
    model.to(device)
    moving, fixed = torch.rand(2, 1, 1, *config.size, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def register() -> None:
        model(moving, fixed)
        if device == "cuda":
            torch.cuda.synchronize()

    return cost | stopwatch(register, runs, warm_up=2)


def tool_costs(side: int) -> dict[str, dict[str, Any]]:
    """Seconds of the classical tools on one pair of simulated brains, once each and on one thread.

    They run from two arrays in memory to the displacement, so they hold more than the registration itself: loading the
    tool's library, and reading its map as one arrow a voxel.

    Raises:
        SystemExit: a tool is not installed.
    """
    pair = load_cohort("simulated_brains", "test", size=[side] * 3, subjects=2).images[:, 0].numpy()
    costs = {}
    for name, register in TOOLS.items():
        try:
            costs[name] = stopwatch(partial(register, *pair), runs=1, warm_up=0) | {"threads": 1}
        except ModuleNotFoundError as error:
            raise SystemExit(f"--tools: {error.name} is not installed; the extra 'baselines' brings it.") from None
        print(f"{name}: {costs[name]['seconds']:.1f} s")
    return costs


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=at_least(1, cores), default=1, help="of PyTorch; not more than cores")
    parser.add_argument("--size", type=at_least(32), default=128, help="voxels a side")
    parser.add_argument("--runs", type=at_least(7), default=7, help="timed registrations; at least 7")
    parser.add_argument("--tools", action="store_true", help="the classical tools too")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the records; give one for another size")
    options = parser.parse_args(words)
    if options.out == RECORDS and options.size != 128:
        parser.error(f"--size is {options.size}, but the book's own records are of 128 voxels a side: give --out too")
    torch.set_num_threads(options.threads)
    command = f"python book/cost.py --threads {options.threads} --size {options.size} --runs {options.runs}"
    command += " --tools" * options.tools
    tools = {"tools": tool_costs(options.size)} if options.tools else {}
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        networks = {}
        for name, config in models(options.size).items():
            networks[name] = network_cost(config, options.runs, device)
            print(f"{name}: {networks[name]['seconds']:.3f} s on the {device}", flush=True)
        details = {"device": device, "threads": options.threads, "size": [options.size] * 3, "networks": networks}
        name = f"cost_cpu_{options.threads}.json" if device == "cpu" else "cost_gpu.json"
        write_record(options.out / name, provenance(command, **details, **(tools if device == "cpu" else {})))


if __name__ == "__main__":
    main()
