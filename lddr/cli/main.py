"""The command line: `lddr register`, `lddr apply`, `lddr evaluate`, `lddr train`, `lddr models`.

A command's file imports what it needs only when it runs, so that `lddr --help` answers at once.
"""

import argparse
import io
import os
import sys

from lddr.cli import apply, evaluate, models, register, train
from lddr.errors import DivergedError, InputError

COMMANDS = {"register": register, "apply": apply, "evaluate": evaluate, "train": train, "models": models}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; None takes the words of the real command line.

    Returns:
        The exit code: 0; 2 after a sentence on what the user should change; 1 if a training diverged, or if nobody
        reads what is printed; 130 if the user stopped it.
    """
    _prepare_streams()
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, where it can be told what went wrong
    except BrokenPipeError:  # as in `lddr models | head -1`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes once more
        return 1


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lddr", description="Light-weight deformable registration of 3-D scans.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.ABOUT, allow_abbrev=False)
        command.epilog = "examples:\n" + "\n".join(f"  {example}" for example in module.EXAMPLES)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(words)
    options.words = ["lddr", *words]
    try:
        options.run(options)
    except (InputError, DivergedError) as error:
        print(f"lddr: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt as stop:
        print(f"\nlddr: interrupted. {stop}".rstrip(), file=sys.stderr)
        return 130
    return 0


def _prepare_streams() -> None:
    """Let every name be printed, on every terminal, and nothing into a file of ours because a stream was closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed, as in `lddr models >&-`: the next file to be opened would take its number
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
