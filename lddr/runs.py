"""What a training run leaves behind: the record every table is read from, and the weights."""

import copy
import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lddr.cascade import RecursiveCascade
from lddr.data import Cohort, evaluation_pairs, load_cohort, random_pairs
from lddr.data.liver import IN_FOLDS
from lddr.distill import Distillation
from lddr.errors import InputError
from lddr.evaluate import evaluate, require_same_box, summarise
from lddr.files import require_writable
from lddr.models import build_model, load_model, save_model
from lddr.records import commit, provenance, rounded, write_record
from lddr.settings import Settings
from lddr.teacher import StoredTeacher, extract, on_the_fly
from lddr.training import fit, refuse_augmentation

commit()  # remembered from here on: the record names the code this process began with


def validator(cohort: Cohort) -> Callable[[RecursiveCascade], dict[str, float]]:
    """What `fit` calls now and then: Dice and folds on the ring pairs of the cohort, the validation subjects."""
    pairs = evaluation_pairs(len(cohort))

    def validate(model: RecursiveCascade) -> dict[str, float]:
        summary = summarise(evaluate(model, cohort, pairs), cohort.label_names)
        return {"dice": summary["dice_mean"], "folding_percent": summary["folding_percent"]}

    return validate


def thin(log: Sequence[dict[str, float]], points: int = 300) -> list[dict[str, float]]:
    """Every validation row, and about `points` of the others: enough to draw the curves; chapter 06."""
    training = [row for row in log if "loss" in row]
    kept = training[:: max(1, len(training) // points)] + [row for row in log if "loss" not in row]
    return sorted(kept, key=lambda row: row["step"])


def require_fold(model: str, about: dict[str, Any], dataset: str, fold: int) -> None:
    """Refuse (`InputError`) a model trained on another fold of the same subjects: it has seen those this fold tests.

    `about` is what `load_model` says; older weights do not know their fold and are taken; chapter 09.
    """
    trained = about.get("fold", fold)
    if {about.get("dataset"), dataset} <= IN_FOLDS and trained != fold:
        raise InputError(f"{model}: trained for fold {trained}, this model has seen the test scans of fold {fold}.")


def write_run(
    settings: Settings,
    notebook: str | None,
    model: RecursiveCascade,
    log: Sequence[dict[str, float]],
    cohorts: Sequence[Cohort],
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Write the record and the weights of a training run, where the settings ask for them.

    Args:
        settings: of the run; `record` and `weights` name the files, None writes nothing.
        notebook: name of the chapter that ran, without ending; None for `lddr train`.
        model: as trained.
        log: of `fit`.
        cohorts: train, validation and test.
        rows: of `evaluate` on the pairs of the test subjects that the settings name.

    Returns:
        The figures of the test pairs, as `summarise` gives them.
    """
    test = cohorts[-1]
    summary = summarise(rows, test.label_names)
    if settings.weights:
        about: dict[str, Any] = {"dataset": settings.dataset, "spacing": test.spacing, "licence": test.licence}
        about |= {"objective": settings.objective, "record": settings.record}
        about |= {"fold": settings.fold} if settings.dataset in IN_FOLDS else {}
        about |= {name: summary[name] for name in ("dice_mean", "dice_initial", "folding_percent")}
        save_model(settings.weights, model, settings.cascade_config, about)
    if settings.record:
        # A notebook's own cell has other defaults than `Settings`, so its command names every value.
        parameters = settings.model_dump(exclude_defaults=notebook is None)
        words = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
        command = f"papermill notebooks/{notebook}.ipynb run.ipynb -y {shlex.quote(json.dumps(parameters))}"
        if notebook is None:
            command = shlex.join(["lddr", "train", *words])
        details = {
            "notebook": notebook,
            "seed": settings.seed,
            "dataset": settings.dataset,
            "parameters": settings.model_dump(),
            "split": {cohort.split: len(cohort) for cohort in cohorts},
            "pairs": settings.pairs,
            "labels": "linear",
            "weights": sum(weight.numel() for weight in model.parameters()),
            "training_seconds": log[-1]["seconds"],
            "licence": test.licence,
            "test": summary,
            "log": thin(log),
            "rows": rounded(list(rows)),
        }
        write_record(settings.record, provenance(command, **details))
    return summary


def load_splits(settings: Settings, *splits: str) -> list[Cohort]:
    """The cohorts a run works on; without names, train, validation and test.

    Raises:
        InputError: scans that are not there or cannot be used.
    """
    cohorts = []
    for split in splits or ("train", "validation", "test"):
        subjects = settings.train_subjects if split == "train" else None
        which = (settings.dataset, split, None, settings.size, subjects or settings.subjects)
        cohorts.append(load_cohort(*which, fold=settings.fold))
    return cohorts


def make_distillation(settings: Settings, train: Cohort) -> tuple[Distillation | None, list[tuple[int, int]] | None]:
    """The teacher's part of a training run, as the settings ask for it; chapter 08.

    Args:
        settings: objective, teacher and store.
        train: the cohort the student will train on.

    Returns:
        What `fit` takes as `distillation` and `pairs`; both None for the objective "none".

    Raises:
        InputError: an objective without a teacher; a teacher of another grid; a store that does not belong, or that
            would be made for images that are bent or mirrored; a teacher that `require_fold` refuses.
    """
    if settings.objective == "none":
        if settings.teacher:
            print("No teacher is asked: the objective is none.")
        return None, None
    if settings.teacher is None:
        raise InputError(f"The objective '{settings.objective}' needs a teacher: a shipped model's name or a file.")
    model, config, about = load_model(settings.teacher)
    require_fold(settings.teacher, about, settings.dataset, settings.fold)
    if config.size != settings.size:
        raise InputError(f"{settings.teacher}: this teacher works on the grid {config.size}, not on {settings.size}.")
    size = (settings.size[0], settings.size[1], settings.size[2])
    if settings.store is None:
        return Distillation(settings.distill_config, on_the_fly(model), size, settings.seed), None
    refuse_augmentation(settings)
    generator = torch.Generator().manual_seed(settings.seed)
    moving, fixed = random_pairs(len(train), settings.store_pairs, generator)
    pairs = sorted(set(zip(moving.tolist(), fixed.tolist(), strict=True)))
    extract(model, train, pairs, settings.store)
    stored = StoredTeacher(settings.store, model, train)
    return Distillation(settings.distill_config, stored, size, settings.seed), pairs


def train_run(settings: Settings) -> dict[str, Any]:
    """One whole run, as chapter 05, chapter 06 and chapter 08 do it in steps: train, validate, measure, record.

    Returns:
        The figures of the test pairs, as `summarise` gives them.

    Raises:
        InputError: settings that do not go together; files that cannot be read or written.
    """
    train, validation, test = cohorts = load_splits(settings)
    # What can be refused is refused now, not after hours of training.
    pairs, fine = evaluation_pairs(len(test), settings.pairs), None
    if settings.fine_size:
        (fine,) = load_splits(settings.model_copy(update={"size": settings.fine_size}), "test")
        require_same_box(test, fine)
    for path in filter(None, (settings.record, settings.weights, settings.folder)):
        require_writable(path, folder=path == settings.folder)
    model = build_model(settings.cascade_config, settings.seed)
    if settings.start:
        started, config, about = load_model(settings.start)
        require_fold(settings.start, about, settings.dataset, settings.fold)
        if config.cascades == 1:  # then each network of a longer cascade begins as a copy of the one
            if config.network == "vtn":  # whose stems each move by 1/cascades of what their head says
                started.dense[0].get_parameter("head.weight").data *= settings.cascades
            started.dense.extend(copy.deepcopy(started.dense[0]) for _ in range(1, settings.cascades))
            config = config.model_copy(update={"cascades": settings.cascades})
        if config != settings.cascade_config:
            raise InputError(f"{settings.start}: this is another network than the settings describe ({config}).")
        model.load_state_dict(started.state_dict())
    distillation, stored = make_distillation(settings, train)
    log = fit(model, train.images, settings.fit_config, settings.folder, validator(validation), distillation, stored)
    rows = evaluate(model, test, pairs, surfaces=True, progress=True, fine=fine)
    return write_run(settings, None, model, log, cohorts, rows)
