"""A folder of results that is one unit: every file in it comes from one run, whatever dies when."""

import ctypes
import datetime
import hashlib
import json
import os
import shlex
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lddr.errors import InputError
from lddr.files import flush, private, real_path, remove, require_room

MANIFEST = "lddr.json"  # lists the files of a result, so that lddr can tell its own from a user's
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


def require_result_folder(path: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse (`InputError`), before any work, a folder that results must not replace.

    A folder that is missing, or empty, or holds only files that lddr wrote and nobody changed, may be replaced.

    Args:
        path: of the folder.
        inputs: the files that are read; none may lie in it. What is no file, such as a model's name, is passed over.
    """

    def refuse(found: str) -> None:
        raise InputError(f"{path}: this folder {found}; choose a new folder for the results.")

    if not str(path):
        raise InputError("The name of the folder for the results is empty; choose a new folder.")
    folder = real_path(path)
    if os.path.exists(folder) and not folder.is_dir():
        raise InputError(f"{path}: this is a file; choose a new folder for the results.")
    if folder in (here := real_path("."), *here.parents):
        refuse("holds the one you are in" if folder != here else "is the one you are in")
    if os.path.ismount(folder):
        raise InputError(f"{path}: a disk is mounted here; choose a new folder inside it, such as {path}/result.")
    for given in map(Path, inputs):
        if os.path.isfile(given) and folder in (*real_path(given).parents, real_path(given.parent)):
            refuse(f"holds the input {given.name}")
    require_room(path, folder.parent)
    while (looked_at := _number(folder)) is not None and (found := _foreign(folder)):
        if _number(folder) == looked_at:  # else another run has just replaced it
            refuse(found)


@contextmanager
def result_folder(path: str | Path, inputs: Iterable[str | Path] = (), command: Sequence[str] = ()) -> Iterator[Path]:
    """Hand out a private folder to write files into; it becomes `path` as a whole, or `path` stays as it was.

    A list of its files with their checksums, `lddr.json`, is added. An earlier result is exchanged for the new one
    in one step where the system has such a step (Linux), else in two, and then a kill between them leaves no folder.

    Args:
        path, inputs: see `require_result_folder`.
        command: the words that were typed, for the list.

    Raises:
        InputError: see `require_result_folder`; or something cannot be written.
    """
    inputs = list(inputs)
    require_result_folder(path, inputs)
    folder = real_path(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with private(folder, Path.mkdir) as part:
            try:
                yield part
            except InputError as error:
                raise InputError(str(error).replace(str(part), str(path))) from None
            files = {file.name: _about(file) for file in sorted(part.iterdir())}
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            about = {"lddr": version("lddr"), "command": shlex.join(command), "date": now, "files": files}
            (part / MANIFEST).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            for file in part.iterdir():
                flush(file)
            require_result_folder(path, inputs)  # the work took a while
            _take_place(part, folder)
    except OSError as error:
        raise InputError(f"{path}: results cannot be written here ({error.strerror or error}).") from None


def _number(folder: Path) -> int | None:
    """Number that the disk gives a folder; None if it is not there."""
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def _foreign(folder: Path) -> str:
    """Say what in a folder is not as lddr wrote it; nothing if all is."""
    try:
        listed = _listed(folder)
        for file in sorted(folder.iterdir()):
            if file.name not in listed and not (listed and file.name == MANIFEST):
                return f"holds '{file.name}', which lddr did not write"
            if file.name in listed and _about(file) != listed[file.name]:
                return f"holds '{file.name}', which was changed since lddr wrote it"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def _about(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file; nothing of what is no plain file."""
    if not stat.S_ISREG(file.lstat().st_mode):
        return {}
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _listed(folder: Path) -> dict[str, Any]:
    """The files that a folder's `lddr.json` lists; none if there is no such list."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name: dict(about) for name, about in files.items() if about}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _take_place(part: Path, folder: Path) -> None:
    """Rename a folder to one that is missing or empty, or else exchange the two."""
    if folder.exists():
        shutil.copymode(folder, part)
    if not folder.exists() or not any(folder.iterdir()):
        os.rename(part, folder)
        return
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if exchange and exchange(AT_FDCWD, os.fsencode(part), AT_FDCWD, os.fsencode(folder), RENAME_EXCHANGE) == 0:
        return  # the old one has the private name now, and goes with it
    old = part.with_name(f"{part.name}.old")  # after a kill it may be the only result there is: no run removes it
    os.rename(folder, old)
    try:
        os.rename(part, folder)
    except OSError:
        os.rename(old, folder)
        raise
    remove(old)
