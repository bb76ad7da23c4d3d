"""Ties the book's chapters and the API page together; a small Sphinx extension, named in `_config.yml`.

- In a docstring "chapter 03" becomes a link to that chapter, and the chapters that import a name are listed under it.
- In a chapter the first mention of a public name of lddr becomes a link to its entry on the API page, and its last
  section ends in a line of the names that it explains.
- Beside the first use of a word of the glossary in a chapter stands, in the margin, what the word means.
- In the cells of tables a long name may be broken after a dot, a slash or an underscore, and nowhere else.
"""

import ast
import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

from lddr import HOME

EXPLAINED: dict[str, list[str]] = {}  # document of a chapter -> names whose docstring names that chapter
NOT_IN = (nodes.reference, nodes.title)  # where a link would stand inside a link, or in a heading
PAGES = {"Conventions": "notebooks/conventions", "Paper and code": "book/paper_vs_code"}


def chapter_pages(documents: set[str]) -> dict[str, str]:
    """List the chapters and pages in the book: number ("03") or name -> document."""
    return {name[10:12]: name for name in sorted(documents) if re.match(r"notebooks/\d\d_", name)} | PAGES


def imported_names(code: str) -> dict[str, str]:
    """List what a piece of code imports from lddr: local name -> full name, in the module that defines it."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a shell command, a piece of output
        return {}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {}
    for node in imports:
        if node.module and node.module.split(".")[0] == "lddr":
            for alias in node.names:
                home = HOME.get(alias.name, node.module) if node.module == "lddr" else node.module
                names[alias.asname or alias.name] = f"{home}.{alias.name}"
    return names


@cache
def users(source: Path) -> dict[str, list[str]]:
    """Find which chapters import what: last part of a name of lddr -> documents."""
    found: dict[str, list[str]] = {}
    for path in sorted((source / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for name in set(imported_names(code).values()):
            found.setdefault(name.rpartition(".")[2], []).append(f"notebooks/{path.stem}")
    return found


def link(document: str) -> str:
    """Write a reStructuredText link to a chapter, with its number or name as the text."""
    stem = document.rpartition("/")[2]
    return f":doc:`{stem[:2] if stem[0].isdigit() else stem.capitalize()} </{document}>`"


def mark_code(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Double the backticks that mark code in a docstring, as reStructuredText wants them; before napoleon reads it."""
    lines[:] = re.sub(r"`([^`]+)`", r"``\1``", "\n".join(lines)).split("\n")


