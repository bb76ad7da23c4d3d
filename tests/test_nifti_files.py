"""The bytes of a file: whatever happened to them, they are read as they are meant or refused in a sentence."""

import gzip
import math
import os
import struct
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import damaged_file, outcome

from lddr.data.nifti import read_image, read_labels, write_nifti
from lddr.errors import InputError

AFFINE = np.array([[0, -2, 0, 5], [1.5, 0, 0, -3], [0, 0, 3, 1], [0, 0, 0, 1.0]])


@pytest.fixture
def volume(rng):
    return rng.random((7, 9, 11), dtype=np.float32)


def saved(path: Path, array: np.ndarray, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(array, AFFINE), path)
    return path


def with_bytes(data: bytes, **fields: tuple[int, str, float]) -> bytes:
    """Overwrite fields of a NIfTI header, each named by its place and type."""
    changed = bytearray(data)
    for place, form, value in fields.values():
        struct.pack_into(form, changed, place, value)
    return bytes(changed)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as problem:
        read_image(path)
    message = str(problem.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_three_hundred_damaged_files_are_read_as_nibabel_reads_them_or_refused(tmp_path):
    counts: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        counts[outcome(damaged_file(seed, tmp_path))] += 1

    check()
    assert min(counts["read"], counts["refused"]) > 75


def test_no_flipped_bit_of_a_packed_file_changes_a_voxel(tmp_path, volume):
    whole = saved(tmp_path / "scan.nii.gz", volume).read_bytes()
    path, wanted, refused = tmp_path / "flipped.nii.gz", read_image(tmp_path / "scan.nii.gz").array, 0
    for place in np.random.default_rng(0).choice(8 * len(whole), 200, replace=False):
        data = bytearray(whole)
        data[place // 8] ^= 1 << (place % 8)
        path.write_bytes(data)
        try:
            assert np.array_equal(read_image(path).array, wanted)
        except InputError:
            refused += 1
    assert refused > 190  # gzip's header has a few bits that mean nothing: its date, its system


def test_every_place_at_which_a_file_can_end_is_noticed(tmp_path, volume):
    for ending in (".nii", ".nii.gz"):
        whole = saved(tmp_path / f"scan{ending}", volume).read_bytes()
        for kept in [*range(0, len(whole), 97), len(whole) - 1]:
            path = tmp_path / f"short{ending}"
            path.write_bytes(whole[:kept])
            assert "not a NIfTI file" in (words := refusal(path)) or "cut short" in words


def test_more_bytes_than_the_header_describes_are_refused_but_not_the_filling_of_a_block(tmp_path, volume):
    whole = saved(tmp_path / "scan.nii", volume).read_bytes()
    for name, pack in (("scan.nii", bytes), ("scan.nii.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(whole + b"\1"))
        assert "goes on after the last voxel that its header describes" in refusal(path)
        path.write_bytes(pack(whole + bytes(512)))
        assert read_image(path).array.shape == (9, 7, 11)  # once in RAS order
        path.write_bytes(pack(whole + bytes(10**6)))
        assert "goes on after" in refusal(path)
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:]))
    assert np.array_equal(read_image(tmp_path / "scan.nii.gz").array, np.moveaxis(volume, 0, 1)[::-1]), "two members"
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(whole) + b"garbage")
    assert "damaged or cut short" in refusal(tmp_path / "scan.nii.gz")


def test_a_header_cannot_ask_for_more_memory_than_its_file_fills(tmp_path, volume):
    """32767 cubed voxels of eight bytes are 281 terabytes."""
    whole = saved(tmp_path / "scan.nii", volume).read_bytes()
    sides = {f"dim{i}": (40 + 2 * i, "<h", 32767) for i in (1, 2, 3)}
    huge = with_bytes(whole, **sides, kind=(70, "<h", 64), bits=(72, "<h", 64))
    for name, pack in (("scan.nii", bytes), ("scan.nii.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(huge))
        assert f"its header describes {352 + 8 * 32767**3} bytes and fewer are there" in refusal(tmp_path / name)


@pytest.mark.parametrize("offset", [math.inf, math.nan, 3e38, -1, 1, 348, 351, 352.5])
def test_voxels_never_begin_within_the_header_or_nowhere(tmp_path, volume, offset):
    whole = saved(tmp_path / "scan.nii", volume).read_bytes()
    path = tmp_path / "moved.nii"
    path.write_bytes(with_bytes(whole, offset=(108, "<f", offset)))
    words = refusal(path)
    assert "the voxels begin at byte" in words or "fewer are there" in words


def test_an_offset_of_zero_means_right_after_the_header(tmp_path, volume, capsys):
    path = saved(tmp_path / "scan.nii", volume)
    wanted = read_image(path).array
    path.write_bytes(with_bytes(path.read_bytes(), offset=(108, "<f", 0)))
    assert np.array_equal(read_image(path).array, wanted)
    said = capsys.readouterr().err
    assert said == (
        f"lddr: warning: {path}: the header does not say where the voxels begin; taken: right after it, at byte 352.\n"
    )


@pytest.mark.parametrize(("name", "pack", "said"), [("a.nii.gz", bytes, "not "), ("a.nii", gzip.compress, "")])
def test_a_name_that_lies_about_gzip_does_no_harm_and_is_said(tmp_path, volume, capsys, name, pack, said):
    whole = saved(tmp_path / "scan.nii", volume).read_bytes()
    (tmp_path / name).write_bytes(pack(whole))
    assert np.array_equal(read_image(tmp_path / name).array, read_image(tmp_path / "scan.nii").array)
    words = f"{tmp_path / name}: the file is {said}packed with gzip, whatever its name says."
    assert capsys.readouterr().err == f"lddr: warning: {words}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"\x28\xb5\x2f\xfd rest",
            "this is not a NIfTI file: it is packed with zstd; unpack it first, with 'zstd -d'.",
        ),
        (b"BZh9 rest", "this is not a NIfTI file: it is packed with bzip2; unpack it first, with 'bunzip2'."),
        (
            gzip.compress(gzip.compress(b"x", mtime=0), mtime=0),
            "it is packed twice with gzip; unpack it once, with 'gunzip'.",
        ),
        (
            b'<?xml version="1.0"?><GIFTI>',
            "it holds XML, as a surface (.gii) does; expected a volume (.nii or .nii.gz).",
        ),
        (bytes(128) + b"DICM", "it is DICOM; convert the series to NIfTI, with 'dcm2niix'."),
        (gzip.compress(b"\0\0\0\1\0\0\1\0", mtime=0), "it is of FreeSurfer; convert it to NIfTI, with 'mri_convert'."),
        (b"hello", "this is not a NIfTI file (expected .nii or .nii.gz)."),
        (b"", "this is not a NIfTI file (expected .nii or .nii.gz)."),
    ],
)
def test_another_format_is_named_with_its_cure(tmp_path, content, words):
    (tmp_path / "scan.nii.gz").write_bytes(content)
    assert refusal(tmp_path / "scan.nii.gz").endswith(words)


