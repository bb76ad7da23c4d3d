"""What a model costs: parameters, multiplications, memory, seconds. Four things; chapter 11 keeps them apart.

A model here is a `RecursiveCascade` or a single network: anything called as `model(moving, fixed)`. Operations and
memory are counted on PyTorch's "meta" device, which knows the shape of every tensor and holds none of its values: the
same figures on every machine, at any volume size, in a fraction of a second.
"""

import statistics
import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> dict[str, int]:
    """How many numbers a model has learnt.

    "total", and for a cascade each stem, "affine", "dense1", ... One that stands twice counts once in the total.
    """
    stems = {"total": model, "affine": getattr(model, "affine", None)}
    stems |= {f"dense{i}": stem for i, stem in enumerate(getattr(model, "dense", []), start=1)}
    return {name: sum(p.numel() for p in stem.parameters()) for name, stem in stems.items() if stem is not None}


def count_macs(model: nn.Module, size: Sequence[int]) -> int:
    """Multiply-accumulate operations of all convolutions in one registration.

    A convolution costs (output voxels x kernel voxels x channels in x channels out), a transposed one the same with
    input voxels; taps that fall into the padding count as well. Bias, activation, interpolation and warping, a few
    operations a voxel each, are left out (as in published tables); they do show in seconds.

    Args:
        model: see above.
        size: (D, H, W) of the volumes, one pair.
    """
    with FlopCounterMode(display=False) as counter:
        _dry_run(model, size)
    return counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0) // 2  # it counts * and + apart


def peak_memory(model: nn.Module, size: Sequence[int]) -> int:
    """Memory that the tensors of one inference take at its worst moment: weights, images and all that lies between.

    Every tensor the model makes is followed from its birth to its end. Left out is what cannot be known from shapes:
    the scratch space of the kernels, and the interpreter with its libraries. On a CPU the first is large, because
    convolutions copy their input into a layout of their own: at 128^3 processes were seen to grow by 1.4 to 1.7 times
    the intermediate tensors.

    Args:
        model: see above; counted as float32 inference.
        size: (D, H, W) of the volumes, one pair.

    Returns:
        Bytes.
    """
    with _LiveTensors() as live:
        _dry_run(model, size)
    return live.peak


def latency(model: nn.Module, size: Sequence[int], runs: int = 5) -> float:
    """Median wall-clock time of one registration, on the device where the model's weights lie.

    Args:
        model: see above.
        size: (D, H, W) of the volumes.
        runs: how many registrations are timed, after one that is not (it sets up kernels and caches).

    Returns:
        Seconds. They hold for this machine, its load and its number of threads; see `lddr.records.machine`.
    """
    device = next(model.parameters()).device
    moving, fixed = torch.rand(2, 1, 1, *size, generator=torch.Generator().manual_seed(0)).to(device)
    training = model.training
    model.eval()
    seconds = []
    with torch.no_grad():
        for _ in range(runs + 1):
            start = time.perf_counter()
            model(moving, fixed)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    model.train(training)
    return statistics.median(seconds[1:])


def _dry_run(model: nn.Module, size: Sequence[int]) -> None:
    """Call `model` with weights and images that have a shape but no values; the model itself stays as it is."""
    with torch.no_grad(), torch.device("meta"):
        weights = {name: torch.empty(w.shape) for name, w in (*model.named_parameters(), *model.named_buffers())}
        functional_call(model, weights, (torch.empty(1, 1, *size), torch.empty(1, 1, *size)))


class _LiveTensors(TorchDispatchMode):
    """Watches every operation: a storage counts from the moment it is first seen until PyTorch lets go of it."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}  # storage -> bytes
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in (x.untyped_storage() for x in tree_leaves(result) if isinstance(x, Tensor)):
            key = storage._cdata
            if key not in self.live:  # a view shares the storage of its base
                self.live[key] = storage.nbytes()
                self.peak = max(self.peak, sum(self.live.values()))
                weakref.finalize(storage, self.live.pop, key, None)
        return result
