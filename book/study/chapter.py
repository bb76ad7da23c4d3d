"""The parameters of a chapter.

A chapter declares its parameters as literals in the cell tagged `parameters`. papermill puts what it is given, values
of a YAML file (`-f`) and single ones (`-p name value`), into a cell after it. `chapter_parameters` collects both from
the cells that have run; where the kernel keeps none, it takes the values as they stand.

A file that serves several chapters may hold names that one of them does not use. It says so in its last line,
`shared: true`; then those names are passed over, with a word about it. All others must be the chapter's own. papermill
hands all of it over as one list of names, so only the first of several such files is known to end there.
"""

import ast
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from pydantic import Field

from lddr.config import Config, UserPath, unknown_name
from lddr.errors import InputError
from lddr.train.config import FIELDS, PARTS, RunConfig, pick

Part = TypeVar("Part", bound=Config)


class ChapterConfig(Config):
    """Parameters that only chapters have: which model and which subjects are shown, files of one's own."""

    model: UserPath = Field("simulated_brains", description="a shipped model's name, or a .safetensors file")
    moving: int = Field(0, ge=0, description="index of the moving subject in the test split")
    fixed: int = Field(1, ge=0, description="index of the fixed subject in the test split")
    fixed_file: UserPath | None = Field(None, description="NIfTI file of the scan that stays; null: a simulated one")
    moving_file: UserPath | None = Field(
        None, description="NIfTI file of the scan that is warped; null: a simulated one"
    )
    fixed_labels_file: UserPath | None = Field(None, description="labels of the scan that stays, to measure with")
    moving_labels_file: UserPath | None = Field(None, description="labels of the scan that is warped, warped along")
    scans: UserPath | None = Field(None, description="folder of NIfTI scans to fine-tune on; null: simulated ones")
    out: UserPath | None = Field(
        None, description="folder for what a chapter writes; null: a temporary one, or nothing"
    )


# Name -> the part that checks it.
FAMILY: dict[str, type[Config]] = {**FIELDS, **dict.fromkeys(ChapterConfig.model_fields, ChapterConfig)}


class Parameters(SimpleNamespace):
    """The parameters of one chapter, by name."""

    def part(self, kind: type[Part]) -> Part:
        """Build one of the typed settings, such as `TrainConfig`; what the chapter does not use has its default."""
        return kind.check(pick(kind, vars(self)))

    @property
    def run(self) -> RunConfig:
        """All settings of a training run; what the chapter does not use has its default."""
        return RunConfig.check({name: value for name, value in vars(self).items() if name in FIELDS})


def literals(source: str) -> dict[str, Any] | None:
    """Read a cell that does nothing but give names to literals; None if it does anything else."""
    values: dict[str, Any] = {}
    try:
        for node in ast.parse(source).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                return None
            values[node.targets[0].id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError):
        return None
    return values


def _names(source: str) -> set[str]:
    """List the names that a cell assigns to; of one that is no Python, none."""
    try:
        nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    except SyntaxError:
        return set()
    return {target.id for node in nodes for target in node.targets if isinstance(target, ast.Name)}


def given_values(history: Sequence[str], uses: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Find the values of the parameters among the cells that have run.

    The cell of parameters is known by its names: it gives most of them. A cell of literals that gives a few is somebody
    who tries another value.

    Args:
        history: the code of the cells so far, IPython's `In`.
        uses: the names the chapter declares.

    Returns:
        The values of the last cell of parameters and of what came after it; and the names which papermill gave.

    Raises:
        InputError: a cell of parameters that computes something.
    """
    values: dict[str, Any] = {}
    injected: list[str] = []
    for source in history:
        found, whole = literals(source), 2 * len(_names(source) & set(uses)) > len(uses)
        if found is None and whole:
            raise InputError(
                "The cell of parameters may only hold lines of the form 'name = value', with plain values."
            )
        if found and source.startswith("# Parameters\n"):
            values |= found
            injected += found
        elif found and whole:
            values, injected = found, []
        elif found:
            values |= {name: value for name, value in found.items() if name in uses}
    return values, injected


def chapter_parameters(namespace: Mapping[str, Any], uses: Sequence[str]) -> Parameters:
    """Collect and check the parameters of a chapter.

    Args:
        namespace: `globals()` of the notebook, after the `parameters` cell. Where `In`, the cells so far, holds no
            values, as in a kernel without a history or in a plain script, those of the names in `uses` are taken.
        uses: the names in that cell: what the chapter uses.

    Raises:
        InputError: an unknown name, one that this chapter does not use, a wrong type or a value out of range.
    """
    values, injected = given_values(namespace.get("In", ()), uses)
    values = values or {name: namespace[name] for name in uses if name in namespace}
    shared = values.pop("shared", False)
    from_file = set(injected[: injected.index("shared")]) if shared and "shared" in injected else set()
    others = [name for name in values if name not in uses]
    unknown = [unknown_name(name, FAMILY if name in from_file else uses) for name in others if name not in FAMILY]
    if unknown:
        raise InputError(" ".join(unknown))
    if refused := [name for name in others if name not in from_file]:
        second = " Make one of two such files: names of a second one look like those of -p." if from_file else ""
        raise InputError(
            f"This chapter does not use {' and '.join(repr(name) for name in refused)}; it uses {', '.join(uses)}. "
            f"A YAML file may hold parameters of other chapters if its last line is 'shared: true'.{second}"
        )
    if others:
        print(f"Not used in this chapter: {', '.join(others)}.")
    if missing := [name for name in uses if name not in values]:
        raise InputError(f"The parameter '{missing[0]}' has no value: run the cell of parameters first.")
    parts: list[type[Config]] = [*PARTS.values(), ChapterConfig]
    for part in parts:
        texts = {name for name, value in values.items() if isinstance(value, str)}
        values |= part.check(pick(part, values)).model_dump(include=texts)  # a ~ in the name of a file is written out
    return Parameters(**{name: values[name] for name in uses})