def describe(field: FieldInfo) -> str:
    """Say what a parameter means, and what it may be."""
    choices = (
        [f"``{choice}``" for choice in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
    )
    return "; ".join(filter(None, [field.description, f"one of {', '.join(choices)}" if choices else ""]))


def one_by_one(match: re.Match[str]) -> str:
    """Describe each of several attributes that a docstring describes together, as Sphinx wants them."""
    first, *others = match[1].split(", ")
    return "\n".join([f":ivar {first}: {match[2]}", *(f":ivar {name}: the same" for name in others)])


def finish_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Link chapters, list the fields of settings and the chapters that use the object."""
    text = re.sub(r"^:ivar (\w+(?:, \w+)+): (.*)", one_by_one, "\n".join(lines), flags=re.M)
    # napoleon takes the words before a colon for a type; in these docstrings they are words
    text = re.sub(r"^:returns: (.*?)\n:rtype: (.*?)$", r":returns: \2: \1", text, flags=re.M | re.S)
    for word, document in chapter_pages(app.env.found_docs).items():
        if re.search(rf'\b[Cc]hapter {word}\b|page "{word}"', text) and what != "module":
            EXPLAINED.setdefault(document, []).append(name)
        text = re.sub(rf"\b([Cc])hapter {word}\b", rf":doc:`\1hapter {word} </{document}>`", text)
        text = text.replace(f'page "{word}"', f"page :doc:`{word} </{document}>`")
    lines[:] = text.split("\n")
    if inspect.isclass(obj) and issubclass(obj, BaseModel):
        own = [(key, field) for key, field in obj.model_fields.items() if key in obj.__annotations__]
        lines += ["", *(f"- ``{key} = {field.default!r}`` {describe(field)}" for key, field in own), ""]
    found = users(Path(app.srcdir)).get(name.rpartition(".")[2], [])
    documents = [document for document in found if document in app.env.found_docs]
    if documents and what in ("function", "class"):
        lines += ["", f"Used in: {', '.join(link(document) for document in documents)}.", ""]


def hide_fields(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """Leave out the endless signature of settings, which are shown as a list of fields."""
    return ("", None) if inspect.isclass(obj) and issubclass(obj, BaseModel) else None


def skip_positions(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> bool | None:
    """Leave out Python's "Alias for field number 0": the fields of a named tuple stand in its docstring."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def entry_link(app: Sphinx, document: str, entry: Any, label: nodes.Node, name: str) -> nodes.reference:
    """Make a link from a document to an entry of the API page."""
    return make_refnode(app.builder, document, entry.docname, entry.node_id, label, name)


def link_names(app: Sphinx, tree: nodes.document, document: str) -> None:
    """Turn the first mention of each public name in a chapter into a link to the API page."""
    if document == "book/api":
        return
    objects = app.env.get_domain("py").objects  # type: ignore[attr-defined]
    known: dict[str, str] = {}
    for block in tree.findall(nodes.literal_block):
        known |= imported_names(block.astext())
    seen: set[str] = set()
    for node in list(tree.findall(nodes.literal)):
        name = node.astext().removesuffix("()")
        name = known.get(name, name)
        if name.removeprefix("lddr.") in HOME:  # of a function, not of the module that may have its name
            name = f"{HOME[name.removeprefix('lddr.')]}.{name.removeprefix('lddr.')}"
        module, _, last = name.rpartition(".")
        full = [key for key in objects if key == name or (key.startswith(f"{module}.") and key.endswith(f".{last}"))]
        if not name.startswith("lddr.") or name in seen or not full or isinstance(node.parent, NOT_IN):
            continue
        seen.add(name)
        node.parent.replace(node, entry_link(app, document, objects[min(full, key=len)], node.deepcopy(), name))
    if document in EXPLAINED:
        line = nodes.paragraph("", "In the package, explained here: ", classes=["explained"])
        for number, name in enumerate(dict.fromkeys(EXPLAINED[document])):
            label = nodes.literal("", name.rpartition(".")[2], classes=["code"])
            line += [nodes.Text(", " if number else ""), entry_link(app, document, objects[name], label, name)]
        list(tree.findall(nodes.section))[-1].append(line)


def meanings(glossary: nodes.document) -> dict[str, tuple[str, nodes.paragraph]]:
    """Read the glossary: anchor of a word -> the word, and what it means (its first paragraph, chapter left out)."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        term, meaning = next(item.findall(nodes.term)), next(item.findall(nodes.paragraph)).deepcopy()
        if len(meaning) > 2 and meaning[-1].astext() == ".":  # the last sentence is the link to the chapter
            del meaning[-2:]
        for node in list(meaning.findall(addnodes.pending_xref)):
            node.replace_self(nodes.Text(node.astext()))
        if not meaning.astext().startswith("See "):
            found[term["ids"][0]] = (term.astext(), meaning)
    return found


def margin_words(app: Sphinx, tree: nodes.document, document: str) -> None:
    """Put the meaning of a word beside the block of a chapter that uses it first."""
    if not document.startswith("notebooks/"):
        return
    known = meanings(app.env.get_doctree("book/glossary"))
    for node in list(tree.findall(nodes.reference)):
        anchor = node.get("refuri", "").partition("glossary.html#")[2]
        if anchor not in known:
            continue
        word, meaning = known.pop(anchor)
        block: nodes.Node = node
        while not isinstance(block.parent, nodes.section):
            block = block.parent
        note = nodes.sidebar("", nodes.title("", word), meaning, classes=["margin", "margin-word"])
        block.parent.insert(block.parent.index(block), note)


def break_names(app: Sphinx, tree: nodes.document, document: str) -> None:
    """Let a browser break the names in the cells of tables where their parts meet."""
    for literal in [node for cell in tree.findall(nodes.entry) for node in cell.findall(nodes.literal)]:
        first, *others = re.split(r"(?<=[\w)][._/(])(?=\w)(?!py\b)", literal.astext())
        literal.children = [nodes.Text(first)]
        for part in others:
            literal += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("autodoc-process-docstring", mark_code, priority=100)
    app.connect("autodoc-process-docstring", finish_docstring, priority=900)
    app.connect("autodoc-process-signature", hide_fields)
    app.connect("autodoc-skip-member", skip_positions)
    app.connect("doctree-resolved", link_names)
    app.connect("doctree-resolved", margin_words)
    app.connect("doctree-resolved", break_names)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
