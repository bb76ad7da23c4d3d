"""What the tables of the book must say, worked out from the JSON records with numpy alone: no `lddr`, no `study`."""

import json
import re
from collections.abc import Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, variance
from typing import Any

import nbformat
import numpy as np
from scipy import stats

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "book" / "records"
NOTEBOOKS = ROOT / "notebooks"
# The names of the records behind a method of Table 1, folds left out; N is the number of cascades.
PATTERNS = {
    "ANTs SyN": "baseline_ants_syn",
    "Elastix affine + B-spline": "baseline_elastix",
    "VoxelMorph + affine": r"voxelmorph_1cas(_seed\d)?",
    "RCN, VoxelMorph, N": r"voxelmorph_Ncas(_seed\d)?",
    "RCN, VTN, N": "teacher_Ncas",
    "RCN, VTN, N, softer": "teacher_Ncas_fine",
    "LDR, N": r"student_Ncas_none_seed\d",
    "LDR + ALDK, N": r"student_Ncas_paper_seed\d",
    "LDR, best recipe, N": r"beyond_Ncas_none(_seed\d)?",
    "LDR, best recipe with l2, N": r"beyond_Ncas_l2(_seed\d)?",
    "LDR, best recipe, N, adapted to each pair": "adapted_Ncas",
    "RCN, VTN, N, adapted to each pair": "adapted_teacher_Ncas",
}
Rows = list[dict[str, Any]]
Table = dict[tuple[str, ...], dict[str, str]]  # names of a row -> column -> text


@cache
def load(dataset: str, pattern: str) -> list[list[dict[str, Any]]]:
    """The records whose name matches, one list a seed; of a cross-validation its four folds, or none of them."""
    whole: dict[str, dict[str, Any]] = {}
    for file in sorted((RECORDS / dataset).glob("*.json")):
        stem, _, fold = file.stem.partition("_fold")
        if re.fullmatch(pattern, stem):
            whole.setdefault(stem, {})[fold] = json.loads(file.read_text())
    complete = [parts for parts in whole.values() if set(parts) in ({""}, set("0123"))]
    return [[parts[fold] for fold in sorted(parts)] for parts in complete]


def runs(dataset: str, pattern: str) -> list[Rows]:
    """The rows of the records whose name matches, one list a seed."""
    return [[row for record in records for row in record["rows"]] for records in load(dataset, pattern)]


def pattern_of(method: str) -> str:
    found = re.search(r"(\d) cascades?", method)
    return PATTERNS[method.replace(found[0], "N")].replace("N", found[1]) if found else PATTERNS[method]


def rows_of(dataset: str, method: str) -> list[Rows]:
    """The rows of each run of a method of Table 1."""
    return runs(dataset, pattern_of(method))


def values(rows_of_seeds: Sequence[Rows], name: str = "dice") -> np.ndarray:
    """`[pairs, seeds]`, after a look at whether the pairs are the same."""
    names = [[(row["moving"], row["fixed"]) for row in rows] for rows in rows_of_seeds]
    assert names.count(names[0]) == len(names)
    return np.array([[row[name] for row in rows] for rows in rows_of_seeds], dtype=float).T


def gain_interval_p(ours: Sequence[Rows], theirs: Sequence[Rows], name: str = "dice") -> tuple[float, ...]:
    """Mean difference, the ends of its 95 % interval, and p: the equations of chapters 09 and 10, in loops."""
    a, b = values(ours, name).tolist(), values(theirs, name).tolist()
    subjects = [{row["moving"], row["fixed"]} for row in ours[0]]
    difference = [mean(x) - mean(y) for x, y in zip(a, b, strict=True)]
    gain, n = mean(difference), len(difference)
    rest, effective = [d - gain for d in difference], len(set().union(*subjects)) // 2
    together = sum(rest[i] * rest[j] for i in range(n) for j in range(n) if subjects[i] & subjects[j])
    of_pairs = max(together, sum(r * r for r in rest)) / n**2 * effective / (effective - 1)
    parts = [(of_pairs, effective - 1)]
    for side in (a, b):
        of_seeds = [mean(seed) for seed in zip(*side, strict=True)]
        if len(of_seeds) > 1:
            parts.append((variance(of_seeds) / len(of_seeds), len(of_seeds) - 1))
    error = sum(part for part, _ in parts) ** 0.5
    law = stats.t(error**4 / sum(part**2 / free for part, free in parts))
    return gain, gain + law.ppf(0.025) * error, gain + law.ppf(0.975) * error, 2 * law.cdf(-abs(gain) / error)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Name -> p, corrected for their number."""
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def costs(threads: int = 1) -> dict[str, dict[str, Any]]:
    """Networks and tools of the record of cost that was taken on so many threads."""
    record = json.loads((RECORDS / "cost" / f"cost_cpu_{threads}.json").read_text())
    return record["networks"] | record["tools"]


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", text.replace(", ", "; "))]


def digits(text: str) -> float:
    """Half a unit of the last digit that is shown, and a little for the rounded rows."""
    decimals = len(text.partition(".")[2].partition(" ")[0].rstrip("%,]"))
    return 0.5 * 10**-decimals + 2e-5


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[tuple[list[str], list[tuple[list[str], list[str]]]]] = []
        self.text: list[str] | None = None
        self.open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.open = "sortable" in (dict(attrs).get("class") or "").split()
            if self.open:
                self.tables.append(([], []))
        elif self.open and tag == "tr":
            self.row: tuple[list[str], list[str]] = ([], [])
        elif self.open and tag in ("th", "td"):
            self.text = []

    def handle_data(self, data: str) -> None:
        if self.text is not None:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if not self.open:
            return
        if tag in ("th", "td"):
            self.row[tag == "td"].append("".join(self.text or []).replace("\xa0", " "))
            self.text = None
        elif tag == "tr":
            heads, rows = self.tables[-1]
            if self.row[1]:
                rows.append(self.row)
            else:
                heads += self.row[0]
        elif tag == "table":
            self.open = False


def tables_in(page: str) -> list[tuple[tuple[str, ...], Table]]:
    """The sortable tables of a page: names in the corner, and the rows."""
    found = []
    for heads, rows in _Page(page).tables:
        count = len(heads) - len(rows[0][1])
        table = {tuple(names): dict(zip(heads[count:], cells, strict=True)) for names, cells in rows}
        assert len(table) == len(rows), "two rows of one name"
        found.append((tuple(heads[:count]), table))
    return found


def table_in(page: str) -> Table:
    """The only sortable table of a page."""
    ((_, table),) = tables_in(page)
    return table


def tables_of(chapter: str) -> list[Table]:
    """Every sortable table in the outputs of a chapter."""
    found: list[Table] = []
    for cell in nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4).cells:
        for output in cell.get("outputs", []):
            found += [table for _, table in tables_in("".join(output.get("data", {}).get("text/html", "")))]
    return found
