"""Every recorded run on real scans by name: list their commands, or make those whose record is missing.

    python book/study.py                    list the commands, with the minutes they took, or are expected to take
    python book/study.py --run [NAME ...]   make the named runs, or all that are missing, one after another

A run that was interrupted goes on where it was. A name may hold wildcards: --run 'student_1cas_*'. Where a run reads
weights that another leaves under `runs/` and they are not there, that one is made first, even if its record exists.
"""

import argparse
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from statistics import mean
from typing import Any

import report
from build import BUILD, ROOT, call
from figure2 import MODELS
from tqdm import tqdm

from lddr.cli import read_parameters
from lddr.data.published import FOLDER, SETS
from lddr.settings import Settings

RECORDS = "book/records"
# The objectives that are compared, and their seeds.
OBJECTIVES = {"none": (0, 1, 2), "paper": (0, 1, 2), "released": (0, 1, 2), "l2": (0,), "wgan-gp": (0,)}
# A step beyond the paper: the shipped student goes on, alone or as each network of a longer cascade, with images alone
# or with the teacher on every step.
BEYOND: dict[str, dict[str, object]] = {
    "none": {},
    "l2": {"objective": "l2", "gamma": 0.95, "every": 1},
    "warped": {"objective": "warped", "gamma": 0.5, "every": 1},
}
# How many seeds of each, with how many cascades. What was better on validation with one cascade was tried with more.
BEYOND_SEEDS = {"none": {1: 3, 2: 1, 3: 1}, "l2": {1: 3, 2: 1, 3: 1}, "warped": {1: 1}}
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


# Liver MR is cross-validated: each of its runs is four, one a fold. How many subjects are trained on: a learning curve.
FOLDS = range(4)
TRAIN_SUBJECTS = (2, 4, 7)
# What the dry run expects where no record tells, on one core. Training: minutes of `USUAL_WORK` voxels, the 1,500 steps
# of two pairs of hippocampus MR, for each network, number of cascades, and whether a teacher is asked.
USUAL_WORK = 1500 * 2 * 48 * 64 * 48
USUAL_TRAINING = {("ldr", 1, False): 6, ("ldr", 2, False): 11, ("ldr", 3, False): 18}
USUAL_TRAINING |= {("ldr", 1, True): 12, ("ldr", 2, True): 20, ("ldr", 3, True): 25}
USUAL_TRAINING |= {("vtn", 1, False): 6, ("vtn", 2, False): 11, ("vtn", 3, False): 17}
USUAL_TRAINING |= {("voxelmorph", 1, False): 40, ("voxelmorph", 3, False): 110}
# Other runs: the first pattern that fits the name.
USUAL_MINUTES = {"*/adapted_*": 3, "*/figure2": 2, "cost/*": 6, "*/seen_*": 1}
USUAL_MINUTES |= {"hippocampus/baseline_ants_syn": 3, "hippocampus/baseline_elastix": 20, "liver_mr/baseline_*": 8}
# Sets of the paper: pairs, and seconds of one at 128^3; a network's are those of measuring, surfaces included.
USUAL_PAIRS = {"sliver": 380, "lits": 17030, "lspig": 34, "lpba": 1560}
USUAL_SECONDS = {"baseline_ants_syn": 27, "baseline_elastix": 41, "*": 5}


def training(name: str, parameters: str, among: str = "hippocampus", **changes: object) -> list[str]:
    """The words of one training run that leaves its record under `name` among those of a data set."""
    folder = f"runs/{name}" if among == "hippocampus" else f"runs/{among}/{name}"
    changes |= {
        "folder": folder,
        "record": f"{RECORDS}/{among}/{name}.json",
        "weights": f"{folder}/weights.safetensors",
    }
    return ["lddr", "train", f"notebooks/params/{parameters}.yaml", *(f"{k}={v}" for k, v in changes.items())]


