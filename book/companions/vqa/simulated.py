"""`simulated_vqa`: slices of simulated brains with lesions, and questions whose true answers are known.

It needs no download and is made in seconds. Every fact that is asked for can be seen in the image: the plane of the
slice, whether there is a lesion, on which side it lies, in which tissue, how large it is, and whether the head is
enlarged. It has VQA-RAD's form, so that everything that works on the one works on the other.

The split "official" repeats the flaw of VQA-RAD: questions are drawn for the test, so test images stand in training.
The split "by_image" keeps them apart.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from companions.vqa.questions import STORED, Question, VqaData, plain
from companions.vqa.splits import split_by_image
from lddr.data.simulated import LICENCE, load_simulated_brains
from lddr.errors import InputError

PLANES = ("sagittal", "coronal", "axial")
TISSUES = ("grey matter", "white matter", "fluid")
TEST_QUESTIONS = 0.15  # share of the questions drawn for the test of the split "official"
ENLARGED = 1.2  # how much larger an enlarged head is drawn


@dataclass(frozen=True)
class Facts:
    """What is true of one slice.

    Attributes:
        plane: one of `PLANES`.
        lesion: whether there is one.
        side: "left" or "right"; None in a sagittal slice, which shows one side only, and without a lesion.
        tissue: in whose midst the lesion lies; None without one.
        large: whether the lesion is a large one.
        enlarged: whether the head is.
    """

    plane: str
    lesion: bool
    side: str | None = None
    tissue: str | None = None
    large: bool = False
    enlarged: bool = False


def tissue_of(labels: np.ndarray) -> np.ndarray:
    """Turn the labels of `lddr.data.simulated.label_names` into tissues: 0 outside, else 1 + the place in `TISSUES`."""
    return np.where(labels == 0, 0, np.where(labels <= 8, 1, np.where(labels <= 16, 2, 3)))


def draw_slice(image: np.ndarray, labels: np.ndarray, plane: str, rng: random.Random) -> tuple[np.ndarray, Facts]:
    """Cut a slice, and draw into it what its facts say.

    Args:
        image, labels: of one subject, `[D, H, W]`, axes towards right, front and top.
        plane: one of `PLANES`.
        rng: decides everything.

    Returns:
        The slice, `[rows, columns]` in [0, 1], upright, with the patient's left on the left; and its facts.
    """
    axis, middle = PLANES.index(plane), image.shape[0] // 2
    index = middle + rng.randint(-6, 6) + (rng.choice((-5, 5)) if plane == "sagittal" else 0)
    picture, tissue = (np.flipud(x.take(index, axis).T).copy() for x in (image, tissue_of(labels)))
    facts = Facts(plane, lesion=rng.random() < 0.5, enlarged=rng.random() < 0.3)
    if facts.lesion:
        large = rng.random() < 0.5
        radius = 5.5 if large else 3.0
        possible = ndimage.distance_transform_edt(tissue > 0) > radius  # the whole lesion lies in the brain
        if plane != "sagittal":  # away from the midline, so that the side is plain
            possible &= abs(np.indices(picture.shape)[1] - picture.shape[1] / 2) > 6
        places = {name: np.argwhere((tissue == number) & possible) for number, name in enumerate(TISSUES, start=1)}
        want = rng.choice([name for name in TISSUES if len(places[name])])
        row, column = places[want][rng.randrange(len(places[want]))]
        side = None if plane == "sagittal" else ("left" if column < picture.shape[1] / 2 else "right")
        rows, columns = np.indices(picture.shape)
        picture[np.hypot(rows - row, columns - column) <= radius] = 1.0
        facts = Facts(plane, True, side, want, large, facts.enlarged)
    return (zoomed(picture, ENLARGED) if facts.enlarged else picture), facts


def zoomed(picture: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge a picture about its middle; the frame stays as it is."""
    theta = torch.tensor([[[1 / factor, 0, 0], [0, 1 / factor, 0]]], dtype=torch.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))[None, None]
    grid = F.affine_grid(theta, [1, 1, *tensor.shape[2:]], align_corners=False)
    return F.grid_sample(tensor, grid, align_corners=False)[0, 0].numpy()


def ask(facts: Facts) -> list[tuple[str, str, str, bool]]:
    """Write the questions that can be asked about a slice: text, answer, type, closed."""

    def yes(fact: bool) -> str:
        return "yes" if fact else "no"

    asked = [
        ("Which plane is this?", facts.plane, "PLANE", False),
        ("In what plane was this slice taken?", facts.plane, "PLANE", False),
        ("Is this an axial slice?", yes(facts.plane == "axial"), "PLANE", True),
        ("Is this a sagittal image?", yes(facts.plane == "sagittal"), "PLANE", True),
        ("Is there a lesion?", yes(facts.lesion), "PRES", True),
        ("Can you see a mass in this brain?", yes(facts.lesion), "PRES", True),
        ("Is the brain enlarged?", yes(facts.enlarged), "SIZE", True),
        ("Is the size of the brain normal?", yes(not facts.enlarged), "ABN", True),
    ]
    if facts.lesion:
        asked += [
            ("In which tissue is the lesion?", str(facts.tissue), "POS", False),
            ("What tissue surrounds the mass?", str(facts.tissue), "POS", False),
            ("Is the lesion large?", yes(facts.large), "ATTRIB", True),
        ]
    if facts.side:
        asked += [
            ("On which side is the lesion?", facts.side, "POS", False),
            ("Where is the mass located?", facts.side, "POS", False),
            ("Is the lesion on the left?", yes(facts.side == "left"), "POS", True),
        ]
    return asked


def load_simulated_vqa(split: str = "official", subjects: int = 40, slices: int = 2, seed: int = 0) -> VqaData:
    """Make the simulated questions.

    Args:
        split: "official" or "by_image", as of VQA-RAD.
        subjects: how many brains.
        slices: of each brain and plane.
        seed: of slices, lesions and split.

    Raises:
        InputError: there is no such split.
    """
    if split not in ("official", "by_image"):
        raise InputError(f"There is no split '{split}': choose official or by_image.")
    brains = load_simulated_brains("train", subjects=subjects)
    pictures: list[Tensor] = []
    questions: list[Question] = []
    names: list[str] = []
    for subject in range(len(brains)):
        image, labels = (x[subject, 0].numpy() for x in (brains.images, brains.labels))
        for plane in PLANES:
            for number in range(slices):
                rng = random.Random(f"{seed} {subject} {plane} {number}")
                picture, facts = draw_slice(image, labels, plane, rng)
                names.append(f"{brains.ids[subject]}_{plane}_{number}")
                pictures.append(torch.from_numpy(picture).float()[None, None])
                for text, answer, kind, closed in ask(facts):
                    about = (names[-1], plane.upper(), text, plain(answer), closed, (kind,))
                    questions.append(Question(len(questions), *about))
    stored = F.interpolate(torch.cat(pictures), (STORED, STORED), mode="bilinear", align_corners=False)
    images = (stored.clamp(0, 1) * 255).round().to(torch.uint8)
    if split == "by_image":
        train, test = split_by_image(questions, seed=seed)
    else:
        drawn = set(random.Random(seed).sample(range(len(questions)), round(TEST_QUESTIONS * len(questions))))
        train = tuple(question for question in questions if question.qid not in drawn)
        test = tuple(question for question in questions if question.qid in drawn)
    return VqaData("simulated_vqa", split, tuple(names), images, train, test, LICENCE)
