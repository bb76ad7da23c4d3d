"""The house rules that a machine can check beside import-linter's: how long files are, what the environment pins."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

import lddr

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked() -> list[Path]:
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        return [p for p in ROOT.rglob("*") if p.is_file() and not {".venv", "_build", ".git", "runs"} & set(p.parts)]
    return [ROOT / name for name in result.stdout.split("\0") if name and (ROOT / name).exists()]


def test_files_are_short_enough_to_read_in_one_sitting():
    long = {}
    for path in tracked():
        if path.suffix == ".py" and path.parts[len(ROOT.parts)] in ("lddr", "book", "data_scripts"):
            lines = len([line for line in path.read_text().splitlines() if line.strip()])
            if lines > 300:
                long[path.name] = lines
    assert long == {}


def test_the_repository_stays_light():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert max(sizes.values()) < 16e6
    assert sum(sizes.values()) < 80e6
    assert sum(size for path, size in sizes.items() if path.suffix == ".ipynb") < 15e6
    assert not [path for path in sizes if path.name.endswith((".nii", ".nii.gz", ".dcm", ".pt"))]


def test_no_machine_is_named():
    paths = re.compile(r"/(?:root|home/\w+|work/\w+|tmp/\w+)/")
    for path in tracked():
        endings = {".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".json", ".lock", ".cff"}
        if (path.suffix in endings or path.name == "Makefile") and path != Path(__file__):
            assert not paths.search(path.read_text()), path


def test_what_the_lock_pins_satisfies_pyproject_and_conda_reads_the_lock():
    wanted = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {}
    for line in lines:
        if line and not line.startswith("#"):
            parsed = Requirement(line)
            (pin,) = parsed.specifier
            pinned[parsed.name.lower().replace("_", "-")] = pin.version
    for text in wanted:
        parsed = Requirement(text)
        assert parsed.specifier.contains(pinned[parsed.name.lower().replace("_", "-")]), text
    assert not [name for name in pinned if name.startswith("nvidia")]
    conda = (ROOT / "environment.yml").read_text()
    assert "--requirement requirements.lock" in conda
    assert f"python{PROJECT['requires-python']}" in conda


def test_one_version_and_one_range_of_pythons_everywhere():
    assert lddr.__version__ == PROJECT["version"]
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    for name in ("Makefile", "README.md", ".github/workflows/ci.yml"):
        text = (ROOT / name).read_text()
        assert all(version in text for version in ("3.11", "3.12", "3.13")), name


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_import_public_names_only_and_those_of_the_root_in_three_lines(path):
    from_root = 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("lddr", "study")):
                    assert not [a.name for a in node.names if a.name.startswith("_")]
                    from_root += node.module == "lddr"
    assert from_root <= 3
