"""The download script against a local server: whole, damaged, absent; and what it makes of the publisher's file."""

import hashlib
import io
import json
import zipfile

import fetch_vqa_rad
import numpy as np
import pytest
from PIL import Image

from companions.vqa.radiology import GLOVE, load_vqa_rad
from companions.vqa.words import DIMENSIONS, read_glove

ENTRY = {
    "qid": "1",
    "phrase_type": "freeform",
    "image_name": "synpic1.jpg",
    "image_organ": "HEAD",
    "question": "Is there a mass?",
    "question_frame": "NULL",
    "question_type": "PRES",
    "answer": "Yes",
    "answer_type": "CLOSED",
}
ENTRIES = [
    ENTRY | {"question_frame": "Is/Are there a mass? -yes/no"},
    ENTRY | {"phrase_type": "para", "question": "Can you see a mass?"},
    ENTRY | {"phrase_type": "test_freeform", "question": "Any cyst?", "question_frame": "Is/Are there a cyst?"},
    ENTRY | {"phrase_type": "test_para", "question": "Is a cyst there?", "answer": "No"},
]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def archive(entries=None, **files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("VQA_RAD Dataset Public.json", json.dumps(ENTRIES if entries is None else entries))
        for name, content in ({"synpic1.jpg": picture()} | files).items():
            packed.writestr(f"VQA_RAD Image Folder/{name}", content)
    return buffer.getvalue()


def glove(**vectors: list[float]) -> bytes:
    lines = [f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in vectors.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("glove.6B.300d.txt", "".join(lines))
    return buffer.getvalue()


def fetch(server, root, *more: str) -> int:
    url = f"http://127.0.0.1:{server.server_port}"
    return fetch_vqa_rad.main(["--root", str(root), "--url", f"{url}/?zip=", "--glove-url", f"{url}/glove.zip", *more])


def test_the_publishers_file_is_parted_as_the_authors_did(server, tmp_path, capsys):
    server.content = archive()
    assert fetch(server, tmp_path, "--no-glove") == 0
    said = capsys.readouterr()
    assert "1 images in place" in said.out
    assert "differ from those that the recorded runs answered" in said.err
    data = load_vqa_rad(place=tmp_path / "VQA_RAD")
    assert {(q.text, q.phrase) for q in data.train} == {
        ("Is there a mass?", "freeform"),
        ("Is/Are there a mass? -yes/no", "frame"),
        ("Can you see a mass?", "para"),
        ("Is/Are there a cyst?", "frame"),
    }
    assert {(q.text, q.phrase, q.answer) for q in data.test} == {
        ("Any cyst?", "freeform", "yes"),
        ("Is a cyst there?", "para", "no"),
    }
    assert fetch(server, tmp_path, "--no-glove") == 0
    assert server.asked == 1


def test_of_glove_only_the_words_of_the_questions_are_kept(server, tmp_path):
    server.content = archive()
    assert fetch(server, tmp_path, "--no-glove") == 0
    server.content = glove(mass=[0.5] * DIMENSIONS, zebra=[1.0] * DIMENSIONS, cyst=[-0.25] * DIMENSIONS)
    sha1 = hashlib.sha1(server.content).hexdigest()
    assert fetch(server, tmp_path, "--glove-checksum", f"sha1:{sha1}") == 0
    kept = read_glove(tmp_path / "VQA_RAD" / GLOVE)
    assert sorted(kept) == ["cyst", "mass"]
    assert kept["cyst"].tolist() == [-0.25] * DIMENSIONS


def test_another_checksum_of_glove_is_refused_in_a_sentence(server, tmp_path, capsys):
    server.content = archive()
    assert fetch(server, tmp_path, "--no-glove") == 0
    server.content = glove(mass=[0.5] * DIMENSIONS)
    assert fetch(server, tmp_path) == 2
    assert "has another SHA1 sum than expected; run this again." in capsys.readouterr().err
    assert not (tmp_path / "VQA_RAD" / GLOVE).exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (archive()[:300], "this archive is damaged or cut short; delete it and run this again."),
        (archive([{"question": "?"}]), "Entry 0 of the publisher's file lacks a field that is needed."),
        (archive([ENTRY | {"image_name": "synpic2.jpg"}]), "questions are about synpic2.jpg, which is not in it"),
        (archive(**{"synpic1.jpg": picture()[:400]}), "this image is damaged or cut short"),
        (b"PK\x05\x06" + 18 * b"\0", "expected VQA-RAD's JSON file and images, found 0 other files."),
    ],
)
def test_what_cannot_be_used_is_one_sentence(server, tmp_path, content, says, capsys):
    server.content = content
    assert fetch(server, tmp_path, "--no-glove") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "VQA_RAD" / "testset.json").exists()


def test_a_transfer_cut_short_leaves_nothing_and_the_next_run_succeeds(server, tmp_path):
    server.content, server.cut = archive(), 500
    assert fetch(server, tmp_path, "--no-glove") == 2
    assert list(tmp_path.iterdir()) == []
    server.cut = None
    assert fetch(server, tmp_path, "--no-glove") == 0


def test_no_server_is_one_sentence(tmp_path, capsys):
    assert fetch_vqa_rad.main(["--root", str(tmp_path), "--url", "http://127.0.0.1:9/a.zip"]) == 2
    assert "no download (ConnectionError). Is there a network?" in capsys.readouterr().err


def test_the_digest_knows_the_real_questions_in_any_order(real_data):
    folder = real_data / "VQA_RAD"
    if not folder.is_dir():
        pytest.skip("LDDR_DATA has no VQA_RAD")
    train, test = (json.loads((folder / f"{part}set.json").read_text()) for part in ("train", "test"))
    assert fetch_vqa_rad.digest(train[::-1], test[::-1]) == fetch_vqa_rad.EXPECTED
    test[0]["answer"] = "maybe"
    assert fetch_vqa_rad.digest(train, test) != fetch_vqa_rad.EXPECTED
