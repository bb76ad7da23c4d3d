"""Read the bytes of a NIfTI or Analyze file to the last one, and refuse what does not add up.

Before its numbers are believed, three things are asked of a file: that gzip's checksum holds for all of it, that it has
just as many bytes as its header describes, and that the voxels do not begin within the header. What the header says
about the place of the voxels is read in `lddr.data.header`.
"""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spm2analyze import Spm2AnalyzeHeader

from lddr.errors import InputError, unreadable, warn

GZIP = b"\x1f\x8b"
SINGLE, PAIR = "one file", "a pair"
# NIfTI 1 and 2: the length of the header, the place and the value of its mark, and the class that reads it.
KINDS = [
    (348, 344, b"n+1\0", SINGLE, Nifti1Header),
    (348, 344, b"ni1\0", PAIR, Nifti1PairHeader),
    (540, 4, b"n+2\0\r\n\x1a\n", SINGLE, Nifti2Header),
    (540, 4, b"ni2\0\r\n\x1a\n", PAIR, Nifti2PairHeader),
]
# What else is taken for a scan: where its mark stands, the mark, what it is, and what to do.
OTHERS = [
    (0, b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it first, with 'zstd -d'"),
    (0, b"BZh", "is packed with bzip2; unpack it first, with 'bunzip2'"),
    (0, b"\xfd7zXZ", "is packed with xz; unpack it first, with 'unxz'"),
    (0, b"PK\3\4", "is a zip archive; unpack it first"),
    (0, GZIP, "is packed twice with gzip; unpack it once, with 'gunzip'"),
    (0, b"<?xml", "holds XML, as a surface (.gii) does; expected a volume (.nii or .nii.gz)"),
    (0, b"\0\0\0\1\0", "is of FreeSurfer; convert it to NIfTI, with 'mri_convert'"),
    (0, b"NRRD", "is NRRD; convert it to NIfTI, for example in 3D Slicer"),
    (0, b"ObjectType", "is MetaImage; convert it to NIfTI, for example in 3D Slicer"),
    (128, b"DICM", "is DICOM; convert the series to NIfTI, with 'dcm2niix'"),
]
CHUNK = 2**18  # bytes
PADDING = 4096  # bytes of zeros after the voxels that are taken for the filling of a block
DAMAGED: tuple[type[Exception], ...] = (EOFError, igzip.BadGzipFile, isal_zlib.error)  # type: ignore[assignment]
DENSEST = 1032  # gzip makes of one byte at most so many


def read_volume(path: str | Path, vectors: bool = False) -> tuple[nib.AnalyzeHeader, np.ndarray]:
    """Read the header and the stored numbers of a file with one 3-D volume.

    Args:
        path: `.nii` or one of a pair `.hdr` and `.img`, with `.gz` or without.
        vectors: expect a vector at every voxel instead, along a fourth or fifth axis.

    Returns:
        The header, and the voxels as the file has them, `[I, J, K]`, first axis fastest: not scaled, in the file's type
        and byte order.

    Raises:
        InputError: missing, not readable, damaged, another format; not one volume of real numbers.
    """
    path = Path(path)
    header_file, voxel_file = _files(path)
    with _unpacked(header_file) as file:
        header = _header(file.read(540), header_file, PAIR if header_file != voxel_file else SINGLE)
        while header_file != voxel_file and file.read(CHUNK):
            pass  # gzip's checksum comes last
    shape, dtype = _shape(header, path, vectors), _dtype(header, path)
    first = _first_byte(header, path)
    size = math.prod(shape) * dtype.itemsize
    with _unpacked(voxel_file) as file:
        if (least := first + size) > _most_bytes(voxel_file, file):
            raise _too_few(voxel_file, least)
        try:
            voxels = np.empty(size, np.uint8)
        except MemoryError:
            raise InputError(f"{path}: the volume needs {size / 1e9:.0f} GB of memory, more than there is.") from None
        if not _skip(file, first) or not _fill(file, voxels.data):
            raise _too_few(voxel_file, least)
        _read_to_the_end(file, voxel_file)
        packed = isinstance(file, igzip.IGzipFile)
    if packed != voxel_file.name.lower().endswith(".gz"):
        warn(f"{voxel_file}: the file is {'' if packed else 'not '}packed with gzip, whatever its name says.")
    return header, voxels.view(dtype).reshape(shape, order="F")


def _files(path: Path) -> tuple[Path, Path]:
    """Find the file of the header and that of the voxels; mostly they are one."""
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith((".hdr", ".img")):
        return path, path
    other = {".hdr": ".img", ".img": ".hdr"}[name[-4:]]
    stem = path.name[: len(name) - 4]
    for ending in (f"{other}.gz", other) if path.name.lower().endswith(".gz") else (other, f"{other}.gz"):
        partner = path.with_name(stem + ending)
        if os.path.exists(partner):  # unlike that of `Path`, also False for a name that is too long
            return (path, partner) if other == ".img" else (partner, path)
    raise InputError(f"{path}: expected {stem}{other} beside it, the other half of the pair.")


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking gzip: its first bytes decide, not its name."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():  # a pipe would be waited for
            raise InputError(f"{path}: this is a device or a pipe; expected a file.")
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            yield cast(IO[bytes], igzip.IGzipFile(fileobj=raw) if packed else raw)
    except DAMAGED:
        raise InputError(f"{path}: the file is damaged or cut short; copy or download it again.") from None
    except OSError as error:
        raise unreadable(path, error) from None


def _header(block: bytes, path: Path, parts: str) -> nib.AnalyzeHeader:
    """Recognise the kind of a header, and its byte order, by its length and its mark."""
    for order in ("little", "big"):
        length = int.from_bytes(block[:4], order)  # type: ignore[arg-type]
        for known, place, mark, wanted, reader in KINDS:
            if length == known <= len(block) and block[place : place + len(mark)] == mark:
                if parts != wanted:
                    raise InputError(f"{path}: the header belongs to {wanted}, and this is {parts}; rename the files.")
                return reader(block[:known], order, check=False)
        if length == 348 <= len(block) and parts == PAIR:
            return Spm2AnalyzeHeader(block[:348], order, check=False)
    for place, mark, what in OTHERS:
        if block[place : place + len(mark)] == mark:
            raise InputError(f"{path}: this is not a NIfTI file: it {what}.")
    raise InputError(f"{path}: this is not a NIfTI file (expected .nii or .nii.gz).")


def _shape(header: nib.AnalyzeHeader, path: Path, vectors: bool) -> tuple[int, ...]:
    """Read the shape of a volume, `[3]`, or of a volume of vectors; axes of length 1 at the end are dropped."""
    axes = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : axes + 1])
    if not 1 <= axes <= 7 or min(shape) < 0:
        raise InputError(f"{path}: the header is damaged, it describes a volume of shape {shape}.")
    if 0 in shape:
        raise InputError(f"{path}: the volume is empty (shape {shape}).")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if vectors and len(shape) not in (4, 5):
        raise InputError(f"{path}: expected a vector at every voxel, found the shape {shape}.")
    if not vectors and len(shape) != 3:
        raise InputError(f"{path}: expected a 3-D volume, found {len(shape)}-D with shape {shape}.")
    return shape


