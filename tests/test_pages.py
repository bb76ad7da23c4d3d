"""What `study` shows: HTML that is escaped and sorts, marks, times, files; and a sentence where records are missing."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from by_hand import runs, table_in, tables_in, values
from IPython.display import HTML, Markdown
from scipy import stats
from synthetic import LDR, MACHINE, of, record

from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.record import Method, Record
from study import ablation, figure1, figure2_reading, liver, overview, records, table1
from study.methods import ADAPTED, METHODS, by_method, whole_runs
from study.tables import downloads, html_table, live_record, shown, sources

EVIL = "<b>x</b> & \"y\" 'z'"
GPU = MACHINE.model_copy(update={"gpu": "a GPU"})


# Tables.


def test_nothing_in_a_table_is_taken_for_markup() -> None:
    frame = pd.DataFrame({EVIL: [EVIL]}, index=[EVIL]).rename_axis(EVIL)
    page = html_table(frame, name=EVIL)
    assert "<b>" not in page
    assert table_in(page) == {(EVIL,): {EVIL: EVIL}}


def test_a_table_has_the_class_that_the_script_of_the_book_sorts_by() -> None:
    script = Path(records.PROJECT / "book" / "_static" / "sortable.js").read_text(encoding="utf-8")
    assert "table.sortable" in script
    assert re.search(r'<table class="sortable" id="T_x">', html_table(pd.DataFrame({"a": ["1"]}, index=["r"]), "x"))


def test_lines_may_have_two_names_and_lack_a_column() -> None:
    page = shown({(1, "a"): {"x": "1"}, (1, "b"): {"x": "2", "y": "3"}}, ["n", "kind"])
    ((corner, table),) = tables_in(page.data)
    assert corner == ("n", "kind")
    assert table == {("1", "a"): {"x": "1", "y": ""}, ("1", "b"): {"x": "2", "y": "3"}}
    assert isinstance(shown({}, "n"), Markdown)


def test_the_same_table_as_files_and_as_links(tmp_path: Path) -> None:
    frame = pd.DataFrame({"Dice": [0.5, np.nan], "p": [0.1, 0.2]}, index=["a & b", "c"])
    page = downloads(frame, "table", str(tmp_path / "out"))
    written = (tmp_path / "out" / "table.csv").read_text(encoding="utf-8")
    assert written.splitlines() == ["method,Dice,p", "a & b,0.5,0.1", "c,,0.2"]
    latex = (tmp_path / "out" / "table.tex").read_text(encoding="utf-8")
    assert r"a \& b & 0.500 \\" in latex
    assert page.count('<a download="table.') == 2
    assert "0.1" not in latex  # p is part of the sign in the table
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        downloads(frame, "table", str(tmp_path / "file"))
    assert "table.csv" in downloads(frame, "table")


def test_sources_list_the_records_of_the_table_and_escape_their_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "a": record(command=EVIL),
        "b": record(of(LDR, recipe="tuned")),
        "c": record(split={"train": 9}),
        "d": record(threads=2),
    }
    monkeypatch.setattr("study.tables.read_records", lambda dataset: found)
    page = sources("hippocampus")
    assert "2 records" in page
    assert re.findall(r"hippocampus/(\w)", page) == ["a", "d"]
    assert re.findall(r"cores, (\d threads?)", page) == ["1 thread", "2 threads"]
    assert "<b>" not in page


# Table 1.


def test_one_network_has_one_time_whatever_it_was_trained_with() -> None:
    methods = {
        "LDR": [record(seconds=1.0), record(seconds=3.0)],
        "LDR + ALDK": [record(of(LDR, objective="paper"), seconds=6.0)],
        "LDR, 2": [record(of(LDR, cascades=2), seconds=5.0)],
        "adapted": [record(of(LDR, adapted=50), seconds=50.0)],
        "tool": [record(Method(tool="elastix"), seconds=9.0, machine=GPU)],
        "on a GPU": [record(of(LDR, cascades=3), seconds=0.1, machine=GPU)],
        "on its CPU": [record(of(LDR, cascades=3), seconds=7.0, machine=GPU, parameters={"device": "cpu"})],
    }
    seconds = table1.seconds_of(methods)
    assert seconds["CPU, s"].dropna().to_dict() == {
        "LDR": 4.0, "LDR + ALDK": 4.0, "LDR, 2": 5.0, "adapted": 50.0, "tool": 9.0, "on a GPU": 7.0, "on its CPU": 7.0
    }  # fmt: skip
    assert seconds["GPU, s"].dropna().to_dict() == {"on a GPU": 0.1, "on its CPU": 0.1}


def test_the_best_and_the_second_best_are_what_looks_so() -> None:
    frame = pd.DataFrame(np.nan, index=[table1.START, "a", "b", "c", "d"], columns=table1.COLUMNS)
    frame["Dice"] = [0.99, 0.7001, 0.7002, 0.6, 0.5]
    frame["folds, %"] = [0.0, 3.0, 1.0, 2.0, np.nan]
    marks = table1.best_two(frame)
    assert {cell: mark for cell, mark in marks.items() if cell[1] == "Dice"} == {
        ("a", "Dice"): "best", ("b", "Dice"): "best", ("c", "Dice"): "second"
    }  # fmt: skip
    assert marks["b", "folds, %"] == "best"
    assert marks["c", "folds, %"] == "second"
    assert table1.best_two(frame.iloc[:1]) == {}


def test_the_reference_is_not_compared_with_itself_and_a_sign_needs_a_corrected_p() -> None:
    methods = {
        "LDR": [record()],
        "better": [record(of(LDR, cascades=2), dice=0.8)],
        "same": [record(of(LDR, cascades=3))],
    }
    frame = table1.texts(table1.numbers(methods, "LDR"))
    assert frame["gain"].to_dict() == {"LDR": "–", "better": "+0.100\xa0▲", "same": "+0.000\xa0≈"}
    assert frame["95 % interval"]["better"] == "+0.100, +0.100"
    assert frame["HD95, mm"].tolist() == ["–"] * 3  # it was not measured


def test_grids_are_named_where_they_differ() -> None:
    coarse, fine = record(), record(Method(tool="elastix", size=[128] * 3))
    assert table1.seconds_clause(fine, coarse).startswith(
        " (in part because the one works on 128³ voxels, the other on 48³"
    )
    assert table1.seconds_clause(coarse, coarse) == table1.seconds_clause(coarse, record(Method(tool="elastix"))) == ""


def test_no_registration_takes_no_time(tmp_path: Path) -> None:
    cohort = Cohort("simulated_brains", "test", ("0", "1"), *[None] * 2, {1: "organ"}, 1.0, "free")  # type: ignore[arg-type]
    rows = record().rows
    live = live_record("09_table1_comparison", Method(), cohort, rows, 1)
    assert np.isnan(live.test.seconds_per_pair)
    assert live_record("09_table1_comparison", LDR, cohort, rows).test.seconds_per_pair == 1.0
    assert live.test.dice_mean == pytest.approx(0.7)


def test_what_stands_behind_every_name_of_table_1_is_known() -> None:
    described = overview.described()
    assert set(described) == set(METHODS)
    assert described["RCN, VTN, 2 cascades"].network == "vtn"
    assert [name for name, method in described.items() if method.adapted] == [n for n in METHODS if n.endswith(ADAPTED)]
    assert overview.recorded_cost(described["LDR, 3 cascades"]) > overview.recorded_cost(described["LDR, 1 cascade"])
    assert overview.recorded_cost(described[f"LDR, best recipe, 1 cascade{ADAPTED}"]) is None
    assert overview.recorded_cost(Method(tool="elastix"), "cost_gpu") is None


# The liver's studies, Figure 1.


def test_what_it_is_worth_to_be_known_is_a_mean_over_folds() -> None:
    """The sum in another order: pair by pair instead of subject by subject."""
    for n in (1, 3):
        (seen,) = runs("liver_mr", f"seen_beyond_{n}cas_none")
        (new,) = runs("liver_mr", f"beyond_{n}cas_none")

        def gain_of(subject, rows):
            return np.mean([r["dice"] - r["dice_initial"] for r in rows if subject in (r["moving"], r["fixed"])])

        folds = [new[i : i + 12] for i in range(0, 48, 12)]
        each = [np.mean([gain_of(s, seen) - gain_of(s, fold) for s in {r["moving"] for r in fold}]) for fold in folds]
        found, wanted = liver.seen_over_new(n), stats.ttest_1samp(each, 0).confidence_interval()
        assert [found[end] for end in ("gain", "low", "high")] == pytest.approx([np.mean(each), *wanted])


def test_the_sentence_about_the_curve_has_its_numbers() -> None:
    text = liver.read_curve().data
    ten, seven, two = (values(runs("liver_mr", n)).mean() for n in ("student_1cas_none_seed0", "curve_7", "curve_2"))
    shown_here = [float(x) for x in re.findall(r"by ([-+]\d\.\d{3})", text)]
    assert shown_here == pytest.approx([ten - two, ten - seven], abs=6e-4)


def test_networks_of_one_shape_get_the_least_of_their_seconds() -> None:
    methods = {
        "LDR": [record(seconds=2.0), record(seconds=1.0)],
        "LDR + ALDK": [record(of(LDR, objective="paper", size=[64] * 3), seconds=3.0)],
        "tool": [record(Method(tool="elastix"), dice=0.9, seconds=9.0)],
    }
    frame = figure1.trade(methods)
    assert frame.seconds.to_dict() == {"LDR": 1.0, "LDR + ALDK": 1.0, "tool": 9.0}
    assert frame.Dice["tool"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("name", "method", "parts"),
    [
        ("LDR, best recipe, 1 cascade, adapted to each pair", LDR, ("LDR, best recipe, adapted to each pair", "1")),
        ("RCN, VTN, 3 cascades, softer", of(LDR, cascades=3), ("RCN, VTN, softer", "3")),
        ("VoxelMorph + affine", of(LDR, network="voxelmorph"), ("VoxelMorph + affine", "")),
        ("ANTs SyN", Method(tool="ants_syn"), ("ANTs SyN", "")),
    ],
)
def test_a_family_is_a_name_without_its_cascades(name: str, method: Method, parts: tuple[str, str]) -> None:
    assert figure1.family(name, record(method)) == parts


# Sentences.


def test_the_verdicts_of_chapter_10_follow_their_rules() -> None:
    def student(objective: str, dice: float, seed: int) -> Record:
        return record(of(LDR, objective=objective, seed=seed), dice=dice)

    recorded: dict[str, dict[str, Record]] = {"hippocampus MR": {}, "liver MR": {}}
    for seed in (0, 1):
        for objective, dice in {"none": 0.70, "paper": 0.75, "l2": 0.65}.items():
            recorded["hippocampus MR"][f"{objective}{seed}"] = student(objective, dice, seed)
    lines = ablation.verdicts(recorded).data.splitlines()
    where, _, words = lines[0].partition(": ")
    assert where == "- *On hippocampus MR, `paper`, 1 cascade*"
    assert words == "a gain, +0.0500 [+0.0500, +0.0500]; the interval reaches the posts' +0.034."
    assert lines[1] == "- *On liver MR*: not recorded yet."
    assert lines[2].endswith("1 lines recorded; with a gain over `none`: no line.")
    assert lines[3:] == ["- *Single factors*: not recorded yet.", "- *The learning rate*: not recorded yet."]
    recorded["hippocampus MR"] = {"a": student("none", 0.75, 0), "b": student("paper", 0.70, 0)}
    assert "a loss, -0.0500" in ablation.verdicts(recorded).data
    assert "With a single seed on a side" in ablation.verdicts(recorded).data


def test_a_record_that_is_gone_leaves_its_line_out_and_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = ablation.recorded_runs()
    assert ablation.missing(recorded).splitlines() == ["hippocampus MR: 0 of 53 missing", "liver MR: 0 of 6 missing"]
    less = {
        n: r for n, r in recorded["hippocampus MR"].items() if n not in ("student_1cas_l2_seed0", "ablation_every_1")
    }
    before, after = ablation.table_2(recorded["hippocampus MR"]), ablation.table_2(less)
    assert set(before) - set(after) == {(1, "l2")}
    assert all(before[key] == row for key, row in after.items())
    assert set(ablation.factors(recorded["hippocampus MR"])) - set(ablation.factors(less)) == {("every", 1)}
    words = ablation.missing(recorded | {"hippocampus MR": less})
    assert "hippocampus MR: 2 of 53 missing:\n  student_1cas_l2_seed0, ablation_every_1" in words


def test_every_chapter_gets_a_sentence_where_there_are_no_records(put: object) -> None:
    assert whole_runs("hippocampus") == by_method("liver_mr") == {}
    runs_of = ablation.recorded_runs()
    seconds = figure1.Seconds(None, "not measured here")
    front = pd.DataFrame()
    sentences = [
        table1.page_or_sentence({}, "hippocampus"),
        table1.read_aloud({}, "hippocampus"),
        overview.trained_alike({}),
        overview.judge(["hippocampus"]),
        *(f() for f in (liver.draw_curve, liver.augmentation_table, liver.seen_table)),
        shown(ablation.table_2(runs_of["liver MR"]), ["cascades", "objective"]),
        ablation.factor_table(runs_of["hippocampus MR"]),
        ablation.verdicts(runs_of),
        figure1.seconds_table(),
        figure1.draw_figure_1("liver_mr", seconds, seconds),
        figure1.draw_trade("liver_mr", front),
        figure1.repeated_seconds({}),
        *(f("liver_mr") for f in (figure2_reading.numbers, figure2_reading.draw_curves)),
        figure2_reading.picture("liver_mr", 0),
        figure2_reading.claim_8(["liver_mr"]),
    ]
    assert all(isinstance(sentence, Markdown) and len(sentence.data) > 20 for sentence in sentences)
    assert [f() for f in (liver.read_curve, liver.read_augmentation, liver.read_seen)] == [None] * 3
    live = {table1.START: [record(Method())], "LDR, 1 cascade": [record()]}
    page = overview.overview_page(overview.overview({"hippocampus": {}}, live, "live"))
    assert table_in(page.data)[("LDR, 1 cascade",)]["live"] == "0.700 / 0.350"
    assert isinstance(overview.claims_page(["hippocampus"]), HTML)
    assert isinstance(table1.page(live, "live", "LDR, 1 cascade", "<p>here</p>"), HTML)
    weights = pd.Series({f"{n}, {k}": w for n, w in (("LDR", 1), ("VTN", 9)) for k in ("2 cascades", "3 cascades")})
    weights += [0, 1, 0, 9]
    assert "no records yet" in figure1.claims_about_cost(weights).data
    ablation.draw_factors(runs_of["hippocampus MR"])
    ablation.draw_beside_the_posts(runs_of)
    plt.close("all")


def test_a_figure_that_is_recorded_but_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "](" in figure2_reading.picture("hippocampus", 0).data  # found from any folder
    monkeypatch.setattr(figure2_reading, "PROJECT", tmp_path)
    text = figure2_reading.picture("liver_mr", 1).data
    assert "the record is there, the file book/figures/figure2_liver_mr_fields.webp is not" in text
    assert "python -m study.figure2 --dataset liver_mr --fold 0 --fine 128 --pairs all" in text
