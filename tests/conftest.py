"""What the tests share: one thread, seeded randomness, smooth fields made without lddr, real scans if there are any."""

import http.server
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from platformdirs import user_cache_dir
from scipy import ndimage
from torch import Tensor

from lddr.record import Provenance, write_record
from study import records
from study.reliability import in_words, keep_trial

# Read when a tool is loaded, whichever test loads it first; `lddr.infer.classical` sets them too.
os.environ |= {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "ANTS_RANDOM_SEED": "1"}
os.environ.setdefault("NUMBA_CACHE_DIR", user_cache_dir("lddr"))  # where LDDR_CACHE is a test's, compile no second time
torch.set_num_threads(1)  # bit-for-bit tests must not depend on the number of cores
# The share of a long test's repetitions that are made: LDDR_LONG=0.02 tries the test itself out.
LONG = float(os.environ.get("LDDR_LONG", "1"))
settings.register_profile("lddr", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("lddr")


@pytest.fixture
def rng() -> np.random.Generator:
    """Randomness that is the same in every run."""
    return np.random.default_rng(7)


@pytest.fixture
def generator() -> torch.Generator:
    """The same for PyTorch."""
    return torch.Generator().manual_seed(7)


@pytest.fixture
def smooth_field() -> Callable[..., Tensor]:
    """Makes smooth displacements `[1, 3, D, H, W]` that fade to zero at the border; largest component `amplitude`."""

    def make(size: Sequence[int], amplitude: float, seed: int = 0, sigma: float = 3.0) -> Tensor:
        noise = np.random.default_rng(seed).normal(size=(3, *size))
        field = ndimage.gaussian_filter(noise, (0, sigma, sigma, sigma), mode="nearest")
        for axis, n in enumerate(size, start=1):
            window = np.sin(np.pi * np.arange(n) / (n - 1)) ** 2
            field *= window.reshape([-1 if i == axis else 1 for i in range(4)])
        return torch.from_numpy(amplitude * field / np.abs(field).max()).float().unsqueeze(0)

    return make


@pytest.fixture
def refused(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Calls a command that must end with exit code 2, and gives what it says on stderr."""

    def call(command: Callable[[list[str]], None], words: Sequence[str]) -> str:
        with pytest.raises(SystemExit) as left:
            command([*words])
        assert left.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Provenance], None]:
    """Puts a record, under its name with the folder, among those the study reads, which are none to begin with."""
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    return lambda name, content: write_record(tmp_path / f"{name}.json", content)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, or a skip that says why."""
    folder = os.environ.get("LDDR_DATA")
    if not folder:
        pytest.skip("LDDR_DATA is not set: point it at a folder with real scans (such as Task04_Hippocampus)")
    assert Path(folder).is_dir(), f"LDDR_DATA is {folder}, which is no folder"
    return Path(folder)


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A web server on this machine; `content` is what it sends, `cut` stops after so many bytes, `asked` counts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()
            self.wfile.write(server.content[: server.cut])

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.cut, server.asked = b"", None, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def small_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Makes a disk on which no file grows beyond so many bytes, by a limit of the process: it needs no rights."""

    @contextmanager
    def full(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


@pytest.fixture
def counted(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture) -> Callable[..., None]:
    """Prints what a long test counted, and keeps it as a record for the book if the test ran in full (`LONG`)."""
    begin = time.monotonic()

    def note(what: str, **counts: float) -> None:
        named = {name.replace("_", " "): value for name, value in counts.items()}
        with capfd.disabled():
            print(f"\n{request.node.name}: {in_words(named)} in {time.monotonic() - begin:.0f} s")
        if LONG >= 1:
            name, command = request.node.name.removeprefix("test_"), ["pytest", "-m", "long", request.node.nodeid]
            keep_trial(name, what, named, time.monotonic() - begin, command)

    return note
