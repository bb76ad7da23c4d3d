"""The table of the models for real brains says what their records say."""

from study.brains import brains_table
from study.records import read_records


def test_the_table_of_the_models_for_real_brains_is_that_of_their_records() -> None:
    """The model of chapter 06 first, then the varied ones; their validation Dice is the best of the log."""
    first, _, *rows = [line.strip("| ").split(" | ") for line in brains_table().splitlines()]
    records = read_records("simulated_brains")
    assert [row[0] for row in rows[:1]] == ["student_1cas_none"]
    assert {row[0] for row in rows} == {
        name for name, run in records.items() if run.method.recipe in ("chapter 06", "varied")
    }
    for row in rows:
        run = records[row[0]]
        cells = dict(zip(first, row, strict=True))
        assert cells["Dice, test pairs"] == f"{run.test.dice_mean:.3f}"
        assert cells["folds, %"] == f"{run.test.folding_percent:.2f}"
        assert (cells["Dice, varied validation pairs"] == "–") == (run.method.recipe != "varied")
        dice = [row["validation_dice"] for row in run.log if "validation_dice" in row]
        assert cells["Dice, varied validation pairs"] in ("–", f"{max(dice):.3f}")
