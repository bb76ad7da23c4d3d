"""One whole training run: load, train, validate, measure, and leave a record and weights behind."""

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort, evaluation_pairs
from lddr.data.registry import data_set, load_cohort, share_subjects
from lddr.errors import InputError
from lddr.files import require_not_input, require_writable
from lddr.infer.evaluate import by_network, evaluate, require_same_box, summarise
from lddr.models import build_model, load_model, save_model
from lddr.record import Method, Record, Row, Summary, commit, provenance, rounded, write_record
from lddr.train.augment import varied
from lddr.train.checkpoint import is_first_process
from lddr.train.config import RunConfig
from lddr.train.distill import Distillation
from lddr.train.loop import fit
from lddr.train.sampling import random_pairs, refuse_augmentation
from lddr.train.teacher import StoredTeacher, extract, on_the_fly


def validator(cohort: Cohort) -> Callable[[RecursiveCascade], dict[str, float]]:
    """Make what `fit` calls now and then: Dice and folds on the ring pairs of the validation subjects."""
    pairs = evaluation_pairs(len(cohort))

    def validate(model: RecursiveCascade) -> dict[str, float]:
        summary = summarise(evaluate(by_network(model), cohort, pairs), cohort.label_names)
        figures = {"dice": summary.dice_mean, "folding_percent": summary.folding_percent}
        return {name: float("nan") if value is None else value for name, value in figures.items()}

    return validate


