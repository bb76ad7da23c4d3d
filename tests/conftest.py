"""What the tests share: one thread, seeded randomness, smooth fields made without lddr, real scans if there are any."""

import http.server
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy import ndimage
from torch import Tensor

# Read when a tool is loaded, whichever test loads it first; `lddr.infer.classical` sets them too.
os.environ |= {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "ANTS_RANDOM_SEED": "1"}
torch.set_num_threads(1)  # bit-for-bit tests must not depend on the number of cores
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
