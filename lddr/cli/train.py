"""`lddr train`: train a model, measure it and record the run."""

import argparse
import sys
from contextlib import redirect_stdout

from lddr.errors import DivergedError

HELP = "train a model, measure it and record the run"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("parameters", nargs="*", metavar="FILE.yaml or name=value", help="parameters; later words win")


def run(options: argparse.Namespace) -> None:
    """Train, and print the figures of the test pairs."""
    from lddr.config import read_parameters
    from lddr.train.config import FIELDS, RunConfig
    from lddr.train.run import is_first_process, train_run

    first = is_first_process()  # the others of a data-parallel run only train
    try:
        with redirect_stdout(sys.stdout if first else None):
            config = RunConfig.check(read_parameters(options.parameters, FIELDS))
            summary = train_run(config)
    except DivergedError:  # all of them stop together; the first one says so
        if first:
            raise
        sys.exit(1)
    if summary is None:
        return
    print(
        f"Test: Dice {summary.dice_initial:.3f} before, {summary.dice_mean:.3f} after, "
        f"{summary.folding_percent:.2f} % folded."
    )
    kept = " and ".join(name for name in (config.output.record, config.output.weights) if name)
    print(f"Next: see {kept}." if kept else "Next: add record=FILE.json weights=FILE.safetensors to keep it.")
