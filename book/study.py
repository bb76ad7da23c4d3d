"""Every recorded run on real scans by name: list their commands, or make those whose record is missing.

    python book/study.py                    list the commands, with the minutes that the recorded ones took
    python book/study.py --run [NAME ...]   make the named runs, or all that are missing, one after another

A run that was interrupted goes on where it was. A name may hold wildcards: --run 'student_1cas_*'.
"""

import argparse
import json
import shlex
from fnmatch import fnmatch
from typing import Any

from build import BUILD, ROOT, call
from tqdm import tqdm

FOLDER = "book/records/hippocampus"
# The objectives that are compared, and their seeds.
OBJECTIVES = {"none": (0, 1, 2), "paper": (0, 1, 2), "released": (0, 1, 2), "l2": (0,), "wgan-gp": (0,)}
# A step beyond the paper: the shipped student goes on, alone or as each network of a longer cascade, with images alone
# or with the teacher on every step.
BEYOND: dict[str, dict[str, object]] = {
    "none": {},
    "warped": {"objective": "warped", "gamma": 0.5, "every": 1},
    "l2": {"objective": "l2", "gamma": 0.95, "every": 1},
}
# The learning rates of the released code, with ALDK and for LDR alone, without any teacher.
SCHEDULES = ("paper", "released_none")
# At the common weights `wgan-gp` and `l2` leave the images too little say: the same with one factor changed.
TUNED: dict[str, dict[str, object]] = {
    "wgan-gp_gamma0.95": {"objective": "wgan-gp", "gamma": 0.95},
    "wgan-gp_penalty10": {"objective": "wgan-gp", "penalty": 10.0},
    "l2_gamma0.95": {"objective": "l2", "gamma": 0.95},
}
# One factor at a time, away from the defaults of `DistillConfig`, for the literal equation at one cascade.
ABLATIONS = {
    "beta": (0.5, 1.0),
    "gamma": (0.1, 0.5, 0.9),
    "penalty": (0.0, 10.0),
    "every": (1, 5),
    "until": (0.5,),
    "discriminator": ("released",),
}


def training(name: str, parameters: str, **changes: object) -> list[str]:
    """The words of one training run that leaves its record under `name`."""
    changes |= {
        "folder": f"runs/{name}",
        "record": f"{FOLDER}/{name}.json",
        "weights": f"runs/{name}/weights.safetensors",
    }
    return ["lddr", "train", f"notebooks/params/{parameters}.yaml", *(f"{k}={v}" for k, v in changes.items())]


def commands() -> dict[str, list[str]]:
    """Name of the record -> command, in an order in which each finds what it needs."""
    runs = {f"baseline_{tool}": ["python", "book/baselines.py", "--tool", tool] for tool in ("ants_syn", "elastix")}
    for name, parameters in (("student_1cas_3min", "hippocampus_3min"), ("student_1cas_none", "hippocampus")):
        words = ["notebooks/06_student.ipynb", f"_build/{name}.ipynb", "-f", f"notebooks/params/{parameters}.yaml"]
        runs[name] = ["papermill", *words]
    for cascades in (3, 2, 1):
        name = f"teacher_{cascades}cas"
        runs[name] = training(name, "hippocampus_teacher", cascades=cascades)
    fine = {"start": "runs/teacher_3cas/weights.safetensors", "learning_rate": 0.0003, "smoothness": 0.5, "steps": 1300}
    runs["teacher_3cas_fine"] = training("teacher_3cas_fine", "hippocampus_teacher", cascades=3, **fine)
    for cascades in (1, 2, 3):
        for objective, seeds in OBJECTIVES.items():
            for seed in seeds:
                name = f"student_{cascades}cas_{objective}_seed{seed}"
                runs[name] = training(name, "hippocampus_students", cascades=cascades, objective=objective, seed=seed)
    going_on = {"start": "student_1cas_none", "smoothness": 0.5, "learning_rate": 0.0005}
    for cascades, names in ((1, ("none", "warped", "l2")), (2, ("none", "warped")), (3, ("none", "warped"))):
        for end in names:
            name, changes = f"beyond_{cascades}cas_{end}", going_on | {"cascades": cascades} | BEYOND[end]
            runs[name] = training(name, "hippocampus_students", **changes)
    for model in ("student_1cas_none", "teacher_3cas_fine"):  # how well are pairs of TRAINING subjects registered?
        words = ["evaluate", "--dataset", "hippocampus", "--split", "train", "--model", model]
        runs[f"seen_{model}"] = ["lddr", *words, "--json", f"{FOLDER}/seen_{model}.json"]
    for schedule in SCHEDULES:
        for seed in (0, 1, 2):
            name = f"schedule_{schedule}_seed{seed}"
            runs[name] = training(name, "hippocampus_students", schedule=schedule, seed=seed)
    for end, changes in TUNED.items():
        runs[f"tuned_{end}"] = training(f"tuned_{end}", "hippocampus_students", **changes)
    for factor, values in ABLATIONS.items():
        for value in values:
            name = f"ablation_{factor}_{value}"
            runs[name] = training(name, "hippocampus_students", objective="paper", **{factor: value})
    return runs


def main() -> None:
    """List, or run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="*", metavar="NAME", help="make these, or all whose record is missing")
    options = parser.parse_args()
    runs = commands()
    files = {name: ROOT / FOLDER / f"{name}.json" for name in runs}
    if options.run is None:
        for name, words in runs.items():
            took = minutes(json.loads(files[name].read_text())) if files[name].exists() else "no record"
            print(f"# {name}: {took}\n{shlex.join(words)}")
        return
    unknown = [pattern for pattern in options.run if not any(fnmatch(name, pattern) for name in runs)]
    if unknown:
        raise SystemExit(f"There is no run named {', '.join(unknown)}; 'python book/study.py' lists them.")
    chosen = [name for name in runs if any(fnmatch(name, pattern) for pattern in options.run)]
    BUILD.mkdir(exist_ok=True)
    for name in tqdm(chosen or [n for n, file in files.items() if not file.exists()], desc="runs"):
        tqdm.write(name)
        call(*runs[name])


def minutes(record: dict[str, Any]) -> str:
    """What a recorded run took."""
    seconds = record.get("training_seconds", sum(row["seconds"] for row in record["rows"]))
    return f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
