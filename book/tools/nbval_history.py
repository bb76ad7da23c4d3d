"""A pytest plugin: nbval runs cells with a history, as Jupyter does, since chapters read their parameters from it."""

from typing import Any

from nbval.kernel import RunningKernel


def _execute_with_history(kernel: Any, cell_input: str, allow_stdin: bool | None = None) -> str:
    """Send a cell to the kernel as `RunningKernel.execute_cell_input` does, but for `store_history`."""
    return kernel.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


RunningKernel.execute_cell_input = _execute_with_history
