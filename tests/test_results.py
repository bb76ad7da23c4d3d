"""Records gathered by method: seeds together, folds joined, and nothing made up where some are missing."""

import json

import numpy as np
import pytest

from lddr.compare import table_row
from lddr.results import by_method, whole_runs


def record(names, dice):
    rows = [
        {"moving": m, "fixed": f, "dice": d, "jaccard": d / 2, "dice_initial": 0.1, "dice_1": d}
        | {"folding_percent": 0.5, "jacobian_std": 0.1, "seconds": 1.0}
        for (m, f), d in zip(names, dice, strict=True)
    ]
    return {"rows": rows, "test": {"dice_per_label": {"liver": 0.0}, "folding_percent": 0.5}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "book" / "records" / "liver_mr"
    place.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return place


def test_four_folds_are_one_run_and_three_are_none(folder) -> None:
    for k in range(4):
        names = [(f"a{k}", f"b{k}"), (f"b{k}", f"a{k}")]
        (folder / f"teacher_3cas_fold{k}.json").write_text(json.dumps(record(names, [0.1 * k, 0.2])))
        if k < 3:
            (folder / f"baseline_elastix_fold{k}.json").write_text(json.dumps(record(names, [0.5, 0.5])))
    found = by_method("liver_mr")
    assert list(found) == ["RCN, VTN, 3 cascades"]
    (run,) = found["RCN, VTN, 3 cascades"]
    assert len(run["rows"]) == run["test"]["pairs"] == 8
    assert run["test"]["dice_mean"] == pytest.approx(np.mean([0, 0.1, 0.2, 0.3, *[0.2] * 4]))
    assert run["test"]["dice_per_label"] == {"liver": pytest.approx(run["test"]["dice_mean"])}


def test_seeds_of_a_method_stand_together_and_a_row_compares_them(folder) -> None:
    names = [(str(i), str(i + 1)) for i in range(20)]
    for seed, gain in enumerate((0.01, 0.03)):
        for objective, extra in (("none", 0.0), ("paper", 0.1)):
            values = np.linspace(0.5, 0.7, 20) + gain + extra
            file = folder / f"student_1cas_{objective}_seed{seed}.json"
            file.write_text(json.dumps(record(names, values)))
    found = by_method("liver_mr")
    assert [len(r) for r in found.values()] == [2, 2]
    row = table_row(found["LDR + ALDK, 1 cascade"], found["LDR, 1 cascade"])
    assert row["seeds"] == "2"
    assert row["Dice"] == "0.720 ± 0.014"
    assert row["gain"] == "+0.1000"


def test_no_records_no_runs(folder) -> None:
    assert whole_runs("hippocampus") == {}
