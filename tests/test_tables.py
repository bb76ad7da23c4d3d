"""Every numeric cell of the recorded tables of chapters 09 to 12, worked out again from the JSON records.

The tables are those that `study` makes; what they must say is worked out in `by_hand`, which uses nothing of it. The
outputs of the chapters must hold the same tables.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from statistics import mean, stdev

import numpy as np
import pytest
from by_hand import (
    RECORDS,
    Table,
    costs,
    digits,
    gain_interval_p,
    holm,
    load,
    numbers,
    pattern_of,
    rows_of,
    runs,
    table_in,
    tables_of,
    values,
)

from study import ablation, figure1, figure2_reading, liver, overview, table1
from study.methods import by_method
from study.tables import shown, table_row

REFERENCE = "RCN, VTN, 3 cascades"
TOOLS = {"ANTs SyN": "ants_syn", "Elastix affine + B-spline": "elastix"}
DATASETS = ("hippocampus", "liver_mr", "liver_mr_body")
REFRESH = "the page does not show the table that the records make: 'make refresh only=CHAPTER'"


def check(table: Table, cell: Callable[..., None]) -> int:
    """Check every cell; a failure says which it was. How many there were."""
    count = 0
    for names, row in table.items():
        for column, text in row.items():
            try:
                cell(*names, column, text)
            except AssertionError as error:
                raise AssertionError(f"{', '.join(names)}; {column}: {text}\n{error}") from error
            count += 1
    return count


def cost_name(method: str) -> str:
    """The name in the records of cost of a method of Table 1."""
    kind = next(kind for kind in ("VoxelMorph", "VTN", "LDR") if kind in method)
    count = (re.search(r"\d cascades?", method) or ["1 cascade"])[0]
    return f"{kind}{' of our teacher' * (kind == 'VTN')}, {count}"


# Table 1.


@cache
def gains(dataset: str, methods: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Method -> gain over the reference, its interval and p; the reference itself is left out."""
    reference = REFERENCE if REFERENCE in methods else methods[0]
    theirs = rows_of(dataset, reference)
    return {m: gain_interval_p(rows_of(dataset, m), theirs) for m in methods if m != reference}


def expected_gain(dataset: str, methods: list[str], method: str, column: str) -> tuple[list[float], str]:
    """The gain over the reference and its sign, or the ends of its interval."""
    found = gains(dataset, tuple(methods))
    if method not in found:
        return [], ""
    gain, low, high, _ = found[method]
    if column == "95 % interval":
        return [low, high], ""
    p = holm({m: f[3] for m, f in found.items()})[method]
    return [gain], "≈" if p >= 0.05 else "▲" if gain > 0 else "▼"


def shape(dataset: str, method: str) -> object:
    """What decides the seconds of a method: the network; a tool, or a network adapted to each pair, stands alone."""
    made = load(dataset, pattern_of(method))[0][0]["method"]
    named = ("network", "affine", "cascades", "width", "levels", "size")
    return method if made["tool"] or made["adapted"] else json.dumps([made[name] for name in named])


def expected_counts(dataset: str, method: str) -> dict[str, tuple[float, float]]:
    """Weights, GMAC and memory with how well they can be known: those at 128³, scaled to the voxels of the grid."""
    record, cost = load(dataset, pattern_of(method))[0][0], costs()[cost_name(method)]
    share, weights = np.prod(record["method"]["size"]) / 128**3, 4 * cost["parameters"]
    memory = weights + (cost["peak_memory"] - weights) * share
    return {
        "weights, M": (record["weight_count"] / 1e6, 0.0051),
        "GMAC": (cost["macs"] * share / 1e9, 0.0051 + 0.005 * cost["macs"] * share / 1e9),
        "memory, MB": (memory / 1e6, 0.51 + 0.02 * memory / 1e6),
    }


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_cell_of_table_1(dataset: str) -> None:
    made = by_method(dataset)
    table = table_in(table1.page_or_sentence(made, dataset).data)
    methods = [method for (method,) in table]

    def cell(method: str, column: str, text: str) -> None:
        rows = rows_of(dataset, method)
        assert rows
        adapted = load(dataset, pattern_of(method))[0][0]["method"]["adapted"]
        if column in ("gain", "95 % interval"):
            wanted, sign = expected_gain(dataset, methods, method, column)
            assert numbers(text) == pytest.approx(wanted, abs=5.2e-4)
            assert sign in text if wanted else text == "–"
        elif column == "GPU, s":
            assert text == "–"  # no record was made on one
        elif column in ("weights, M", "GMAC", "memory, MB"):
            if method in TOOLS or adapted:
                assert text == "–"
            else:
                wanted, room = expected_counts(dataset, method)[column]
                assert float(text) == pytest.approx(wanted, abs=room)
        elif column == "CPU, s":
            alike = [m for m in methods if shape(dataset, m) == shape(dataset, method)]
            medians = [np.median(np.median(values(rows_of(dataset, m), "seconds"), axis=0)) for m in alike]
            assert float(text) == pytest.approx(np.median(medians), abs=digits(text))
        else:
            wanted = {
                "Dice": lambda: values(rows).mean(),
                "sd": lambda: values(rows).mean(axis=1).std(),
                "Jaccard": lambda: values(rows, "jaccard").mean(),
                "HD95, mm": lambda: values(rows, "hd95").mean(),
                "folds, %": lambda: values(rows, "folding_percent").mean(),
                "seeds": lambda: len(rows),
            }[column]()
            assert float(text) == pytest.approx(wanted, abs=digits(text))

    assert check(table, cell) == 13 * len(made)
    assert list(made) == methods
    assert table in tables_of("09_table1_comparison"), REFRESH


