"""`lddr train`: train a model, measure it and record the run."""

import argparse
import sys
from contextlib import redirect_stdout

from lddr.errors import DivergedError
from lddr.files import require_not_input

HELP = "train a model, measure it and record the run"
ABOUT = "Train a model on a data set. Parameters are given by name, in YAML files or as words."
EXAMPLES = [
    "lddr train size=[16,16,16] steps=20 train_subjects=4 subjects=2 weights=mine.safetensors record=mine.json",
    "lddr train size=[16,16,16] steps=20 train_subjects=4 subjects=2 start=mine.safetensors weights=longer.safetensors",
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("parameters", nargs="*", metavar="FILE.yaml or name=value", help="parameters; later words win")


def run(options: argparse.Namespace) -> None:
    """Train, and print the figures of the test pairs."""
    from lddr.config import read_parameters
    from lddr.train.checkpoint import is_first_process
    from lddr.train.config import FIELDS, RunConfig
    from lddr.train.run import train_run

    first = is_first_process()  # the others of a data-parallel run only train
    config = None
    try:
        with redirect_stdout(sys.stdout if first else None):
            config = RunConfig.check(read_parameters(options.parameters, FIELDS))
            for path in filter(None, (config.output.record, config.output.weights, config.teaching.store)):
                require_not_input(path, [word for word in options.parameters if "=" not in word])
            summary = train_run(config)
    except DivergedError:  # all of them stop together; the first one says so
        if first:
            raise
        sys.exit(1)
    except KeyboardInterrupt:
        if not first:
            sys.exit(130)
        folder = config.output.folder if config else None
        raise KeyboardInterrupt(
            f"The same command goes on from the last checkpoint in {folder}."
            if folder
            else "The same command begins anew; with folder=DIR it would go on where it was."
        ) from None
    if summary is None:
        return
    print(
        f"Test: Dice {summary.dice_initial:.3f} before, {summary.dice_mean:.3f} after, "
        f"{summary.folding_percent:.2f} % folded."
    )
    kept = " and ".join(name for name in (config.output.record, config.output.weights) if name)
    print(f"Next: see {kept}." if kept else "Next: add record=FILE.json weights=FILE.safetensors to keep it.")
