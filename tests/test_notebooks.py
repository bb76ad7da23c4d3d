"""What every chapter promises: parameters that are literals, outputs that belong to the code, a true word on time."""

import ast
import base64
import re
from pathlib import Path

import freshness
import nbformat
import pytest
import yaml

from study.chapter import FAMILY, literals

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The sections of a chapter, in this order; what stands between them is each chapter's own.
TEMPLATE = [
    "Set-up",
    "Parameters",
    "Predict first",
    "The idea",
    "Build it from scratch",
    "Check it",
    "Break it",
    "Ours and the paper's",
    "On your own pair",
    "Summary and pitfalls",
    "Exercises",
    "What comes next",
]
EVERYWHERE = {"Set-up", "Parameters", "Summary and pitfalls", "Exercises", "What comes next"}
IN_A_CHAPTER = {"Predict first", "The idea", "Break it"}


def cells(path: Path, kind: str, tag: str | None = None) -> list[str]:
    found = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]
    return [c.source for c in found if tag is None or tag in c.metadata.get("tags", [])]


def names_used(path: Path) -> list[str]:
    """The names that a chapter hands to `chapter_parameters`."""
    for cell in cells(path, "code"):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "chapter_parameters":
                return ast.literal_eval(node.args[1])
    raise AssertionError(f"{path.name} does not check its parameters")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_parameters_are_literals_of_the_family_and_all_of_them_are_used(path):
    (source,) = cells(path, "code", "parameters")
    given = literals(source)
    assert given is not None
    for name, value in given.items():
        FAMILY[name].check({name: value})
    assert names_used(path) == list(given)
    code = ast.walk(ast.parse("\n".join(cells(path, "code"))))
    whole = {"part", "run"} & {node.attr for node in code if isinstance(node, ast.Attribute)}
    single = set(re.findall(r"\bp\.(\w+)", "\n".join(cells(path, "code"))))
    assert whole or set(given) <= single


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_parameter_files_can_be_shared_by_all_chapters(path):
    values = yaml.safe_load(path.read_text())
    assert list(values)[-1] == "shared"
    assert values.pop("shared") is True
    for name, value in values.items():
        FAMILY[name].check({name: value})


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_outputs_are_those_of_this_code(path):
    """Run `make refresh` when this fails: a notebook, or a module it imports, changed after the outputs were made."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata["lddr"]["code"] == freshness.code_hash(path)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not [o for c in code for o in c.outputs if o.output_type == "error"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_the_chapter_has_its_parts_in_order(path):
    text = cells(path, "markdown")
    number = path.stem[:2] if path.stem[:2].isdigit() else ""
    assert re.match(rf"# {number and number + ' · '}.+\n\n\*\*Claim\.\*\* .+\n\n\*Source: ", text[0])
    lines = re.sub(r"```.*?```", "", "\n".join(text), flags=re.DOTALL).splitlines()
    headings = [line.removeprefix("## ").split(":")[0] for line in lines if line.startswith("## ")]
    assert [h for h in headings if h in TEMPLATE] == [h for h in TEMPLATE if h in headings]
    whole = "01" <= number <= "08" or number == "10"
    wanted = EVERYWHERE | (IN_A_CHAPTER if number else set()) | (set(TEMPLATE) if whole else set())
    assert wanted - set(headings) == set()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_formulas_stand_one_a_line_so_that_they_fit_a_narrow_screen(path):
    formulas = re.findall(r"\$\$(.+?)\$\$", "\n".join(cells(path, "markdown")), flags=re.DOTALL)
    assert [formula for formula in formulas if r"\qquad" in formula] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_code_cells_are_short_and_use_what_they_import(path):
    code = cells(path, "code")
    assert max(len(cell.splitlines()) for cell in code) <= 25
    tree = list(ast.walk(ast.parse("\n".join(code))))
    imported = [name for node in tree if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names]
    used = {node.id for node in tree if isinstance(node, ast.Name)}
    assert {(name.asname or name.name).split(".")[0] for name in imported} - used == set()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_figure_has_an_alternative_text(path):
    alternatives = []
    for cell in nbformat.read(path, as_version=4).cells:
        outputs = [o.data for o in cell.get("outputs", []) if "data" in o]
        pictures = sum("image/png" in data for data in outputs)
        assert pictures <= 1, f"cell {cell.id}: one text cannot stand for several figures"
        if pictures:
            alternatives.append((cell.id, cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")))
        tags = [tag for data in outputs for tag in re.findall(r"<img\b[^>]*>", data.get("text/html", ""))]
        tags += re.findall(r"<img\b[^>]*>", cell.source) if cell.cell_type == "markdown" else []
        assert all(re.search(r'\balt="[^"]+"', tag) for tag in tags), f"cell {cell.id}: a picture without alt"
        assert "![](" not in cell.source
    assert [cell for cell, alt in alternatives if len(alt.split()) < 5] == []
    assert len({alt for _, alt in alternatives}) == len(alternatives), "two figures with the same text"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_wide_figures_take_the_whole_width_of_the_page(path):
    """In the column of the text the letters of a figure of eleven inches would shrink to eight pixels."""
    for cell in nbformat.read(path, as_version=4).cells:
        pictures = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        widths = [int.from_bytes(base64.b64decode(picture)[16:20], "big") for picture in pictures]  # of a PNG's header
        assert max(widths, default=0) <= 1050 or "full-width" in cell.metadata.get("tags", []), f"cell {cell.id}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_what_is_compared_is_rounded_far_above_float_noise(path):
    tagged = [c for c in nbformat.read(path, as_version=4).cells if "nbval-check-output" in c.metadata.get("tags", [])]
    assert tagged
    for cell in tagged:
        text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        assert text, f"cell {cell.id}: nothing to compare"
        assert not re.search(r"\d\.\d{5}|\.\d+e[+-]\d", text), f"cell {cell.id}: more digits than all machines agree on"


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


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_exercises_are_of_three_kinds_and_their_solutions_unfold(path):
    text = "\n".join(cells(path, "markdown"))
    asked = re.findall(r"\{exercise\}\n:label: (ex-[\w-]+)\n", text)
    assert re.findall(r"\{solution\} (ex-[\w-]+)\n:class: dropdown\n", text) == asked
    names = {label.split("-", 2)[2] for label in asked}
    assert {"recall", "open"} <= names
    assert re.search(r"\{exercise\}(?:(?!\{solution\}).)*TODO", text, re.DOTALL), "no exercise with a TODO"


@pytest.mark.parametrize("code", blocks_of("exercise"))
def test_an_exercise_fails_its_own_check_until_it_is_solved(code):
    assert "TODO" in code
    with pytest.raises(AssertionError):
        exec(code, {})


@pytest.mark.parametrize("code", blocks_of("solution"))
def test_the_solution_passes_the_check_of_its_exercise(code):
    assert "assert" in code
    exec(code, {})
