"""Table 2: what the objective earns, and which part of it, from the recorded runs of chapter 10.

`Runs` are those of `whole_runs`: name -> record. A gain is what `compare` finds; None where a side is not recorded.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown

from lddr.plotting import COLOURS
from lddr.record import Record
from lddr.train.config import DistillConfig
from study.claims import CLAIMED_GAINS, interval
from study.grid import ABLATIONS, OBJECTIVES, SCHEDULES, TUNED
from study.methods import in_words, whole_runs
from study.stats import compare
from study.tables import shown, table_row

Runs = Mapping[str, Record]
Gain = dict[str, float]
IN_ORDER = ("none", "paper", "wgan-gp", "l2", "released")  # of the objectives in the table
CLAIMED_JACCARD = {1: 0.052, 2: 0.049, 3: 0.039}  # of LDR + ALDK over LDR alone on SLIVER, as `CLAIMED_GAINS`
CHANGES = {f"ablation_{factor}_{value}": (factor, value) for factor, values in ABLATIONS.items() for value in values}
REFERENCE = "student_1cas_paper_seed0"  # all factors at their defaults, and the same seed
NOTHING = "not recorded yet"
TITLES = {"hippocampus": "hippocampus MR", "liver_mr": "liver MR"}


def recorded_runs() -> dict[str, Runs]:
    """Read the runs on both data sets: title -> runs."""
    return {title: whole_runs(name) for name, title in TITLES.items()}


def students(runs: Runs, cascades: int, objective: str) -> list[Record]:
    """Find the students of Table 2 with one objective, one a seed."""
    wanted = {"network": "ldr", "recipe": "plain", "cascades": cascades, "objective": objective}
    return [run for run in runs.values() if run.method.model_dump(include={*wanted}) == wanted]


def tuned(runs: Runs) -> dict[str, list[Record]]:
    """Find the runs with one weight of the objective changed: name -> record."""
    return {name: [runs[f"tuned_{name}"]] for name in TUNED if f"tuned_{name}" in runs}


def with_schedule(runs: Runs, schedule: str) -> list[Record]:
    """Find the students trained on images alone with one of the released code's learning rates, one a seed."""
    found = [run for run in runs.values() if run.method.recipe == "schedule"]
    return [run for run in found if (run.parameters or {}).get("schedule") == schedule]


def gain(ours: Sequence[Record], theirs: Sequence[Record], measure: str = "dice") -> Gain | None:
    """Compare two sides, if both are recorded."""
    return compare(ours, theirs, measure) if ours and theirs else None


def of_paper(runs: Runs, cascades: int, measure: str = "dice") -> Gain | None:
    """Measure the gain of the literal objective over images alone."""
    return gain(students(runs, cascades, "paper"), students(runs, cascades, "none"), measure)


def table_2(runs: Runs) -> dict[tuple[int, str], dict[str, str]]:
    """Make the lines of Table 2, each compared with images alone at as many cascades."""
    rows = {}
    for cascades in CLAIMED_GAINS:
        alone = students(runs, cascades, "none")
        for name in IN_ORDER:
            if found := students(runs, cascades, name):
                rows[cascades, name] = table_row(found, alone if name != "none" else None)
    return rows


def beside_the_posts(recorded: Mapping[str, Runs]) -> HTML | Markdown:
    """Set the gains of ALDK on some data sets (title -> runs) beside those of the posts on SLIVER."""
    rows: dict[Any, dict[str, str]] = {}
    for name, runs in recorded.items():
        for n in CLAIMED_GAINS:
            row = rows[name, in_words(n)] = {}
            for measure, claimed in (("dice", CLAIMED_GAINS), ("jaccard", CLAIMED_JACCARD)):
                found = of_paper(runs, n, measure)
                row[f"{measure.title()}, here"] = interval(found) if found else NOTHING
                row[f"{measure.title()}, the paper's"] = f"{claimed[n]:+.3f}"
    return shown(rows, ["data", "cascades"])


