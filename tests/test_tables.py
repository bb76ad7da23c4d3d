"""Cells of the recorded tables, drawn at random and computed again: from the JSON records, and from scans and weights.

Nothing of `lddr` that makes the tables is used here. Three cells of each table are drawn, others every day; to draw
those of a failure again: `LDDR_DRAW=NUMBER pytest tests/test_tables.py`, with the number that the failure shows.
"""

import datetime
import json
import os
import re
import shutil
from contextlib import chdir
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from statistics import mean, stdev, variance

import nbformat
import nibabel as nib
import numpy as np
import pytest
import report
import torch
from scipy import ndimage, stats

from lddr.data import load_cohort
from lddr.models import load_model
from lddr.results import by_method  # only to see what it leaves out

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "book" / "records"
DRAW = int(os.environ.get("LDDR_DRAW", datetime.date.today().toordinal()))
ADVICE = f"(drawn with LDDR_DRAW={DRAW}; if records are newer than the outputs, 'make refresh only=CHAPTER')"
TITLES = {"Hippocampus MR": "hippocampus", "Liver MR (CHAOS)": "liver_mr"}


def drawn(cells, count=3):
    """A few of the cells; the same for everybody on one day."""
    assert cells, "no cell to draw from"
    return Random(DRAW).sample(cells, min(count, len(cells)))


# From records to numbers, with nothing but json and numpy.


def runs(dataset, pattern, root=RECORDS):
    """The records whose name matches, one a seed; of a cross-validation the four folds together, or none."""
    whole = {}
    for file in sorted((root / dataset).glob("*.json")):
        stem, _, fold = file.stem.partition("_fold")
        if re.fullmatch(pattern, stem):
            whole.setdefault(stem, {})[fold] = json.loads(file.read_text())
    complete = [parts for parts in whole.values() if set(parts) in ({""}, set("0123"))]
    return [[row for fold in sorted(parts) for row in parts[fold]["rows"]] for parts in complete]


def values(rows_of_seeds, column="dice"):
    """`[pairs, seeds]`, after a look at whether the pairs are the same."""
    names = [[(row["moving"], row["fixed"]) for row in rows] for rows in rows_of_seeds]
    assert names.count(names[0]) == len(names)
    return np.array([[row[column] for row in rows] for rows in rows_of_seeds], dtype=float).T


def gain_interval_p(ours, theirs, column="dice"):
    """Mean difference, the ends of its 95 % interval, and p: the equations of chapters 09 and 10, in loops."""
    a, b = values(ours, column).tolist(), values(theirs, column).tolist()
    people = [{row["moving"], row["fixed"]} for row in ours[0]]
    difference = [mean(x) - mean(y) for x, y in zip(a, b, strict=True)]
    gain, n = mean(difference), len(difference)
    rest, witnesses = [d - gain for d in difference], len(set().union(*people)) // 2
    together = sum(rest[i] * rest[j] for i in range(n) for j in range(n) if people[i] & people[j])
    of_pairs = max(together, sum(r * r for r in rest)) / n**2 * witnesses / (witnesses - 1)
    parts = [(of_pairs, witnesses - 1)]
    for side in (a, b):
        of_seeds = [mean(seed) for seed in zip(*side, strict=True)]
        if len(of_seeds) > 1:
            parts.append((variance(of_seeds) / len(of_seeds), len(of_seeds) - 1))
    error = sum(part for part, _ in parts) ** 0.5
    law = stats.t(error**4 / sum(part**2 / free for part, free in parts))
    return gain, gain + law.ppf(0.025) * error, gain + law.ppf(0.975) * error, 2 * law.cdf(-abs(gain) / error)


