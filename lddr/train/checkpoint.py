"""What a training run must remember, and the file that lets it go on where it was."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lddr.errors import InputError
from lddr.files import atomic_write
from lddr.record import finite

KEPT = ("identity", "step", "seconds", "log", "figures", "best", "best_dice")  # in the checkpoint, beside the parts


class Run:
    """The state of a training run: step, log, best weights; and its file.

    Args:
        folder: where `checkpoint.pt` and `log.jsonl` live; None: nowhere.
        parts: what has a `state_dict`: model, optimiser, distillation.
        identity: what decides the outcome; a checkpoint with another one is refused.
        writes: whether this process writes; only the first of several does.

    Raises:
        InputError: the folder holds another run, or a damaged file.
    """

    def __init__(
        self, folder: str | Path | None, parts: dict[str, Any], identity: dict[str, Any], writes: bool = True
    ) -> None:
        self.folder, self.parts, self.identity = Path(folder) if folder else None, parts, identity
        self.writes = writes
        self.step, self.seconds, self.best_dice = 0, 0.0, -1.0
        self.best: dict[str, Tensor] | None = None
        self.log: list[dict[str, float]] = []
        self.figures: dict[str, float] = {}  # of the last adversarial step, until a row of the log takes them
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "checkpoint.pt").exists():
                self._resume(self.folder / "checkpoint.pt")

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError):  # what torch says of half a file
            raise InputError(f"{path}: the checkpoint is damaged; delete it to start afresh.") from None
        found = state.get("identity", {})
        different = [name for name in self.identity if name not in found or found[name] != self.identity[name]]
        if different or len(found) != len(self.identity):
            raise InputError(
                f"{path}: this folder holds another run ({', '.join(different) or 'distillation'} differ); choose "
                "another folder, or delete this one to start afresh."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        vars(self).update({name: state[name] for name in KEPT})

    def add(self, figures: dict[str, float]) -> None:
        """Append a row to the log."""
        self.log.append({"step": self.step, "seconds": round(self.seconds, 1)} | figures)

    def add_validation(self, figures: dict[str, float]) -> None:
        """Append the figures of a validation; the weights with the best Dice so far are kept."""
        self.add({f"validation_{name}": value for name, value in figures.items()})
        if figures.get("dice", -1.0) > self.best_dice:
            self.best_dice = figures["dice"]
            self.best = {k: v.detach().cpu().clone() for k, v in self.parts["model"].state_dict().items()}

    def save(self) -> None:
        """Write checkpoint and log, each whole or not at all."""
        if self.folder is None or not self.writes:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {name: getattr(self, name) for name in KEPT}
        with atomic_write(self.folder / "checkpoint.pt") as part:
            torch.save(state, part)
        with atomic_write(self.folder / "log.jsonl") as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in finite(self.log)))
