"""The house rules that a machine can check: who imports whom, how long files are, what the environment pins."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
# From the ground up: a module may import what stands before it, never what stands after.
ORDER = [
    "errors",
    "files",
    "warp",
    "baselines",
    "losses",
    "augment",
    "config",
    "networks.layers",
    "networks.ldr",
    "networks.vtn",
    "networks.unet",
    "networks.affine",
    "networks.discriminator",
    "networks",
    "cascade",
    "data.nifti",
    "data.grid",
    "data.cohort",
    "data.hippocampus",
    "data.liver",
    "data.published",
    "data.simulated",
    "data",
    "distill",
    "models",
    "training",
    "adapt",
    "metrics",
    "complexity",
    "evaluate",
    "teacher",
    "records",
    "compare",
    "results",
    "plotting",
    "diagrams",
    "settings",
    "runs",
    "register",
    "fields",
    "cli",
]


def modules() -> dict[str, Path]:
    names = {}
    for path in sorted((ROOT / "lddr").rglob("*.py")):
        parts = path.relative_to(ROOT / "lddr").with_suffix("").parts
        names[".".join(p for p in parts if p != "__init__")] = path
    names.pop("")
    return names


def imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lddr":
            found.add(node.module.removeprefix("lddr").lstrip("."))
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("lddr.") for a in node.names if a.name.startswith("lddr.")}
    return found - {""}


def test_every_module_has_its_place():
    assert sorted(modules()) == sorted(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_no_module_imports_one_above_it(module):
    above = {name for name in imports(modules()[module].read_text()) if ORDER.index(name) >= ORDER.index(module)}
    assert not above


def test_files_are_short_enough_to_read_in_one_sitting():
    lengths = {name: len([s for s in path.read_text().splitlines() if s.strip()]) for name, path in modules().items()}
    assert max(lengths.values()) <= 300, lengths
    assert sum(lengths.values()) <= 3200  # "about 3 000": each hundred more must be worth a student's time


def tracked() -> list[Path]:
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        return [p for p in ROOT.rglob("*") if p.is_file() and not {".venv", "_build", ".git", "runs"} & set(p.parts)]
    return [ROOT / name for name in result.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_repository_stays_light():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert max(sizes.values()) < 16e6
    assert sum(sizes.values()) < 80e6
    assert sum(size for path, size in sizes.items() if path.suffix == ".ipynb") < 15e6
    assert not [path for path in sizes if path.name.endswith((".nii", ".nii.gz", ".dcm", ".pt"))]


def test_no_machine_is_named():
    paths = re.compile(r"/(?:root|home/\w+|work/\w+|tmp/\w+)/")
    for path in tracked():
        endings = {".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".json", ".lock"}
        if path.suffix in endings or path.name == "Makefile":
            if path == Path(__file__):
                continue
            assert not paths.search(path.read_text()), path


def requirement(text: str) -> str:
    return re.split(r"[<>=!\[; ]", text.strip())[0].lower().replace("_", "-")


def test_pyproject_lock_and_conda_file_hold_the_same_environment():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {requirement(name): version for name, version in pinned.items()}
    from packaging.requirements import Requirement

    for text in wanted:
        parsed = Requirement(text)
        assert parsed.specifier.contains(pinned[requirement(parsed.name)]), text
    assert not [name for name in pinned if name.startswith("nvidia")]
    conda = (ROOT / "environment.yml").read_text()
    assert "--requirement requirements.lock" in conda
    minimum = project["requires-python"].removeprefix(">=")
    assert f"python={minimum}" in conda


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_import_public_names_only(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lddr"):
                    assert not [a.name for a in node.names if a.name.startswith("_")]
