"""What the scripts beside this file share: one archive from its publisher, whole or not at all."""

import shutil
from pathlib import Path

import pooch

from lddr.errors import InputError


def fetch(root: Path, url: str, md5: str, archive: str, space: float) -> Path:
    """Download `archive` into `root` unless a complete one is there.

    Args:
        root: folder; it is made.
        url, md5: where the archive is, and its MD5 sum.
        archive: its name in `root`.
        space: bytes that must be free.

    Raises:
        InputError: no space, no answer, or a file with another checksum.
    """
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < space:
        raise InputError(f"{root}: {free / 1e6:.0f} MB are free, {space / 1e6:.0f} MB are needed.")
    try:
        # pooch downloads under a temporary name, checks the sum, and renames; a complete file is not fetched again.
        download = pooch.HTTPDownloader(progressbar=True, timeout=30)
        return Path(pooch.retrieve(url, f"md5:{md5}", archive, path=root, downloader=download))
    except ValueError:
        raise InputError(f"{url}: the file that came has another MD5 sum than expected; run this again.") from None
    except OSError as error:
        reason = type(error).__name__
        raise InputError(f"{url}: no download ({reason}). Is there a network? Run this again to go on.") from None