def numbers(text):
    return [float(x) for x in re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", text.replace(", ", "; "))]


def digits(text):
    """Half a unit of the last digit that is shown, and a little for the rounded rows."""
    decimals = len(text.partition(".")[2].partition(" ")[0].rstrip("%,]"))
    return 0.5 * 10**-decimals + 2e-5


def check_cell(column, text, ours, theirs):
    """Compare the text of one cell with what the rows of the records say."""
    dice, folded = values(ours), values(ours, "folding_percent")
    if column == "seeds":
        assert int(text) == dice.shape[1]
    elif column == "Dice":
        shown = numbers(text)
        of_seeds = dice.mean(axis=0).tolist()
        wanted = [mean(of_seeds)] + ([stdev(of_seeds)] if len(of_seeds) > 1 else [])
        assert shown == pytest.approx(wanted, abs=digits(text))
    elif column == "folded %":
        assert numbers(text) == pytest.approx([folded.mean()], abs=digits(text))
    elif column == "gain":
        assert numbers(text) == pytest.approx([gain_interval_p(ours, theirs)[0]], abs=digits(text))
    elif column == "95 % interval":
        assert numbers(text) == pytest.approx(gain_interval_p(ours, theirs)[1:3], abs=digits(text))
    elif column == "p":
        assert f"{gain_interval_p(ours, theirs)[3]:.0e}" == text
    else:
        raise AssertionError(f"column '{column}': this test does not know how to compute it; teach it")


# Tables in the outputs of a notebook.


class Tables(HTMLParser):
    """Collects the tables of a page: names of the index, and for each row its index and column -> text."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.cell = [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "table":
            self.tables.append({"id": attrs.get("id", ""), "names": [], "columns": [], "rows": []})
            self.open = []  # index cells that span several rows: how many rows are left, text
        elif tag == "tr":
            self.row = {"index": [], "data": []}
        elif tag in ("th", "td"):
            self.cell = (tag, attrs.get("class", "").split(), int(attrs.get("rowspan", 1)), [])

    def handle_data(self, data):
        if self.cell:
            self.cell[3].append(data)

    def handle_endtag(self, tag):
        table = self.tables[-1] if self.tables else None
        if tag in ("th", "td") and self.cell:
            _, classes, span, text = self.cell
            text, self.cell = "".join(text).replace("\xa0", " ").strip(), None
            if "col_heading" in classes:
                table["columns"].append(text)
            elif "index_name" in classes:
                table["names"].append(text)
            elif "row_heading" in classes:
                self.row["index"].append((span, text))
            elif "data" in classes:
                self.row["data"].append(text)
        elif tag == "tr" and self.row["data"]:
            self.open = [[left - 1, text] for left, text in self.open if left > 1]
            outer = [text for _, text in self.open]
            self.open += [[span, text] for span, text in self.row["index"] if span > 1]
            index = (*outer, *(text for _, text in self.row["index"]))
            table["rows"].append((index, dict(zip(table["columns"], self.row["data"], strict=True))))


def tables_of(chapter):
    """Every table in the outputs of a chapter, with the source of its cell."""
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    assert path.exists(), f"{path.name} is not there, so its tables cannot be checked"
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            tables = Tables("".join(output.get("data", {}).get("text/html", ""))).tables
            found += [(cell.source, table) for table in tables if table["rows"]]
    assert found, f"{path.name} holds no table: its outputs are missing"
    return found


def check_drawn(table, check, left_out=()):
    """Draw cells of a table and check them; `check` gets index, column, text."""
    cells = [(index, c, text) for index, row in table["rows"] for c, text in row.items() if text and c not in left_out]
    for index, column, text in drawn(cells):
        print(*index, column, text, sep=" | ")
        try:
            check(index, column, text)
        except AssertionError as error:
            raise AssertionError(f"{', '.join(index)}; {column}: {text} {ADVICE}\n{error}") from error


def same_value(a, b):
    """Whether two texts are the same number, or the same word."""
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def sides_10(source, table, index):
    """The records behind a row of chapter 10, and those it is compared with."""
    dataset = "liver_mr" if "liver" in source else "hippocampus"
    kind = tuple(table["names"])
    if kind == ("cascades", "objective"):
        names = rf"student_{index[0]}cas_{re.escape(index[1])}_seed\d", rf"student_{index[0]}cas_none_seed\d"
    elif kind == ("factor", "value"):
        known = [file.stem for file in (RECORDS / dataset).glob(f"ablation_{index[0]}_*.json")]
        (name,) = [n for n in known if same_value(n.rpartition("_")[2], index[1])]
        names = re.escape(name), "student_1cas_paper_seed0"
    elif kind == ("objective, change",):
        names = re.escape(f"tuned_{index[0]}"), r"student_1cas_none_seed\d"
    elif kind == ("change",):
        names = r"schedule_paper_seed\d", r"schedule_released_none_seed\d"
    else:
        raise AssertionError(f"a table with the index {kind}: this test does not know its records; teach it")
    return [runs(dataset, name) for name in names]


# The paper's gains of ALDK on SLIVER (claim C6 of the posts), at 1, 2, 3 cascades, in per cent.
PAPERS = {"Dice": (3.4, 4.0, 3.1), "Jaccard": (5.2, 4.9, 3.9)}


def check_beside(index, column, text):
    """A cell of "Beside the posts": a gain with its interval, or the paper's."""
    dataset, n = {"hippocampus MR": "hippocampus", "liver MR": "liver_mr"}[index[0]], int(index[1].split()[0])
    overlap, whose = column.split(", ")
    if whose == "the paper's":
        assert float(text) == pytest.approx(PAPERS[overlap][n - 1] / 100)
        return
    sides = [runs(dataset, rf"student_{n}cas_{objective}_seed\d") for objective in ("paper", "none")]
    if not all(sides):
        assert text == "not recorded yet"
        return
    assert numbers(text) == pytest.approx(gain_interval_p(*sides, overlap.lower())[:3], abs=7e-5)


def test_cells_of_chapter_10():
    # A table without names of its index is of the chapter's own run.
    tables = [(source, table) for source, table in tables_of("10_table2_aldk_ablation") if table["names"]]
    kinds = {tuple(table["names"]) for _, table in tables}
    known = {("cascades", "objective"), ("factor", "value"), ("objective, change",), ("change",), ("data", "cascades")}
    assert kinds == known, ADVICE
    datasets = [("liver" in source) for source, table in tables if table["names"] == ["cascades", "objective"]]
    assert datasets == [False] + [True] * bool(runs("liver_mr", r"student_\dcas_none_seed\d")), ADVICE
    for source, table in tables:
        if table["names"] == ["data", "cascades"]:
            check_drawn(table, check_beside)
            continue
        check_drawn(
            table, lambda index, column, text, s=source, t=table: check_cell(column, text, *sides_10(s, t, index))
        )


# Chapter 09.

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
    "LDR, N, adapted to each pair": "no record, this row is measured while the chapter runs",
}
REFERENCE = "RCN, VTN, 3 cascades"
# Counted from shapes, whatever the records say; tests/test_complexity.py counts them again.
COUNTED = ("weights, M", "GMAC", "memory, MB")
SETS = {"hippocampus": "hippocampus", "liver MR": "liver_mr", "liver MR, whole body": "liver_mr_body"}
SETS |= {name: name.lower() for name in ("SLIVER", "LiTS", "LSPIG", "LPBA")}


