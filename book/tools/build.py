"""Execute the chapters, render the book, run the checks: what the Makefile calls.

python book/tools/build.py book      execute every chapter at its default parameters, render (working tree stays clean)
python book/tools/build.py html      render the committed outputs
python book/tools/build.py refresh   execute, and write the outputs back for committing   [chapter ...]
python book/tools/build.py test      everything CI runs
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jupyter_server_mathjax
import nbformat
from execute import execute, side_by_side, strip_traces
from freshness import code_hash

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "_build"
STAGING = BUILD / "staging"
NOTEBOOKS = ROOT / "notebooks"
SMOKE_RATIO = 4  # no chapter may take more times the median chapter's seconds at smoke parameters
LIGHT_SECONDS = 60  # chapters whose default run is shorter are run again in full and compared
STOPWATCH = ("11_figure1_accuracy_vs_complexity",)  # its subject is seconds, on one thread and on all: runs alone


def chapters() -> list[Path]:
    """List the notebooks of the book, in order of their names."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def call(tool: str, *options: str | Path) -> None:
    """Run a tool of this environment from the top of the project; stop here if it fails."""
    if subprocess.run([Path(sys.executable).with_name(tool), *options], cwd=ROOT).returncode:
        raise SystemExit(f"failed: {' '.join(map(str, [tool, *options]))}")


