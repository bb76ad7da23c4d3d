"""The download script against a local server: whole, cut short, wrong, absent, and again."""

import hashlib
import io
import tarfile

import fetch_hippocampus
import pytest


def archive(extra: dict[str, bytes] | None = None) -> bytes:
    files = {
        "Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz": b"image",
        "Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz": b"label",
        "Task04_Hippocampus/imagesTr/._hippocampus_001.nii.gz": b"fork",
        "Task04_Hippocampus/imagesTs/hippocampus_002.nii.gz": b"test image",
        "Task04_Hippocampus/dataset.json": b"{}",
    } | (extra or {})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server(server):
    """The one of conftest.py, with the archive."""
    server.content = archive()
    return server


def run(server, root, content=None):
    md5 = hashlib.md5(content or server.content).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/Task04_Hippocampus.tar"
    return fetch_hippocampus.main(["--root", str(root), "--url", url, "--md5", md5])


def scans(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".tar")


def test_only_the_labelled_scans_are_unpacked_and_a_second_run_downloads_nothing(server, tmp_path, capsys):
    assert run(server, tmp_path) == 0
    assert scans(tmp_path) == [
        "Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz",
        "Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz",
    ]
    assert (tmp_path / scans(tmp_path)[0]).read_bytes() == b"image"
    assert "Next: export LDDR_DATA=" in capsys.readouterr().out
    assert run(server, tmp_path) == 0
    assert server.asked == 1


def test_a_transfer_cut_short_leaves_nothing_and_the_next_run_succeeds(server, tmp_path, capsys):
    server.cut = 1000
    assert run(server, tmp_path) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) >= 1
    assert list(tmp_path.iterdir()) == []
    server.cut = None
    assert run(server, tmp_path) == 0
    assert len(scans(tmp_path)) == 2


def test_another_checksum_is_refused_in_a_sentence(server, tmp_path, capsys):
    assert run(server, tmp_path, content=b"something else") == 2
    assert "has another MD5 sum than expected; run this again." in capsys.readouterr().err
    assert scans(tmp_path) == []


def test_no_server_is_one_sentence(tmp_path, capsys):
    words = ["--root", str(tmp_path), "--url", "http://127.0.0.1:9/a.tar", "--md5", "0" * 32]
    assert fetch_hippocampus.main(words) == 2
    assert "no download (ConnectionError). Is there a network?" in capsys.readouterr().err


def test_paths_that_climb_out_of_the_folder_are_not_followed(server, tmp_path):
    server.content = archive({"Task04_Hippocampus/../../evil.nii.gz": b"x", "../imagesTr/evil.nii.gz": b"x"})
    assert run(server, tmp_path / "inner") == 0
    assert not list(tmp_path.rglob("evil*"))


def test_a_full_disk_is_said_before_anything_is_fetched(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch_hippocampus, "SPACE", 1e18)
    assert run(server, tmp_path) == 2
    assert "MB are free" in capsys.readouterr().err
    assert server.asked == 0