def test_places_that_are_no_files_are_named_for_what_they_are(tmp_path):
    assert refusal(tmp_path) == "cannot be read (Is a directory); this is a folder, name a file in it."
    assert refusal(tmp_path / ("x" * 300)) == "cannot be read (File name too long); give it a shorter name."
    assert "the other half of the pair" in refusal(tmp_path / ("x" * 300 + ".img"))
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "scan.nii") == "cannot be read (Not a directory)."
    os.mkfifo(tmp_path / "pipe.nii")
    assert refusal(tmp_path / "pipe.nii") == "this is a device or a pipe; expected a file."


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, volume):
    path = saved(tmp_path / "scan.nii.gz", volume)
    path.chmod(0)
    assert refusal(path) == "cannot be read (Permission denied); ask its owner for the right to read it."


def test_what_the_system_says_is_passed_on(tmp_path, volume, monkeypatch):
    path = saved(tmp_path / "scan.nii.gz", volume)

    def broken(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", broken)
    assert refusal(path) == "cannot be read (Permission denied); ask its owner for the right to read it."


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_pairs_of_header_and_voxels_are_read_by_either_name(tmp_path, volume, packed):
    nib.save(nib.Nifti1Pair(volume, AFFINE), tmp_path / f"scan.img{packed}")
    wanted = read_image(saved(tmp_path / "one.nii", volume))
    for name in ("scan.img", "scan.hdr"):
        found = read_image(tmp_path / f"{name}{packed}")
        assert np.array_equal(found.array, wanted.array)
        assert np.allclose(found.affine, wanted.affine)
        assert found.same_in_itk
    (tmp_path / f"scan.hdr{packed}").rename(tmp_path / "scan.nii")
    assert refusal(tmp_path / "scan.nii").startswith("the header belongs to a pair, and this is one file")
    assert refusal(tmp_path / f"scan.img{packed}") == "expected scan.hdr beside it, the other half of the pair."


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_every_type_and_byte_order_is_read_as_nibabel_reads_it(tmp_path, volume, dtype, kind, order):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(kind((200 * volume).astype(dtype), AFFINE, header), tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    theirs = nib.as_closest_canonical(nib.load(tmp_path / "scan.nii.gz"))
    assert scan.array.dtype == np.float32
    assert np.array_equal(scan.array, theirs.get_fdata().astype(np.float32))
    assert min(scan.array.strides) > 0, "PyTorch takes it as it is"


def test_scale_factors_are_applied_in_float64_and_rounded_once(tmp_path, volume):
    """Slope times value and intercept nearly cancel: float32 would lose three digits."""
    whole = bytearray(saved(tmp_path / "scan.nii", (1e9 + 1000 * volume).astype(np.int32)).read_bytes())
    struct.pack_into("<ff", whole, 112, 0.25, -2.5e8)
    (tmp_path / "scan.nii").write_bytes(whole)
    wanted = nib.as_closest_canonical(nib.load(tmp_path / "scan.nii")).get_fdata()
    found = read_image(tmp_path / "scan.nii").array
    assert np.ptp(wanted) < 300
    assert np.array_equal(found, wanted.astype(np.float32))


@pytest.mark.parametrize("value", [1, 3, 1000])
def test_labels_that_scale_factors_put_a_rounding_error_beside_a_whole_number_are_taken(tmp_path, volume, value):
    mask = np.where(volume > 0.5, 255, 0).astype(np.uint8)
    whole = bytearray(saved(tmp_path / "mask.nii", mask).read_bytes())
    struct.pack_into("<ff", whole, 112, value / 255, 0)
    (tmp_path / "mask.nii").write_bytes(whole)
    labels = read_labels(tmp_path / "mask.nii").array
    assert labels.dtype == np.int16
    assert set(np.unique(labels)) == {0, value}
    struct.pack_into("<ff", whole, 112, (value + 0.01) / 255, 0)
    (tmp_path / "mask.nii").write_bytes(whole)
    with pytest.raises(InputError, match="expected whole numbers as labels"):
        read_labels(tmp_path / "mask.nii")


def test_the_same_volume_gives_the_same_bytes_and_any_gzip_reads_them(tmp_path, volume):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, volume, AFFINE)
    written = (tmp_path / "a.nii.gz").read_bytes()
    assert written == (tmp_path / "b.nii.gz").read_bytes()
    assert len(gzip.decompress(written)) == 352 + 4 * volume.size
