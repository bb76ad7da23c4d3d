"""Figure 1: accuracy against cost, from the records of cost and of trained networks, as chapter 11 shows them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator

from lddr.plotting import COLOURS
from lddr.record import CostRecord, Record
from study.claims import on_cpu
from study.cost import SHAPES
from study.methods import TOOLS, by_method, in_words
from study.stats import dice_table
from study.table1 import Methods, network_of
from study.tables import COMMANDS, shown

DATASETS = {"hippocampus": "hippocampus MR", "liver_mr": "liver MR"}
STYLES = dict(zip(SHAPES, zip("o^sDv", COLOURS, strict=False), strict=True))
# Of the figure: networks whose seconds are bars, and trained ones whose Dice is a line.
BARS = {"VTN": ("0.4", None), "VTN of our teacher": (COLOURS[0], "//"), "LDR": (COLOURS[2], None)}
LINES = {"RCN, VTN": ("s-", COLOURS[0]), "LDR": ("^--", COLOURS[2]), "LDR + ALDK": ("o-", COLOURS[1])}
IN_THE_FIGURE = {"RCN, VTN": "VTN of our teacher"}  # what the tables call RCN, VTN on these small grids
MARKS = "osD^vPX*h<"


class Seconds(NamedTuple):
    """Seconds a pair, and where they are from.

    Attributes:
        of: network -> seconds; None: not measured.
        words: grid and hardware.
    """

    of: pd.Series | None
    words: str


def from_record(record: CostRecord) -> Seconds:
    """Read the seconds of all networks from a record of cost."""
    on = record.machine
    hardware = on.gpu if record.device == "cuda" else f"{on.cpu}, threads: {record.threads}"
    seconds = pd.Series({name: cost["seconds"] for name, cost in record.networks.items()})
    return Seconds(seconds, f"{record.size[0]}³, {hardware}")


def by_threads() -> dict[int, CostRecord]:
    """Read the records of cost on a CPU: number of threads -> record."""
    return {record.threads: record for record in on_cpu().values()}


def seconds_table() -> HTML | Markdown:
    """Show the recorded seconds: the median, and between which values the middle half lies."""
    columns: dict[str, dict[str, str]] = {}
    for record in on_cpu().values():
        for name, cost in (record.networks | record.tools).items():
            low, high = cost["quartiles"]
            between = f" ({low:.2f} to {high:.2f})" if cost["runs"] > 1 else ""
            count = cost.get("threads", record.threads)
            column = columns.setdefault(f"{count} thread{'s' * (count > 1)}", {})
            column[TOOLS.get(name, name)] = f"{cost['seconds']:.2f}{between}"
    rows = pd.DataFrame(columns).fillna("").T.to_dict() if columns else {}
    return shown(rows, "seconds a pair at 128³")


def plain(*axes: Axis) -> None:
    """Give logarithmic axes numbers that one can read."""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


def dots(ax: Axes, x: pd.Series, y: pd.Series) -> None:
    """Draw a dot for every network, those of one shape alike."""
    for name, (marker, colour) in STYLES.items():
        own = [f"{name}, {in_words(n)}" for n in SHAPES[name]["cascades"]]
        ax.plot(x[own], y[own], marker, color=colour, ms=7, alpha=0.8, label=name)


def draw_against_counts(counts: pd.DataFrame, seconds: pd.Series, rank: Mapping[str, float]) -> None:
    """Draw seconds over weights, MACs and bytes, each with its rank correlation."""
    units = {"weights": ("weights, millions", 1e6), "MACs": ("MACs, 10⁹", 1e9), "bytes": ("bytes moved, GB", 1e9)}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained", sharey=True)
    for ax, (column, (label, unit)) in zip(axes, units.items(), strict=True):
        dots(ax, counts[column] / unit, seconds)
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.set_title(f"rank correlation {rank[column]:.2f}", fontsize=11)
        plain(ax.xaxis, ax.yaxis)
    axes[0].set_ylabel("seconds a pair, one thread")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)


def _draw_seconds(ax: Axes, seconds: Seconds, letter: str) -> None:
    ax.set(xlabel="cascades", ylabel="seconds a pair (bars)", xticks=(1, 2, 3), xlim=(0.4, 3.6))
    ax.set_title(letter if seconds.of is None else f"{letter}: {seconds.words}", fontsize=10)
    if seconds.of is None:
        ax.set(yticks=[], ylabel="")
        ax.text(2, 0.5, "not measured here", ha="center", transform=ax.get_xaxis_transform(), fontsize=10)
        return
    for place, (name, (colour, hatch)) in enumerate(BARS.items()):
        heights = [seconds.of[f"{name}, {in_words(n)}"] for n in (1, 2, 3)]
        x = [n + 0.26 * (place - 1) for n in (1, 2, 3)]
        ax.bar(x, heights, 0.24, color=colour, alpha=0.5, hatch=hatch, edgecolor="white", label=f"seconds, {name}")
    ax.set_ylim(0, 2.2 * max(seconds.of[f"{name}, {in_words(3)}"] for name in BARS))


def _draw_dice(ax: Axes, methods: Methods) -> None:
    for name, (style, colour) in LINES.items():
        runs: list[Sequence[Record]] = [methods.get(f"{name}, {in_words(n)}", []) for n in (1, 2, 3)]
        if any(runs):
            dice = [np.nanmean(dice_table(r), axis=0) if r else np.array([np.nan]) for r in runs]
            spread = [d.std(ddof=1) if len(d) > 1 else 0 for d in dice]
            words = f"Dice, {IN_THE_FIGURE.get(name, name)}"
            means = [d.mean() for d in dice]
            ax.errorbar((1, 2, 3), means, spread, fmt=style, color=colour, capsize=3, label=words)


def draw_figure_1(dataset: str, cpu: Seconds, gpu: Seconds) -> Markdown | None:
    """Draw Figure 1 of the posts for one data set: bars of seconds, lines of Dice, over cascades, on CPU and GPU."""
    methods = by_method(dataset)
    if not any(f"{name}, {in_words(n)}" in methods for name in LINES for n in (1, 2, 3)):
        return Markdown(f"There are no records of VTN or LDR on `{dataset}` yet; {COMMANDS}")
    widths = [3, 1 if gpu.of is None else 3]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained", width_ratios=widths)
    handles: dict[str, Artist] = {}
    for ax, seconds, letter in zip(axes, (cpu, gpu), ("(a) CPU", "(b) GPU"), strict=True):
        _draw_seconds(ax, seconds, letter)
        if seconds.of is None:
            continue
        twin = ax.twinx()
        _draw_dice(twin, methods)
        twin.spines["right"].set_visible(True)
        low, high = twin.get_ylim()
        twin.set(ylabel=f"Dice, {DATASETS[dataset]} (lines)", ylim=(low - 1.1 * (high - low), high))
        handles |= {str(h.get_label()): h for each in (ax, twin) for h in each.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=9)
    return None


def trade(methods: Methods) -> pd.DataFrame:
    """Gather the seconds a pair and the mean Dice of every method.

    Networks of one shape get the least of their seconds: another process on the machine can only add to a time.
    """
    shapes: dict[str, str] = {}
    least: dict[str, float] = {}
    for name, runs in methods.items():
        config = network_of(runs[0].method)
        shape = shapes[name] = config.model_dump_json(exclude={"size"}) if config else name
        took = [run.test.seconds_per_pair for run in runs]
        least[shape] = min([*took, least.get(shape, np.inf)])
    rows = {n: {"seconds": least[shapes[n]], "Dice": np.nanmean(dice_table(runs))} for n, runs in methods.items()}
    return pd.DataFrame(rows).T


def family(name: str, record: Record) -> tuple[str, str]:
    """Split the name of a method from its number of cascades: "LDR, 2 cascades" -> "LDR", "2"."""
    words = f", {in_words(record.method.cascades)}" if record.method.cascades else ""
    return (name.replace(words, ""), str(record.method.cascades)) if words and words in name else (name, "")


def draw_trade(dataset: str, front: pd.DataFrame) -> Markdown | None:
    """Draw Dice over seconds of every recorded method of a data set, and the stair of those on the front."""
    every = {name: by_method(name) for name in DATASETS}
    # A family has one colour and one mark on both data sets.
    families = list(dict.fromkeys(family(n, runs[0])[0] for methods in every.values() for n, runs in methods.items()))
    methods = every[dataset]
    if not methods:
        return Markdown(f"There are no records of `{dataset}` yet; {COMMANDS}")
    figure, ax = plt.subplots(figsize=(10.5, 5), layout="constrained")
    for method, (seconds, dice) in trade(methods).iterrows():
        name, cascades = family(str(method), methods[str(method)][0])
        place = families.index(name)
        ax.plot(seconds, dice, MARKS[place % 10], color=COLOURS[place % 7], ms=9, label=name)
        ax.annotate(cascades, (seconds, dice), (6, 4), textcoords="offset points", fontsize=9)
    ax.step(front.seconds, front.Dice, where="post", color="0.5", lw=1, zorder=0, label="front")
    once = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    ax.set(xscale="log", xlabel="seconds a pair, one thread", ylabel=f"mean Dice, {DATASETS[dataset]}")
    plain(ax.xaxis)
    ax.legend(once.values(), once.keys(), fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return None


def repeated_seconds(methods: Methods) -> HTML | Markdown:
    """Show how far the recorded seconds of one and the same network lie apart."""
    rows = {}
    for n in (1, 2, 3):
        names = [f"{kind}, {in_words(n)}" for kind in ("LDR", "LDR + ALDK", "LDR, best recipe")]
        times = sorted(1000 * run.test.seconds_per_pair for name in names for run in methods.get(name, []))
        if times:
            ends = {"fastest, ms": f"{times[0]:.0f}", "slowest, ms": f"{times[-1]:.0f}"}
            rows[f"LDR, {in_words(n)}"] = {"records": str(len(times))} | ends
    return shown(rows, "recorded seconds a pair")


def claims_about_cost(weights: pd.Series, alone: float | None = None) -> HTML | Markdown:
    """Set what the posts say about cost (C3, C5, C7) beside what is counted and recorded.

    Args:
        weights: of every network, as counted for 128³.
        alone: seconds of LDR with one cascade at 128³ in this run, if there is no record.
    """
    of, methods = weights, by_method("hippocampus")
    three = of["VTN, 3 cascades"] / of["LDR, 3 cascades"]
    one = (of["VTN, 3 cascades"] - of["VTN, 2 cascades"]) / (of["LDR, 3 cascades"] - of["LDR, 2 cascades"])
    if record := by_threads().get(1):
        seconds = {name: cost["seconds"] for name, cost in record.networks.items()}
        quick = sum(s <= 1 for s in seconds.values())
        fast = f"LDR, 3 cascades, one thread: {seconds['LDR, 3 cascades']:.2f} s; "
        fast += f"at most 1 s: {quick} of {len(seconds)} networks"
    else:
        fast = f"LDR, 1 cascade, one thread, now: {alone:.2f} s" if alone else "not measured at 128³ yet"
    pairs = [(methods.get(f"LDR, {in_words(n)}"), methods.get(f"LDR + ALDK, {in_words(n)}")) for n in (1, 2, 3)]
    equal = [a[0].weight_count == b[0].weight_count for a, b in pairs if a and b]
    said = {
        "C3, 3 cascades": ("about 8 times fewer weights", f"{three:.0f} times fewer"),
        "C3, one LDR, one VTN": ("about 10 times fewer weights", f"{one:.0f} times fewer"),
        "C5, a pair on a CPU": ("about 1 s, alone in their table", fast),
        "C7, weights with and without ALDK": ("the same", "the same" if equal and all(equal) else "no records yet"),
        "C7, time with and without ALDK": ("the same", "the same network, so the same"),
    }
    return shown({row: {"the posts (paper)": a, "here, 128³": b} for row, (a, b) in said.items()}, "")
