"""Every recorded run on real scans, by the folder and the name of its record, and the command that makes it.

`python -m study` lists and makes them, see `study.runs`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lddr.data.published import FOLDER, SETS
from study.methods import FOLDS

RECORDS = "book/records"
Settings = Mapping[str, Any]
# The objectives that are compared, and their seeds.
OBJECTIVES = {"none": (0, 1, 2), "paper": (0, 1, 2), "released": (0, 1, 2), "l2": (0,), "wgan-gp": (0,)}
# A step beyond the paper: the shipped student goes on, alone or as each network of a longer cascade, with images alone
# or with the teacher on every step.
BEYOND: dict[str, Settings] = {
    "none": {},
    "l2": {"objective": "l2", "gamma": 0.95, "every": 1},
    "warped": {"objective": "warped", "gamma": 0.5, "every": 1},
}
# How many seeds of each, with how many cascades. What was better on validation with one cascade was tried with more.
BEYOND_SEEDS = {"none": {1: 3, 2: 1, 3: 1}, "l2": {1: 3, 2: 1, 3: 1}, "warped": {1: 1}}
# The learning rates of the released code, with ALDK and for LDR alone, without any teacher.
SCHEDULES = ("paper", "released_none")
# At the common weights `wgan-gp` and `l2` leave the images too little say: the same with one factor changed.
TUNED: dict[str, Settings] = {
    "wgan-gp_gamma0.95": {"objective": "wgan-gp", "gamma": 0.95},
    "wgan-gp_penalty10": {"objective": "wgan-gp", "penalty": 10.0},
    "l2_gamma0.95": {"objective": "l2", "gamma": 0.95},
}
# One factor at a time, away from the defaults of `DistillConfig`, for the literal equation at one cascade.
ABLATIONS: dict[str, tuple[Any, ...]] = {
    "beta": (0.5, 1.0),
    "gamma": (0.1, 0.5, 0.9),
    "penalty": (0.0, 10.0),
    "every": (1, 5),
    "until": (0.5,),
    "discriminator": ("released",),
}
# How many of the ten training subjects of liver MR are trained on: a learning curve.
TRAIN_SUBJECTS = (2, 4, 7)
# The models for real brains, trained on widely varied simulated ones. The last one goes on from the one before it.
BRAINS: dict[str, Settings] = {
    "brains_1cas": {"cascades": 1},
    "brains_3cas": {"cascades": 3},
    "brains_3cas_more": {
        "cascades": 3,
        "start": "runs/simulated_brains/brains_3cas/weights.safetensors",
        "learning_rate": 0.0003,
        "steps": 1500,
    },
}
# What Figure 2 compares: label -> the run on that data set whose weights it shows.
FIGURE2 = {"LDR": "student_1cas_none_seed0", "LDR + ALDK": "student_1cas_paper_seed0", "RCN, 1 cascade": "teacher_1cas"}
# Pairs of the paper's own sets, and seconds of one at 128^3; a network's are those of measuring, surfaces included.
PAIRS = {"sliver": 380, "lits": 17030, "lspig": 34, "lpba": 1560}
TOOL_SECONDS = {"ants_syn": 27, "elastix": 41}
MEASURING_SECONDS = 5


class Run(NamedTuple):
    """One recorded run.

    Attributes:
        words: of its command, which is given at the top of the project.
        family: the same for runs that differ in their seed or fold only.
        usual: minutes it is expected to take where no record tells; a training run's are worked out instead.
        reads: files of weights that it reads, from other runs or not.
    """

    words: list[str]
    family: str
    usual: float | None = None
    reads: tuple[str, ...] = ()


Runs = dict[str, Run]


def folder_of(among: str, name: str) -> str:
    """Name the folder in which a training run keeps what is not its record."""
    return f"runs/{name}" if among == "hippocampus" else f"runs/{among}/{name}"


def weights_of(among: str, name: str) -> str:
    """Name the file in which a training run leaves its weights."""
    return f"{folder_of(among, name)}/weights.safetensors"


def figure2_models(dataset: str, fold: int | None = None) -> dict[str, str]:
    """List the weights that Figure 2 shows: label -> file; empty for a data set of which no figure is recorded."""
    end = "" if fold is None else f"_fold{fold}"
    known = dataset in ("hippocampus", "liver_mr")
    return {label: weights_of(dataset, name + end) for label, name in FIGURE2.items()} if known else {}


def training(among: str, name: str, file: str, settings: Settings, family: str = "") -> Run:
    """Describe a training run that leaves its record under a name among those of a data set.

    Args:
        among: the data set whose records it stands among.
        name: of the record.
        file: of parameters, without folder and ending.
        settings: that differ from the file's.
        family: see `Run`; by default it is a run without relatives.
    """
    outputs = {"folder": folder_of(among, name), "record": f"{RECORDS}/{among}/{name}.json"}
    outputs["weights"] = weights_of(among, name)
    words = [f"{key}={value}" for key, value in {**settings, **outputs}.items()]
    reads = tuple(settings[key] for key in ("start", "teacher") if key in settings)
    return Run(["lddr", "train", f"notebooks/params/{file}.yaml", *words], family or f"{among}/{name}", reads=reads)


def evaluation(among: str, name: str, model: str, options: Sequence[str], usual: float, family: str = "") -> Run:
    """Describe the measurement of a model; arguments as of `training`, and the options of `lddr evaluate`."""
    words = ["lddr", "evaluate", *options, "--model", model, "--json", f"{RECORDS}/{among}/{name}.json"]
    return Run(words, family or f"{among}/{name}", usual, (model,))


def chapter_06(name: str, family: str, file: str) -> Run:
    """Describe a run of the notebook that trains a student."""
    words = ["notebooks/06_student.ipynb", f"_build/{name}.ipynb", "-f", f"notebooks/params/{file}.yaml"]
    return Run(["papermill", *words], family)


def hippocampus_runs() -> Runs:
    """List the runs on hippocampus MR, in an order in which each finds what it needs."""
    runs: Runs = {}

    def add(name: str, file: str, settings: Settings, relatives: str = "") -> None:
        family = f"hippocampus/{relatives or name}"
        runs[f"hippocampus/{name}"] = training("hippocampus", name, file, settings, family)

    def student(name: str, settings: Settings, relatives: str = "") -> None:
        add(name, "hippocampus_students", settings, relatives)

    for tool, usual in (("ants_syn", 3), ("elastix", 20)):
        name = f"hippocampus/baseline_{tool}"
        runs[name] = Run(["python", "-m", "study.classical", "--tool", tool], name, usual)
    for name, parameters in (("student_1cas_3min", "hippocampus_3min"), ("student_1cas_none", "hippocampus")):
        runs[f"hippocampus/{name}"] = chapter_06(name, f"hippocampus/{name}", parameters)
    for cascades in (3, 2, 1):
        add(f"teacher_{cascades}cas", "hippocampus_teacher", {"cascades": cascades})
    softer: dict[str, Any] = {"start": weights_of("hippocampus", "teacher_3cas"), "learning_rate": 0.0003}
    softer |= {"smoothness": 0.5, "steps": 1300, "recipe": "softer"}
    add("teacher_3cas_fine", "hippocampus_teacher", {"cascades": 3, **softer})
    for cascades in (1, 2, 3):
        for objective, seeds in OBJECTIVES.items():
            kind = f"student_{cascades}cas_{objective}"
            for seed in seeds:
                given = {"cascades": cascades, "objective": objective, "seed": seed}
                student(f"{kind}_seed{seed}", given, f"{kind}_seed*")
    going_on = {"start": "student_1cas_none", "smoothness": 0.5, "learning_rate": 0.0005, "recipe": "best"}
    for end, changes in BEYOND.items():
        for cascades, number in BEYOND_SEEDS[end].items():
            kind = f"beyond_{cascades}cas_{end}"
            for seed in range(number):
                given = {**going_on, "cascades": cascades, "seed": seed, **changes}
                student(kind + f"_seed{seed}" * (seed > 0), given, f"{kind}_seed*")
    for model in ("student_1cas_none", "teacher_3cas_fine"):  # how well are pairs of TRAINING subjects registered?
        options = ["--dataset", "hippocampus", "--split", "train"]
        runs[f"hippocampus/seen_{model}"] = evaluation("hippocampus", f"seen_{model}", model, options, 1)
    for schedule in SCHEDULES:
        for seed in (0, 1, 2):
            given = {"schedule": schedule, "seed": seed, "recipe": "schedule"}
            student(f"schedule_{schedule}_seed{seed}", given, f"schedule_{schedule}_seed*")
    for end, changes in TUNED.items():
        student(f"tuned_{end}", {**changes, "recipe": "tuned"})
    for cascades in (1, 3):
        student(f"voxelmorph_{cascades}cas", {"network": "voxelmorph", "cascades": cascades})
    for factor, values in ABLATIONS.items():
        for value in values:
            student(f"ablation_{factor}_{value}", {"objective": "paper", factor: value, "recipe": "ablation"})
    return runs


def liver_runs(fold: int) -> Runs:
    """List the runs on one fold of liver MR, which is cross-validated."""
    runs: Runs = {}
    end = f"_fold{fold}"

    def add(name: str, settings: Settings, among: str = "liver_mr") -> None:
        given = {"fold": fold, **settings}
        runs[f"{among}/{name}{end}"] = training(among, name + end, "liver_mr", given, f"{among}/{name}_fold*")

    def weights(name: str) -> str:
        return weights_of("liver_mr", name + end)

    def measure(name: str, model: str, options: Sequence[str], usual: float) -> None:
        on = ["--dataset", "liver_mr", "--fold", str(fold), "--pairs", "all", "--fine", "128", *options]
        run = evaluation("liver_mr", name + end, weights(model), on, usual, f"liver_mr/{name}_fold*")
        runs[f"liver_mr/{name}{end}"] = run

    for tool in TOOL_SECONDS:
        on = ["--dataset", "liver_mr", "--pairs", "all", "--fold", str(fold), "--size", "128"]
        words = ["python", "-m", "study.classical", "--tool", tool, *on]
        runs[f"liver_mr/baseline_{tool}{end}"] = Run(words, f"liver_mr/baseline_{tool}_fold*", 8)
    vtn = {"network": "vtn", "levels": 4, "learning_rate": 0.0005}
    add("teacher_1cas", {**vtn, "cascades": 1, "steps": 4000})
    for cascades in (2, 3):  # they grow from the one, as the students' longer cascades do below
        add(f"teacher_{cascades}cas", {**vtn, "cascades": cascades, "start": weights("teacher_1cas")})
    for cascades in (1, 2, 3):
        add(f"student_{cascades}cas_none_seed0", {"cascades": cascades})
        taught = {"objective": "paper", "teacher": weights("teacher_3cas")}
        add(f"student_{cascades}cas_paper_seed0", {"cascades": cascades, **taught})
    # The longer cascades grow from the one, as those of the hippocampus do.
    add("beyond_1cas_none", {"cascades": 1, "steps": 4000, "recipe": "best"})
    growing = {"start": weights("beyond_1cas_none"), "learning_rate": 0.0005, "steps": 1000, "recipe": "best"}
    for cascades in (2, 3):
        add(f"beyond_{cascades}cas_none", {"cascades": cascades, **growing})
    # Roughness weighs as in training; twice that for one cascade, which folds over 1 % of validation voxels otherwise.
    for name, model, smoothness in (
        ("adapted_1cas", "beyond_1cas_none", "1.0"),
        ("adapted_3cas", "beyond_3cas_none", "0.5"),
        ("adapted_teacher_3cas", "teacher_3cas", "0.5"),
    ):
        measure(name, model, ["--surfaces", "--adapt", "50", "--smoothness", smoothness], 3)
    for model in ("beyond_1cas_none", "beyond_3cas_none"):  # how well are pairs of TRAINING subjects registered?
        measure(f"seen_{model}", model, ["--split", "train"], 1)
    for subjects in TRAIN_SUBJECTS:
        add(f"curve_{subjects}", {"train_subjects": subjects, "recipe": "learning curve"})
    add("plain", {"augmentation": 0.0, "recipe": "not augmented"})
    for cascades in (1, 3):
        add(f"voxelmorph_{cascades}cas", {"network": "voxelmorph", "cascades": cascades})
    add("student_1cas_none_seed0", {"dataset": "liver_mr_body"}, "liver_mr_body")
    if fold == 0:  # the shipped model for whole scans
        best = {"dataset": "liver_mr_body", "cascades": 1, "steps": 4000, "recipe": "best"}
        add("beyond_1cas_none", best, "liver_mr_body")
    return runs


def paper_runs() -> Runs:
    """List the runs on those sets of the paper whose files are under `LDDR_DATA`: weeks on a CPU, so never a must.

    Livers are trained on once and tested on three sets, brains on one.
    """
    folder = Path(os.path.expanduser(os.environ.get("LDDR_DATA", ""))) / FOLDER
    there = [name for name, (test, _) in SETS.items() if (folder / test).exists()]
    on_all = {name: ["--dataset", name, "--pairs", "couples" if name == "lspig" else "all"] for name in there}
    runs: Runs = {}
    for main_set, others in (("sliver", ("lits", "lspig")), ("lpba", ())):
        if main_set not in there:
            continue
        kinds: dict[str, Settings] = {
            "teacher_{}cas": {"network": "vtn", "affine": "vtn"},
            "student_{}cas_none_seed0": {},
            "student_{}cas_paper_seed0": {"objective": "paper", "teacher": weights_of(main_set, "teacher_3cas")},
        }
        networks = {kind.format(n): {"cascades": n, **changes} for kind, changes in kinds.items() for n in (3, 2, 1)}
        for name, changes in networks.items():
            runs[f"{main_set}/{name}"] = training(main_set, name, "paper", {"dataset": main_set, **changes})
            for other in [other for other in others if other in there]:
                usual = PAIRS[other] * MEASURING_SECONDS / 60
                options, model = [*on_all[other], "--surfaces"], weights_of(main_set, name)
                runs[f"{other}/{name}"] = evaluation(other, name, model, options, usual)
    for dataset, on in on_all.items():
        for tool, seconds in TOOL_SECONDS.items():
            name = f"{dataset}/baseline_{tool}"
            words = ["python", "-m", "study.classical", "--tool", tool, *on]
            runs[name] = Run(words, name, PAIRS[dataset] * seconds / 60)
    return runs


def other_runs() -> Runs:
    """List what is neither a training run on real scans nor a classical tool: the offline model, costs, the figure."""
    name = "simulated_brains/student_1cas_none"
    runs = {name: chapter_06("simulated_brains", name, "simulated_brains")}
    for name, changes in BRAINS.items():
        runs[f"simulated_brains/{name}"] = training("simulated_brains", name, "brains", changes)
    for threads in (1, 2):  # the classical tools once, on one thread
        words = ["python", "-m", "study.cost", "--threads", str(threads)] + ["--tools"] * (threads == 1)
        runs[f"cost/cost_cpu_{threads}"] = Run(words, f"cost/cost_cpu_{threads}", 6)
    on_liver = "--dataset liver_mr --fold 0 --fine 128 --pairs all"
    for dataset, fold, more in (("hippocampus", None, ""), ("liver_mr", 0, on_liver)):
        words, reads = ["python", "-m", "study.figure2", *more.split()], figure2_models(dataset, fold).values()
        runs[f"{dataset}/figure2"] = Run(words, f"{dataset}/figure2", 2, tuple(reads))
    return runs


def commands() -> Runs:
    """List all runs: folder and name of the record -> how it is made."""
    runs = hippocampus_runs()
    for fold in range(FOLDS):
        runs |= liver_runs(fold)
    return runs | paper_runs() | other_runs()