def _dtype(header: nib.AnalyzeHeader, path: Path) -> np.dtype:
    """Read the type of the voxels, one real number each."""
    try:
        dtype = header.get_data_dtype()
    except (nib.spatialimages.HeaderDataError, KeyError):
        raise InputError(f"{path}: the header is damaged, it describes no type of voxels that is known.") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: the voxels are of the type {dtype}; expected one real number each.")
    return dtype


def _first_byte(header: nib.AnalyzeHeader, path: Path) -> int:
    """Find where the voxels begin; never within the header, which would be read as intensities."""
    first, single = float(header["vox_offset"]), bool(getattr(header, "is_single", False))
    least = getattr(header, "single_vox_offset", 0) if single else 0
    if single and first == 0:
        warn(f"{path}: the header does not say where the voxels begin; taken: right after it, at byte {least}.")
        return least
    if not math.isfinite(first) or first != int(first) or first < least:
        raise InputError(f"{path}: the header is damaged, it says that the voxels begin at byte {first:g}.")
    return int(first)


def _most_bytes(path: Path, file: IO[bytes]) -> int:
    """Give the most bytes that a file can hold, so that no header makes us ask for more memory."""
    size = os.stat(path).st_size
    return size * DENSEST if isinstance(file, igzip.IGzipFile) else size


def _too_few(path: Path, least: int) -> InputError:
    found = f"{path}: the file is damaged or cut short, since its header describes {least} bytes and fewer are there"
    return InputError(f"{found}; copy or download it again.")


def _skip(file: IO[bytes], count: int) -> bool:
    """Pass over some bytes of a file; say whether there were as many."""
    while count and (piece := file.read(min(CHUNK, count))):
        count -= len(piece)
    return count == 0


def _fill(file: IO[bytes], place: memoryview) -> bool:
    """Fill a place in memory from a file, in pieces that fit a processor's cache; say whether there was enough."""
    done = 0
    while done < len(place):
        if not (piece := file.read(min(CHUNK, len(place) - done))):
            return False
        place[done : done + len(piece)] = piece
        done += len(piece)
    return True


def _read_to_the_end(file: IO[bytes], path: Path) -> None:
    """Read what is left, since gzip's checksum comes last; only filling may be there."""
    left = 0
    while rest := file.read(CHUNK):
        left += len(rest)
        if rest.count(0) < len(rest) or left > PADDING:
            found = f"{path}: the file is damaged, since it goes on after the last voxel that its header describes"
            raise InputError(f"{found}; copy or download it again.")
