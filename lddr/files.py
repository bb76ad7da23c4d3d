"""Files that are there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lddr.errors import InputError


def require_writable(path: str | Path, folder: bool = False) -> None:
    """Refuse (`InputError`), before hours of work, a file (or a folder for files) that cannot be made."""
    place = Path(path).absolute()
    there = next(p for p in ([place] * folder + list(place.parents)) if os.path.exists(p))
    try:
        tempfile.TemporaryFile(dir=there).close()  # what the rights of a folder promise need not be so
    except OSError:
        raise InputError(f"{path}: cannot be written, since {there} is no folder to write in.") from None
    if not folder and place.is_dir():
        raise InputError(f"{path}: cannot be written, since a folder has this name.")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Hand out a name to write to; it becomes `path` once all is written, what was there stays until then.

    Raises:
        InputError: the folder cannot be made, or the file not be written.
    """
    part = Path(path).with_name(f".part.{Path(path).name}")  # the ending stays: some writers choose the format by it
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None
    finally:
        with suppress(OSError):  # usually it is gone by now
            part.unlink()
