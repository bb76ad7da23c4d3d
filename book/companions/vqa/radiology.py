"""VQA-RAD: 315 radiological images with questions and answers by physicians (Lau et al., Scientific Data 2018).

The folder holds `images/*.jpg`, `trainset.json` and `testset.json`: the split that the authors of MEVF made and that
all later work uses. `data_scripts/fetch_vqa_rad.py` makes it from the publisher's files.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from companions.vqa.questions import STORED, Question, VqaData, plain
from companions.vqa.splits import split_by_image
from companions.vqa.words import read_glove
from lddr.errors import InputError, unreadable

FOLDER, GLOVE = "VQA_RAD", "glove_6b_300d_subset.npz"
LICENCE = "VQA-RAD, Lau et al. 2018, doi:10.1038/sdata.2018.251; under the terms of its publisher's page, osf.io/89kps"
TEXT = ("image_name", "image_organ", "question", "question_type", "phrase_type", "answer_type")
# Question types that are misspelt in the files -> what is meant.
MISSPELT = {"ATRIB": "ATTRIB", "PRSE": "PRES"}


def folder() -> Path:
    """Find the folder of VQA-RAD under `LDDR_DATA`.

    Raises:
        InputError: the variable is not set, or the folder is not there.
    """
    root = os.environ.get("LDDR_DATA")
    if not root:
        raise InputError("LDDR_DATA is not set: let it name the folder that holds VQA_RAD, or use simulated_vqa.")
    place = Path(root).expanduser() / FOLDER
    if not place.is_dir():
        raise InputError(f"{place}: there is no such folder; run data_scripts/fetch_vqa_rad.py --root {root}.")
    return place


def read_row(row: Any, where: str) -> Question:
    """Check one entry of a JSON file and make a `Question` of it.

    Args:
        row: as the file has it.
        where: file and number of the entry, for messages.

    Raises:
        InputError: a field is missing or of another type, or the answer type is neither CLOSED nor OPEN.
    """
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an entry with names and values, found {str(row)[:40]!r}.")
    for name in TEXT:
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise InputError(f"{where}: expected words under '{name}', found {row.get(name)!r}.")
    if not isinstance(row.get("qid"), int) or not isinstance(row.get("answer"), str | int | float):
        raise InputError(f"{where}: expected a number under 'qid' and an answer under 'answer'.")
    kind = row["answer_type"].strip()  # two rows of the published file read "CLOSED "
    if kind not in ("CLOSED", "OPEN"):
        raise InputError(f"{where}: the answer type is {kind!r}; expected CLOSED or OPEN.")
    types = (name.strip().upper() for name in row["question_type"].split(","))
    known = tuple(MISSPELT.get(name, name) for name in types)
    image, organ, text = row["image_name"], row["image_organ"].strip(), row["question"]
    return Question(row["qid"], image, organ, text, plain(row["answer"]), kind == "CLOSED", known, row["phrase_type"])


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read one of the two JSON files.

    Returns:
        The questions, ordered by image, words and answer: the same whatever numbers a file gives to them.

    Raises:
        InputError: no such file, no JSON, or an entry that `read_row` refuses.
    """
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:
        raise InputError(f"{path}: this is not JSON, or it is cut short; get it again.") from None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected a list of question-answer pairs, found {type(rows).__name__}.")
    questions = (read_row(row, f"{path}, entry {number}") for number, row in enumerate(rows))
    return tuple(sorted(questions, key=lambda q: (q.image, q.text, q.answer, q.phrase)))


def read_picture(path: Path) -> np.ndarray:
    """Read an image as grey values, squeezed to a square of 224 pixels as the authors do.

    Returns:
        `[224, 224]`, uint8.

    Raises:
        InputError: no such file, no image, or one that is cut short.
    """
    try:
        with Image.open(path) as picture:
            grey = picture.convert("L").resize((STORED, STORED), Image.Resampling.BILINEAR, reducing_gap=2.0)
    except FileNotFoundError as error:
        raise unreadable(path, error) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: this image is damaged or cut short ({str(error)[:60]}); get it again.") from None
    return np.asarray(grey)


def load_vqa_rad(split: str = "official", place: Path | None = None) -> VqaData:
    """Load VQA-RAD.

    Args:
        split: "official", where every test image stands in training as well; or "by_image", free of such overlap.
        place: the folder; by default `VQA_RAD` under `LDDR_DATA`.

    Raises:
        InputError: files that are missing, damaged, or do not fit together.
    """
    place = place or folder()
    train, test = (read_questions(place / f"{part}set.json") for part in ("train", "test"))
    names = tuple(sorted({question.image for question in (*train, *test)}))
    lacking = [name for name in names if not (place / "images" / name).is_file()]
    if lacking:
        row = next(question for question in (*train, *test) if question.image == lacking[0])
        raise InputError(
            f"{place / 'images' / lacking[0]}: there is no such image, and question {row.qid} is about it."
        )
    pictures = np.stack([read_picture(place / "images" / name) for name in names])
    images: Tensor = torch.from_numpy(pictures)[:, None]
    if split == "by_image":
        train, test = split_by_image((*train, *test))
    elif split != "official":
        raise InputError(f"There is no split '{split}': choose official or by_image.")
    return VqaData("vqa_rad", split, names, images, train, test, LICENCE)


def glove_of(name: str, place: Path | None = None) -> dict[str, np.ndarray] | None:
    """Find the word vectors that go with a data set: GloVe for VQA-RAD; None for `simulated_vqa`, which needs none.

    Raises:
        InputError: they are not there, or damaged.
    """
    return read_glove((place or folder()) / GLOVE) if name == "vqa_rad" else None