def pattern_of(method):
    """The names of a method's records, folds left out."""
    found = re.search(r"(\d) cascades?", method)
    return PATTERNS[method.replace(found[0], "N")].replace("N", found[1]) if found else PATTERNS[method]


def records_of(dataset, method):
    """The rows of each run of a method."""
    return runs(dataset, pattern_of(method))


def holm(p_values):
    """Name -> p, corrected for their number."""
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def check_gain(dataset, methods, method, column, text):
    """A gain over the reference and the sign that says whether it counts, or its interval."""
    reference = REFERENCE if REFERENCE in methods else methods[0]
    if method == reference:
        assert text == "–"
        return
    others, theirs = [m for m in methods if m != reference], records_of(dataset, reference)
    found = {m: gain_interval_p(records_of(dataset, m), theirs) for m in others}
    gain, low, high, _ = found[method]
    if column == "95 % interval":
        assert numbers(text) == pytest.approx([low, high], abs=5.2e-4)
        return
    assert float(text.split()[0]) == pytest.approx(gain, abs=5.2e-4)
    p = holm({m: found[m][3] for m in others})[method]
    assert text.split()[1] == ("≈" if p >= 0.05 else "▲" if gain > 0 else "▼")


def seconds_of_shape(dataset, methods, method):
    """The median over the lines of one network, whatever it was trained with; a tool or an adapted one has its own."""

    def shape(name):
        files = (RECORDS / dataset).glob("*.json")
        files = [f for f in files if re.fullmatch(pattern_of(name), f.stem.partition("_fold")[0])]
        known = json.loads(files[0].read_text()).get("parameters")
        named = ("network", "affine", "cascades", "width", "levels", "size")
        return name if known is None or "adapted" in name else tuple(str(known.get(k)) for k in named)

    alike = [m for m in methods if shape(m) == shape(method)]
    return np.median([np.median(np.median(values(records_of(dataset, m), "seconds"), axis=0)) for m in alike])


