"""Where an interrupted MMQ goes on: what it has so far, in one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companions.vqa.config import MetaConfig, MmqConfig
from companions.vqa.meta_net import MetaClassifier
from companions.vqa.mmq import Labelling, Quantified, Refinement
from lddr.files import load_tensors, save_tensors


def save_state(path: Path, meta: MetaConfig, mmq: MmqConfig, found: Quantified) -> None:
    """Write what `quantify` has after a meta-model.

    Raises:
        InputError: it cannot be written.
    """
    state = {
        "identity": identity(meta, mmq),
        "models": [model.state_dict() for model in found.models],
        "labellings": [[one.classes, one.unlabelled] for one in found.labellings],
        "refinements": [[one.dropped, one.added] for one in found.refinements],
        "logs": found.logs,
    }
    save_tensors(path, state)


def load_state(path: Path, meta: MetaConfig, mmq: MmqConfig) -> Quantified | None:
    """Read what `save_state` left; None if there is nothing whole, or something of a run with other settings."""
    try:
        state: Mapping[str, Any] = load_tensors(path)
    except (OSError, ValueError):
        return None
    if state["identity"] != identity(meta, mmq):
        return None
    models = [MetaClassifier(meta.ways + meta.other) for _ in state["models"]]
    for model, weights in zip(models, state["models"], strict=True):
        model.load_state_dict(weights)
    labellings = [Labelling(*one) for one in state["labellings"]]
    return Quantified(models, labellings, [Refinement(*one) for one in state["refinements"]], state["logs"])


def identity(meta: MetaConfig, mmq: MmqConfig) -> dict[str, Any]:
    """Collect what decides the outcome."""
    return meta.model_dump() | mmq.model_dump()
