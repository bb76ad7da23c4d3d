"""Table 1 of one data set: every method, measured on the same pairs, beside a reference.

A method is a name and its records, one a seed. Numbers first (`numbers`), then the page (`page`).
"""

import html
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown

from lddr.deploy.cost import count_macs, count_parameters, peak_memory
from lddr.models import ModelConfig, build_model
from lddr.record import Method, Record, column
from study.stats import compare, dice_table, holm
from study.tables import COMMANDS, MISSING, downloads, html_table, sources

Methods = Mapping[str, Sequence[Record]]
REFERENCE = "RCN, VTN, 3 cascades"
START = "no registration"  # a line that nobody competes with
COLUMNS = ["Dice", "sd", "Jaccard", "HD95, mm", "folds, %", "gain", "low", "high", "p", "CPU, s", "GPU, s"]
COLUMNS += ["weights, M", "GMAC", "memory, MB", "seeds"]
MEANS = {"Jaccard": "jaccard_mean", "HD95, mm": "hd95_mean", "folds, %": "folding_percent"}
LESS_IS_BETTER = {"Dice": False, "Jaccard": False} | dict.fromkeys(
    ("HD95, mm", "folds, %", "CPU, s", "GPU, s", "weights, M", "GMAC", "memory, MB"), True
)
DIGITS = {"seeds": 0, "weights, M": 2, "GMAC": 2, "memory, MB": 0, "HD95, mm": 2}  # 3 elsewhere


def network_of(method: Method) -> ModelConfig | None:
    """Say how the network of a method is built; None for a tool, and for a network that is adapted to each pair.

    What an adapted network costs is its training steps, and those are not counted in any table.
    """
    if method.network is None or method.adapted:
        return None
    known = {name: getattr(method, name) for name in ModelConfig.model_fields}
    return ModelConfig.check({name: value for name, value in known.items() if value is not None})


def shell(config: ModelConfig) -> torch.nn.Module:
    """Build a network of shapes without values: enough to count, and nothing is computed or held."""
    with torch.device("meta"):
        return build_model(config)


@cache
def _counted(config: str) -> dict[str, float]:
    network = ModelConfig.model_validate_json(config)
    model = shell(network)
    return {
        "weights, M": count_parameters(model)["total"] / 1e6,
        "GMAC": count_macs(model, network.size) / 1e9,
        "memory, MB": peak_memory(model, network.size) / 1e6,
    }


def counted(method: Method) -> dict[str, float]:
    """Count weights, operations and memory of the network of a method, on the grid it ran on; {} if it has none."""
    config = network_of(method)
    return _counted(config.model_dump_json()) if config else {}


def on_gpu(record: Record) -> bool:
    """Say whether the seconds of a record are those of a GPU; classical tools know none."""
    asked = (record.parameters or {}).get("device")
    return record.machine.gpu is not None and record.method.tool is None and record.threads is None and asked != "cpu"


def seconds_of(methods: Methods) -> pd.DataFrame:
    """Give each method its median seconds, in the column of the device; networks built alike share one time.

    One network is as quick after one training as after another. What differs between their seconds is what else the
    machine did, so the median over the lines of one network stands in all of them.
    """
    seconds, shapes = {}, []
    for name, runs in methods.items():
        median, gpu = np.median([run.test.seconds_per_pair for run in runs]), on_gpu(runs[0])
        seconds[name] = {"CPU, s": np.nan if gpu else median, "GPU, s": median if gpu else np.nan}
        config = network_of(runs[0].method)
        shapes.append(config.model_dump_json() if config else name)
    return pd.DataFrame(seconds).T.astype(float).groupby(shapes).transform("median")


def line(runs: Sequence[Record], reference: Sequence[Record]) -> dict[str, float]:
    """Measure one method: means over pairs and seeds, the gain over the reference, and what is counted."""
    dice = dice_table(runs).mean(axis=1)
    row: dict[str, float] = {"seeds": len(runs), "Dice": np.nanmean(dice), "sd": np.nanstd(dice)}
    for name, field in MEANS.items():
        row[name] = column([run.test.model_dump() for run in runs], field).mean()
    if runs is not reference:
        row |= compare(runs, reference)
    return row | counted(runs[0].method)


