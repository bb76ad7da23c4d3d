"""Get VQA-RAD from its publisher (osf.io/89kps) and the word vectors that its questions need (GloVe 6B).

    python data_scripts/fetch_vqa_rad.py --root FOLDER

VQA-RAD is about 20 MB. OSF packs the archive anew for every download, so it has no fixed checksum: what is in it is
checked instead. GloVe's archive is 862 MB, of which 1 MB is kept, the vectors of words that occur in the questions;
leave it out with --no-glove. Run this again after an interruption: what is complete is kept. Both archives can be
deleted afterwards.

The publisher's file is parted as the authors of MEVF did: its test questions, free-form and paraphrased, make
`testset.json`; all others make `trainset.json`, as do the questions made from patterns ("frame"), even those of test
questions. VQA-RAD: Lau et al. 2018, doi:10.1038/sdata.2018.251; its terms stand on the publisher's page (a public copy
names CC0 1.0). GloVe: PDDL 1.0.
"""

import hashlib
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from download import exit_code, fetch, parser_of

from companions.vqa.questions import plain
from companions.vqa.radiology import FOLDER, GLOVE, read_picture
from companions.vqa.words import DIMENSIONS, tokenise
from lddr.errors import InputError, warn
from lddr.files import atomic_write
from lddr.record import write_json

URL = "https://files.osf.io/v1/resources/89kps/providers/osfstorage/?zip="
GLOVE_URL = "https://nlp.stanford.edu/data/glove.6B.zip"
GLOVE_SHA1 = "sha1:b64e54f1877d2f735bdd000c1d7d771e25c7dfdc"
SPACE, GLOVE_SPACE = 0.1e9, 1.0e9  # bytes, with room to spare
PICTURE = re.compile(r"synpic\d+\.jpg")
# Of the questions that the recorded runs answered, see `digest`.
EXPECTED = "f3344a8bb61ee13574ca786d48bf87eecb58242916215d68f1e0470467bb4bd5"


def rows_of(entries: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Turn the publisher's entries into the rows of `trainset.json` and `testset.json`.

    Raises:
        InputError: an entry lacks a field.
    """
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        try:
            common = {name: entry[name] for name in ("image_name", "image_organ", "answer", "answer_type")}
            common["question_type"] = entry["question_type"]
            kind, text, pattern = entry["phrase_type"], entry["question"], entry.get("question_frame")
        except (KeyError, TypeError):
            raise InputError(f"Entry {number} of the publisher's file lacks a field that is needed.") from None
        part = test if kind.startswith("test") else train
        part.append({**common, "question": text, "phrase_type": kind.removeprefix("test_")})
        if isinstance(pattern, str) and pattern.strip() and pattern.strip().upper() != "NULL":
            train.append({**common, "question": pattern, "phrase_type": "frame"})
    for number, row in enumerate([*train, *test], start=1):
        row["qid"] = number
    return train, test


def digest(train: Iterable[dict[str, Any]], test: Iterable[dict[str, Any]]) -> str:
    """Compute a SHA-256 of all questions and answers, whatever their order and numbers."""
    facts = [
        sorted([row["image_name"], row["question"].strip(), plain(row["answer"]), row["phrase_type"]] for row in rows)
        for rows in (train, test)
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def unpack(archive: Path, folder: Path) -> int:
    """Unpack images and questions; whatever is there and whole is kept.

    Returns:
        How many images are in place.

    Raises:
        InputError: the archive is damaged, or holds something else than expected.
    """
    damaged = f"{archive}: this archive is damaged or cut short; delete it and run this again."
    try:
        with zipfile.ZipFile(archive) as packed:
            names = packed.namelist()
            questions = [name for name in names if name.endswith(".json")]
            pictures = [name for name in names if PICTURE.fullmatch(PurePosixPath(name).name)]
            if not questions or not pictures:
                raise InputError(f"{archive}: expected VQA-RAD's JSON file and images, found {len(names)} other files.")
            entries = json.loads(packed.read(questions[0]).decode("utf-8-sig"))
            for name in pictures:
                target = folder / "images" / PurePosixPath(name).name
                if not target.exists() or target.stat().st_size != packed.getinfo(name).file_size:
                    with atomic_write(target) as part:
                        part.write_bytes(packed.read(name))
                        read_picture(part)  # refuses one that is not whole
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise error if isinstance(error, InputError) else InputError(damaged) from None
    train, test = rows_of(entries)
    if lacking := {row["image_name"] for row in [*train, *test]} - {PurePosixPath(name).name for name in pictures}:
        raise InputError(f"{archive}: questions are about {sorted(lacking)[0]}, which is not in it; get it again.")
    if digest(train, test) != EXPECTED:
        warn("the publisher's questions differ from those that the recorded runs answered; results will differ too.")
    write_json(folder / "trainset.json", train)
    write_json(folder / "testset.json", test)
    return len(pictures)


def keep_vectors(archive: Path, folder: Path) -> int:
    """Keep the vectors of the words that occur in the questions, as float16.

    Returns:
        How many words GloVe knows.

    Raises:
        InputError: the archive is damaged, or holds something else than expected.
    """
    rows = [row for part in ("train", "test") for row in json.loads((folder / f"{part}set.json").read_text())]
    wanted = {word for row in rows for word in tokenise(row["question"])}
    found: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(archive) as packed, packed.open(f"glove.6B.{DIMENSIONS}d.txt") as lines:
            for line in io.TextIOWrapper(lines, encoding="utf-8"):
                word, _, numbers = line.partition(" ")
                if word in wanted:
                    found[word] = np.array(numbers.split(), dtype=np.float16)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{archive}: this is not GloVe's archive, or it is damaged ({error}); delete it.") from None
    if not found or any(len(vector) != DIMENSIONS for vector in found.values()):
        raise InputError(f"{archive}: expected {DIMENSIONS} numbers for each word, found another file.")
    with atomic_write(folder / GLOVE) as part, part.open("wb") as out:
        words = sorted(found)
        np.savez_compressed(out, words=np.array(words), vectors=np.stack([found[word] for word in words]))
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """Fetch, unpack, say what comes next; 0, or 2 with a sentence."""
    parser = parser_of(__doc__)
    parser.add_argument("--url", default=URL, help="another address of the same archive")
    parser.add_argument("--md5", help="its MD5 sum, where it has one")
    parser.add_argument("--glove-url", default=GLOVE_URL, help="another address of GloVe's archive")
    parser.add_argument("--glove-checksum", default=GLOVE_SHA1, help="its checksum, with its kind in front")
    parser.add_argument("--no-glove", action="store_true", help="leave the word vectors out")
    options = parser.parse_args(arguments)
    root, folder = options.root, options.root / FOLDER

    def work() -> int:
        count = unpack(fetch(root, options.url, options.md5, f"{FOLDER}.zip", SPACE), folder)
        print(f"{folder}: {count} images in place.")
        if not options.no_glove and not (folder / GLOVE).exists():
            archive = fetch(root, options.glove_url, options.glove_checksum, "glove.6B.zip", GLOVE_SPACE)
            print(f"{folder / GLOVE}: vectors of {keep_vectors(archive, folder)} words.")
        print(f"Next: export LDDR_DATA={root.resolve()}")
        print("      python -m companions.vqa")
        return 0

    return exit_code(work, f"{root}: VQA-RAD could not be unpacked")


if __name__ == "__main__":
    sys.exit(main())
