"""The warps as compiled loops: what a CPU runs instead of the definitions in `lddr.warping`, with the same numbers.

- `gather`: a trilinear warp, forward and backward; `labels`: a warp of labels; `affine`: an affine map before it
- `compiled`: how loops become machine code, and who runs them
- `tensors`: functions of `lddr.warping` by these loops; `fused`: from one scanner's file to another's

numba is imported at the first warp on a CPU, not before.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

Function = TypeVar("Function", bound=Callable[..., Any])
_allowed = ContextVar("_allowed", default=True)
_works = True  # until numba turns out to be missing, or unable to compile here


class CannotCompile(RuntimeError):
    """Report that numba cannot compile on this computer."""


@contextmanager
def off() -> Iterator[None]:
    """Use the definitions instead, for example to compare the two."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def on_cpu(define: Function) -> Function:
    """Let a function of `lddr.warping` be computed by its namesake in `lddr.kernels.tensors` where that is possible.

    That is for plain tensors on a CPU, float32 (labels: whole numbers). Everything else goes by the definition: other
    devices and types, second derivatives, `torch.func`, tracing, export, and modes that watch what PyTorch does.
    """

    @functools.wraps(define)
    def either(*words: Any, **more: Any) -> Any:
        if watched() or not (_allowed.get() and _plain(words) and _plain(more.values())):
            return define(*words, **more)
        result = attempt(
            lambda: getattr(import_module("lddr.kernels.tensors"), define.__name__)(define, *words, **more)
        )
        return define(*words, **more) if result is None else result

    return either  # type: ignore[return-value]


def watched() -> bool:
    """Say whether PyTorch is recording or transforming what it is asked to do; the loops would not be seen."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return transformed or torch._C._len_torch_dispatch_stack() > 0 or forward_ad._current_level >= 0


def _plain(words: Iterable[Any]) -> bool:
    """Say whether every tensor among `words` lies as it is in the memory of this computer, and holds something."""
    found = [x for x in words if isinstance(x, Tensor)]
    ordinary = all(type(x) in (Tensor, nn.Parameter) and x.layout == torch.strided for x in found)
    return ordinary and all(x.device.type == "cpu" and x.numel() > 0 for x in found)


def attempt(call: Callable[[], Any]) -> Any:
    """Call something that needs compiled loops; None, and one warning for all, where there are none."""
    global _works
    if not _works:
        return None
    try:
        return call()
    except (ImportError, CannotCompile) as error:
        _works = False
        print(f"lddr: warning: warps are slow here, since numba does not work ({error}).", file=sys.stderr)
        return None