def hippocampus_runs() -> dict[str, list[str]]:
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
    for end, changes in BEYOND.items():
        for cascades, seeds in BEYOND_SEEDS[end].items():
            for seed in range(seeds):
                name = f"beyond_{cascades}cas_{end}" + f"_seed{seed}" * (seed > 0)
                given = going_on | {"cascades": cascades, "seed": seed} | changes
                runs[name] = training(name, "hippocampus_students", **given)
    for model in ("student_1cas_none", "teacher_3cas_fine"):  # how well are pairs of TRAINING subjects registered?
        words = ["evaluate", "--dataset", "hippocampus", "--split", "train", "--model", model]
        runs[f"seen_{model}"] = ["lddr", *words, "--json", f"{RECORDS}/hippocampus/seen_{model}.json"]
    for schedule in SCHEDULES:
        for seed in (0, 1, 2):
            name = f"schedule_{schedule}_seed{seed}"
            runs[name] = training(name, "hippocampus_students", schedule=schedule, seed=seed)
    for end, changes in TUNED.items():
        runs[f"tuned_{end}"] = training(f"tuned_{end}", "hippocampus_students", **changes)
    for cascades in (1, 3):
        name = f"voxelmorph_{cascades}cas"
        runs[name] = training(name, "hippocampus_students", network="voxelmorph", cascades=cascades)
    for factor, values in ABLATIONS.items():
        for value in values:
            name = f"ablation_{factor}_{value}"
            runs[name] = training(name, "hippocampus_students", objective="paper", **{factor: value})
    return runs


def liver_runs(fold: int) -> dict[str, list[str]]:
    """The same for one fold of liver MR; the names begin with the folder of the record."""
    runs: dict[str, list[str]] = {}
    for tool in ("ants_syn", "elastix"):
        words = ["--tool", tool, "--dataset", "liver_mr", "--pairs", "all", "--fold", str(fold), "--size", "128"]
        runs[f"liver_mr/baseline_{tool}_fold{fold}"] = ["python", "book/baselines.py", *words]

    def add(name: str, among: str = "liver_mr", **changes: object) -> None:
        name = f"{name}_fold{fold}"
        runs[f"{among}/{name}"] = training(name, "liver_mr", among, fold=fold, **changes)

    def weights(name: str) -> str:
        return f"runs/liver_mr/{name}_fold{fold}/weights.safetensors"

    def measure(name: str, model: str, *words: str) -> None:
        on = ["--dataset", "liver_mr", "--fold", str(fold), "--pairs", "all", "--fine", "128", *words]
        record = f"{RECORDS}/liver_mr/{name}_fold{fold}.json"
        runs[f"liver_mr/{name}_fold{fold}"] = ["lddr", "evaluate", *on, "--model", weights(model), "--json", record]

    vtn = {"network": "vtn", "levels": 4, "learning_rate": 0.0005}
    add("teacher_1cas", **vtn, cascades=1, steps=4000)
    for cascades in (2, 3):  # they grow from the one, as the students' longer cascades do below
        add(f"teacher_{cascades}cas", **vtn, cascades=cascades, start=weights("teacher_1cas"))
    for cascades in (1, 2, 3):
        add(f"student_{cascades}cas_none_seed0", cascades=cascades)
        taught = {"objective": "paper", "teacher": weights("teacher_3cas")}
        add(f"student_{cascades}cas_paper_seed0", cascades=cascades, **taught)
    add("beyond_1cas_none", cascades=1, steps=4000)  # the longer cascades grow from it, as those of the hippocampus do
    growing = {"start": weights("beyond_1cas_none"), "learning_rate": 0.0005, "steps": 1000}
    for cascades in (2, 3):
        add(f"beyond_{cascades}cas_none", cascades=cascades, **growing)
    # Roughness weighs as in training; twice that for one cascade, which folds over 1 % of validation voxels otherwise.
    for name, model, smoothness in (
        ("adapted_1cas", "beyond_1cas_none", "1.0"),
        ("adapted_3cas", "beyond_3cas_none", "0.5"),
        ("adapted_teacher_3cas", "teacher_3cas", "0.5"),
    ):
        measure(name, model, "--surfaces", "--adapt", "50", "--smoothness", smoothness)
    for model in ("beyond_1cas_none", "beyond_3cas_none"):  # how well are pairs of TRAINING subjects registered?
        measure(f"seen_{model}", model, "--split", "train")
    for subjects in TRAIN_SUBJECTS:
        add(f"curve_{subjects}", train_subjects=subjects)
    add("plain", augmentation=0.0)
    for cascades in (1, 3):
        add(f"voxelmorph_{cascades}cas", network="voxelmorph", cascades=cascades)
    add("student_1cas_none_seed0", "liver_mr_body", dataset="liver_mr_body")
    return runs


