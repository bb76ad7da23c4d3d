"""The recorded runs of the book, in the folder `book/records` of this project, one folder a data set."""

from pathlib import Path

from lddr.errors import InputError
from lddr.record import AnyRecord, CostRecord, FigureRecord, Record, read_record

PROJECT = Path(__file__).resolve().parent.parent.parent
RECORDS = PROJECT / "book" / "records"


def _files(folder: str) -> list[Path]:
    if not RECORDS.is_dir():
        raise InputError(f"{RECORDS}: the book's records are expected here; install the project from its own folder.")
    return sorted((RECORDS / folder).glob("*.json"))


def _read(folder: str) -> dict[str, AnyRecord]:
    return {file.stem: read_record(file) for file in _files(folder)}


def read_records(dataset: str) -> dict[str, Record]:
    """Read the recorded runs on one data set.

    Returns:
        File name without ending -> record, sorted by name; empty if there are none.

    Raises:
        InputError: the folder of records is not there, or holds a file that is no record.
    """
    return {name: record for name, record in _read(dataset).items() if isinstance(record, Record)}


def read_costs() -> dict[str, CostRecord]:
    """Read what networks and tools were measured to cost: file name without ending -> record, sorted by name."""
    return {name: record for name, record in _read("cost").items() if isinstance(record, CostRecord)}


def read_figure(dataset: str) -> FigureRecord | None:
    """Read the record behind Figure 2 of one data set; None if it was not drawn."""
    path = RECORDS / dataset / "figure2.json"
    record = read_record(path) if path.exists() else None
    return record if isinstance(record, FigureRecord) else None
