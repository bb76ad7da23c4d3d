"""What a training run must remember, and the file that lets it go on where it was."""

import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from lddr.errors import InputError, unreadable
from lddr.files import atomic_write, load_tensors, locked, save_tensors
from lddr.record import finite

# In the checkpoint, beside the state of the parts: name -> type.
KEPT = {
    "identity": dict,
    "step": int,
    "seconds": float,
    "log": list,
    "figures": dict,
    "best": dict | None,
    "best_dice": float,
}


def is_first_process() -> bool:
    """Say whether this is the process of a data-parallel run that evaluates, writes and prints."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return int(next(filter(None, ranks), "0")) == 0


def one_writer(folder: str | Path | None) -> AbstractContextManager[None]:
    """Keep the folder of a training run, if it has one, for this run; the first of several processes does.

    Raises:
        InputError: another run is using it, or it cannot be written.
    """
    return locked(Path(folder) / ".lddr.lock", "training") if folder and is_first_process() else nullcontext()


class Run:
    """The state of a training run: step, log, best weights; and its file.

    Args:
        folder: where `checkpoint.pt` and `log.jsonl` live; None: nowhere.
        parts: what has a `state_dict`: model, optimiser, distillation.
        identity: what decides the outcome; a checkpoint with another one is refused.
        writes: whether this process writes; only the first of several does.

    Raises:
        InputError: the folder holds another run, or a file that cannot be read.
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
        if self.folder and (self.folder / "checkpoint.pt").exists():
            self._resume(self.folder / "checkpoint.pt")
            self._write_log()  # a kill after the checkpoint was written may have lost its last rows

    def _resume(self, path: Path) -> None:
        damaged = InputError(f"{path}: the checkpoint is damaged; delete it to start afresh.")
        try:
            state = load_tensors(path)
        except OSError as error:
            raise unreadable(path, error) from None
        except ValueError:
            raise damaged from None
        if not _is_checkpoint(state):
            raise InputError(f"{path}: this is no checkpoint of lddr; choose another folder.")
        found = state["identity"]
        different = [name for name in self.identity if name not in found or found[name] != self.identity[name]]
        if different or len(found) != len(self.identity):
            raise InputError(
                f"{path}: this folder holds another run ({', '.join(different) or 'distillation'} differ); choose "
                "another folder, or delete this one to start afresh."
            )
        try:
            if state["best"] is not None:  # it must fit now, not after the last step
                self.parts["model"].load_state_dict(state["best"])
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
        except Exception:  # a part is missing, or has other shapes
            raise damaged from None
        vars(self).update({name: state[name] for name in KEPT})

    def add(self, figures: dict[str, float]) -> None:
        """Append a row to the log."""
        self.log.append({"step": self.step, "seconds": round(self.seconds, 1)} | figures)

    def add_validation(self, figures: dict[str, float]) -> None:
        """Append the figures of a validation; the weights with the best Dice so far are kept."""
        self.add({f"validation_{name}": value for name, value in figures.items()})
        if figures.get("dice", -1.0) > self.best_dice:
            self.best_dice = float(figures["dice"])
            self.best = {k: v.detach().cpu().clone() for k, v in self.parts["model"].state_dict().items()}

    def save(self) -> None:
        """Write checkpoint and log, each whole or not at all.

        Raises:
            InputError: they cannot be written, for example because the disk is full; the earlier ones stay.
        """
        if self.folder is None or not self.writes:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {name: getattr(self, name) for name in KEPT}
        save_tensors(self.folder / "checkpoint.pt", state)
        self._write_log()

    def _write_log(self) -> None:
        """Write the log; a copy, to look at, of the one in the checkpoint."""
        if self.folder is None or not self.writes:
            return
        path, text = self.folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in finite(self.log))
        if not path.exists() or path.read_bytes() != text.encode():
            with atomic_write(path) as part:
                part.write_text(text, encoding="utf-8")


def _is_checkpoint(state: Any) -> bool:
    """Say whether what a file holds has the names and types of a checkpoint."""
    return (
        isinstance(state, dict)
        and all(name in state and isinstance(state[name], kind) for name, kind in KEPT.items())
        and all(isinstance(row, dict) and {"step", "seconds"} <= row.keys() for row in state["log"])
    )
