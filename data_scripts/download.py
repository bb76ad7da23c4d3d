"""What the scripts beside this file share: options, exit codes, an archive from its publisher, whole or not at all."""

import argparse
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pooch

from lddr.errors import InputError


def parser_of(about: str | None) -> argparse.ArgumentParser:
    """Make the parser of a script that puts scans into a folder, `--root`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("LDDR_DATA", "data")
    parser.add_argument("--root", type=_folder, default=default, help="default: LDDR_DATA, or ./data")
    return parser


def _folder(name: str) -> Path:
    return Path(os.path.expanduser(name))


def exit_code(work: Callable[[], int], trouble: str) -> int:
    """Do the work of a script: what it returns, or 2 after a sentence on stderr.

    Args:
        work: may raise `InputError`, whose sentence is printed.
        trouble: what it means if something cannot be read or written.
    """
    try:
        return work()
    except InputError as problem:
        print(problem, file=sys.stderr)
    except (OSError, tarfile.TarError) as error:
        print(f"{trouble} ({error}).", file=sys.stderr)
    return 2


def fetch(root: Path, url: str, checksum: str | None, archive: str, space: float) -> Path:
    """Download `archive` into `root` unless a complete one is there.

    Args:
        root: folder; it is made.
        url: where the archive is.
        checksum: its MD5 sum, or another one with its kind in front ("sha1:..."); None for an archive that is packed
            anew for every download: then whoever unpacks it must check what is in it.
        archive: its name in `root`.
        space: bytes that must be free.

    Raises:
        InputError: no space, no answer, or a file with another checksum.
    """
    kind, _, digest = (checksum or "").rpartition(":")
    known = f"{kind or 'md5'}:{digest}" if checksum else None
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < space:
        raise InputError(f"{root}: {free / 1e6:.0f} MB are free, {space / 1e6:.0f} MB are needed.")
    try:
        # pooch downloads under a temporary name, checks the sum, and renames; a complete file is not fetched again.
        download = pooch.HTTPDownloader(progressbar=True, timeout=30)
        return Path(pooch.retrieve(url, known, archive, path=root, downloader=download))
    except ValueError:
        raise InputError(
            f"{url}: the file that came has another {(kind or 'md5').upper()} sum than expected; run this again."
        ) from None
    except OSError as error:
        reason = type(error).__name__
        raise InputError(f"{url}: no download ({reason}). Is there a network? Run this again to go on.") from None
