"""The recorded runs of the book, in the folder `book/records` of this project, one folder a data set.

A file that is no record is left out with a warning, so that one of them does not stop a page. The build fails at its
end and names them (`broken`). What a record says is text from elsewhere: a page shows it `escaped`.
"""

import html
import re
import warnings
from pathlib import Path

from lddr.errors import InputError
from lddr.record import AnyRecord, CostRecord, FigureRecord, Record, TrialRecord, read_record

PROJECT = Path(__file__).resolve().parent.parent.parent
RECORDS = PROJECT / "book" / "records"
broken: dict[Path, str] = {}  # the files that were left out so far, and what is wrong with them


def escaped(text: str) -> str:
    """Make a text that was read from a record safe in a page: no HTML, no Markdown, no end of a table's cell."""
    plain = html.escape(" ".join(text.split()), quote=False).replace("](", "]&#40;")
    return re.sub(r"[\\`|*$~]", lambda match: f"&#{ord(match[0])};", plain)


def _files(folder: str) -> list[Path]:
    if not RECORDS.is_dir():
        raise InputError(f"{RECORDS}: the book's records are expected here; install the project from its own folder.")
    return sorted((RECORDS / folder).glob("*.json"))


def read_if_sound(file: Path) -> AnyRecord | None:
    """Read a record; None if it is not there, or, with a warning, if it is not one."""
    if not file.exists():
        return None
    try:
        return read_record(file)
    except InputError as error:
        broken[file] = str(error)
        warnings.warn(f"left out: {error}", stacklevel=2)
        return None


def _read(folder: str) -> dict[str, AnyRecord]:
    return {file.stem: record for file in _files(folder) if (record := read_if_sound(file))}


def read_records(dataset: str) -> dict[str, Record]:
    """Read the recorded runs on one data set.

    Returns:
        File name without ending -> record, sorted by name; empty if there are none.

    Raises:
        InputError: the folder of records is not there.
    """
    return {name: record for name, record in _read(dataset).items() if isinstance(record, Record)}


def read_costs() -> dict[str, CostRecord]:
    """Read what networks and tools were measured to cost: file name without ending -> record, sorted by name."""
    return {name: record for name, record in _read("cost").items() if isinstance(record, CostRecord)}


def read_trials() -> dict[str, TrialRecord]:
    """Read what the long tests counted: file name without ending -> record, sorted by name."""
    return {name: record for name, record in _read("reliability").items() if isinstance(record, TrialRecord)}


def read_figure(dataset: str) -> FigureRecord | None:
    """Read the record behind Figure 2 of one data set; None if it was not drawn."""
    record = read_if_sound(RECORDS / dataset / "figure2.json")
    return record if isinstance(record, FigureRecord) else None