def test_every_cell_of_the_overview() -> None:
    heads = {"hippocampus": "hippocampus", "liver MR": "liver_mr", "liver MR, whole body": "liver_mr_body"}
    recorded = {head: by_method(name) for head, name in heads.items()}
    heads |= {name: name.lower() for name in ("SLIVER", "LiTS", "LSPIG", "LPBA")}
    table = table_in(overview.overview_page(overview.overview(recorded, {}, "live")).data)

    def cell(method: str, column: str, text: str) -> None:
        column, adapted = column.partition(" (")[0], "adapted" in method
        if column == "weights, M":
            known = None if method in TOOLS or adapted else costs()[cost_name(method)]["parameters"]
            assert text == (f"{known / 1e6:.2f}" if known else "–")
        elif column == "CPU, s":
            known = None if adapted else costs()[TOOLS.get(method) or cost_name(method)]["seconds"]
            assert text == (f"{known:.2f}" if known else "–")
        elif column in ("GPU, s", "live"):
            assert text == "–"
        elif rows := rows_of(heads[column], method):
            wanted = [values(rows).mean(), values(rows, "jaccard").mean()]
            assert [float(x) for x in text.split(" / ")] == pytest.approx(wanted, abs=5.2e-4)
        else:
            assert text == "–"

    assert check(table, cell) == 11 * len(table)
    recorded_only = {n: {c: t for c, t in row.items() if "live" not in c} for n, row in table.items()}
    pages = [{n: {c: t for c, t in row.items() if "live" not in c} for n, row in page.items() if n in table}
             for page in tables_of("09_table1_comparison")]  # fmt: skip
    assert recorded_only in pages, REFRESH


def test_every_cell_of_voxelmorph_beside_ldr() -> None:
    table = table_in(overview.trained_alike(by_method("hippocampus")).data)
    heavy_of = {"1 cascade": "VoxelMorph + affine", "3 cascades": "RCN, VoxelMorph, 3 cascades"}

    def cell(length: str, column: str, text: str) -> None:
        names = heavy_of[length], f"LDR, {length}"
        heavy, light = (rows_of("hippocampus", name) for name in names)
        gain, low, high, _ = gain_interval_p(heavy, light)
        weights = [load("hippocampus", pattern_of(name))[0][0]["weight_count"] for name in names]
        seconds = [costs()[cost_name(name)]["seconds"] for name in names]
        wanted = {
            "VoxelMorph": [values(heavy).mean()],
            "LDR": [values(light).mean()],
            "difference": [gain],
            "95 % interval": [low, high],
            "times the weights": [weights[0] / weights[1]],
            "times the seconds": [seconds[0] / seconds[1]],
        }
        assert numbers(text) == pytest.approx(wanted[column], abs=max(digits(x) for x in text.split(", ")))

    assert check(table, cell) == 12
    assert table in tables_of("09_table1_comparison"), REFRESH


def test_every_cell_of_the_claims_beside_the_records() -> None:
    table = table_in(overview.claims_page(["hippocampus", "liver_mr"]).data)

    def cell(dataset: str, light: str, column: str, text: str) -> None:
        if "paper" in dataset:
            return
        heavy = [f"RCN, VTN, {n}" for n in ("1 cascade", "2 cascades", "3 cascades")]
        heavy += [f"{REFERENCE}, softer", "VoxelMorph + affine", "RCN, VoxelMorph, 3 cascades"]
        found = {name: rows for name in heavy if (rows := rows_of(dataset, name))}
        best = max(found, key=lambda name: values(found[name]).mean())
        if column == "heavy network":
            assert text == best
            return
        overlap = "dice" if column.startswith("Dice") else "jaccard"
        wanted = [100 * x for x in gain_interval_p(rows_of(dataset, light), found[best], overlap)[:3]]
        shown_here = [float(x) for x in re.findall(r"[-+][\d.]+", text)]
        assert len(shown_here) == (3 if overlap == "dice" else 1)
        assert shown_here == pytest.approx(wanted[: len(shown_here)], abs=0.052)

    assert check(table, cell) == 3 * (2 + 6)
    assert table in tables_of("09_table1_comparison"), REFRESH