def paper_runs() -> dict[str, list[str]]:
    """The same for the sets of the paper, of those whose files are under `LDDR_DATA`: weeks on a CPU, so never a must.

    Livers are trained on once and tested on three sets, brains on one.
    """
    folder = Path(os.environ.get("LDDR_DATA", "")) / FOLDER
    there = [name for name, (test, _) in SETS.items() if (folder / test).exists()]
    on_all = {name: ["--dataset", name, "--pairs", "couples" if name == "lspig" else "all"] for name in there}
    runs: dict[str, list[str]] = {}
    for main_set, others in (("sliver", ("lits", "lspig")), ("lpba", ())):
        if main_set not in there:
            continue
        taught = {"objective": "paper", "teacher": f"runs/{main_set}/teacher_3cas/weights.safetensors"}
        kinds: dict[str, dict[str, object]] = {
            "teacher_{}cas": {"network": "vtn", "affine": "vtn"},
            "student_{}cas_none_seed0": {},
            "student_{}cas_paper_seed0": taught,
        }
        networks = {kind.format(n): {"cascades": n, **changes} for kind, changes in kinds.items() for n in (3, 2, 1)}
        for name, changes in networks.items():
            runs[f"{main_set}/{name}"] = training(name, "paper", main_set, dataset=main_set, **changes)
            for other in [other for other in others if other in there]:
                words = [*on_all[other], "--surfaces", "--model", f"runs/{main_set}/{name}/weights.safetensors"]
                runs[f"{other}/{name}"] = ["lddr", "evaluate", *words, "--json", f"{RECORDS}/{other}/{name}.json"]
    for name, words in on_all.items():
        for tool in ("ants_syn", "elastix"):
            runs[f"{name}/baseline_{tool}"] = ["python", "book/baselines.py", "--tool", tool, *words]
    return runs


def commands() -> dict[str, list[str]]:
    """Folder and name of every record -> the command that makes it."""
    runs = {f"hippocampus/{name}": words for name, words in hippocampus_runs().items()}
    for fold in FOLDS:
        runs |= liver_runs(fold)
    return runs | paper_runs() | other_runs()


def other_runs() -> dict[str, list[str]]:
    """What is neither a training run on real scans nor a classical tool: the offline model, costs, the figure."""
    parameters = "notebooks/params/simulated_brains.yaml"
    words = ["papermill", "notebooks/06_student.ipynb", "_build/simulated_brains.ipynb", "-f", parameters]
    runs = {"simulated_brains/student_1cas_none": words}
    for threads in (1, 2):  # the classical tools once, on one thread
        runs[f"cost/cost_cpu_{threads}"] = ["python", "book/cost.py", "--threads", str(threads)]
    runs["cost/cost_cpu_1"].append("--tools")
    runs["hippocampus/figure2"] = ["python", "book/figure2.py"]
    runs["liver_mr/figure2"] = shlex.split("python book/figure2.py --dataset liver_mr --fold 0 --fine 128 --pairs all")
    return runs


def chosen(runs: dict[str, list[str]], patterns: list[str]) -> list[str]:
    """The runs that a pattern names, with or without the folder.

    Raises:
        SystemExit: a pattern names none.
    """
    names = {p: [n for n in runs if fnmatch(n, p) or fnmatch(n.partition("/")[2], p)] for p in patterns}
    unknown = [pattern for pattern, found in names.items() if not found]
    if unknown:
        raise SystemExit(f"There is no run named {', '.join(unknown)}; 'python book/study.py' lists them.")
    return list(dict.fromkeys(name for found in names.values() for name in found))


