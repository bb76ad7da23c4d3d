"""The command line: `lddr register`, `lddr evaluate`, `lddr train`, `lddr models`.

A command's file imports what it needs only when it runs, so that `lddr --help` answers at once.
"""

import argparse
import sys

from lddr.cli import evaluate, models, register, train
from lddr.errors import DivergedError, InputError

COMMANDS = {"register": register, "evaluate": evaluate, "train": train, "models": models}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; None takes the words of the real command line.

    Returns:
        The exit code: 0; 2 after a sentence on what the user should change; 1 if a training diverged.
    """
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="lddr", description="Light-weight deformable registration of 3-D scans.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, allow_abbrev=False)
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(words)
    options.words = ["lddr", *words]
    try:
        options.run(options)
    except (InputError, DivergedError) as error:
        print(f"lddr: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0
