"""Open an HDF5 file, or say what really keeps it from being opened."""

import os
from pathlib import Path

import h5py

from lddr.errors import InputError, unreadable


def open_hdf5(path: str | Path, mode: str = "r", what: str = "an HDF5 file", cure: str = "get it again") -> h5py.File:
    """Open an HDF5 file.

    Args:
        path, mode: as `h5py.File` takes them.
        what: the file should be.
        cure: what to do with one that is damaged.

    Raises:
        InputError: it is not there, may not be read, is in use, or is something else. Only what the system lets us read
            is called damaged.
    """
    try:
        return h5py.File(path, mode)
    except OSError as error:
        if error.errno:  # HDF5's own text is a paragraph
            raise unreadable(path, OSError(error.errno, os.strerror(error.errno))) from None
        raise damaged(path, what, cure) from None


def damaged(path: str | Path, what: str = "an HDF5 file", cure: str = "get it again") -> InputError:
    """Make the error for a file that can be read, but does not hold what it should."""
    return InputError(f"{path}: not {what}, or a damaged one; {cure}.")
