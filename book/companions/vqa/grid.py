"""Every recorded run on VQA-RAD, by the name of its record, and the command that makes it.

`python -m companions.vqa` lists and makes them. A name tells split, variant, attention and seed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from companions.vqa.record import FOLDER

RECORDS = f"book/records/{FOLDER}"
SPLITS = ("official", "by_image")
SEEDS = range(5)
ATTENTIONS = ("ban", "san")
Settings = Mapping[str, Any]
# Variant -> settings that make it. "scratch" means that the encoders start at random; all are trained on VQA-RAD then.
VARIANTS: dict[str, Settings] = {
    "question_only": {"features": "none"},
    "maml_scratch": {"features": "meta"},
    "cdae_scratch": {"features": "cdae"},
    "mevf_scratch": {"features": "mevf"},
    "maml": {"features": "meta", "start": "pretrained"},
    "cdae": {"features": "cdae", "start": "pretrained"},
    "mevf": {"features": "mevf", "start": "pretrained"},
    "mmq": {"features": "mmq", "start": "pretrained"},
    "mmq_mevf": {"features": "mmq_mevf", "start": "pretrained"},
    "imagenet": {"features": "imagenet"},
}
# The authors' starting weights have seen images that the split by image tests.
AUTHORS: dict[str, Settings] = {
    "maml_authors": {"features": "meta", "start": "authors"},
    "cdae_authors": {"features": "cdae", "start": "authors"},
    "mevf_authors": {"features": "mevf", "start": "authors"},
}
# MMQ was trained for 40 epochs at a fifth of the learning rate. MEVF with the same schedule says what that is worth.
LONG: Settings = {"epochs": 40, "learning_rate": 0.001}
LONG_VARIANTS = {"mmq_mevf_long": "mmq_mevf", "mevf_long": "mevf"}
PRETRAININGS: dict[str, Settings] = {
    "meta": {"iterations": 200},
    "cdae": {"steps": 400},
    "mmq": {"iterations": 200, "other": True, "first_order": True},
}
# Minutes on one thread where no record tells, measured with the machine busy: of pre-trainings, and of 20 epochs.
PRETRAINING_MINUTES = {"meta": 12, "cdae": 7, "mmq": 30}
ANSWERING_MINUTES = {"none": 10, "meta": 16, "mmq": 17, "imagenet": 20, "cdae": 20, "mevf": 22, "mmq_mevf": 23}


class Run(NamedTuple):
    """One recorded run.

    Attributes:
        words: of its command, which is given at the top of the project.
        usual: minutes it is expected to take where no record tells.
        needs: names of runs that leave the weights it reads.
    """

    words: list[str]
    usual: float
    needs: tuple[str, ...] = ()


def folder_of(split: str, seed: int) -> str:
    """Name the folder of pre-trained weights."""
    return f"runs/{FOLDER}/{split}_seed{seed}"


def command(kind: str, name: str, settings: Settings) -> list[str]:
    """Write the words of a command that leaves its record under a name."""
    values = {"data": "vqa_rad", **settings, "record": f"{RECORDS}/{name}.json"}
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]
    return ["python", "-m", "companions.vqa.run", kind, *words]


def pretraining(split: str, what: str, seed: int) -> tuple[str, Run]:
    """Describe a pre-training: its name, and how it is made."""
    name = f"{split}_pre_{what}_seed{seed}"
    output = {"output": f"{folder_of(split, seed)}/{what}.safetensors"}
    return name, Run(
        command(what, name, {"split": split, "seed": seed, **PRETRAININGS[what], **output}), PRETRAINING_MINUTES[what]
    )


def needs(settings: Settings, split: str, seed: int) -> tuple[str, ...]:
    """Name the pre-trainings that a variant reads."""
    if settings.get("start") != "pretrained":
        return ()
    features = settings["features"]
    wanted = {"meta": features in ("meta", "mevf"), "mmq": features.startswith("mmq")}
    wanted["cdae"] = features in ("cdae", "mevf", "mmq_mevf")
    return tuple(f"{split}_pre_{what}_seed{seed}" for what, reads in wanted.items() if reads)


def answering(split: str, variant: str, settings: Settings, attention: str, seed: int) -> tuple[str, Run]:
    """Describe the training of a model: its name, and how it is made."""
    features = settings["features"]
    name = f"{split}_{variant}_seed{seed}" if features == "none" else f"{split}_{variant}_{attention}_seed{seed}"
    given: dict[str, Any] = {"split": split, "variant": variant, **settings, "attention": attention, "seed": seed}
    read = needs(settings, split, seed)
    if read:
        given["weights"] = folder_of(split, seed)
    usual = ANSWERING_MINUTES[features] * settings.get("epochs", 20) / 20
    return name, Run(command("answer", name, given), usual, read)


def runs() -> dict[str, Run]:
    """List all runs, in an order in which each finds what it needs and what matters most comes first."""
    listed: list[tuple[str, Run]] = []
    for split in SPLITS:
        name = f"{split}_questions"
        listed.append((name, Run(command("questions", name, {"split": split}), 1)))
    for split in SPLITS:
        for seed in SEEDS:
            listed += [pretraining(split, what, seed) for what in PRETRAININGS]
        known = VARIANTS | (AUTHORS if split == "official" else {})
        for attention in ATTENTIONS:
            for variant, settings in known.items():
                if settings["features"] == "none" and attention == "san":
                    continue  # without an image there is nothing to attend to
                listed += [answering(split, variant, settings, attention, seed) for seed in SEEDS]
    for variant, of in LONG_VARIANTS.items():
        listed += [answering("official", variant, {**VARIANTS[of], **LONG}, "ban", seed) for seed in SEEDS]
    return dict(listed)
