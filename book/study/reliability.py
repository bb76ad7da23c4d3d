"""What the long tests counted: each leaves a record, and the page Reliability shows them."""

from collections.abc import Sequence

from lddr.record import TrialRecord, provenance, write_record
from study.claims import MISSING
from study.records import RECORDS, escaped, read_trials


def keep_trial(name: str, what: str, counts: dict[str, int | float], seconds: float, command: Sequence[str]) -> None:
    """Write the record of a long test.

    Args:
        name: of the file, without ending.
        what: was tried, and what held each time: a sentence.
        counts: what was counted -> how much; the names read well after a number.
        seconds: that it took.
        command: the words of the line that runs it.
    """
    record = TrialRecord(**provenance(command), what=what, counts=counts, seconds=round(seconds, 1))
    write_record(RECORDS / "reliability" / f"{name}.json", record)


def in_words(counts: dict[str, int | float]) -> str:
    """Write counts as a list: "50 kills, 3.5 MB more memory"."""
    return ", ".join(
        f"{value:,d} {name}" if isinstance(value, int) else f"{value:,.1f} {name}" for name, value in counts.items()
    )


def trials_table() -> str:
    """Make the table of the page: a row for each long test whose record is there."""
    lines = ["| what was tried, and what held each time | counted | minutes, day |", "| --- " * 3 + "|"]
    for trial in read_trials().values():
        took = f"{max(1, round(trial.seconds / 60))} min, {trial.date[:10]}"
        lines.append(f"| {' | '.join(map(escaped, (trial.what, in_words(trial.counts), took)))} |")
    if len(lines) == 2:
        lines.append(f"| {MISSING} | | |")
    return "\n".join(lines)
