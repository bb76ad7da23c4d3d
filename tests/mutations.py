"""Damaged NIfTI files, each decided by one number, and what may become of them: nibabel's own answer, or a sentence."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from lddr.data.nifti import read_image
from lddr.errors import InputError

SHAPES = [(7, 5, 6), (4, 9, 3), (6, 4, 5, 1)]
TYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    5,
    7,
    255,
    348,
    352,
    540,
    32767,
    -32768,
    2**31 - 1,
    np.nan,
    np.inf,
    -np.inf,
    3e38,
    1e-38,
    0.5,
]


def whole_file(rng: np.random.Generator) -> bytearray:
    """A small file that is in order: NIfTI 1 or 2, either byte order, with or without scale factors and extension."""
    shape, dtype = SHAPES[rng.integers(len(SHAPES))], TYPES[rng.integers(len(TYPES))]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(rng.uniform(0.5, 3, 3)), rng.normal(0, 50, 3)
    kind = nib.Nifti2Image if rng.random() < 0.2 else nib.Nifti1Image
    order = "<>"[int(rng.integers(2))]
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    image = kind((255 * rng.random(shape)).astype(dtype), affine, header)
    codes = [(1, 1), (2, 0), (0, 1), (0, 0)][rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])]
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units(["unknown", "mm", "meter", "micron"][rng.choice(4, p=[0.1, 0.7, 0.1, 0.1])])
    if rng.random() < 0.2:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"about this scan"))
    data = bytearray(image.to_bytes())
    if rng.random() < 0.3:
        loaded = kind.header_class(bytes(data[: kind.header_class.sizeof_hdr]), order, check=False)
        loaded["scl_slope"], loaded["scl_inter"] = rng.uniform(0.001, 2), rng.normal()
        data[: kind.header_class.sizeof_hdr] = loaded.binaryblock
    return data


def damage(data: bytearray, rng: np.random.Generator, most: int | None = None) -> bytearray:
    """Change a few bits or bytes, cut, lengthen or blank a part of `data`, among its first `most` bytes."""
    data, end = bytearray(data), min(most or len(data), len(data))
    how = rng.integers(6)
    if how == 0:
        for place in rng.integers(end, size=rng.integers(1, 4)):
            data[place] ^= 1 << int(rng.integers(8))
    elif how == 1:
        for place in rng.integers(end, size=rng.integers(1, 9)):
            data[place] = int(rng.integers(256))
    elif how == 2:
        del data[int(rng.integers(len(data))) :]
    elif how == 3:
        data += bytes(rng.integers(256, size=rng.integers(1, 200), dtype=np.uint8))
    elif how == 4:
        start = int(rng.integers(end))
        data[start : start + 8] = bytes(len(data[start : start + 8]))
    else:
        start, length = int(rng.integers(end)), int(rng.integers(1, 20))
        data[start : start + length] = data[start : start + length] * int(rng.integers(0, 3))
    return data


def change_field(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Give one to three fields of the header a number that does not belong there."""
    reader = nib.Nifti2Header if int.from_bytes(data[:4], "little") in (540, 0x1C020000) else nib.Nifti1Header
    order = "<" if int.from_bytes(data[:4], "little") < 1000 else ">"
    header = reader(bytes(data[: reader.sizeof_hdr]), order, check=False)
    block = np.frombuffer(header.binaryblock, header.template_dtype.newbyteorder(order)).copy()
    names = [name for name in block.dtype.names if block.dtype[name].base.kind in "iuf"]
    for name in rng.choice(names, size=rng.integers(1, 4)):
        number = NUMBERS[rng.integers(len(NUMBERS))]
        values = np.atleast_1d(block[name].reshape(-1))
        with np.errstate(all="ignore"):
            values[rng.integers(len(values))] = np.asarray(np.nan_to_num(number)).astype(values.dtype)
            if values.dtype.kind == "f":
                values[rng.integers(len(values))] = number
        block[name] = values.reshape(block[name].shape)
    return bytearray(block.tobytes()) + data[reader.sizeof_hdr :]


def damaged_file(seed: int, folder: Path) -> Path:
    """Write the file that this number decides: damaged before or after it is packed, or not packed at all."""
    rng = np.random.default_rng(seed)
    data, where = whole_file(rng), rng.integers(4)
    if where == 0:
        data = change_field(data, rng)
    elif where == 1:
        data = damage(data, rng, most=400)
    packed = rng.random() < 0.5
    if packed:
        data = bytearray(gzip.compress(bytes(data), 1, mtime=0))
    if where >= 2:
        data = damage(data, rng)
    path = folder / f"{seed}.nii{'.gz' if packed else ''}"
    path.write_bytes(data)
    return path


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Let nibabel read a file: the voxels, float32, and the affine in millimetres.

    Two things are changed for it first: a header that says that voxels begin at byte 0 means right after it (nibabel
    would take the header for intensities), and extensions, which it reads and we do not, are not announced.
    """
    data = path.read_bytes()
    data = bytearray(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    order = "little" if int.from_bytes(data[:4], "little") < 1000 else "big"
    kind = nib.Nifti2Image if int.from_bytes(data[:4], order) == 540 else nib.Nifti1Image
    header = kind.header_class(bytes(data[: kind.header_class.sizeof_hdr]), order, check=False)
    length = kind.header_class.sizeof_hdr
    if header["vox_offset"] == 0:
        header["vox_offset"] = length + 4
    data[: length + 4] = header.binaryblock + bytes(4)
    image = kind.from_bytes(bytes(data))
    unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
    with np.errstate(all="ignore"):
        voxels = np.asanyarray(image.dataobj).astype(np.float32)
    return voxels, np.diag([unit, unit, unit, 1]) @ image.affine


def outcome(path: Path) -> str:
    """Say what became of a file: "refused" in a sentence that names it, "read" just as nibabel reads it."""
    scan, message = None, ""
    try:
        scan = read_image(path)
    except InputError as error:
        message = str(error)
    if scan is None:
        assert message.startswith(f"{path}: "), message
        assert message.endswith("."), message
        assert "\n" not in message, message
        return "refused"
    voxels, affine = by_nibabel(path)
    assert np.allclose(scan.file_affine, affine, rtol=1e-6, atol=0), path
    turned = nib.as_closest_canonical(nib.Nifti1Image(voxels.reshape(scan.file_shape), affine))
    assert np.array_equal(scan.array, np.asanyarray(turned.dataobj)), path
    assert np.allclose(scan.affine, turned.affine, rtol=1e-6, atol=1e-6 * np.abs(affine).max()), path
    return "read"
