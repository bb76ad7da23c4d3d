"""Files and folders that are there whole or not at all, whatever dies when.

What is being written has a private name beside the wanted one, `.part-...`, and takes the wanted name by one rename.
Meanwhile a lock says that a process is using it. The system drops a lock when its process ends, however it ends, so the
next writer can tell what a killed one left behind, and removes it. Everything is flushed to the disk before it is
renamed: the same then holds when the machine loses its power, and a disk that fills up late is noticed.
"""

import errno
import os
import platform
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lddr.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and what killed runs leave stays
    fcntl = None  # type: ignore[assignment]


def require_writable(path: str | Path, folder: bool = False) -> None:
    """Refuse (`InputError`), before hours of work, a file (or a folder for files) that cannot be made."""
    if not str(path):
        raise InputError("The name of an output is empty; give it a name.")
    place = real_path(path)
    require_room(path, place if folder else place.parent)
    if not folder and place.is_dir():
        raise InputError(f"{path}: cannot be written, since a folder has this name.")
    if not folder and place.exists() and not place.is_file():  # a rename would put a file in place of /dev/null
        raise InputError(f"{path}: cannot be written, since this is a device or a pipe; give the name of a file.")


def require_not_input(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Refuse (`InputError`) an output that is one of the inputs, or another output, by whatever name."""
    for other in inputs:
        same = real_path(output) == real_path(other)
        with suppress(OSError):  # one of them is not there
            same = same or os.path.samefile(output, other)
        if same:
            raise InputError(f"{output}: would be written over {other}; choose another name for it.")


def real_path(path: str | Path) -> Path:
    """Resolve links and "..", of a path that need not exist."""
    try:
        return Path(os.path.realpath(path))
    except FileNotFoundError:
        raise InputError(f"{path}: the folder you are in has been deleted; go to another one.") from None
    except (OSError, ValueError) as error:  # a name with a zero byte in it
        raise InputError(f"{str(path)!r}: this cannot be the name of a file ({error}).") from None


def require_room(path: str | Path, folder: Path) -> None:
    """Refuse a path whose folder (`folder`) neither takes files nor can be made."""
    there = next(p for p in (folder, *folder.parents) if os.path.exists(p))
    try:
        with suppress(FileNotFoundError):
            real_path(path).lstat()  # a name that is too long
        tempfile.TemporaryFile(dir=there).close()  # what the rights of a folder promise need not be so
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise InputError(f"{path}: cannot be written, since {there} is no folder to write in.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Hand out a name to write to; it becomes `path` once all is written, what was there stays until then.

    The name ends like `path`, as some writers choose the format by it. If `path` is a link, the file that it leads to
    is written. Whoever writes last, wins, if several processes write the same file.

    Raises:
        InputError: the folder cannot be made, or the file not be written.
    """
    require_writable(path)
    place = real_path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with private(place, lambda part: part.touch(exist_ok=False)) as part:
            yield part
            flush(part)
            os.replace(part, place)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None


def save_tensors(path: str | Path, value: Any) -> None:
    """Write tensors and plain values as `torch.save` does, whole or not at all.

    Raises:
        InputError: see `atomic_write`.
    """
    import torch

    with atomic_write(path) as part, part.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:  # torch covers what the file said: that the disk is full
            raise (error.__context__ or error) from None


def load_tensors(path: str | Path) -> Any:
    """Read what `save_tensors` wrote, and verify its checksums, which `torch.load` does not.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or something else.
    """
    import torch

    try:
        if zipfile.ZipFile(path).testzip() is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what they say of half a file, or of another program's
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one is a place which cannot be
            raise
        raise ValueError(f"{path}: {error}") from None
    raise ValueError(f"{path}: a checksum is wrong")


@contextmanager
def locked(path: str | Path, doing: str) -> Iterator[None]:
    """Hold the lock file `path`, which names the process that does.

    Args:
        path: of the lock file, removed afterwards.
        doing: what another process is then "doing" here, for the message.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    path, held, placed = Path(path), None, False
    try:
        while not placed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            with suppress(FileNotFoundError):  # its holder has just removed it
                held, placed = _hold(path), True
        path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
    except BlockingIOError:
        holder = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
        who = holder or "another process"
        raise InputError(f"{path.parent}: {who} is {doing} here; wait for it, or choose another place.") from None
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be written ({error.strerror}).") from None
    try:
        yield
    finally:
        remove(path)
        _drop(held)


@contextmanager
def private(path: Path, make: Callable[[Path], Any]) -> Iterator[Path]:
    """Make a file or folder beside `path` that is this process's alone; it is removed afterwards, if it is still there.

    What a killed process left, when it was writing `path`, is removed first.
    """
    ending, held, placed = path.name[-40:], None, False
    name = re.compile(rf"\.part-[0-9a-f]{{16}}-{re.escape(ending)}")
    for left in filter(name.fullmatch, _names(path.parent)):
        with suppress(OSError):  # somebody is using it, or has just finished
            if (abandoned := _hold(path.with_name(left))) is not None:
                remove(path.with_name(left))
                _drop(abandoned)
    while not placed:
        part = path.with_name(f".part-{secrets.token_hex(8)}-{ending}")
        make(part)
        with suppress(FileNotFoundError, BlockingIOError):  # another one came between, and takes it for abandoned
            held, placed = _hold(part), True
    try:
        yield part
    finally:
        remove(part)
        _drop(held)


def _hold(path: Path) -> int | None:
    """Lock a file or folder until `_drop`, or the end of this process.

    Returns:
        What `_drop` takes; None where nothing can be locked (Windows, some network disks).

    Raises:
        BlockingIOError: another one holds it.
        FileNotFoundError: it is not there (any more).
    """
    if fcntl is None:
        return None
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError):
            raise
        return None
    if os.fstat(file).st_nlink == 0:  # it was removed after it was opened
        os.close(file)
        raise FileNotFoundError(path)
    return file


def _names(folder: Path) -> list[str]:
    with suppress(OSError):  # a folder may take files and not show them
        return os.listdir(folder)
    return []


def _drop(held: int | None) -> None:
    if held is not None:
        os.close(held)


def flush(file: Path) -> None:
    """Bring a file to the disk; one that another program wrote may still be in memory."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