def reads(words: Sequence[str]) -> list[str]:
    """The words of a command that may name weights to read, and what Figure 2 reads without being told."""
    files = [word.removeprefix("start=").removeprefix("teacher=") for word in words]
    if "book/figure2.py" in words:
        given = dict(zip(words, words[1:], strict=False))
        models = MODELS[given.get("--dataset", "hippocampus")].values()
        files += [file.format(fold=given.get("--fold", 0)) for file in models]
    return files


def in_order(names: Iterable[str], runs: dict[str, list[str]]) -> list[str]:
    """The runs, each after those that make the weights it reads, as far as these are not there."""
    outputs = [(word.partition("="), name) for name, words in runs.items() for word in words]
    makers = {file: name for (key, _, file), name in outputs if key == "weights"}
    order: dict[str, None] = {}

    def add(name: str) -> None:
        for file in reads(runs[name]):
            if file in makers and not (ROOT / file).exists():
                add(makers[file])
        order[name] = None

    for name in names:
        add(name)
    return list(order)


def main(words: Sequence[str] | None = None) -> None:
    """List, or run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="*", metavar="NAME", help="make these, or all whose record is missing")
    options = parser.parse_args(words)
    runs = commands()
    files = {name: ROOT / RECORDS / f"{name}.json" for name in runs}
    if options.run is None:
        records = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
        for name, command in runs.items():
            print(f"# {name}: {takes(name, command, records)}\n{shlex.join(command)}")
        return
    BUILD.mkdir(exist_ok=True)
    asked = chosen(runs, options.run) or [name for name, file in files.items() if not file.exists()]
    for name in tqdm(in_order(asked, runs), desc="runs"):
        tqdm.write(name if name in asked else f"{name}, because a run after it reads its weights")
        call(*runs[name])


def work(settings: dict[str, Any]) -> tuple[tuple[Any, ...], int]:
    """What decides the time of a training step, and how many voxels go through it in the whole run."""
    asks = settings["objective"] not in ("none", "released")
    kind = (settings["network"], settings["cascades"], asks)
    return kind, settings["steps"] * settings["batch"] * math.prod(settings["size"])


def settings_of(words: Sequence[str]) -> Settings | None:
    """The settings of a training run, by `lddr train` or papermill; None for other commands."""
    changes = words[3:] if list(words[:2]) == ["lddr", "train"] else []
    files = [str(ROOT / word) for word in words if word.endswith(".yaml")]
    return Settings.check(read_parameters([*files, *changes])) if files else None


def takes(name: str, words: Sequence[str], records: dict[str, dict[str, Any]]) -> str:
    """The minutes of a run: those of its record, else those that are expected."""
    if name in records and report.seconds(records[name]) > 0:
        return report.minutes(records[name])
    there, minutes = "" if name in records else "no record, ", expected(name, words, records)
    return f"{there}about {minutes:,.0f} min" if minutes else f"{there}time unknown"


def expected(name: str, words: Sequence[str], records: dict[str, dict[str, Any]]) -> float | None:
    """Minutes of a run whose record does not tell.

    Those of another fold or seed, else of a network like it for as many voxels, else what is usual.
    """
    stem = re.sub(r"_(seed|fold)\d", "", name)
    found = [report.seconds(r) / 60 for other, r in records.items() if re.sub(r"_(seed|fold)\d", "", other) == stem]
    if any(found):
        return mean(found)
    if settings := settings_of(words):
        kind, voxels = work(settings.model_dump())
        usual = Settings.check({}).model_dump()  # some records are older than some settings
        known = [(r["training_seconds"], work(usual | r["parameters"])) for r in records.values() if "parameters" in r]
        like = [seconds / 60 * voxels / of for seconds, (kind_of, of) in known if kind_of == kind]
        if like or kind in USUAL_TRAINING:
            return mean(like or [USUAL_TRAINING[kind] * voxels / USUAL_WORK])
    folder, _, run = name.partition("/")
    of_pair = next(seconds for pattern, seconds in USUAL_SECONDS.items() if fnmatch(run, pattern))
    pairs = USUAL_PAIRS.get(folder, 0) * of_pair / 60
    return next((usual for pattern, usual in USUAL_MINUTES.items() if fnmatch(name, pattern)), pairs or None)


if __name__ == "__main__":
    main()
