"""What the tests of visual question answering share: small data sets, one of them in VQA-RAD's form."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from companions.vqa.questions import Question, VqaData
from companions.vqa.simulated import load_simulated_vqa

ROW = {
    "qid": 1,
    "image_name": "synpic1.jpg",
    "image_organ": "HEAD",
    "question": "Is there a mass?",
    "answer": "Yes",
    "answer_type": "CLOSED",
    "question_type": "PRES",
    "phrase_type": "freeform",
}


@functools.cache
def small_vqa() -> VqaData:
    """Questions about 24 slices of four simulated brains."""
    return load_simulated_vqa(subjects=4)


def write_vqa_rad(place: Path, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> Path:
    """Write a folder in VQA-RAD's form: two images, and rows that differ from `ROW` as told."""
    (place / "images").mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for number in (1, 2):
        pixels = rng.integers(0, 255, (60, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"synpic{number}.jpg")
    for part, rows in (("train", train), ("test", test or [{}])):
        (place / f"{part}set.json").write_text(json.dumps([ROW | row for row in rows]))
    return place


def ask(text: str, answer: str, closed: bool = True, image: str = "a", **more: Any) -> Question:
    """Write a question in short."""
    return Question(more.pop("qid", 0), image, more.pop("organ", "HEAD"), text, answer, closed, **more)


def stripes(count: int, size: int = 32, noise: float = 0.2) -> tuple[torch.Tensor, dict[str, list[int]]]:
    """Draw images of four classes that anybody can tell apart: stripes, wide or narrow, in either direction."""
    generator = torch.Generator().manual_seed(0)
    images, classes = noise * torch.rand(4 * count, 1, size, size, generator=generator), {}
    place = torch.arange(size)
    for number, (width, across) in enumerate(((2, True), (6, True), (2, False), (6, False))):
        rows = list(range(number * count, (number + 1) * count))
        for row in rows:
            wave = ((place + int(torch.randint(2 * width, (1,), generator=generator))) // width % 2).float()
            images[row, 0] += 0.8 * (wave if across else wave[:, None])
        classes[f"{'across' if across else 'along'} {width}"] = rows
    return images, classes