def numbers(methods: Methods, reference: str) -> pd.DataFrame:
    """Make the table of one data set, as numbers; p is corrected by Holm's method for the number of lines."""
    rows = {name: line(runs, methods[reference]) for name, runs in methods.items()}
    frame = pd.DataFrame(rows).T.astype(float).join(seconds_of(methods)).reindex(columns=COLUMNS)
    return frame.assign(p=holm(frame.p))


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Write the numbers as the page shows them: the gain with its sign and verdict, its ends in one column."""

    def verdict(row: pd.Series) -> str:
        if np.isnan(row.p):
            return MISSING
        sign = "≈" if row.p >= 0.05 else "▲" if row.gain > 0 else "▼"
        return f"{row.gain:+.3f}\N{NO-BREAK SPACE}{sign}"

    def ends(row: pd.Series) -> str:
        return f"{row.low:+.3f}, {row.high:+.3f}" if np.isfinite(row.low) else MISSING

    page: dict[str, list[str]] = {}
    for name in frame.columns:
        if name == "gain":
            page["gain"] = [verdict(row) for _, row in frame.iterrows()]
            page["95 % interval"] = [ends(row) for _, row in frame.iterrows()]
        elif name not in ("low", "high", "p"):
            page[name] = [MISSING if np.isnan(x) else f"{x:.{DIGITS.get(name, 3)}f}" for x in frame[name]]
    return pd.DataFrame(page, index=frame.index)


def best_two(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Mark the best and the second best of every column; what looks equal in the table is equal."""
    marks: dict[tuple[str, str], str] = {}
    if len(frame) > 1:
        for name, less in LESS_IS_BETTER.items():
            values = frame[name].where(frame.index != START).round(DIGITS.get(name, 3))
            rank = values.rank(method="dense", ascending=less)
            marks |= {(row, name): {1: "best", 2: "second"}[r] for row, r in rank.items() if r in (1, 2)}
    return marks


def page(methods: Methods, name: str, reference: str, where: str = "", out: str | None = None) -> HTML:
    """Show the table of one data set, with a legend, downloads and sources.

    Args:
        methods: name -> records.
        name: of the data set; files are named after it.
        reference: name of the method that gains are measured over.
        where: HTML that says where the numbers come from; the records of the data set if left out.
        out: see `downloads`.
    """
    frame = numbers(methods, reference)
    pairs = " or ".join(str(n) for n in sorted({len(runs[0].rows) for runs in methods.values()}))
    legend = f"Pairs: {pairs}, with a Dice of {column(methods[reference][0].rows, 'dice_initial').mean():.3f}"
    legend += " before registration."
    if len(methods) > 1:
        legend += (
            " <span class='best'>Best</span> and <span class='second'>second best</span> of a column. "
            f"gain: Dice over <i>{html.escape(reference)}</i>, pair by pair; ▲ better, ▼ worse (Holm-corrected p &lt; "
            "0.05), ≈ not told apart; the interval is that of the line alone, and where one of the two has a single "
            f"seed, what another seed would change is not in it. {MISSING}: not measured here, or not counted: a tool "
            "has no weights, and a network that is adapted to each pair costs its training steps. "
            "In the book, a click on a header sorts."
        )
    table = html_table(texts(frame).rename_axis("method"), name, best_two(frame))
    return HTML(f"{table}<p>{legend}</p>{downloads(frame, f'table1_{name}', out)}{where or sources(name)}")


def page_or_sentence(methods: Methods, name: str, out: str | None = None) -> HTML | Markdown:
    """Show the recorded table of one data set, or say that there are no records; arguments as of `page`."""
    if not methods:
        return Markdown(f"No method has all its records of `{name}` yet. {COMMANDS}")
    return page(methods, name, REFERENCE if REFERENCE in methods else next(iter(methods)), out=out)


def seconds_clause(ours: Record, theirs: Record) -> str:
    """Explain a ratio of seconds that were taken on different grids; "" if they were not."""
    grids = [record.method.size for record in (ours, theirs)]
    if not all(grids) or grids[0] == grids[1]:
        return ""
    one, other = (size[0] for size in grids if size)
    return f" (in part because the one works on {one}³ voxels, the other on {other}³: the first table has both on 128³)"


def read_aloud(methods: Methods, name: str) -> Markdown:
    """Read a table aloud: a few sentences made from its numbers; arguments as of `page`."""
    if len(methods) < 3:
        return Markdown(f"Too few methods have records of `{name}` to read anything off them.")
    dice = {n: np.nanmean(dice_table(runs)) for n, runs in methods.items()}
    seconds = seconds_of(methods)["CPU, s"].dropna()  # not those of a GPU
    folds = {n: np.mean([run.test.folding_percent for run in runs]) for n, runs in methods.items()}
    first, second = sorted(dice, key=lambda n: dice[n], reverse=True)[:2]
    rough = max(folds, key=lambda n: folds[n])
    gain = compare(methods[first], methods[second])
    settled = "with an interval above zero" if gain["low"] > 0 else "with an interval that includes zero"
    text = f"Best on Dice is *{first}*, {gain['gain']:.4f} before *{second}*, {settled}. "
    if len(seconds):
        quick = seconds.idxmin()
        text += f"Fastest on a CPU is *{quick}*: its Dice is {dice[first] - dice[quick]:.3f} lower"
        if first in seconds:
            ratio = seconds[first] / seconds[quick]
            text += f", its time {ratio:,.{int(ratio < 10)}f} times shorter"
        text += f"{seconds_clause(methods[first][0], methods[quick][0])}. "
    return Markdown(text + f"Most folds: *{rough}*, {folds[rough]:.2f} % of the voxels.")
