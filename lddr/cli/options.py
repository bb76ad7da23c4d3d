"""What several commands of a command line share."""

import argparse
import gc
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lddr.errors import InputError


def at_least(least: int, most: int | None = None) -> Callable[[str], int]:
    """Make a reader of whole numbers within limits, for an option of a command line."""
    limits = f"a whole number from {least} {'up' if most is None else f'to {most}'}"

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"found '{text}', expected {limits}")
        return int(text)

    return read


def finite(text: str) -> float:
    """Read a finite number, for an option of a command line."""
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"found '{text}', expected a finite number")


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Let the garbage collector rest while PyTorch and others are imported, and leave their objects alone afterwards.

    They stay until the process ends. Looking through all of them again and again costs half a second.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def sentence_on_mistake() -> Iterator[None]:
    """End a command with exit code 2 and a sentence on stderr if the user made a mistake (`InputError`)."""
    try:
        yield
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a model and how it is used."""
    parser.add_argument("--model", required=True, metavar="NAME_OR_PATH", help="see lddr models")
    parser.add_argument("--repeats", type=at_least(1), default=1, metavar="R", help="apply dense networks R times")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def load(options: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """Load the model that the options name, onto their device: what `lddr.models.load_model` gives.

    Raises:
        InputError: no such model, or no such device.
    """
    import torch

    from lddr.models import load_model

    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but no CUDA device is there; use cpu.")
    device = "cpu" if options.device == "cpu" or not torch.cuda.is_available() else "cuda"
    model, config, about = load_model(options.model)
    return model.to(device), config, about
