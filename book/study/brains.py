"""The models that were trained for real brains, beside the one of chapter 06 that they go on from."""

from lddr.record import Record
from study.methods import in_words
from study.records import escaped, read_records
from study.tables import MISSING


def last_validation(record: Record) -> str:
    """Write the Dice of the weights that were kept, on the varied validation subjects; they were the best."""
    found = [dice for row in record.log if (dice := row.get("validation_dice")) is not None]
    return f"{max(found):.3f}" if found and record.method.recipe == "varied" else MISSING


def brains_table() -> str:
    """Make the table of the models, from their records: first the one that the others go on from."""
    records = read_records("simulated_brains")
    shown = {name: run for name, run in records.items() if run.method.recipe in ("chapter 06", "varied")}
    lines = ["| record | cascades | steps | minutes | Dice, varied validation pairs | Dice, test pairs | folds, % |"]
    lines.append("| --- | --- " + "| --: " * 5 + "|")
    for name, run in sorted(shown.items(), key=lambda item: (item[1].method.recipe == "varied", item[0])):
        steps, taken = (run.parameters or {}).get("steps", MISSING), (run.training_seconds or 0) / 60
        cells = [escaped(name), in_words(run.method.cascades or 1), str(steps), f"{taken:.0f}", last_validation(run)]
        lines.append(f"| {' | '.join(cells)} | {run.test.dice_mean:.3f} | {run.test.folding_percent:.2f} |")
    return "\n".join(lines)
