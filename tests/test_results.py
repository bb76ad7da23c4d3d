"""Records gathered by method: seeds together, folds joined, and nothing made up where some are missing."""

from collections.abc import Callable

import numpy as np
import pytest
from by_hand import PATTERNS
from synthetic import LDR, RCN, of, record

from lddr.record import Method, Provenance
from study.methods import METHODS, NETWORKS, by_method, title, whole_runs
from study.tables import table_row

THREE = of(RCN, cascades=3)
Put = Callable[[str, Provenance], None]


def test_four_folds_are_one_run_and_three_are_none(put: Put) -> None:
    for k in range(4):
        names = [(f"a{k}", f"b{k}"), (f"b{k}", f"a{k}")]
        put(f"liver_mr/teacher_3cas_fold{k}", record(THREE, [0.1 * k, 0.2], names, fold=k))
        if k < 3:
            put(f"liver_mr/baseline_elastix_fold{k}", record(Method(tool="elastix"), [0.5, 0.5], names, fold=k))
    found = by_method("liver_mr")
    assert list(found) == ["RCN, VTN, 3 cascades"]
    (run,) = found["RCN, VTN, 3 cascades"]
    assert run.fold is None
    assert len(run.rows) == run.test.pairs == 8
    assert run.test.dice_mean == pytest.approx(np.mean([0, 0.1, 0.2, 0.3, *[0.2] * 4]))
    assert run.test.dice_per_label == {"organ": pytest.approx(run.test.dice_mean)}


def test_seeds_of_a_method_stand_together_and_a_row_compares_them(put: Put) -> None:
    for seed, gain in enumerate((0.01, 0.03)):
        for objective, extra in (("none", 0.0), ("paper", 0.1)):
            student = record(of(LDR, objective=objective, seed=seed), np.linspace(0.5, 0.7, 20) + gain + extra)
            put(f"liver_mr/student_{objective}_{seed}", student)
    found = by_method("liver_mr")
    assert [len(r) for r in found.values()] == [2, 2]
    row = table_row(found["LDR + ALDK, 1 cascade"], found["LDR, 1 cascade"])
    assert row["seeds"] == "2"
    assert row["Dice"] == "0.720 ± 0.014"
    assert row["gain"] == "+0.1000"


def test_pairs_of_training_subjects_and_other_recipes_are_no_rows_of_the_table(put: Put) -> None:
    put("liver_mr/seen", record(split={"train": 10}))
    put("liver_mr/tuned", record(of(LDR, recipe="tuned")))
    put("liver_mr/warped", record(of(LDR, recipe="best", objective="warped")))
    assert by_method("liver_mr") == {}
    assert set(whole_runs("liver_mr")) == {"seen", "tuned", "warped"}


def test_no_records_no_runs(put: Put) -> None:
    assert whole_runs("hippocampus") == {}


def test_every_name_of_table_1_is_the_title_of_a_method() -> None:
    every = [Method(tool=tool) for tool in ("ants_syn", "elastix")]
    for network, objective, recipe in NETWORKS:
        for cascades in (1, 2, 3):
            for adapted in (0, 50):
                about = {"objective": objective, "recipe": recipe, "adapted": adapted}
                every.append(Method(network=network, cascades=cascades, **about))
    assert {name for name in map(title, every) if name} == set(METHODS)
    assert len(PATTERNS) == 12  # what `by_hand` knows; more kinds of methods need their own line there
    assert title(of(LDR, network="ldr_released")) is None
