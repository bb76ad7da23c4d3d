"""Run notebooks: one after the other, or two side by side, each in a process of its own."""

import base64
import io
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import nbformat
from freshness import code_hash
from PIL import Image


def execute(
    notebook: Path, output: Path, parameters: Path | None = None, threads: int | None = None
) -> tuple[float, float]:
    """Run a notebook with papermill, on as many threads as PyTorch takes by itself or on so many.

    Returns:
        Seconds, and the peak memory of its process and kernel in MB.
    """
    options = ["-f", str(parameters)] if parameters else []
    command = [sys.executable, "-m", "papermill", str(notebook), str(output), "--no-progress-bar", *options]
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.with_suffix(".log")
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    start = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=notebook.parent, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        print(log.read_text()[-4000:])
        raise SystemExit(f"failed: {notebook.name}; the whole log is {log}")
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return time.monotonic() - start, usage.ru_maxrss / unit


def side_by_side(run: Callable[[Path, int | None], None], notebooks: Sequence[Path], alone: Sequence[str] = ()) -> None:
    """Run two notebooks at a time with half of the cores each: small networks gain little from a second thread.

    Args:
        run: called with a notebook and its number of threads, None for all.
        notebooks: to be run.
        alone: stems of those that are run at the end, by themselves and with all cores.
    """
    cores = os.cpu_count() or 1
    beside = [n for n in notebooks if cores > 1 and n.stem not in alone]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda notebook: run(notebook, cores // 2), beside))  # the list meets the first one that fails
    for notebook in notebooks:
        if notebook not in beside:
            run(notebook, None)


def strip_traces(path: Path, seconds: float, memory: float) -> None:
    """Drop papermill's timestamps and paths from an executed notebook, and note what it took."""
    notebook = nbformat.read(path, as_version=4)
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    notebook.metadata["lddr"] = {
        "seconds": round(seconds),
        "memory_mb": round(memory),
        "code": code_hash(path),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("torch", "numpy", "monai", "jupyter-book")},
    }
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        cell.metadata.get("tags", []).sort()
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
            # Progress bars are for who waits; in a page they would only fetch a script from the network.
            cell.outputs = [
                o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
            ]
            for output in cell.outputs:
                small_picture(output)
    nbformat.write(notebook, path)


def small_picture(output: nbformat.NotebookNode) -> None:
    """Store a PNG with a palette of 256 colours where that is smaller: figures are most of a notebook's bytes."""
    data = output.get("data", {})
    if "image/png" not in data:
        return
    before = base64.b64decode(data["image/png"])
    picture = Image.open(io.BytesIO(before)).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    if buffer.tell() < len(before):
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode() + "\n"
