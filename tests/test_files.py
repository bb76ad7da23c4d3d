"""Files and folders are there whole or not at all: with kills, full disks, two writers, and a user's own files."""

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lddr.files
import lddr.results
from lddr.errors import InputError
from lddr.files import atomic_write, load_tensors, locked, require_not_input, require_writable, save_tensors
from lddr.results import require_result_folder, result_folder


def python(code: str, *words: object) -> subprocess.Popen:
    """Start another process; `code` sees its words as `words`."""
    lines = "import sys\nfrom pathlib import Path\nwords = sys.argv[1:]\n" + code
    return subprocess.Popen([sys.executable, "-c", lines, *map(str, words)], stdout=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk fill up when the data reach it, as network disks and quotas do."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lddr.files.os, "fsync", full)


# One file


def test_what_was_there_stays_until_all_is_written_and_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    with atomic_write(path) as part:
        assert part.parent == path.parent
        assert part.name.endswith("record.json")
        part.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_text(f"second {1 / 0}")
    assert (path.read_text(), names(path.parent)) == ("first", ["record.json"])


def test_a_full_disk_is_one_sentence_and_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    path.write_text("first")
    small_disk(monkeypatch)
    with pytest.raises(InputError, match=r"record\.json: cannot be written \(No space left on device\)\."):
        with atomic_write(path) as part:
            part.write_text("second")
    assert (path.read_text(), names(tmp_path)) == ("first", ["record.json"])


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a.txt") as part:
            part.write_text("a")
        with result_folder(tmp_path / "out") as folder:
            (folder / "a.txt").write_text("a")
    finally:
        os.umask(before)
    for path, all_rights in ((tmp_path / "a.txt", 0o666), (tmp_path / "out", 0o777), (tmp_path / "out/a.txt", 0o666)):
        assert stat.S_IMODE(path.stat().st_mode) == all_rights & ~umask, path


def test_a_link_leads_to_the_file_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")  # which is not there yet
    for text in ("first", "second"):
        with atomic_write(tmp_path / "link") as part:
            part.write_text(text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "file").read_text() == text


def test_two_writers_do_not_meet_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    code = """
from lddr.files import atomic_write
import time
with atomic_write(words[0]) as part:
    part.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    alive, dead = python(code, tmp_path / "a"), python(code, tmp_path / "a")
    assert [process.stdout.readline() for process in (alive, dead)] == ["ready\n"] * 2
    assert len(names(tmp_path)) == 2
    dead.kill()
    dead.wait()
    assert len(names(tmp_path)) == 2
    (tmp_path / ".part-mine-a").touch()  # of somebody else
    with atomic_write(tmp_path / "a") as part:
        part.write_text("whole")
    assert len(names(tmp_path)) == 3, "that of the living one stays"
    alive.kill()
    alive.wait()
    with atomic_write(tmp_path / "a") as part:
        part.write_text("whole")
    assert names(tmp_path) == [".part-mine-a", "a"]


def test_a_name_as_long_as_the_system_allows_can_be_written_and_a_longer_one_is_a_sentence(tmp_path: Path) -> None:
    longest = "é" * 125 + ".json"  # 255 bytes
    with atomic_write(tmp_path / longest) as part:
        part.write_text("a")
    assert names(tmp_path) == [longest]
    for write in (require_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
            write(tmp_path / f"x{longest}")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", "The name of an output is empty"),
        ("file/a.json", "since .*file is no folder"),
        ("folder", "since a folder has this name"),
        ("pipe", "this is a device or a pipe"),
        ("/dev/null", "this is a device or a pipe"),
        ("/proc/a.json", "since /proc is no folder to write in"),
        ("zero\0byte", "cannot be the name of a file"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    before = names(tmp_path)
    for write in (require_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(InputError, match=found):
            write(path)
    assert names(tmp_path) == before


def test_an_output_that_is_an_input_is_refused_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scan.nii").write_text("a scan")
    Path("folder").mkdir()
    Path("soft").symlink_to("scan.nii")
    Path("room").symlink_to("folder")
    os.link("scan.nii", "hard")
    for name in ("scan.nii", "./folder/../scan.nii", tmp_path / "scan.nii", "soft", "hard", "room/../scan.nii"):
        with pytest.raises(InputError, match=r"would be written over scan\.nii; choose another name"):
            require_not_input(name, ["other.nii", "scan.nii"])
    with pytest.raises(InputError, match="would be written over"):
        require_not_input("new.json", ["folder/../new.json"])  # neither is there yet
    require_not_input("new.json", ["scan.nii", "folder"])


def test_tensors_come_back_and_every_flipped_bit_is_found(tmp_path: Path) -> None:
    value = {"a": torch.arange(100_000.0), "b": [1, None, "c"]}
    save_tensors(tmp_path / "a.pt", value)
    found = load_tensors(tmp_path / "a.pt")
    assert found["b"] == value["b"]
    assert torch.equal(found["a"], value["a"])
    content, rng, read = (tmp_path / "a.pt").read_bytes(), random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (tmp_path / "a.pt").write_bytes(damaged)
        try:
            found = load_tensors(tmp_path / "a.pt")
        except ValueError:
            continue
        read += 1  # a bit that means nothing, between the parts of the archive
        assert found["b"] == value["b"]
        assert torch.equal(found["a"], value["a"])
    assert read < 10
    with pytest.raises(OSError, match="No such file"):
        load_tensors(tmp_path / "none.pt")


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    code = """
from lddr.files import locked
with locked(words[0], "training"):
    print("ready", flush=True)
    sys.stdin.read()
    import time
    time.sleep(60)
"""
    path = tmp_path / "folder" / "lock"
    holder = python(code, path)
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(InputError, match=rf"folder: process {holder.pid} on .* is training here; wait for it"):
        with locked(path, "training"):
            pytest.fail("two hold it")
    holder.kill()
    holder.wait()
    with locked(path, "training"), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        with locked(path, "training"):
            pytest.fail("two hold it")
    assert names(path.parent) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"), locked(tmp_path / "file" / "lock", "training"):
        pytest.fail("there is no such folder")


# A folder of results


def result(path: Path, run: int, files: int = 3) -> None:
    """Write a result whose files all hold the number of the run."""
    with result_folder(path, command=["lddr", "register"]) as folder:
        for i in range(files):
            (folder / f"{i}.txt").write_text(str(run))


def runs_in(path: Path) -> set[str]:
    """The numbers of the runs that the files of a folder come from, by its own list also those it should hold."""
    files = json.loads((path / "lddr.json").read_text())["files"]
    assert sorted([*files, "lddr.json"]) == names(path)
    return {(path / name).read_text() for name in files}


def test_a_result_says_what_it_is_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    result(tmp_path / "out", 1, files=5)
    about = json.loads((tmp_path / "out" / "lddr.json").read_text())
    assert about["command"] == "lddr register"
    assert len(about["files"]["0.txt"].pop("sha256")) == 64
    assert about["files"]["0.txt"] == {"bytes": 1}
    result(tmp_path / "out", 2)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["0.txt", "1.txt", "2.txt", "lddr.json"]
    assert runs_in(tmp_path / "out") == {"2"}


def test_without_an_exchange_in_one_step_it_is_replaced_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lddr.results.ctypes, "CDLL", lambda _: object())
    result(tmp_path / "out", 1, files=5)
    result(tmp_path / "out", 2)
    assert names(tmp_path) == ["out"]
    assert runs_in(tmp_path / "out") == {"2"}
    rename = os.rename

    def fails(old: Path, new: Path) -> None:
        if new == tmp_path / "out" and "old" not in str(old):
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(lddr.results.os, "rename", fails)
    with pytest.raises(InputError, match=r"out: results cannot be written here \(Input/output error\)"):
        result(tmp_path / "out", 3)
    assert names(tmp_path) == ["out"]
    assert runs_in(tmp_path / "out") == {"2"}


def test_an_empty_folder_keeps_its_rights_and_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    for run in (1, 2):
        result(tmp_path / "link", run)
        assert (tmp_path / "link").is_symlink()
        assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o700
        assert runs_in(tmp_path / "real") == {str(run)}
    assert names(tmp_path) == ["link", "real"]


def foreign(path: Path) -> str:
    path.mkdir()
    (path / "displacement.npz").write_text("the user's own")
    return "holds 'displacement.npz', which lddr did not write"


def beside_a_result(path: Path) -> str:
    result(path, 1)
    (path / "notes.txt").write_text("the user's own")
    return "holds 'notes.txt', which lddr did not write"


def edited(path: Path) -> str:
    result(path, 1)
    (path / "1.txt").write_text("7")  # as long as before
    return "holds '1.txt', which was changed since lddr wrote it"


def a_link_in_place_of_a_file(path: Path) -> str:
    result(path, 1)
    (path / "1.txt").rename(path.parent / "1.txt")
    (path / "1.txt").symlink_to("../1.txt")
    return "holds '1.txt', which was changed"


def a_folder_in_it(path: Path) -> str:
    result(path, 1)
    (path / "mine").mkdir()
    return "holds 'mine', which lddr did not write"


def a_list_of_another_program(path: Path) -> str:
    path.mkdir()
    (path / "lddr.json").write_text("[" * 100_000)
    return "holds 'lddr.json', which lddr did not write"


def a_file(path: Path) -> str:
    path.write_text("the user's own")
    return "this is a file"


@pytest.mark.parametrize(
    "make",
    [foreign, beside_a_result, edited, a_link_in_place_of_a_file, a_folder_in_it, a_list_of_another_program, a_file],
)
def test_a_folder_that_is_not_a_result_as_it_was_written_is_refused_and_stays(tmp_path: Path, make) -> None:
    found = make(tmp_path / "out")

    def everything() -> dict[str, bytes | None]:
        return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(tmp_path.rglob("*"))}

    before = everything()
    for write in (lambda: require_result_folder(tmp_path / "out"), lambda: result(tmp_path / "out", 2)):
        with pytest.raises(InputError, match=rf"out: .*{found}.*; choose a new folder for the results\."):
            write()
        assert everything() == before


def test_a_result_from_which_the_user_took_a_file_is_still_a_result(tmp_path: Path) -> None:
    result(tmp_path / "out", 1)
    (tmp_path / "out" / "1.txt").unlink()
    result(tmp_path / "out", 2)
    assert runs_in(tmp_path / "out") == {"2"}


def test_the_current_folder_the_root_and_no_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, found in {
        "": "The name of the folder for the results is empty",
        ".": "is the one you are in",
        "../here": "is the one you are in",
        "..": "holds the one you are in",
        "/": "holds the one you are in",
        "/proc": "a disk is mounted here; choose a new folder inside it, such as /proc/result",
        "zero\0byte": "cannot be the name",
        "n" * 256: "File name too long",
        "/proc/here": "/proc is no folder to write in",
    }.items():
        with pytest.raises(InputError, match=found):
            require_result_folder(name)
        with pytest.raises(InputError, match=found):
            result(name, 1)
    assert names(tmp_path / "here") == []


def test_a_current_folder_that_was_deleted_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    for refuse in (require_writable, require_result_folder):
        with pytest.raises(InputError, match=r"the folder you are in has been deleted; go to another one\."):
            refuse("out")
    with pytest.raises(InputError, match="the folder you are in has been deleted"):
        require_result_folder(tmp_path / "out")


def test_a_folder_with_an_input_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the file of an earlier result, and one that is named through a link."""
    monkeypatch.chdir(tmp_path)
    result(Path("out"), 1)
    Path("link").symlink_to("out")
    Path("scan").symlink_to("out/1.txt")
    for out in ("out", "link", "./link/../out"):
        for given in ("out/1.txt", "link/1.txt", "scan"):
            with pytest.raises(InputError, match="holds the input"):
                require_result_folder(out, ["elsewhere.nii", given])
    Path("model").mkdir()  # the name of a shipped model may be that of a folder as well
    require_result_folder("model", ["model"])
    require_result_folder("out", [])


def test_a_failure_leaves_what_was_there_and_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result(tmp_path / "out", 1)

    def fails(make) -> str:
        with pytest.raises((InputError, ZeroDivisionError)) as failure:  # noqa: PT012
            with result_folder(tmp_path / "out") as folder:
                (folder / "0.txt").write_text("2")
                make(folder)
        assert names(tmp_path) == ["out"]
        assert runs_in(tmp_path / "out") == {"1"}
        return str(failure.value)

    fails(lambda _: 1 / 0)
    (tmp_path / "out" / "0.txt").write_text("1")
    assert fails(lambda folder: require_writable(folder)) == (
        f"{tmp_path / 'out'}: cannot be written, since a folder has this name."
    )
    small_disk(monkeypatch)
    assert fails(lambda _: None) == f"{tmp_path / 'out'}: results cannot be written here (No space left on device)."


def test_a_file_that_comes_during_the_work_is_not_lost(tmp_path: Path) -> None:
    result(tmp_path / "out", 1)
    with pytest.raises(InputError, match=r"holds 'mine\.txt'"), result_folder(tmp_path / "out"):
        (tmp_path / "out" / "mine.txt").write_text("the user's own")
    assert (tmp_path / "out" / "mine.txt").read_text() == "the user's own"


WRITER = """
from lddr.errors import InputError
from lddr.results import result_folder
print("ready", flush=True)
for run in range(int(words[1]), int(words[1]) + int(words[2])):
    try:
        with result_folder(words[0]) as folder:
            for i in range(3):
                (folder / f"{i}.txt").write_text(str(run))
        print("whole", flush=True)
    except InputError as refusal:
        print(refusal, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_one_whole_result(tmp_path: Path) -> None:
    out, rng, replaced = tmp_path / "results" / "out", random.Random(0), 0
    for attempt in range(40):
        before = runs_in(out) if out.exists() else set()
        writer = python(WRITER, out, 1000 * attempt, 1000)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        said = writer.communicate()[0]
        assert set(said.split()) <= {"whole"}
        if out.exists() or before:
            assert len(after := runs_in(out)) == 1
            replaced += after != before
    assert replaced > 10
    result(out, 7)
    assert names(out.parent) == ["out"], "what the killed ones left is removed by the next one"


@pytest.mark.slow
def test_several_writers_at_once_give_one_whole_result_or_a_refusal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    writers = [python(WRITER, out, 1000 * i, 60) for i in range(4)]
    said = [line for writer in writers for line in writer.communicate()[0].splitlines()]
    assert said.count("whole") >= 220
    for line in said:  # two may want to make the folder, or have it looked at and gone, at the same moment
        assert line in ("ready", "whole") or line.startswith(f"{out}: results cannot be written here"), line
    assert len(runs_in(out)) == 1
    assert names(tmp_path) == ["out"]