def check_recorded(dataset, methods, method, column, text):
    """A cell of one data set's table."""
    rows = records_of(dataset, method)
    assert rows, f"no records of {method} on {dataset}"
    if column in ("gain", "95 % interval"):
        check_gain(dataset, methods, method, column, text)
    elif column == "GPU, s":
        assert text == "–" or float(text) > 0
    elif column == "HD95, mm" and "hd95" not in rows[0][0]:
        assert text == "–"
    else:
        wanted = {
            "Dice": lambda: values(rows).mean(),
            "sd": lambda: values(rows).mean(axis=1).std(),
            "Jaccard": lambda: values(rows, "jaccard").mean(),
            "HD95, mm": lambda: np.nanmean(values(rows, "hd95")),
            "folds, %": lambda: values(rows, "folding_percent").mean(),
            "CPU, s": lambda: seconds_of_shape(dataset, methods, method),
            "seeds": lambda: len(rows),
        }
        assert column in wanted, "this test does not know how to compute this column; teach it"
        assert float(text) == pytest.approx(wanted[column](), abs=digits(text))


def check_overview(method, column, text):
    """A cell of the view of all data sets; the head of an empty column says why in brackets."""
    column = column.partition(" (")[0]
    if column in ("CPU, s", "GPU, s"):
        file = RECORDS / "cost" / ("cost_cpu_1.json" if column == "CPU, s" else "cost_gpu.json")
        record = json.loads(file.read_text()) if file.exists() else {}
        tool = {"ANTs SyN": "ants_syn", "Elastix affine + B-spline": "elastix"}.get(method)
        kind = next((k for k in ("VoxelMorph", "VTN", "LDR") if k in method and "adapted" not in method), None)
        count = (re.search(r"\d cascades?", method) or ["1 cascade"])[0]
        kind = {"VTN": "VTN of our teacher"}.get(kind, kind)
        known = record.get("tools", {}).get(tool) or record.get("networks", {}).get(f"{kind}, {count}")
        assert text == (f"{known['seconds']:.2f}" if known else "–")
        return
    rows = records_of(SETS[column], method)
    if rows:
        wanted = [values(rows).mean(), values(rows, "jaccard").mean()]
        assert [float(x) for x in text.split(" / ")] == pytest.approx(wanted, abs=5.2e-4)
    else:
        assert text in ("–", "no records yet", "needs the scans")


def check_losses(index, column, text):
    """A cell of "Ours and the paper's": the light networks against the best heavy one, in hundredths."""
    dataset, light = index
    heavy = [REFERENCE.replace("3 cascades", n) for n in ("1 cascade", "2 cascades", "3 cascades")]
    heavy += [f"{REFERENCE}, softer", "VoxelMorph + affine", "RCN, VoxelMorph, 3 cascades"]
    found = {name: rows for name in heavy if (rows := records_of(dataset, name))}
    best = max(found, key=lambda name: values(found[name]).mean())
    if column == "heavy network":
        assert text == best
        return
    overlap = "dice" if column.startswith("Dice") else "jaccard"
    wanted = [100 * x for x in gain_interval_p(records_of(dataset, light), found[best], overlap)[:3]]
    shown = [float(x) for x in re.findall(r"[-+][\d.]+", text)]
    assert shown == pytest.approx(wanted[: len(shown)], abs=0.052)
    assert len(shown) in (1, 3)


def check_seen(method, people, column, text):
    """A cell of the liver's table of people trained on and new ones."""
    count = re.search(r"\d", method)
    seen = people == "trained on"
    rows = runs("liver_mr", f"seen_beyond_{count[0]}cas_none") if seen else records_of("liver_mr", method)
    before, after = values(rows, "dice_initial").mean(), values(rows).mean()
    wanted = {"pairs": len(rows[0]), "Dice before": before, "after": after, "gain": after - before}
    wanted["folds, %"] = values(rows, "folding_percent").mean()
    assert float(text) == pytest.approx(wanted[column], abs=digits(text))


def check_alike(length, column, text):
    """A cell of VoxelMorph beside LDR, trained alike."""
    names = {"1 cascade": "VoxelMorph + affine", "3 cascades": "RCN, VoxelMorph, 3 cascades"}[length], f"LDR, {length}"
    heavy, light = (records_of("hippocampus", name) for name in names)
    if column.startswith("times the"):
        costs = recorded_costs()[1]
        runs_of = f"voxelmorph_{length[0]}cas", f"student_{length[0]}cas_none_seed0"
        files = [RECORDS / "hippocampus" / f"{name}.json" for name in runs_of]
        sides = {
            "times the weights": lambda: [json.loads(file.read_text())["weights"] for file in files],
            "times the seconds": lambda: [costs[f"{name}, {length}"]["seconds"] for name in ("VoxelMorph", "LDR")],
        }[column]()
        assert float(text) == pytest.approx(sides[0] / sides[1], abs=digits(text))
        return
    gain, low, high, _ = gain_interval_p(heavy, light)
    wanted = {"VoxelMorph": [values(heavy).mean()], "LDR": [values(light).mean()]}
    wanted |= {"difference": [gain], "95 % interval": [low, high]}
    assert numbers(text) == pytest.approx(wanted[column], abs=5.2e-4)


