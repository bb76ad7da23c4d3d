"""The tables of the book: lines made from records, HTML that sorts, files of the same, and where numbers come from."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from lddr.data.cohort import Cohort
from lddr.files import atomic_write
from lddr.infer.evaluate import summarise
from lddr.record import Method, Record, Row, provenance
from study.methods import title
from study.records import read_records
from study.stats import compare, dice_table

COMMANDS = "`python -m study` lists the commands that make them."
MISSING = "–"
# What a table needs to be read outside of the book, too; the book's own script makes it sort (`_static/sortable.js`).
STYLE = """<style>
table.sortable.sortable { font-size: 80%; }
table.sortable.sortable td, table.sortable.sortable th { padding: 0.15em 0.5em; text-align: right; }
table.sortable.wide { font-size: 71%; }
table.sortable.wide td, table.sortable.wide th { padding: 0.15em 0.25em; }
table.sortable.sortable td { white-space: nowrap; }
table.sortable.sortable tbody th, table.sortable.sortable .corner { text-align: left; }
table.sortable.wide tbody th { min-width: 13em; }
table.sortable.sortable .best, span.best { background: #cfe3f5; color: #000; font-weight: bold; }
table.sortable.sortable .second, span.second { text-decoration: underline 2px; }
</style>"""
WIDE = 8  # columns; a table with more is set smaller
Cell = tuple[Any, str]  # row, column


def live_record(notebook: str, method: Method, test: Cohort, rows: Sequence[Row], threads: int | None = None) -> Record:
    """Make a record of what a chapter has measured here and now.

    Args:
        notebook: name of the chapter, without ending.
        method: what registered the pairs; an empty one stands for no registration, which takes no time worth a line.
        test: the subjects.
        rows: of `evaluate` on a ring of them.
        threads: that everything was limited to, GPU left aside.
    """
    summary = summarise(rows, test.label_names)
    if method == Method():
        summary = summary.model_copy(update={"seconds_per_pair": np.nan})
    return Record(
        **provenance(["papermill", f"notebooks/{notebook}.ipynb", "run.ipynb"]),
        licence=test.licence,
        method=method,
        dataset=test.name,
        split={test.split: len(test)},
        pair_list="ring",
        threads=threads,
        test=summary,
        rows=list(rows),
    )


def table_row(runs: Sequence[Record], reference: Sequence[Record] | None = None) -> dict[str, str]:
    """Make a line of the book's tables, from the records of one method.

    Args:
        runs: records, one a seed.
        reference: those of the method it is compared with; None leaves the comparison out.

    Returns:
        Column -> text: seeds, Dice (with the standard deviation over seeds), folded %, and the gain over the reference
        with its interval and p.
    """
    dice = dice_table(runs).mean(axis=0)
    spread = f" ± {dice.std(ddof=1):.3f}" if len(runs) > 1 else ""
    folded = np.mean([run.test.folding_percent for run in runs])
    row = {"seeds": str(len(runs)), "Dice": f"{dice.mean():.3f}{spread}", "folded %": f"{folded:.3f}"}
    if reference:
        gain = compare(runs, reference)
        row |= {"gain": f"{gain['gain']:+.4f}", "95 % interval": f"{gain['low']:+.3f}, {gain['high']:+.3f}"}
        row |= {"p": f"{gain['p']:.0e}"}
    return row


def html_table(frame: pd.DataFrame, name: str = "", marks: Mapping[Cell, str] | None = None) -> str:
    """Write a table as HTML that a click on a header sorts, with everything in it escaped.

    Args:
        frame: texts; names of its index stand in the corner.
        name: makes the table known to a style sheet as "T_name".
        marks: (row, column) -> "best" or "second".
    """
    marks = marks or {}
    corner = "".join(f'<th class="corner">{html.escape(name or "")}</th>' for name in frame.index.names)
    heads = "".join(f"<th>{html.escape(str(column))}</th>" for column in frame.columns)
    lines = []
    for row, values in zip(frame.index, frame.to_numpy().tolist(), strict=True):
        names = "".join(f"<th>{html.escape(str(part))}</th>" for part in (row if isinstance(row, tuple) else (row,)))
        cells = ""
        for column, value in zip(frame.columns, values, strict=True):
            mark = f' class="{marks[row, column]}"' if marks.get((row, column)) else ""
            cells += f"<td{mark}>{html.escape(str(value))}</td>"
        lines.append(f"<tr>{names}{cells}</tr>")
    known = f' id="T_{html.escape(name)}"' if name else ""
    head = f"<thead><tr>{corner}{heads}</tr></thead>"
    wide = " wide" * (len(frame.columns) > WIDE)
    return f'{STYLE}<table class="sortable{wide}"{known}>{head}<tbody>{"".join(lines)}</tbody></table>'


def shown(rows: Mapping[Any, Mapping[str, str]], names: str | Sequence[str]) -> HTML | Markdown:
    """Show lines as a table that sorts, or say that there are none.

    Args:
        rows: name, or names, of a line -> column -> text; a column that a line lacks stays empty.
        names: what the names of the lines are.
    """
    if not rows:
        return Markdown(f"*There are no records for this table yet. {COMMANDS}*")
    return HTML(html_table(pd.DataFrame(rows).T.rename_axis(names).fillna("")))


def downloads(frame: pd.DataFrame, name: str, out: str | None = None) -> str:
    """Offer a table as CSV and LaTeX: HTML with links that carry the text with them.

    Args:
        frame: of numbers or texts.
        name: of the files, without ending.
        out: folder to write them to as well; None: only in the page.

    Raises:
        OSError: the folder cannot be written to.
    """
    latex = frame.drop(columns="p", errors="ignore").to_latex(escape=True, float_format="%.3f", na_rep="--")
    texts = {"csv": frame.to_csv(index_label="method"), "tex": latex}
    links = []
    for ending, text in texts.items():
        if out:
            with atomic_write(Path(out) / f"{name}.{ending}") as part:
                part.write_text(text, encoding="utf-8")
        address = f"data:text/plain;charset=utf-8,{quote(text)}"
        links.append(f'<a download="{html.escape(name)}.{ending}" href="{address}">{ending.upper()}</a>')
    code = f"<pre style='font-size: 70%'>{html.escape(latex)}</pre>"
    return f"<details><summary>The same as CSV and LaTeX</summary>Download: {' · '.join(links)}{code}</details>"


def sources(dataset: str) -> str:
    """List the command, machine and date of every record behind Table 1 of one data set, as HTML to unfold."""
    rows = []
    for name, record in read_records(dataset).items():
        if title(record.method) and "test" in record.split:
            machine = record.machine
            threads = record.threads or machine.threads
            where = f"{machine.gpu or machine.cpu}, {machine.cores} cores, {threads} thread{'s' * (threads > 1)}"
            command = f"<code>{html.escape(record.command)}</code>"
            rows.append([html.escape(f"{dataset}/{name}"), command, html.escape(where), html.escape(record.date[:10])])
    heads = "".join(f"<th style='text-align: left'>{h}</th>" for h in ("record", "command", "machine", "date"))
    cells = ["".join(f"<td style='text-align: left'>{c}</td>" for c in row) for row in rows]
    body = f"<tr>{heads}</tr>" + "".join(f"<tr>{row}</tr>" for row in cells)
    summary = f"Where the numbers come from: {len(rows)} records"
    return f"<details><summary>{summary}</summary><table style='font-size: 70%'>{body}</table></details>"
