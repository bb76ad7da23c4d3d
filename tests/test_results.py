"""Records gathered by method: seeds together, folds joined, and nothing made up where some are missing."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from by_hand import PATTERNS

from lddr.infer.evaluate import summarise
from lddr.record import Machine, Method, Record, write_record
from study import records
from study.methods import METHODS, NETWORKS, by_method, title, whole_runs
from study.tables import table_row

MACHINE = Machine(cpu="a CPU", cores=2, threads=1, gpu=None, system="Linux x86_64", python="3.11", torch="2.4")
MADE = {"command": "lddr train", "commit": "abc", "machine": MACHINE, "date": "2026-01-02T03:04:05+00:00"}
LDR = Method(network="ldr", affine="light", width=16, levels=6, cascades=1, size=[48] * 3, objective="none", seed=0)
RCN = LDR.model_copy(update={"network": "vtn", "levels": 4, "cascades": 3})
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path, monkeypatch) -> Put:
    """A folder of records of our own, and the way to put one there."""
    monkeypatch.setattr(records, "RECORDS", tmp_path)

    def put(name: str, method: Method, names: Sequence[tuple[str, str]], dice: Sequence[float], **more: object) -> None:
        rows = [
            {"moving": m, "fixed": f, "dice": d, "jaccard": d / 2, "dice_initial": 0.1, "dice_1": d}
            | {"folding_percent": 0.5, "jacobian_std": 0.1, "seconds": 1.0}
            for (m, f), d in zip(names, map(float, dice), strict=True)
        ]
        about = {"dataset": "liver_mr", "split": {"test": 4}, "pair_list": "all", "method": method}
        record = Record(**{**MADE, **about, "test": summarise(rows, {1: "liver"}), "rows": rows, **more})
        write_record(tmp_path / "liver_mr" / f"{name}.json", record)

    return put


def test_four_folds_are_one_run_and_three_are_none(put: Put) -> None:
    for k in range(4):
        names = [(f"a{k}", f"b{k}"), (f"b{k}", f"a{k}")]
        put(f"teacher_3cas_fold{k}", RCN, names, [0.1 * k, 0.2], fold=k)
        if k < 3:
            put(f"baseline_elastix_fold{k}", Method(tool="elastix"), names, [0.5, 0.5], fold=k)
    found = by_method("liver_mr")
    assert list(found) == ["RCN, VTN, 3 cascades"]
    (run,) = found["RCN, VTN, 3 cascades"]
    assert run.fold is None
    assert len(run.rows) == run.test.pairs == 8
    assert run.test.dice_mean == pytest.approx(np.mean([0, 0.1, 0.2, 0.3, *[0.2] * 4]))
    assert run.test.dice_per_label == {"liver": pytest.approx(run.test.dice_mean)}


def test_seeds_of_a_method_stand_together_and_a_row_compares_them(put: Put) -> None:
    names = [(str(i), str(i + 1)) for i in range(20)]
    for seed, gain in enumerate((0.01, 0.03)):
        for objective, extra in (("none", 0.0), ("paper", 0.1)):
            method = LDR.model_copy(update={"objective": objective, "seed": seed})
            put(f"student_{objective}_{seed}", method, names, np.linspace(0.5, 0.7, 20) + gain + extra)
    found = by_method("liver_mr")
    assert [len(r) for r in found.values()] == [2, 2]
    row = table_row(found["LDR + ALDK, 1 cascade"], found["LDR, 1 cascade"])
    assert row["seeds"] == "2"
    assert row["Dice"] == "0.720 ± 0.014"
    assert row["gain"] == "+0.1000"


def test_pairs_of_training_subjects_and_other_recipes_are_no_rows_of_the_table(put: Put) -> None:
    names = [("a", "b"), ("b", "a")]
    put("seen", LDR, names, [0.5, 0.6], split={"train": 10})
    put("tuned", LDR.model_copy(update={"recipe": "tuned"}), names, [0.5, 0.6])
    put("warped", LDR.model_copy(update={"recipe": "best", "objective": "warped"}), names, [0.5, 0.6])
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
    assert title(LDR.model_copy(update={"network": "ldr_released"})) is None
