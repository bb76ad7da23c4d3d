"""The pages around the chapters: every link, name, word, message and marker in them leads somewhere."""

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).parent.parent
BOOK, NOTEBOOKS = ROOT / "book", ROOT / "notebooks"
PAGES = sorted(BOOK.glob("*.md"))
CHAPTERS = sorted(NOTEBOOKS.glob("*.ipynb"))
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text())
IN_TOC = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]


def text_of(path: Path) -> str:
    """The prose of a page or notebook, code and its fences left out."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def rows(page: str, header: str) -> list[dict[str, str]]:
    """Every row of the tables of a page that have a column `header`: column -> cell."""
    found, names = [], []
    for line in (BOOK / page).read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            names = []
        elif not names:
            names = cells
        elif header in names and not set(line) <= set("|-: "):
            found.append(dict(zip(names, cells, strict=True)))
    return found


def test_every_chapter_of_the_contents_exists_and_every_page_is_in_them():
    files = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (*PAGES, *CHAPTERS)}
    assert set(IN_TOC) == files
    assert len(IN_TOC) == len(set(IN_TOC))


@pytest.mark.parametrize("path", [*PAGES, *CHAPTERS, ROOT / "README.md"], ids=lambda p: p.stem)
def test_internal_links_lead_to_a_file_and_a_heading(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        wanted = (path.parent / name).resolve() if name else path
        candidates = [wanted, wanted.with_name(wanted.name + ".md"), wanted.with_name(wanted.name + ".ipynb")]
        existing = [candidate for candidate in candidates if candidate.is_file()]
        assert existing, f"{path.name}: {target}"
        if anchor:
            text = text_of(existing[0])
            headings = {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
            assert anchor in headings or f"({anchor})=" in text, f"{path.name}: {target}"


@pytest.mark.parametrize("path", [*PAGES, *CHAPTERS, *ROOT.glob("*.md")], ids=lambda p: p.stem)
def test_files_of_the_project_that_a_text_names_are_there(path):
    named = re.findall(r"`((?:book|data_scripts|lddr|notebooks|tests)/[\w./-]+)`", text_of(path))
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_words_citations_and_equations_that_are_referred_to_exist():
    terms = re.findall(r"^(\S.*)\n  \S", (BOOK / "glossary.md").read_text(), re.MULTILINE)
    keys = re.findall(r"^@\w+\{(\S+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
    everything = "\n".join(text_of(path) for path in (*PAGES, *CHAPTERS))
    labels = re.findall(r"^\$\$ \((eq-[\w-]+)\)", everything, re.MULTILINE)
    known = {"term": terms, "cite:[pt]": keys, "eq": labels}
    for role, names in known.items():
        assert len(names) == len(set(names)), f"twice: {sorted(n for n in names if names.count(n) > 1)}"
        for used in re.findall(rf"\{{{role}\}}`([^`]+)`", everything):
            used = re.sub(r".*<(.+)>", r"\1", used)
            for name in used.split(",") if role == "cite:[pt]" else [used]:
                assert name.strip() in names, f"{{{role}}} {name}"
    assert terms == sorted(terms, key=str.lower)


def directives() -> list[tuple[str, list[str]]]:
    """(module, members that are named) of every automodule on the API page."""
    found = re.findall(r"\.\. automodule:: (\S+)\n(?:   :members: ?(.*))?", (BOOK / "api.md").read_text())
    return [(module, [name.strip() for name in members.split(",") if name.strip()]) for module, members in found]


def test_the_api_page_names_every_public_function_and_no_other():
    named = dict(directives())
    for path in sorted((ROOT / "lddr").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        public = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        if public:
            assert module in named, f"{module} is missing on the API page"
            assert not named[module] or sorted(named[module]) == sorted(public), module
    for module in named:
        loaded = importlib.import_module(module)
        assert all(hasattr(loaded, name) for name in named[module]), module
    text = (BOOK / "api.md").read_text()
    for name, members in re.findall(r"\.\. autoclass:: (\S+)\n   :members: (.+)", text):
        module, _, last = name.rpartition(".")
        kind = getattr(importlib.import_module(module), last)
        assert all(hasattr(kind, member.strip()) for member in members.split(",")), name


def test_public_functions_are_documented_and_name_chapters_that_exist():
    numbers = {path.stem[:2] for path in CHAPTERS}
    for path in sorted((ROOT / "lddr").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                continue
            docstring = ast.get_docstring(node) or ""
            for number in re.findall(r"\bchapter (\d\d)\b", docstring, re.IGNORECASE):
                assert number in numbers, f"{path.name}: {number}"
            if node in tree.body and not node.name.startswith("_"):
                assert docstring, f"{path.name}: {node.name}"


def test_a_chapter_that_a_docstring_names_mentions_the_thing():
    """ "Chapter NN" in a docstring promises that the chapter explains or uses what the docstring is about."""
    words = {path.stem[:2]: "\n".join(c.source for c in nbformat.read(path, 4).cells) for path in CHAPTERS}
    checked, broken = 0, []
    for path in sorted([*(ROOT / "lddr").rglob("*.py"), *(BOOK / "study").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for number in re.findall(r"[Cc]hapter (\d\d)", ast.get_docstring(node) or ""):
                    checked += 1
                    if not re.search(rf"\b{node.name}\b", words[number]):
                        broken.append(f"{path.name}: {node.name}, chapter {number}")
    assert broken == []
    assert checked > 40


def test_names_in_the_notation_table_are_those_of_the_package():
    public = {name for module, _ in directives() for name in vars(importlib.import_module(module))}
    table = rows("notation.md", "in the code")
    assert len(table) > 40
    assert all(re.search(r"\]\(\.\./notebooks/\w+\)", row["chapter"]) for row in table)
    called = {name for row in table for name in re.findall(r"`(\w+)\([^`]*\)`", row["in the code"])}
    assert {"compose", "covariance", "invert"} <= called
    assert called - public <= {"Linear", "diff", "numel"}  # of chapter 07, and of PyTorch


def test_every_data_set_has_a_licence_and_a_way_to_get_it():
    described, got = rows("datasets.md", "licence"), rows("datasets.md", "how to get it")
    assert [row["set"] for row in described] == [row["set"] for row in got]
    assert len(described) >= 12
    for row in (*described, *got):
        assert all(row.values()), row
    known = re.compile(r"CC BY|see the publisher's page|rules|Agreement|copyright notice")
    assert all(known.search(row["licence"]) for row in described)


def test_sizes_of_the_splits_are_those_of_the_package():
    from lddr.data.hippocampus import split_ids
    from lddr.data.simulated import SPLITS

    sizes = {
        row["set"]: re.findall(r"(\d+) to (?:train|validate|test)", row["size"]) for row in rows("datasets.md", "size")
    }
    parts = ("train", "validation", "test")
    assert sizes["hippocampus"] == [str(len(split_ids(part))) for part in parts]
    assert sizes["simulated brains"][:3] == [str(len(SPLITS[part])) for part in parts]


# How quoted messages begin that are Python's, pydantic's, PyTorch's or Jupyter's own; and a command.
OTHERS = ("No such file", "ModuleNotFoundError", "Parameter ", "Kernel size", "Sizes of tensors", "Expected 4D")
OTHERS += ("Input type", '"grid_sampler3d_cpu"', "DeadKernelError", "No space left", "make ")


def test_messages_in_troubleshooting_are_those_of_the_code():
    sources = [path for folder in ("lddr", "data_scripts", "book/study") for path in (ROOT / folder).rglob("*.py")]
    said = [(ROOT / "Makefile").read_text()]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    ours = "\n".join(said)
    checked = 0
    for row in rows("troubleshooting.md", "symptom"):
        assert row["cause"], row
        assert row["cure"], row
        for quoted in re.findall(r"`([^`]+)`", row["symptom"]):
            if " " not in quoted or quoted.startswith(OTHERS):  # a name, or not ours
                continue
            pieces = [piece.strip() for piece in quoted.split("…") if len(piece.strip()) > 5]
            assert all(piece in ours for piece in pieces), quoted
            checked += 1
    assert checked > 25


@pytest.fixture
def build(tmp_path, monkeypatch):
    """`book/tools/build.py`, its staging folder a copy that holds one chapter."""
    import build as module

    monkeypatch.setattr(module, "STAGING", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    shutil.copy(NOTEBOOKS / "conventions.ipynb", tmp_path / "notebooks")
    notebook = nbformat.read(tmp_path / "notebooks" / "conventions.ipynb", as_version=4)
    code = module.code_hash(tmp_path / "notebooks" / "conventions.ipynb")
    notebook.metadata["lddr"] = {"seconds": 130, "memory_mb": 777, "code": code, "versions": {"torch": "9.9"}}
    nbformat.write(notebook, tmp_path / "notebooks" / "conventions.ipynb")
    (tmp_path / "book" / "_toc.yml").write_text("- file: notebooks/conventions\n")
    return module


def test_status_and_minutes_are_filled_in_from_the_notebooks(build):
    page = build.STAGING / "book" / "page.md"
    page.write_text("<!-- status -->\n\n<!-- minutes: conventions --> <!-- minutes: all -->\n")
    build.fill_pages()
    text = page.read_text()
    assert "| [Conventions](../notebooks/conventions) | 130 | 777 | yes | not noted | torch 9.9 |" in text
    assert text.endswith("2 min 2 min\n")
    notebook = build.STAGING / "notebooks" / "conventions.ipynb"
    notebook.write_text(notebook.read_text().replace("import torch", "import torch  # changed"))
    page.write_text("<!-- status -->")
    build.fill_pages()
    assert "| 130 | 777 | no |" in page.read_text()


def instead_of_chapters(build, monkeypatch, codes):
    """Notebooks of one cell each take the place of the book's."""
    folder, empty = build.STAGING / "committed", nbformat.read(NOTEBOOKS / "conventions.ipynb", as_version=4)
    folder.mkdir()
    for name, code in codes.items():
        empty.cells = [nbformat.v4.new_code_cell(code)]
        nbformat.write(empty, folder / f"{name}.ipynb")
    monkeypatch.setattr(build, "NOTEBOOKS", folder)
    monkeypatch.setattr(build, "STAGING", build.STAGING / "staging")