def draw_beside_the_posts(recorded: Mapping[str, Runs]) -> None:
    """Draw the gains of `beside_the_posts` with their intervals, and the posts' figures without."""
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for i, (name, runs) in enumerate(recorded.items()):
        found = {n: g for n in CLAIMED_GAINS if (g := of_paper(runs, n))}
        ends = [[g["gain"] - g["low"] for g in found.values()], [g["high"] - g["gain"] for g in found.values()]]
        if found:
            x, y = [n - 0.12 + 0.12 * i for n in found], [g["gain"] for g in found.values()]
            ax.errorbar(x, y, ends, fmt="os"[i], color=COLOURS[i], capsize=3, label=f"{name}, here")
    x = [n + 0.12 for n in CLAIMED_GAINS]
    ax.plot(x, list(CLAIMED_GAINS.values()), "D", mfc="white", color="0.3", label="SLIVER, the paper's")
    ax.axhline(0, color="0.6", lw=1)
    ax.set(xticks=list(CLAIMED_GAINS), xlim=(0.6, 3.4), xlabel="cascades", ylabel="Dice of LDR + ALDK\nover LDR alone")
    figure.legend(loc="outside upper center", ncols=3)


def factors(runs: Runs) -> dict[tuple[str, Any], Gain]:
    """Measure what each recorded change of a single factor gains over the run with all defaults."""
    if REFERENCE not in runs:
        return {}
    return {change: compare([runs[n]], [runs[REFERENCE]]) for n, change in CHANGES.items() if n in runs}


def factor_table(runs: Runs) -> HTML | Markdown:
    """Show the lines of single factors."""
    done = {change: [runs[name]] for name, change in CHANGES.items() if name in runs and REFERENCE in runs}
    rows = {(factor, str(value)): table_row(run, [runs[REFERENCE]]) for (factor, value), run in done.items()}
    return shown(rows, ["factor", "value"])


def reference_dice(runs: Runs) -> tuple[list[float], float]:
    """Look up the Dice of the literal objective at one cascade: of all seeds, and of the reference among them."""
    return [run.test.dice_mean or 0 for run in students(runs, 1, "paper")], runs[REFERENCE].test.dice_mean or 0


def draw_factors(runs: Runs, left: float = -0.025) -> None:
    """Draw the gain of every changed factor over the reference; what lies left of `left` is written at the edge."""
    found = factors(runs)
    figure, ax = plt.subplots(figsize=(9, 1.9 + 0.34 * len(found)), layout="constrained")
    for i, g in enumerate(found.values()):
        ends = [[g["gain"] - g["low"]], [g["high"] - g["gain"]]]
        ax.errorbar(g["gain"], -i, xerr=ends, fmt="o", color=COLOURS[0], capsize=3)
        if g["gain"] < left:
            words = f"← {g['gain']:.3f}"
            ax.annotate(words, (left, -i), (4, 0), textcoords="offset points", va="center", fontsize=10)
    if REFERENCE in runs:
        seeds, own = reference_dice(runs)
        band = min(seeds) - own, max(seeds) - own
        ax.axvspan(*band, color="0.9", label=f"where the reference's {len(seeds)} seeds fall")
        if level := gain(students(runs, 1, "none"), [runs[REFERENCE]]):
            ax.axvline(level["gain"], color=COLOURS[1], ls="--", label="images alone, mean over seeds")
    ax.axvline(0, color="0.5", lw=1, label="reference, seed 0")
    named = [f"{factor} = {value} (not {getattr(DistillConfig(), factor)})" for factor, value in found]
    ax.set_yticks([-i for i in range(len(found))], named)
    ax.set(xlabel="Dice over the run with the defaults", ylim=(-len(found) + 0.4, 0.6))
    ax.set_xlim(left=max(left, ax.get_xlim()[0]))
    ax.locator_params(axis="x", nbins=7)
    figure.legend(loc="outside upper center", ncols=3)


