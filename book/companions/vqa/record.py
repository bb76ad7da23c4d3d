"""Records of this companion's runs, in `book/records/vqa`, as JSON: provenance as of the book's, and what was found.

The questions of a test are written once a split (`QuestionsRecord`). A run (`VqaRecord`) holds one score and one answer
for each of them, in the same order, and `test_set`, by which the two are matched.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from companions.vqa.evaluate import Accuracy
from companions.vqa.questions import Question
from lddr.errors import InputError, unreadable
from lddr.record import Provenance
from study import records

FOLDER = "vqa"


class VqaRecord(Provenance):
    """One model's answers.

    Attributes:
        dataset, split, features, start, attention, seed: what was trained, see `companions.vqa.config.VqaConfig`.
        variant: the name that its table gives to it.
        parameters: every setting.
        weight_count: numbers the model has learnt.
        training_seconds: of the last training, pre-training not included.
        read: file of weights that it started from -> its SHA-256.
        log: of the training, one row an epoch.
        test_set: of the questions, see `hash_questions`.
        test, shuffled: accuracy, with the questions' own images and with others.
        scores: of each question, "1" right, "0" wrong.
        predicted: the answer to each question.
    """

    kind: Literal["vqa"] = "vqa"
    variant: str
    dataset: str
    split: str
    features: str
    start: str
    attention: str
    seed: int
    parameters: dict[str, Any]
    weight_count: int
    training_seconds: float
    read: dict[str, str] = {}
    log: list[dict[str, float]]
    test_set: str
    test: Accuracy
    shuffled: Accuracy
    scores: str
    predicted: list[str]


class PretrainingRecord(Provenance):
    """How starting weights were learnt.

    Attributes:
        what: "meta", "cdae" or "mmq".
        dataset, split, seed: whose training images were learnt from.
        parameters: every setting.
        images: how many were learnt from.
        training_seconds: of all.
        weights_sha256: of the file that it left.
        log: of the training; of MMQ, one for each meta-model.
        classes: class -> images; of MMQ, at first and after each refinement.
        refinements: of MMQ: dropped and added images, by name.
        scores, best: of MMQ's meta-models, and which are used.
    """

    kind: Literal["vqa_pretraining"] = "vqa_pretraining"
    what: str
    dataset: str
    split: str
    seed: int
    parameters: dict[str, Any]
    images: int
    training_seconds: float
    weights_sha256: str
    log: list[list[dict[str, float]]]
    classes: list[dict[str, int]] = []
    refinements: list[dict[str, Any]] = []
    scores: list[float] = []
    best: list[int] = []


class QuestionsRecord(Provenance):
    """The test questions of a split, what training gives away of them, and what baselines answer.

    Attributes:
        dataset, split: which.
        test_set: see `hash_questions`.
        rows: one a question: number, image, whether it is closed, types, phrase, answer.
        leakage: see `companions.vqa.splits.Leakage`.
        classes: how many training images have which of the nine labels.
        baselines: name -> scores of the questions, "1" right, "0" wrong.
    """

    kind: Literal["vqa_questions"] = "vqa_questions"
    dataset: str
    split: str
    test_set: str
    rows: list[dict[str, Any]]
    leakage: dict[str, int]
    classes: dict[str, int]
    baselines: dict[str, str]

    def questions(self) -> list[Question]:
        """Give the questions, without their words, which stand in the data."""
        return [
            Question(r["qid"], r["image"], "", "", r["answer"], r["closed"], tuple(r["types"]), r["phrase"])
            for r in self.rows
        ]


AnyRecord = VqaRecord | PretrainingRecord | QuestionsRecord
_READER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def read_record(path: Path) -> AnyRecord:
    """Read a record of this companion.

    Raises:
        InputError: no such file, or one that was not written as such.
    """
    try:
        return _READER.validate_json(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path}: not a record of this companion ({where}: {first['msg']}).") from None


def read_records() -> dict[str, AnyRecord]:
    """Read all records of this companion: file name without ending -> record, sorted by name."""
    return {file.stem: read_record(file) for file in sorted((records.RECORDS / FOLDER).glob("*.json"))}


def hash_questions(questions: Sequence[Question]) -> str:
    """Compute a short hash of test questions, to tell whether two runs answered the same ones in the same order."""
    facts = [(q.image, q.text, q.answer, q.closed) for q in questions]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def pack_scores(scores: Sequence[float]) -> str:
    """Write scores of 0 and 1 as a string."""
    return "".join("1" if score > 0.5 else "0" for score in scores)


def unpack_scores(scores: str) -> np.ndarray:
    """Read what `pack_scores` wrote."""
    return np.array([float(score) for score in scores])