def test_cells_of_chapter_09():
    seen = set()
    for _, table in tables_of("09_table1_comparison"):
        name, names = table["id"].removeprefix("T_"), table["names"]
        methods = [index[0] for index, _ in table["rows"]]
        if names == ["data", "light network"]:
            ours = [(index, row) for index, row in table["rows"] if "paper" not in index[0]]
            check_drawn(table | {"rows": ours}, check_losses)
        elif names == ["method", "people"]:
            check_drawn(table, lambda index, *cell: check_seen(*index, *cell))
        elif {"VoxelMorph", "LDR"} <= {*table["columns"]}:
            check_drawn(table, lambda index, *cell: check_alike(*index, *cell))
        elif name == "overview":
            live = [column for column in table["columns"] if column.endswith(", live")]
            check_drawn(table, lambda index, *cell: check_overview(*index, *cell), (*live, *COUNTED))
        elif name in SETS.values():
            check_drawn(table, lambda i, *cell, d=name, m=methods: check_recorded(d, m, *i, *cell), COUNTED)
        else:  # measured while the chapter ran
            known = (["linear", "nearest", "threshold"], ["mean |warped - fixed|", "Dice", "folds, %"])
            live = names == ["steps on the pair"] or table["columns"] in known
            assert live or name.endswith("_live"), f"table {name} {names}: this test does not know it; teach it"
        seen.add(name)
    recorded = {d for d in SETS.values() if any(runs(d, p.replace("N", r"\d")) for p in PATTERNS.values())}
    assert seen >= recorded | {"overview"}, ADVICE


# Chapters 11 and 12: plain tables, made from records of cost and of Figure 2.


def plain_tables(chapter):
    """Name of the index -> index -> column -> text, of every plain table in the outputs of a chapter."""
    found = {}
    for cell in nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4).cells:
        for output in cell.get("outputs", []):
            page = "".join(output.get("data", {}).get("text/html", ""))
            lines = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"(?s)<tr.*?</tr>", page)]
            if 'class="dataframe"' in page and len(lines) > 2 and not any(lines[1][1:]):  # the second names the index
                found[lines[1][0]] = {name: dict(zip(lines[0][1:], row, strict=True)) for name, *row in lines[2:]}
    return found


def recorded_costs():
    """Threads -> the networks and tools of the record."""
    records = [json.loads(file.read_text()) for file in sorted((RECORDS / "cost").glob("cost_cpu_*.json"))]
    return {r["threads"]: r["networks"] | r.get("tools", {}) for r in records}


def check_seconds(name, column, text):
    """A cell of the recorded seconds: the median, and where the middle half lies."""
    name = {"ANTs SyN": "ants_syn", "Elastix affine + B-spline": "elastix"}.get(name, name)
    found = recorded_costs()[int(column.split()[0])][name]
    wanted = [found["seconds"], *(found["quartiles"] if found["runs"] > 1 else [])]
    assert numbers(text) == pytest.approx(wanted, abs=5.1e-3)


def check_repeated(name, column, text):
    """A cell of the seconds that students of one network took after their training."""
    kinds = ("student_Ncas_none", "student_Ncas_paper", "beyond_Ncas_none")
    files = [f for kind in kinds for f in (RECORDS / "hippocampus").glob(f"{kind.replace('N', name[5])}*.json")]
    files = [f for f in files if "_seed" in f.stem or f.stem.startswith("beyond")]
    times = [1000 * json.loads(f.read_text())["test"]["seconds_per_pair"] for f in files]
    wanted = {"records": len(times), "fastest, ms": min(times), "slowest, ms": max(times)}
    assert float(text) == pytest.approx(wanted[column], abs=0.51)


@pytest.mark.parametrize(
    ("name", "check"), [("seconds a pair at 128³", check_seconds), ("recorded seconds a pair", check_repeated)]
)
def test_cells_of_chapter_11(name, check):
    table = plain_tables("11_figure1_accuracy_vs_complexity")[name]
    check_drawn({"rows": [((index,), row) for index, row in table.items()]}, lambda index, *cell: check(*index, *cell))


