"""Is a notebook's output still that of its code? A hash of the code, and of the modules of this project it uses."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import grimp
import nbformat

import lddr

OURS = ("lddr", "study")


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(*OURS, cache_dir=None)


def imported(code: str) -> set[str]:
    """List the modules of this project that a piece of code imports itself; a name of `lddr` counts as its module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "lddr":
            found |= {lddr.HOME.get(alias.name, f"lddr.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:  # of a package, perhaps a module in it
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name in _graph().modules}


def used(code: str) -> set[str]:
    """List the modules of this project that a piece of code imports, directly or through others."""
    direct = imported(code)
    return direct.union(*(_graph().find_upstream_modules(module) for module in direct))


@cache
def _module_code(module: str) -> bytes:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    for node in ast.walk(tree):  # what a docstring says changes no output
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            node.body = body[1:]  # type: ignore[attr-defined, index]
    return ast.dump(tree).encode()


def hash_of(cells: Iterable[str]) -> str:
    """Hash the code of a notebook and of the modules it uses, docstrings and comments of the modules left out."""
    code = list(cells)
    digest = hashlib.sha256("\0".join(code).encode())
    for module in sorted(set().union(*(used(cell) for cell in code))):
        digest.update(module.encode() + _module_code(module))
    return digest.hexdigest()[:16]


def code_hash(notebook: Path) -> str:
    """Hash a notebook as `hash_of` does: while it stays, the outputs are those of this code."""
    cells = nbformat.read(notebook, as_version=4).cells
    return hash_of(cell.source for cell in cells if cell.cell_type == "code")