def test_every_cell_of_seen_and_new_subjects() -> None:
    table = table_in(liver.seen_table().data)

    def cell(method: str, subjects: str, column: str, text: str) -> None:
        pattern = pattern_of(method) if subjects == "new" else f"seen_{pattern_of(method)}"
        rows = runs("liver_mr", pattern)
        before, after = values(rows, "dice_initial").mean(), values(rows).mean()
        wanted = {"pairs": len(rows[0]), "Dice before": before, "after": after, "gain": after - before}
        wanted["folds, %"] = values(rows, "folding_percent").mean()
        assert float(text) == pytest.approx(wanted[column], abs=digits(text))

    assert check(table, cell) == 5 * 6
    assert table in tables_of("09_table1_comparison"), REFRESH


# Lines of a comparison: Table 2, and the liver's augmentation.


def check_line(column: str, text: str, ours: list, theirs: list) -> None:
    """A cell of `table_row`."""
    if column == "seeds":
        assert int(text) == len(ours)
    elif column == "Dice":
        of_seeds = values(ours).mean(axis=0).tolist()
        wanted = [mean(of_seeds)] + ([stdev(of_seeds)] if len(of_seeds) > 1 else [])
        assert numbers(text) == pytest.approx(wanted, abs=digits(text))
    elif column == "folded %":
        assert numbers(text) == pytest.approx([values(ours, "folding_percent").mean()], abs=digits(text))
    elif not text:
        assert ours == theirs
    elif column == "p":
        assert f"{gain_interval_p(ours, theirs)[3]:.0e}" == text
    else:
        gain, low, high, _ = gain_interval_p(ours, theirs)
        wanted = {"gain": [gain], "95 % interval": [low, high]}[column]
        assert numbers(text) == pytest.approx(wanted, abs=max(digits(x) for x in text.split(", ")))


@pytest.mark.parametrize(("dataset", "lines"), [("hippocampus", 15), ("liver_mr", 6)])
def test_every_cell_of_table_2(dataset: str, lines: int) -> None:
    recorded = ablation.recorded_runs()[ablation.TITLES[dataset]]
    table = table_in(shown(ablation.table_2(recorded), ["cascades", "objective"]).data)

    def cell(cascades: str, objective: str, column: str, text: str) -> None:
        names = (rf"student_{cascades}cas_{re.escape(name)}_seed\d" for name in (objective, "none"))
        check_line(column, text, *(runs(dataset, name) for name in names))

    assert check(table, cell) == 6 * lines
    assert table in tables_of("10_table2_aldk_ablation"), REFRESH


def test_every_cell_of_the_lines_with_another_weight() -> None:
    recorded = ablation.recorded_runs()["hippocampus MR"]
    alone = ablation.students(recorded, 1, "none")
    table = table_in(shown({n: table_row(run, alone) for n, run in ablation.tuned(recorded).items()}, "change").data)

    def cell(name: str, column: str, text: str) -> None:
        names = re.escape(f"tuned_{name}"), r"student_1cas_none_seed\d"
        check_line(column, text, *(runs("hippocampus", name) for name in names))

    assert check(table, cell) == 6 * 3
    assert table in tables_of("10_table2_aldk_ablation"), REFRESH


def test_every_cell_of_the_single_factors() -> None:
    recorded = ablation.recorded_runs()["hippocampus MR"]
    table = table_in(ablation.factor_table(recorded).data)

    def cell(factor: str, value: str, column: str, text: str) -> None:
        names = re.escape(f"ablation_{factor}_{value}"), "student_1cas_paper_seed0"
        check_line(column, text, *(runs("hippocampus", name) for name in names))

    assert check(table, cell) == 6 * 11
    assert table in tables_of("10_table2_aldk_ablation"), REFRESH


def test_every_cell_of_the_learning_rates() -> None:
    recorded = ablation.recorded_runs()["hippocampus MR"]
    sides = [ablation.with_schedule(recorded, schedule) for schedule in ("paper", "released_none")]
    table = table_in(shown({"ALDK's rate over LDR's": table_row(*sides)}, "change").data)
    names = r"schedule_paper_seed\d", r"schedule_released_none_seed\d"
    both = [runs("hippocampus", name) for name in names]
    assert check(table, lambda _, column, text: check_line(column, text, *both)) == 6
    assert table in tables_of("10_table2_aldk_ablation"), REFRESH