@pytest.mark.parametrize(("title", "dataset"), TITLES.items())
def test_cells_of_chapter_12(title, dataset):
    file = RECORDS / dataset / "figure2.json"
    if not file.exists():
        pytest.skip(f"{file.name} of {dataset} is not recorded")
    record, tables = json.loads(file.read_text()), plain_tables("12_figure2_visual_comparison")
    (table,) = [rows for name, rows in tables.items() if name.lower().startswith(title.lower()[:8])]
    drawn_pairs = [(one["moving"], one["fixed"]) for one in record["shown"]]

    def check(index, column, text):
        rows = [row for row in record["rows"] if row["model"] == index[0]]
        shown = [row for row in rows if (row["moving"], row["fixed"]) in drawn_pairs]
        wanted = {
            "cascades": record["models"][index[0]]["cascades"],
            "Dice, the pairs above": mean(row["dice"] for row in shown),
            "Dice, all pairs": mean(row["dice"] for row in rows),
            "folded %": mean(row["folding_percent"] for row in rows),
        }
        assert float(text) == pytest.approx(wanted[column], abs=5.2e-4)

    left_out = [column for row in table.values() for column in row if column.startswith("better than")]
    check_drawn({"rows": [((index,), row) for index, row in table.items()]}, check, left_out)


# The report.

JACCARD = ("jaccard_low", "jaccard_high")
GAIN = re.compile(
    r"- (?P<title>[^:]+): (?:Dice )?(?P<gain>[-+][\d.]+) \[(?P<low>[-+][\d.]+), (?P<high>[-+][\d.]+)\] "
    r"\((?P<pairs>\d+) pairs, (?P<ours>\d+) runs? against (?P<theirs>\d+)\)"
    r"(?:, Jaccard (?P<jaccard>[-+][\d.]+) \[(?P<jaccard_low>[-+][\d.]+), (?P<jaccard_high>[-+][\d.]+)\])?"
)


def sections(page):
    """Claim -> the lines of its section."""
    return {part[:2]: part.splitlines() for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]}


def sides_of_claim(claim, title):
    """The records behind a line of claim 1, 2, 4, 6 or 8."""
    name = title.partition(",")[0].removeprefix("Dice on ")
    dataset = TITLES[name[0].upper() + name[1:]]
    if claim == "C8":
        other = r"student_1cas_none_seed\d" if title.endswith("LDR alone") else "teacher_1cas"
        return [runs(dataset, name) for name in (r"student_1cas_paper_seed\d", other)]
    if claim == "C2":
        return [runs(dataset, r"student_1cas_paper_seed\d"), runs(dataset, "teacher_1cas")]
    if "learning rate" in title:
        return [runs(dataset, rf"schedule_{schedule}_seed\d") for schedule in ("paper", "released_none")]
    if claim == "C6":
        n = re.search(r"(\d) cascade", title)[1]
        return [runs(dataset, rf"student_{n}cas_{objective}_seed\d") for objective in ("paper", "none")]
    teachers = [runs(dataset, name) for name in ("teacher_3cas", "teacher_3cas_fine")]
    best = max((t for t in teachers if t), key=lambda t: values(t).mean(), default=[])
    return [runs(dataset, r"student_3cas_paper_seed\d"), best]


def report_cells(page):
    """Every gain, interval, count and mean of the report: where it stands, what is shown, what the records say."""
    cells = []
    for claim, lines in sections(page).items():
        for found in filter(None, map(GAIN.match, lines)):
            ours, theirs = sides_of_claim(claim, found["title"])
            where = f"{claim}, {found['title']}"
            counts = (len(ours[0]), len(ours), len(theirs))
            cells.append((f"{where}: counts", tuple(int(found[x]) for x in ("pairs", "ours", "theirs")), counts, 0))
            for column, names in {"dice": ("gain", "low", "high"), "jaccard": ("jaccard", *JACCARD)}.items():
                if found[names[0]]:
                    wanted = gain_interval_p(ours, theirs, column)[:3]
                    for name, value in zip(names, wanted, strict=True):
                        cells.append((f"{where}: {name}", float(found[name]), value, 7e-5))
    return cells


@cache
def rendered(root, page):
    """Markers, or a whole page, filled from the records of a folder."""
    with chdir(root):
        return report.fill(page)


def whole_report():
    """The page as the book shows it."""
    return rendered(ROOT, (ROOT / "book" / "reproduction_report.md").read_text())


def test_cells_of_the_report():
    for where, shown, wanted, room in drawn(report_cells(whole_report())):
        print(where, shown, wanted)
        assert shown == pytest.approx(wanted, abs=room), f"{where} {ADVICE}"


