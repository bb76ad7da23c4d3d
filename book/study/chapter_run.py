"""The record that a chapter's training run leaves.

It stands apart from `study.chapter`, so that only the chapters that train depend on the code of training.
"""

import math
from collections.abc import Sequence

import yaml

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.record import Row, Summary
from lddr.train.run import write_run
from study.chapter import Parameters


def write_chapter_run(
    p: Parameters,
    notebook: str,
    model: RecursiveCascade,
    log: Sequence[dict[str, float]],
    cohorts: Sequence[Cohort],
    rows: Sequence[Row],
) -> Summary:
    """Write the record and the weights of a chapter's training run, where its parameters ask for them.

    Args:
        p: the chapter's parameters.
        notebook: name of the chapter, without ending.
        model: as trained.
        log: of `fit`.
        cohorts: train, validation and test.
        rows: of `evaluate` on the pairs of the test subjects.
    """
    # By YAML's own writer: it would read JSON's 1e-05 back as a word.
    values = yaml.safe_dump(vars(p), default_flow_style=True, allow_unicode=True, sort_keys=False, width=math.inf)
    command = ["papermill", f"notebooks/{notebook}.ipynb", "run.ipynb", "-y", values.strip()]
    config = p.run
    output = config.output.model_copy(update={"recipe": f"chapter {notebook[:2]}"})
    return write_run(config.model_copy(update={"output": output}), command, model, log, cohorts, rows, notebook)