def thin(log: Sequence[dict[str, float]], points: int = 300) -> list[dict[str, float]]:
    """Keep every validation row, and about `points` of the others: enough to draw the curves; chapter 06."""
    training = [row for row in log if "loss" in row]
    kept = training[:: max(1, len(training) // points)] + [row for row in log if "loss" not in row]
    return sorted(kept, key=lambda row: row["step"])


def require_fold(model: str, about: dict[str, Any], dataset: str, fold: int) -> None:
    """Refuse (`InputError`) a model trained on another fold of the same subjects: it has seen those this fold tests.

    `about` is what `load_model` says; older weights do not know their fold and are taken.
    """
    trained = about.get("fold", fold)
    if share_subjects(about.get("dataset"), dataset) and trained != fold:
        raise InputError(f"{model}: trained for fold {trained}, this model has seen the test scans of fold {fold}.")


def require_outputs(config: RunConfig) -> None:
    """Refuse (`InputError`) outputs of a run that cannot be written, or would take the place of something it needs."""
    output, teaching = config.output, config.teaching
    if output.folder:
        require_writable(output.folder, folder=True)
    taken = [Path(name) for name in (teaching.start, teaching.teacher) if name and Path(name).is_file()]
    taken += [Path(output.folder) / name for name in ("checkpoint.pt", "log.jsonl") if output.folder]
    for path in filter(None, (output.record, output.weights, teaching.store)):
        require_writable(path)
        require_not_input(path, taken)
        taken.append(Path(path))


def load_splits(config: RunConfig, *splits: str) -> list[Cohort]:
    """Load the cohorts a run works on; without names, train, validation and test.

    Raises:
        InputError: scans that are not there or cannot be used.
    """
    cohorts, data = [], config.data
    for split in splits or ("train", "validation", "test"):
        subjects = data.train_subjects if split == "train" else None
        which = (data.dataset, split, None, config.model.size, subjects or data.subjects)
        cohorts.append(load_cohort(*which, fold=data.fold))
    return cohorts


def load_fine(config: RunConfig, test: Cohort) -> Cohort | None:
    """Load the test subjects on the finer grid that is measured on, if the settings ask for one.

    Raises:
        InputError: the finer grid does not cover the same box.
    """
    if not config.data.fine_size:
        return None
    data = config.data
    fine = load_cohort(data.dataset, "test", None, data.fine_size, data.subjects, fold=data.fold)
    require_same_box(test, fine)
    return fine


def starting_model(config: RunConfig) -> RecursiveCascade:
    """Build the model that training starts with: new, or grown from saved weights.

    Raises:
        InputError: saved weights of another network, or of another fold.
    """
    model, start = build_model(config.model, config.train.seed), config.teaching.start
    if not start:
        return model
    started, found, about = load_model(start)
    require_fold(start, about, config.data.dataset, config.data.fold)
    if found.cascades == 1:  # then each network of a longer cascade begins as a copy of the one
        cascades = config.model.cascades
        if found.network == "vtn":  # whose stems each move by 1/cascades of what their head says
            started.dense[0].get_parameter("head.weight").data *= cascades
        started.dense.extend(copy.deepcopy(started.dense[0]) for _ in range(1, cascades))
        found = found.model_copy(update={"cascades": cascades})
    if found != config.model:
        raise InputError(f"{start}: this is another network than the settings describe ({found}).")
    model.load_state_dict(started.state_dict())
    return model


def make_distillation(config: RunConfig, train: Cohort) -> tuple[Distillation | None, list[tuple[int, int]] | None]:
    """Make the teacher's part of a training run, as the settings ask for it.

    Args:
        config: objective, teacher and store.
        train: the cohort the student will train on.

    Returns:
        What `fit` takes as `distillation` and `pairs`; both None for the objective "none".

    Raises:
        InputError: an objective without a teacher; a teacher of another grid; a store that does not belong, or that
            would be made for images that are bent or mirrored; a teacher that `require_fold` refuses.
    """
    objective, teaching, seed = config.distill.objective, config.teaching, config.train.seed
    if objective == "none":
        if teaching.teacher:
            print("No teacher is asked: the objective is none.")
        return None, None
    if teaching.teacher is None:
        raise InputError(f"The objective '{objective}' needs a teacher: a shipped model's name or a file.")
    if config.train.devices > 1:
        raise InputError("Each device would train a discriminator of its own: set devices to 1.")
    model, found, about = load_model(teaching.teacher)
    require_fold(teaching.teacher, about, config.data.dataset, config.data.fold)
    if found.size != config.model.size:
        raise InputError(
            f"{teaching.teacher}: this teacher works on the grid {found.size}, not on {config.model.size}."
        )
    size = (found.size[0], found.size[1], found.size[2])
    if teaching.store is None:
        return Distillation(config.distill, on_the_fly(model), size, seed), None
    refuse_augmentation(config.train)
    generator = torch.Generator().manual_seed(seed)
    moving, fixed = random_pairs(len(train), teaching.store_pairs, generator)
    pairs = sorted(set(zip(moving.tolist(), fixed.tolist(), strict=True)))
    extract(model, train, pairs, teaching.store)
    stored = StoredTeacher(teaching.store, model, train)
    return Distillation(config.distill, stored, size, seed), pairs


def write_run(
    config: RunConfig,
    command: Sequence[str],
    model: RecursiveCascade,
    log: Sequence[dict[str, float]],
    cohorts: Sequence[Cohort],
    rows: Sequence[Row],
    notebook: str | None = None,
) -> Summary:
    """Write the record and the weights of a training run, where the settings ask for them.

    Args:
        config: of the run; `output` names the files, None writes nothing.
        command: the words of the line that makes this run again.
        model: as trained.
        log: of `fit`.
        cohorts: train, validation and test.
        rows: of `evaluate` on the pairs of the test subjects that the settings name.
        notebook: name of the chapter that ran, without ending.

    Returns:
        The figures of the test pairs.

    Raises:
        InputError: one of the files cannot be written; the other one is written if it can be.
    """
    test, data, output = cohorts[-1], config.data, config.output
    summary = summarise(rows, test.label_names)
    fold = data.fold if data_set(data.dataset).folds else None
    objective, seed = config.distill.objective, config.train.seed
    method = Method.of_network(config.model, objective=objective, recipe=output.recipe, seed=seed)
    writers: list[Callable[[], None]] = []  # the record first: it cannot be made again from the weights
    if output.record:
        record = Record(
            **provenance(command),
            licence=test.licence,
            method=method,
            dataset=data.dataset,
            split={cohort.split: len(cohort) for cohort in cohorts},
            fold=fold,
            pair_list=data.pairs,
            measured_on=data.fine_size,
            parameters=config.flat(),
            weight_count=sum(weight.numel() for weight in model.parameters()),
            training_seconds=log[-1]["seconds"],
            notebook=notebook,
            test=summary,
            log=thin(log),
            rows=rounded(list(rows)),
        )
        writers.append(partial(write_record, output.record, record))
    if output.weights:
        about: dict[str, Any] = {"dataset": data.dataset, "spacing": test.spacing, "licence": test.licence}
        about |= {"objective": objective, "recipe": output.recipe, "seed": seed, "record": output.record}
        about |= {"fold": fold} if fold is not None else {}
        about |= {name: getattr(summary, name) for name in ("dice_mean", "dice_initial", "folding_percent")}
        writers.append(partial(save_model, output.weights, model, config.model, about))
    failures = []
    for write in writers:  # one that fails does not keep the other from being written
        try:
            write()
        except InputError as failure:
            failures.append(str(failure))
    if failures and output.folder:
        failures.append(f"The training is kept in {output.folder}: mend this, and run the same command again.")
    if failures:
        raise InputError(" ".join(failures))
    return summary


def train_run(config: RunConfig) -> Summary | None:
    """Make one whole run, as the chapters on training do it in steps: train, validate, measure, record.

    Returns:
        The figures of the test pairs; None in the processes of a data-parallel run that only train.

    Raises:
        InputError: settings that do not go together; files that cannot be read or written.
        DivergedError: the loss is no longer finite.
    """
    commit()  # remembered from here on: the record names the code this process began with
    require_outputs(config)
    train, validation, test = cohorts = load_splits(config)
    # What can be refused is refused now, not after hours of training.
    pairs, fine = evaluation_pairs(len(test), config.data.pairs), load_fine(config, test)
    model = starting_model(config)
    distillation, stored = make_distillation(config, train)
    more = (config.output.folder, validator(varied(validation, config.train)), distillation, stored)
    log = fit(model, train.images, config.train, config.loss, *more, progress=is_first_process())
    if not is_first_process():
        return None
    rows = evaluate(by_network(model), test, pairs, surfaces=True, progress=True, fine=fine)
    defaults = RunConfig().flat()
    words = [
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in config.flat().items()
        if value != defaults[name]
    ]
    return write_run(config, ["lddr", "train", *words], model, log, cohorts, rows)