def test_means_and_ratios_of_the_report():
    lines = sections(whole_report())
    for title, dataset in TITLES.items():
        (line,) = [text for text in lines["C8"] if text.startswith(f"- {title}: ")]
        names = r"student_1cas_none_seed\d", r"student_1cas_paper_seed\d", "teacher_1cas"
        sides = [runs(dataset, name) for name in names]
        if all(sides):
            shown = [float(x) for x in re.findall(r"\d\.\d{3}", line)]
            assert shown == pytest.approx([values(side).mean() for side in sides], abs=5.2e-4)
        else:
            assert line.endswith("not measured yet")
    for file in sorted((RECORDS / "cost").glob("cost_cpu_*.json")):
        networks = json.loads(file.read_text())["networks"]
        (line,) = [text for text in lines["C2"] if f"[{file.stem}]" in text]
        for count in ("1 cascade", "3 cascades"):
            ratio = networks[f"VTN, {count}"]["seconds"] / networks[f"LDR, {count}"]["seconds"]
            assert f"{ratio:.1f} times at {count}" in line


def test_cells_of_the_table_of_costs():
    costs = recorded_costs()
    head, _, *lines = [[cell.strip() for cell in row.split("|")[1:-1]] for row in report.cost_table().splitlines()]

    def check(index, column, text):
        name, n = index[0].split(", ")
        of = {threads: found[f"{name}, {n} cascade{'s' * (n != '1')}"] for threads, found in costs.items()}
        first = next(iter(of.values()))
        counted = {"weights, millions": first["parameters"] / 1e6, "GMAC": first["macs"] / 1e9}
        counted["GB moved"] = first["bytes_moved"] / 1e9
        wanted = counted[column] if column in counted else of[int(re.search(r"\d+", column)[0])]["seconds"]
        assert float(text) == pytest.approx(wanted, abs=digits(text))

    with chdir(ROOT):
        rows = [((name,), dict(zip(head[1:], cells, strict=True))) for name, *cells in lines]
        check_drawn({"rows": rows}, check)


# A record that is not there.


@pytest.fixture
def elsewhere(tmp_path):
    """A copy of the records of hippocampus MR in which some can be removed."""
    shutil.copytree(RECORDS / "hippocampus", tmp_path / "book" / "records" / "hippocampus")
    return tmp_path


def remove(root, pattern):
    """Remove the records whose name matches."""
    files = sorted((root / "book" / "records" / "hippocampus").glob(f"{pattern}.json"))
    assert files
    for file in files:
        file.unlink()


def test_the_report_says_which_claim_lost_its_records(elsewhere):
    missing = "- Hippocampus MR, 1 cascade: not measured yet"
    assert missing not in rendered(ROOT, "<!-- report: C6 -->")
    remove(elsewhere, "student_1cas_paper_seed*")
    page = rendered(elsewhere, "<!-- report: C6 -->\n<!-- report: C8 -->\n<!-- report: commands hippocampus -->")
    assert missing in page
    assert "- Hippocampus MR: not measured yet" in page
    assert "# student_1cas_paper" not in page
    assert "# student_1cas_none_seed0" in page


def test_one_seed_less_is_counted(elsewhere):
    seeds = len(runs("hippocampus", r"student_1cas_none_seed\d"))
    remove(elsewhere, f"student_1cas_none_seed{seeds - 1}")
    found = [GAIN.match(line) for line in rendered(elsewhere, "<!-- report: C6 -->").splitlines()]
    (row,) = [f for f in found if f and f["title"] == "Hippocampus MR, 1 cascade"]
    assert int(row["theirs"]) == seeds - 1


def test_a_table_of_chapter_10_leaves_the_row_out(elsewhere):
    cells = nbformat.read(ROOT / "notebooks" / "10_table2_aldk_ablation.ipynb", as_version=4).cells
    code = [c.source for c in cells if c.cell_type == "code"]
    wanted = [c for c in code if c.startswith(("import", "from")) or "def table_2" in c]
    remove(elsewhere, "student_1cas_l2_seed*")
    tables = []
    for folder in (ROOT, elsewhere):
        with chdir(folder):
            names = {}
            for source in wanted:
                exec(source, names)
            tables.append(names["table_2"](names["hippocampus"]))
    assert set(tables[0]) - set(tables[1]) == {(1, "l2")}
    assert all(tables[0][key] == row for key, row in tables[1].items())


def test_a_table_of_chapter_09_leaves_the_row_out(elsewhere):
    remove(elsewhere, "baseline_elastix")
    with chdir(ROOT):
        before = list(by_method("hippocampus"))
    with chdir(elsewhere):
        after = list(by_method("hippocampus"))
    assert after == [name for name in before if not name.startswith("Elastix")] != before


