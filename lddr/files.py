"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lddr.errors import InputError


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """A name to write to; it becomes `path` once all is written, and whatever was at `path` stays until then.

    Raises:
        InputError: the folder cannot be made, or the file not be written.
    """
    path = Path(path)
    part = path.with_name(f".part.{path.name}")  # the ending stays: some writers choose the format by it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None
    finally:
        part.unlink(missing_ok=True)
