"""The exceptions that a user is meant to read.

Everything that can be wrong with what a user hands over (a file, a parameter, a model name) is reported as an
`InputError` whose message is one sentence: what was looked at, what was found, what was expected. The command line
prints it and leaves with exit code 2; a notebook shows it as the last line of the cell. What had to be guessed is
announced as a warning.
"""

import errno
import sys
from pathlib import Path

# Why the system does not let a file be read -> what helps.
CURES = {
    errno.EACCES: "ask its owner for the right to read it",
    errno.EAGAIN: "another program is writing to it, wait for it",
    errno.EISDIR: "this is a folder, name a file in it",
    errno.EIO: "the disk or the network fails, copy the file to another disk",
    errno.ENAMETOOLONG: "give it a shorter name",
}


class InputError(ValueError):
    """Report that something the user handed over cannot be used; the message says what, and what would be right."""


class DivergedError(ArithmeticError):
    """Report a training whose loss is no longer a finite number: the input was in order, the optimisation was not."""


def unreadable(path: str | Path, error: OSError) -> InputError:
    """Make the error for a file that the system does not let us read: the true cause, and what helps."""
    if error.errno == errno.ENOENT:
        return InputError(f"{path}: there is no such file.")
    cure = f"; {CURES[error.errno]}" if error.errno in CURES else ""
    return InputError(f"{path}: cannot be read ({error.strerror or error}){cure}.")


def warn(sentence: str) -> None:
    """Announce on stderr what had to be guessed, so that it does not mix with results."""
    print(f"lddr: warning: {sentence}", file=sys.stderr)
