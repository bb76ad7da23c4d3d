"""What every chapter promises: parameters that are literals, outputs that belong to the code, a true word on time."""

import ast
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from lddr.errors import InputError
from lddr.settings import Settings

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("build", ROOT / "book" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def cells(path: Path, kind: str, tag: str | None = None) -> list[str]:
    found = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]
    return [c.source for c in found if tag is None or tag in c.metadata.get("tags", [])]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_parameters_are_known_literals(path):
    (source,) = cells(path, "code", "parameters")
    given = {}
    for node in ast.parse(source).body:
        assert isinstance(node, ast.Assign)
        given[node.targets[0].id] = ast.literal_eval(node.value)
    Settings.check(given)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_parameter_files_are_valid_for_every_chapter(path):
    Settings.check(yaml.safe_load(path.read_text()))


def test_a_misspelt_parameter_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="There is no parameter 'stepz': did you mean 'steps'?"):
        Settings.from_notebook({"stepz": 3, "In": [], "COLOURS": [], "plt": object()})


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_outputs_are_those_of_this_code(path):
    """Run `make refresh` when this fails: a notebook or lddr changed after the outputs were made."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata["lddr"]["code"] == build.code_hash(path)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not [o for c in code for o in c.outputs if o.output_type == "error"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_the_chapter_has_its_parts_and_short_cells(path):
    text = cells(path, "markdown")
    assert re.match(r"# .+\n\n\*\*Claim\.\*\* .+\n\n\*Source: ", text[0])
    headings = [line for cell in text for line in cell.splitlines() if line.startswith("## ")]
    wanted = ["## Set-up", "## Parameters", "## Summary and pitfalls", "## Exercises"]
    assert [h for h in headings if h in wanted] == wanted
    assert max(len(cell.splitlines()) for cell in cells(path, "code")) <= 25


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_stated_time_and_memory_are_true_within_a_factor_of_two(path):
    said = re.search(r"takes (\d+) (seconds?|minutes?) and ([\d.]+) GB", cells(path, "markdown")[0])
    seconds = int(said[1]) * (60 if said[2].startswith("minute") else 1)
    took = nbformat.read(path, as_version=4).metadata["lddr"]
    assert took["seconds"] / 2 <= seconds <= 2 * took["seconds"]
    assert took["memory_mb"] / 2 <= 1000 * float(said[3]) <= 2 * took["memory_mb"]


def blocks_of(kind: str) -> list:
    """(label, python code) of every exercise or solution that holds code, in all chapters."""
    found = []
    for path in CHAPTERS:
        for text in cells(path, "markdown"):
            for match in re.finditer(r"^(`{3,})\{(exercise|solution)\}(.*?)^\1$", text, re.DOTALL | re.MULTILINE):
                label = re.search(r"ex-[\w-]+", match[3])[0]
                code = re.search(r"```python\n(.*?)```", match[3], re.DOTALL)
                if match[2] == kind and code:
                    found.append(pytest.param(code[1], id=label))
    return found


@pytest.mark.parametrize("code", blocks_of("exercise"))
def test_an_exercise_fails_its_own_check_until_it_is_solved(code):
    assert "TODO" in code
    with pytest.raises(AssertionError):
        exec(code, {})


@pytest.mark.parametrize("code", blocks_of("solution"))
def test_the_solution_passes_the_check_of_its_exercise(code):
    assert "assert" in code
    exec(code, {})