def missing(recorded: Mapping[str, Runs]) -> str:
    """List the runs that chapter 10 has no record of; those of a liver set stand for one in each fold."""
    names = [f"student_{n}cas_{o}_seed{s}" for n in CLAIMED_GAINS for o, seeds in OBJECTIVES.items() for s in seeds]
    names += [*(f"tuned_{name}" for name in TUNED), *CHANGES]
    names += [f"schedule_{name}_seed{s}" for name in SCHEDULES for s in (0, 1, 2)]
    liver = [f"student_{n}cas_{name}_seed0" for n in CLAIMED_GAINS for name in ("none", "paper")]
    lines = []
    for title, wanted in zip(TITLES.values(), (names, liver), strict=True):
        absent = [name for name in wanted if name not in recorded[title]]
        lines.append(f"{title}: {len(absent)} of {len(wanted)} missing{':' * bool(absent)}")
        if absent:
            words = ", ".join(absent)
            lines.append(fill(words, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join(lines)


def verdicts(recorded: Mapping[str, Runs]) -> Markdown:
    """Say what the records support: a gain is an interval above zero, a loss one below."""
    runs = recorded[TITLES["hippocampus"]]
    lines = [line for name, found in recorded.items() for line in _verdict_on_paper(name, found)]
    return Markdown("\n".join(f"- {line}" for line in [*lines, _on_others(runs), _on_factors(runs), _on_rate(runs)]))


def _verdict_on_paper(name: str, runs: Runs) -> list[str]:
    lines = []
    for n, claimed in CLAIMED_GAINS.items():
        if g := of_paper(runs, n):
            side = "a gain" if g["low"] > 0 else "a loss" if g["high"] < 0 else "neither a gain nor a loss"
            reach = "reaches" if g["high"] >= claimed else "ends below"
            single = min(len(students(runs, n, objective)) for objective in ("paper", "none")) == 1
            few = " With a single seed on a side, what another seed would change is not in it." if single else ""
            words = f"{side}, {interval(g)}; the interval {reach} the posts' {claimed:+.3f}.{few}"
            lines.append(f"*On {name}, `paper`, {in_words(n)}*: {words}")
    return lines or [f"*On {name}*: {NOTHING}."]


def _on_others(runs: Runs) -> str:
    sides = {}
    for n in CLAIMED_GAINS:
        for name in ("wgan-gp", "l2", "released"):
            sides[f"`{name}`, {in_words(n)}"] = gain(students(runs, n, name), students(runs, n, "none"))
    for name, found in tuned(runs).items():
        sides[f"`{name}`"] = gain(found, students(runs, 1, "none"))
    gains = {name: g for name, g in sides.items() if g}
    better = [f"{name}, {interval(g)}" for name, g in gains.items() if g["low"] > 0]
    words = f"{len(gains)} lines recorded; with a gain over `none`: {'; '.join(better) or 'no line'}."
    return f"*On hippocampus MR, other objectives, tuned ones included*: {words}"


def _on_factors(runs: Runs) -> str:
    found = {f"{factor} = {value}": g for (factor, value), g in factors(runs).items()}
    if not found:
        return f"*Single factors*: {NOTHING}."
    seeds, own = reference_dice(runs)
    wide, usual = max(seeds) - min(seeds), np.mean(seeds) - own
    clear = {name: g["gain"] - usual for name, g in found.items() if g["p"] < 0.05 / len(CHANGES)}
    large = [f"{name} ({change:+.3f})" for name, change in clear.items() if abs(change) > wide]
    alone, over = students(runs, 1, "none"), []
    for run, (factor, value) in CHANGES.items():
        g = gain([runs[run]], alone) if run in runs else None
        over += [f"{factor} = {value}"] if g and g["low"] > 0 else []
    return (
        f"*Single factors of `paper`*: {len(found)} recorded. {len(clear)} differ from the reference with p below "
        f"0.05 / {len(CHANGES)}; of those, further from the mean of its {len(seeds)} seeds than these are apart "
        f"({wide:.4f}): {', '.join(large) or 'none'}; the others may be within what another seed changes. "
        f"A gain over images alone: {', '.join(over) or 'none'}."
    )


def _on_rate(runs: Runs) -> str:
    fast, slow = (with_schedule(runs, schedule) for schedule in SCHEDULES)
    g = gain(fast, slow)
    if not g:
        return f"*The learning rate*: {NOTHING}."
    share = f"{100 * g['gain'] / CLAIMED_GAINS[1]:.0f} % of the gain the posts report for ALDK at one cascade."
    return f"*The learning rate of the released code's ALDK, without ALDK*: {interval(g)}, {share}"
