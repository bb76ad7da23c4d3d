"""Why an HDF5 file cannot be opened: the true cause, and "damaged" only for what is."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from lddr.data.hdf5 import open_hdf5
from lddr.errors import InputError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(100)
    return tmp_path / "a.h5"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as problem:
        open_hdf5(path)
    return str(problem.value).removeprefix(f"{path}: ")


def test_a_sound_file_is_opened(store: Path) -> None:
    with open_hdf5(store) as file:
        assert file["x"][7] == 7


def test_a_file_that_another_program_is_writing_to_is_said_to_be_in_use(store: Path) -> None:
    words = f"import h5py; file = h5py.File({str(store)!r}, 'r+'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        words = "cannot be read (Resource temporarily unavailable); another program is writing to it, wait for it."
        assert refusal(store) == words
        other.communicate(b"\n")
    open_hdf5(store).close()


def test_the_system_s_own_reasons_are_passed_on(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(store.with_name("none.h5")) == "there is no such file."
    assert refusal(store.parent) == "cannot be read (Is a directory); this is a folder, name a file in it."
    assert refusal(store.with_name("x" * 300)) == "cannot be read (File name too long); give it a shorter name."

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Unable to synchronously open file (a paragraph about it)")

    monkeypatch.setattr(h5py, "File", forbidden)
    assert refusal(store) == "cannot be read (Permission denied); ask its owner for the right to read it."


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_what_is_no_hdf5_file_or_half_of_one_is_called_damaged(store: Path, content: bytes | None) -> None:
    store.write_bytes(store.read_bytes()[:-100] if content is None else content)
    assert refusal(store) == "not an HDF5 file, or a damaged one; get it again."
