"""How plain loops become machine code: numba compiles a kernel at its first call, and threads share its rows.

A kernel is written as `kernel(start, stop, *arguments)`: it makes the rows `start` to `stop - 1` of the result, and no
two rows write to one place. So threads may share the rows without locks, and their number changes no bit of the result.
The threads are Python's, for compiled code lets go of the interpreter: several callers do not disturb each other, and a
forked process starts threads of its own.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, update_wrapper
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import torch
from platformdirs import user_cache_dir

from lddr.kernels import CannotCompile

# A product and a sum may become one instruction. NaN and infinity keep their meaning: places are clamped by comparing.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
SHARES = 4  # for each thread: one that is held up leaves its later shares to the others
_lock = threading.Lock()
_numba_config: Any = numba.config

part = numba.njit(forceinline=True, **OPTIONS)  # a piece that several kernels are made of


class Kernel:
    """A kernel; call it as `kernel(rows, *arguments)`."""

    __name__: str

    def __init__(self, loops: Callable[..., None]) -> None:
        update_wrapper(self, loops)
        self.loops = loops
        self.compiled: Any = None
        self.known: set[tuple[Any, ...]] = set()  # argument types for which it has been compiled

    def __call__(self, rows: int, *arguments: Any) -> None:
        """Make all rows, on as many threads as PyTorch uses.

        Raises:
            CannotCompile: before anything is written.
        """
        self._prepare(arguments)
        threads = min(torch.get_num_threads(), rows)
        count = min(threads * SHARES, rows) if threads > 1 else 1
        shares = iter([(rows * i // count, rows * (i + 1) // count) for i in range(count)])

        def work() -> None:
            for start, stop in shares:  # each share is handed out once, whoever asks
                self.compiled(start, stop, *arguments)

        others = [_pool(os.getpid()).submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.cancel() or other.result()

    def _prepare(self, arguments: tuple[Any, ...]) -> None:
        types = tuple(getattr(a, "dtype", type(a)) for a in arguments)
        if types in self.known:
            return
        signature = tuple(map(numba.typeof, (0, 0, *arguments)))
        with _lock:
            try:
                if self.compiled is None:
                    self.compiled = self._with_cache()
                self.compiled.compile(signature)
            except Exception:  # a full disk, a damaged cache; or this computer cannot compile at all
                self.compiled = numba.njit(**OPTIONS)(self.loops)
                try:
                    self.compiled.compile(signature)
                except Exception as error:
                    raise CannotCompile(f"{type(error).__name__}: {error}") from error
            self.known.add(types)

    def _with_cache(self) -> Any:
        folder = cache_folder()
        if folder is None or not any(folder.rglob(f"*.{self.__name__}-*.nbi")):
            _announce()
        if folder is None:
            return numba.njit(**OPTIONS)(self.loops)
        before, _numba_config.CACHE_DIR = _numba_config.CACHE_DIR, str(folder)
        try:
            return numba.njit(cache=True, **OPTIONS)(self.loops)
        finally:
            _numba_config.CACHE_DIR = before


@cache
def _announce() -> None:
    if sys.stderr.isatty():  # for whoever waits and wonders; no log needs it
        print("lddr: compiling the fast warp for this processor, a few seconds, once ...", file=sys.stderr)


def cache_folder() -> Path | None:
    """Find where compiled kernels are kept; None if nothing can be written there.

    `NUMBA_CACHE_DIR`, else `LDDR_CACHE`, else the system's folder for caches; in it a folder for this version of the
    kernels, since numba does not see when a function changes that a kernel calls.
    """
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    place = _numba_config.CACHE_DIR or os.environ.get("LDDR_CACHE") or user_cache_dir("lddr")
    folder = Path(place).absolute() / f"kernels-{sha256(sources).hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Start the helpers of a process, identified by its number: a forked process has no threads of its parent's."""
    return ThreadPoolExecutor(os.cpu_count() or 1, f"lddr-kernels-{process}")