# One cell from scans and weights. Of `lddr` only the two networks are used: no warp, no cascade, no metric.


def on_grid(array, size):
    """A volume on the middle of a grid of its own spacing, 0 outside: grid index i is voxel i + offset."""
    result = np.zeros(size, array.dtype)
    source, target = [], []
    for n, m in zip(array.shape, size, strict=True):
        offset = int(np.floor((n - m) / 2 + 0.5))
        start, end = max(0, -offset), min(m, n - offset)
        source.append(slice(start + offset, end + offset))
        target.append(slice(start, end))
    result[tuple(target)] = array[tuple(source)]
    return result


def hippocampus_scan(folder, name, size):
    """Image, scaled between its percentiles 5 and 98, and labels, read from their files."""
    arrays = []
    for part in ("imagesTr", "labelsTr"):
        file = nib.as_closest_canonical(nib.load(folder / "Task04_Hippocampus" / part / f"{name}.nii.gz"))
        arrays.append(np.asarray(file.dataobj, dtype=np.float32))
    low, high = np.percentile(arrays[0], [5, 98])
    image = np.clip((arrays[0] - low) / (high - low), 0, 1)
    return on_grid(image.astype(np.float32), size), on_grid(arrays[1], size)


def positions_found(model, moving, fixed):
    """Where in the moving image each voxel of the fixed one lies, `[3, D, H, W]`: x -> c + A (x + v(x) - c) + b."""
    grid = np.indices(moving.shape).astype(np.float64)
    centre = ((np.array(moving.shape) - 1) / 2).reshape(3, 1, 1, 1)
    as_batch = [torch.from_numpy(volume)[None, None] for volume in (moving, fixed)]
    with torch.no_grad():
        matrix, shift = (x[0].double().numpy() for x in model.affine(*as_batch))

    def affine(points):
        return centre + np.einsum("ij,jdhw->idhw", matrix, points - centre) + shift.reshape(3, 1, 1, 1)

    warped = ndimage.map_coordinates(moving, affine(grid), order=1, mode="nearest")
    (dense,) = model.dense
    with torch.no_grad():
        flow = dense(torch.from_numpy(warped)[None, None], as_batch[1])[0].double().numpy()
    return affine(grid + flow)


def mean_dice(moving_labels, fixed_labels, positions):
    """Each label's mask interpolated linearly, the largest share wins, Dice by counting; mean over labels."""
    known = np.unique(moving_labels)
    shares = [
        ndimage.map_coordinates((moving_labels == v).astype(np.float32), positions, order=1, mode="nearest")
        for v in known
    ]
    warped = known[np.argmax(shares, axis=0)]
    scores = []
    for value in set(np.unique(fixed_labels)) | set(known) - {0}:
        a, b = warped == value, fixed_labels == value
        scores += [2 * (a & b).sum() / (a.sum() + b.sum())] if value else []
    return mean(scores)


def test_a_dice_of_the_shipped_hippocampus_model_from_scans_and_weights(real_data):
    record = json.loads((RECORDS / "hippocampus" / "student_1cas_none.json").read_text())
    model, config, _ = load_model("student_1cas_none")
    (row,) = drawn(record["rows"], 1)
    (moving, moving_labels), (fixed, fixed_labels) = (
        hippocampus_scan(real_data, row[side], config.size) for side in ("moving", "fixed")
    )
    found = mean_dice(moving_labels, fixed_labels, positions_found(model, moving, fixed))
    assert found == pytest.approx(row["dice"], abs=1e-3), f"{row['moving']}, {row['fixed']} {ADVICE}"


def test_a_dice_of_the_shipped_brain_model_from_images_and_weights():
    record = json.loads((RECORDS / "simulated_brains" / "student_1cas_none.json").read_text())
    model, config, _ = load_model("simulated_brains")
    i = drawn(range(3), 1)[0]  # few pairs, because a subject takes a second to simulate
    cohort = load_cohort("simulated_brains", "test", size=config.size, subjects=i + 2)
    row = record["rows"][i]
    assert (row["moving"], row["fixed"]) == cohort.ids[i : i + 2]
    positions = positions_found(model, *(cohort.images[k, 0].numpy() for k in (i, i + 1)))
    found = mean_dice(*(cohort.labels[k, 0].numpy() for k in (i, i + 1)), positions)
    assert found == pytest.approx(row["dice"], abs=1e-3), f"{row['moving']}, {row['fixed']} {ADVICE}"