def test_every_cell_beside_the_posts() -> None:
    papers = {"Dice": (3.4, 4.0, 3.1), "Jaccard": (5.2, 4.9, 3.9)}  # gains on SLIVER at 1, 2, 3 cascades, per cent
    table = table_in(ablation.beside_the_posts(ablation.recorded_runs()).data)

    def cell(data: str, cascades: str, column: str, text: str) -> None:
        dataset, n = {"hippocampus MR": "hippocampus", "liver MR": "liver_mr"}[data], int(cascades.split()[0])
        overlap, whose = column.split(", ")
        if whose == "the paper's":
            assert float(text) == pytest.approx(papers[overlap][n - 1] / 100)
        else:
            sides = [runs(dataset, rf"student_{n}cas_{objective}_seed\d") for objective in ("paper", "none")]
            assert numbers(text) == pytest.approx(gain_interval_p(*sides, overlap.lower())[:3], abs=7e-5)

    assert check(table, cell) == 4 * 6
    assert table in tables_of("10_table2_aldk_ablation"), REFRESH


def test_every_cell_of_the_augmentation() -> None:
    table = table_in(liver.augmentation_table().data)
    plain, bent = (runs("liver_mr", name) for name in ("plain", "student_1cas_none_seed0"))
    ours = {"as scanned": plain, "bent at random": bent}
    assert check(table, lambda images, column, text: check_line(column, text, ours[images], plain)) == 2 * 5
    assert table in tables_of("09_table1_comparison"), REFRESH


# Chapters 11 and 12.


def test_every_cell_of_the_recorded_seconds() -> None:
    table = table_in(figure1.seconds_table().data)

    def cell(name: str, column: str, text: str) -> None:
        found = costs(int(column.split()[0])).get(TOOLS.get(name, name))
        if not text:
            assert name in TOOLS
            assert found is None
        else:
            wanted = [found["seconds"], *(found["quartiles"] if found["runs"] > 1 else [])]
            assert numbers(text) == pytest.approx(wanted, abs=5.1e-3)

    assert check(table, cell) == 2 * 14
    assert table in tables_of("11_figure1_accuracy_vs_complexity"), REFRESH


def test_every_cell_of_one_network_s_seconds() -> None:
    table = table_in(figure1.repeated_seconds(by_method("hippocampus")).data)

    def cell(name: str, column: str, text: str) -> None:
        kinds = (f"LDR, {name[5:]}", f"LDR + ALDK, {name[5:]}", f"LDR, best recipe, {name[5:]}")
        times = [1000 * run[0]["test"]["seconds_per_pair"] for k in kinds for run in load("hippocampus", pattern_of(k))]
        wanted = {"records": len(times), "fastest, ms": min(times), "slowest, ms": max(times)}
        assert float(text) == pytest.approx(wanted[column], abs=0.51)

    assert check(table, cell) == 3 * 3
    assert table in tables_of("11_figure1_accuracy_vs_complexity"), REFRESH


@pytest.mark.parametrize("dataset", ["hippocampus", "liver_mr"])
def test_every_cell_of_figure_2_in_numbers(dataset: str) -> None:
    record = json.loads((RECORDS / dataset / "figure2.json").read_text())
    table = table_in(figure2_reading.numbers(dataset).data)
    pairs = [(one["moving"], one["fixed"]) for one in record["shown"]]
    rows = {name: [row for row in record["rows"] if row["model"] == name] for name in record["models"]}
    first = next(iter(rows.values()))

    def cell(model: str, column: str, text: str) -> None:
        ours = rows[model]
        drawn = [row["dice"] for row in ours if (row["moving"], row["fixed"]) in pairs]
        sides = [(row["slice_dice"], other["slice_dice"]) for row, other in zip(ours, first, strict=True)]
        slices = [a > b for x, y in sides for a, b in zip(x, y, strict=True)]
        volumes = [row["dice"] > other["dice"] for row, other in zip(ours, first, strict=True)]
        wanted = {
            "cascades": [record["models"][model]["cascades"]],
            "Dice, the pairs above": [mean(drawn)],
            "Dice, all pairs": [mean(row["dice"] for row in ours)],
            "folded %": [mean(row["folding_percent"] for row in ours)],
        }.get(column, [round(100 * mean(slices)), len(slices), sum(volumes), len(volumes)])
        assert numbers(text) == pytest.approx(wanted if text else [], abs=5.2e-4)
        assert text or ours == first

    assert check(table, cell) == 3 * 5
    assert table in tables_of("12_figure2_visual_comparison"), REFRESH