@pytest.mark.parametrize("cores", [1, 8])
def test_chapters_run_in_pairs_with_half_of_the_cores_each_and_those_about_seconds_alone(build, monkeypatch, cores):
    asks = "import os\nos.environ.get('OMP_NUM_THREADS')"
    instead_of_chapters(build, monkeypatch, {name: asks for name in ("a", "b", build.STOPWATCH[0])})
    monkeypatch.setattr(build.os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    build.execute_all([], pairs=True)
    outputs = {}
    for path in (build.STAGING / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        assert notebook.metadata["lddr"]["seconds"] > 0
        outputs[path.stem] = [output.data["text/plain"] for output in notebook.cells[0].outputs]
    beside = [] if cores == 1 else ["'4'"]
    assert outputs == {"a": beside, "b": beside, build.STOPWATCH[0]: []}


def test_a_chapter_that_fails_stops_the_build_and_keeps_its_log(build, monkeypatch, capsys):
    instead_of_chapters(build, monkeypatch, {"a": "raise ValueError('no such brain')"})
    with pytest.raises(SystemExit, match="failed: a.ipynb"):
        build.execute_all([], pairs=True)
    assert "no such brain" in capsys.readouterr().out
    assert "no such brain" in (build.STAGING / "notebooks" / "a.done.log").read_text()


def test_a_chapter_that_is_slow_beside_the_others_at_smoke_parameters_is_named(build, monkeypatch, capsys):
    seconds = {"a": 10.0, "b": 12.0, "c": 12.0 * build.SMOKE_RATIO}
    instead_of_chapters(build, monkeypatch, dict.fromkeys(seconds, ""))
    monkeypatch.setattr(build, "execute", lambda chapter, *_: (seconds[chapter.stem], 0.0))
    build.smoke()
    seconds["c"] += 1
    with pytest.raises(SystemExit, match="^c.ipynb takes 49 s at smoke parameters; that is more than 4 times the 12 s"):
        build.smoke()


def test_markers_stand_in_the_pages_and_name_chapters():
    assert "<!-- status -->" in (BOOK / "status.md").read_text()
    paths = re.findall(r"<!-- minutes: (.+?) -->", (BOOK / "intro.md").read_text())
    assert len(paths) == 3
    assert all(f"notebooks/{name}" in IN_TOC for path in paths if path != "all" for name in path.split())


def test_launch_buttons_are_off_and_in_one_place():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert not any(config["launch_buttons"].values())
    assert not [key for key in config["html"] if key.startswith("use_") and config["html"][key]]


def test_links_between_chapters_and_the_package_are_made_from_what_they_import():
    import links

    code = "import os\nfrom lddr.warping import compose as chain, warp\nfrom torch import nn\n"
    assert links.imported_names(code) == {"chain": "lddr.warping.compose", "warp": "lddr.warping.warp"}
    assert links.imported_names("$ lddr models") == {}
    assert "notebooks/02_warping" in links.users(ROOT)["invert"]
    lines = ["See `x`; chapter 02, chapter 99.", "", ":ivar a, b: both", ":returns: what", ":rtype: x"]
    app = type("App", (), {"srcdir": ROOT, "env": type("Env", (), {"found_docs": {"notebooks/02_warping"}})})
    links.mark_code(app, "function", "f", inspect, None, lines)
    links.finish_docstring(app, "function", "lddr.f", inspect, None, lines)
    expected = "See ``x``; :doc:`chapter 02 </notebooks/02_warping>`, chapter 99."
    assert lines[0] == expected
    assert lines[2:5] == [":ivar a: both", ":ivar b: the same", ":returns: x: what"]


def test_the_first_use_of_a_word_has_its_meaning_beside_it():
    import links

    def sentence(*parts):
        return nodes.paragraph("", "", *(nodes.Text(p) if isinstance(p, str) else p for p in parts))

    term = nodes.term("", "fold", ids=["term-fold"])
    meaning = sentence(
        "A ", addnodes.pending_xref("", nodes.Text("map")), " inside out. ", nodes.Text("Chapter 02"), "."
    )
    other = nodes.definition_list_item("", nodes.term("", "axial", ids=["term-axial"]), sentence("See ", "section."))
    glossary = nodes.paragraph("", "", nodes.definition_list_item("", term, nodes.definition("", meaning)), other)
    app = type("App", (), {"env": type("Env", (), {"get_doctree": lambda self, name: glossary})()})

    def use(word):
        return sentence(nodes.reference("", word, refuri=f"../book/glossary.html#term-{word}"))

    page = nodes.section("", use("axial"), nodes.note("", use("fold")), use("fold"))
    links.margin_words(app, page, "book/intro")
    assert len(page) == 3
    links.margin_words(app, page, "notebooks/02_warping")
    assert [type(node).__name__ for node in page] == ["paragraph", "sidebar", "note", "paragraph"]
    assert page[1].astext().split("\n\n") == ["fold", "A map inside out. "]


def test_a_long_name_in_a_table_is_broken_where_its_parts_meet():
    import links

    def names(node):
        return [re.sub("<wbr>", "|", literal.astext()) for literal in node.findall(nodes.literal)]

    known = ("tests/test_data.py", "a.b_c(d, e)", "Model()(u)", "_x", "[k - 1]", "...")
    cell = nodes.entry("", *(nodes.literal("", name) for name in known))
    page = nodes.section("", nodes.literal("", "a.b_c"), nodes.table("", cell))
    links.break_names(None, page, "book/notation")
    assert names(cell) == ["tests/|test_|data.py", "a.|b_|c(|d, e)", "Model()(|u)", "_x", "[k - 1]", "..."]
    assert names(page)[0] == "a.b_c"
