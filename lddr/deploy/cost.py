"""What a model costs, counted: parameters, multiplications, memory, bytes moved. Chapter 11 keeps them apart.

A model here is a `RecursiveCascade` or a single network: anything called as `model(moving, fixed)`. Operations and
memory are counted on PyTorch's "meta" device, which knows the shape of every tensor and holds none of its values: the
same figures on every machine, at any volume size, in a fraction of a second.
"""

import copy
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
    """Count the numbers a model has learnt.

    "total", and for a cascade each stem, "affine", "dense1", ... One that stands twice counts once in the total.
    """
    stems = {"total": model, "affine": getattr(model, "affine", None)}
    stems |= {f"dense{i}": stem for i, stem in enumerate(getattr(model, "dense", []), start=1)}
    return {name: sum(p.numel() for p in stem.parameters()) for name, stem in stems.items() if stem is not None}


def count_macs(model: nn.Module, size: Sequence[int]) -> int:
    """Count the multiply-accumulate operations of all convolutions in one registration.

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
    """Count the memory that the tensors of one inference take at its worst moment: weights, images, all in between.

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


def bytes_moved(model: nn.Module, size: Sequence[int]) -> int:
    """Count what one registration has to fetch from memory and write back, if every operation does so for itself.

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
    with torch.no_grad(), _Traffic() as traffic:
        shadow(moving, fixed)
    return traffic.total


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


class _Traffic(TorchDispatchMode):
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
            self.total += sum(map(_size_in_memory, [*read, *written]))
        return result


def _size_in_memory(x: Tensor) -> int:
    """Bytes of a tensor; one that repeats itself without a copy (`expand`) counts as what is stored."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
