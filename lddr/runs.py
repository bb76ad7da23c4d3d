"""What a training run leaves behind: the record every table is read from, and the weights."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from lddr.cascade import RecursiveCascade
from lddr.data import Cohort, evaluation_pairs
from lddr.evaluate import evaluate, summarise
from lddr.models import save_model
from lddr.records import provenance, write_record
from lddr.settings import Settings


def validator(cohort: Cohort) -> Callable[[RecursiveCascade], dict[str, float]]:
    """What `fit` calls now and then: Dice and folds on the ring pairs of the validation subjects.

    Args:
        cohort: the validation split.
    """
    pairs = evaluation_pairs(len(cohort))

    def validate(model: RecursiveCascade) -> dict[str, float]:
        summary = summarise(evaluate(model, cohort, pairs), cohort.label_names)
        return {"dice": summary["dice_mean"], "folding_percent": summary["folding_percent"]}

    return validate


def thin(log: Sequence[dict[str, float]], points: int = 300) -> list[dict[str, float]]:
    """Every validation row, and about `points` of the others: enough to draw the curves."""
    training = [row for row in log if "loss" in row]
    kept = training[:: max(1, len(training) // points)] + [row for row in log if "loss" not in row]
    return sorted(kept, key=lambda row: row["step"])


def write_run(
    settings: Settings,
    notebook: str,
    model: RecursiveCascade,
    log: Sequence[dict[str, float]],
    cohorts: Sequence[Cohort],
    rows: Sequence[dict[str, Any]],
) -> None:
    """Write the record and the weights of a training run, where the settings ask for them.

    Args:
        settings: of the run; `record` and `weights` name the files, None writes nothing.
        notebook: name of the chapter that ran, without ending.
        model: as trained.
        log: of `fit`.
        cohorts: train, validation and test.
        rows: of `evaluate` on the ring pairs of the test subjects.
    """
    test = cohorts[-1]
    summary = summarise(rows, test.label_names)
    if settings.record:
        parameters = settings.model_dump(exclude_defaults=True)
        command = f"papermill notebooks/{notebook}.ipynb run.ipynb -y '{json.dumps(parameters)}'"
        details = {
            "notebook": notebook,
            "seed": settings.seed,
            "dataset": settings.dataset,
            "parameters": settings.model_dump(),
            "split": {cohort.split: len(cohort) for cohort in cohorts},
            "pairs": "ring",
            "labels": "linear",
            "weights": sum(weight.numel() for weight in model.parameters()),
            "training_seconds": log[-1]["seconds"],
            "licence": test.licence,
            "test": summary,
            "log": thin(log),
            "rows": [{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows],
        }
        write_record(settings.record, provenance(command, **details))
    if settings.weights:
        about = {"dataset": settings.dataset, "spacing": test.spacing, "objective": "none", "licence": test.licence}
        about |= {name: summary[name] for name in ("dice_mean", "dice_initial", "folding_percent")}
        save_model(settings.weights, model, settings.cascade_config, about | {"record": settings.record})
