"""The exceptions that a user is meant to read.

Everything that can be wrong with what a user hands over (a file, a parameter, a model name) is reported as an
`InputError` whose message is one sentence: what was looked at, what was found, what was expected. The command line
prints it and leaves with exit code 2; a notebook shows it as the last line of the cell.
"""


class InputError(ValueError):
    """Report that something the user handed over cannot be used; the message says what, and what would be right."""


class DivergedError(ArithmeticError):
    """Report a training whose loss is no longer a finite number: the input was in order, the optimisation was not."""