def stage() -> None:
    """Copy what the book is made of to a place where building leaves no traces in the working tree."""
    shutil.rmtree(STAGING, ignore_errors=True)
    shutil.copytree(ROOT / "book", STAGING / "book", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(NOTEBOOKS, STAGING / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "_config.yml", STAGING)
    shutil.copytree(ROOT / "book" / "_static", STAGING / "_static")


def execute_all(names: list[str], pairs: bool = False) -> None:
    """Run the staged chapters at their default parameters.

    One after the other, with all cores, as their seconds are noted for committing; or two side by side, which is
    quicker. The one whose subject is seconds runs alone in any case; chapter 09, which times too, keeps to one thread.
    """
    stage()
    todo = [c for c in chapters() if not names or c.stem in names]

    def run(chapter: Path, threads: int | None = None) -> None:
        staged = STAGING / "notebooks" / chapter.name
        done = staged.with_suffix(".done.ipynb")
        title = f"[{todo.index(chapter) + 1}/{len(todo)}] {chapter.stem}"
        print(f"{title} ...", flush=True)
        seconds, memory = execute(staged, done, threads=threads)
        os.replace(done, staged)
        staged.with_suffix(".done.log").unlink()
        strip_traces(staged, seconds, memory)
        print(f"{title}: {seconds:.0f} s, {memory:.0f} MB", flush=True)

    side_by_side(run, todo, alone=STOPWATCH if pairs else [c.stem for c in todo])


def status_table(chapters: dict[str, nbformat.NotebookNode]) -> str:
    """Make one line for each chapter: what its notebook notes about its last run."""
    lines = [["chapter", "seconds", "MB", "of this code", "machine", "versions"], ["---", "--:", "--:", *["---"] * 3]]
    for name, notebook in chapters.items():
        took = notebook.metadata.get("lddr", {})
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ").split(":")[0]
        fresh = "yes" if took.get("code") == code_hash(STAGING / "notebooks" / f"{name}.ipynb") else "no"
        run = [took.get("seconds", "not run"), took.get("memory_mb", ""), fresh, took.get("machine", "not noted")]
        versions = ", ".join(f"{library} {number}" for library, number in took.get("versions", {}).items())
        lines.append([f"[{title}](../notebooks/{name})", *map(str, run), versions])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill_pages() -> None:
    """Write into the staged pages what notebooks and records say: status, minutes of the paths, the report."""
    import study.report as report  # here, because it imports PyTorch, which most commands do not need

    toc = (STAGING / "book" / "_toc.yml").read_text()
    names = re.findall(r"file: notebooks/(\w+)", toc)
    chapters = {name: nbformat.read(STAGING / "notebooks" / f"{name}.ipynb", as_version=4) for name in names}

    def minutes(match: re.Match[str]) -> str:
        chosen = names if match[1] == "all" else match[1].split()
        seconds = sum(chapters[name].metadata.get("lddr", {}).get("seconds", 0) for name in chosen)
        return f"{max(1, round(seconds / 60))} min"

    status = status_table(chapters)
    for page in (STAGING / "book").glob("*.md"):
        text = report.fill(page.read_text().replace("<!-- status -->", status))
        page.write_text(re.sub(r"<!-- minutes: (.+?) -->", minutes, text))


def render() -> None:
    """Build the staged book from scratch; every warning is an error, and so is a record that cannot be read."""
    fill_pages()
    for old in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(BUILD / old, ignore_errors=True)
    toc = STAGING / "book" / "_toc.yml"
    call("jupyter-book", "build", STAGING, "--toc", toc, "--path-output", ROOT, "-n", "-W", "--keep-going", "-q")
    # Formulas must show without a network, so the script that draws them goes into the book; only now, because
    # jupyter-book would load every script of its `_static` folder into every page.
    shutil.copytree(Path(jupyter_server_mathjax.__file__).parent / "static", BUILD / "html" / "_static" / "mathjax")
    print(f"The book is in {(BUILD / 'html' / 'index.html').relative_to(ROOT)}: open it in a browser.")
    from study.records import broken  # here, as in `fill_pages`

    if broken:
        raise SystemExit("\n".join(["failed: these records were left out; make them again:", *broken.values()]))


def html() -> None:
    """Render the outputs as they are committed."""
    stage()
    render()


def smoke() -> None:
    """Run every chapter at parameters that take seconds, and compare their times: a ratio holds on any machine."""
    took: dict[Path, float] = {}

    def run(chapter: Path, threads: int | None) -> None:
        output, parameters = BUILD / "smoke" / chapter.name, NOTEBOOKS / "params" / "smoke.yaml"
        took[chapter], _ = execute(chapter, output, parameters, threads)
        print(f"{chapter.stem}: {took[chapter]:.0f} s", flush=True)

    side_by_side(run, chapters())
    typical = statistics.median(took.values())
    if slow := [f"{c.name} takes {s:.0f} s" for c, s in took.items() if s > SMOKE_RATIO * typical]:
        reason = f"that is more than {SMOKE_RATIO} times the {typical:.0f} s that half of the chapters stay below"
        raise SystemExit(f"{', '.join(slow)} at smoke parameters; {reason}")


def compare() -> None:
    """Run again and compare the tagged outputs: with the committed ones, or for long chapters with the smoke run's."""
    light: list[Path] = []
    heavy: list[Path] = []
    for chapter in chapters():
        notebook = nbformat.read(chapter, as_version=4)
        tagged = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", []) and c.get("outputs")]
        if not tagged:
            raise SystemExit(f"{chapter.name}: no cell with outputs is tagged nbval-check-output; nothing to compare")
        is_light = notebook.metadata["lddr"]["seconds"] < LIGHT_SECONDS
        (light if is_light else heavy).append(chapter if is_light else BUILD / "smoke" / chapter.name)
    how = ("-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile")
    call("pytest", *how, "--nbval-lax", "--nbval-cell-timeout=600", *light, *heavy)


def lint() -> None:
    """Check style, types, and who imports whom."""
    call("ruff", "check", ".")
    call("ruff", "format", "--check", ".")
    call("mypy")
    call("lint-imports", "--no-cache")


def test() -> None:
    """Run everything CI runs, with a line for each stage at the end."""
    stages: dict[str, Callable[[], None]] = {
        "ruff, mypy, import-linter": lint,
        "pytest": lambda: call("pytest", "-n", "2", "--dist", "loadfile"),
        "notebooks at smoke parameters": smoke,
        "notebooks against recorded outputs": compare,
        "book": html,
    }
    took = {}
    try:
        for name, run in stages.items():
            print(f"\n=== {name}", flush=True)
            start = time.monotonic()
            took[name] = "failed"
            run()
            took[name] = f"{time.monotonic() - start:.0f} s"
    finally:
        print("\n=== summary")
        for name in stages:
            print(f"{name:<36}{took.get(name, 'not reached')}", flush=True)
        print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}))


def main() -> None:
    """Read the command."""
    command, names = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if command == "book":
        execute_all([], pairs=True)
        render()
    elif command == "refresh":
        execute_all(names)
        for chapter in chapters():
            if not names or chapter.stem in names:
                shutil.copy(STAGING / "notebooks" / chapter.name, chapter)
    elif command in ("html", "test"):
        {"html": html, "test": test}[command]()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
