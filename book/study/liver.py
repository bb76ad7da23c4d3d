"""The liver's small studies of chapter 09: how many subjects, augmented or not, and seen in training or not."""

from collections import defaultdict
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from scipy.stats import t

from lddr.plotting import COLOURS
from lddr.record import Record
from study.methods import FOLDS, TOOLS, in_words, title, whole_runs
from study.records import read_records
from study.stats import compare
from study.tables import COMMANDS, html_table, shown, table_row

DATASET = "liver_mr"
AS_SCANNED, BENT = "plain", "student_1cas_none_seed0"  # trained without augmentation, and with it
CURVE = {2: "curve_2", 4: "curve_4", 7: "curve_7", 10: BENT}  # subjects trained on -> run
LOOKS = dict(zip(TOOLS.values(), (("--", COLOURS[0]), ("-.", COLOURS[1])), strict=True))


def tools(runs: Mapping[str, Record]) -> dict[str, Record]:
    """Find the classical tools among the runs: name -> record."""
    return {TOOLS[run.method.tool]: run for run in runs.values() if run.method.tool}


def best_tool(runs: Mapping[str, Record]) -> str | None:
    """Name the classical tool with the higher Dice; None without records."""
    found = tools(runs)
    return max(found, key=lambda name: found[name].test.dice_mean or 0, default=None)


def in_figures(found: Mapping[str, float]) -> str:
    """Write what `compare` found as "+0.012 (95 % interval +0.004 to +0.020)"."""
    return f"{found['gain']:+.3f} (95 % interval {found['low']:+.3f} to {found['high']:+.3f})"


def gained(ours: Record, theirs: Record) -> str:
    """Compare two runs, in figures."""
    return in_figures(compare([ours], [theirs]))


def none_of(what: str) -> Markdown:
    """Say that there are no records of something."""
    return Markdown(f"There are no records of {what} on `{DATASET}` yet; {COMMANDS}")


def draw_curve() -> Markdown | None:
    """Draw Dice and folds over the number of subjects trained on: every fold, all folds, and the tools."""
    runs, parts = whole_runs(DATASET), read_records(DATASET)
    curve = {n: name for n, name in CURVE.items() if name in runs}
    if len(curve) < 2:
        return none_of("the learning curve")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for ax, name, words in zip(axes, ("dice_mean", "folding_percent"), ("Dice", "folds, % of the voxels"), strict=True):
        for k in range(FOLDS):
            of_fold = [getattr(parts[f"{stem}_fold{k}"].test, name) for stem in curve.values()]
            ax.plot(list(curve), of_fold, color=COLOURS[2], alpha=0.35, lw=1, label=None if k else "one fold")
        of_all = [getattr(runs[stem].test, name) for stem in curve.values()]
        ax.plot(list(curve), of_all, "o-", color=COLOURS[2], label="all four folds")
        for tool, record in sorted(tools(runs).items()):
            look, colour = LOOKS[tool]
            ax.axhline(getattr(record.test, name), ls=look, color=colour, label=tool)
        ax.set(xlabel="subjects trained on", ylabel=words, xticks=list(curve))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return None


def read_curve() -> Markdown | None:
    """Say what `draw_curve` shows, with its numbers."""
    runs = whole_runs(DATASET)
    curve = {n: runs[name] for n, name in CURVE.items() if name in runs}
    if len(curve) < 2:
        return None
    text = "Left, the Dice of test pairs, right, their folds; a thin line is one fold, so four test subjects. "
    *_, before, most = counts = sorted(curve)
    text += f"From {counts[0]} to {most} subjects, Dice changes by {gained(curve[most], curve[counts[0]])}"
    text += f", from {before} to {most} by {gained(curve[most], curve[before])}. " if len(counts) > 2 else ". "
    if best := best_tool(runs):
        ahead = gained(tools(runs)[best], curve[most])
        text += f"*{best}*, which was trained on nobody, is at {ahead} from there. "
    text += "A line that still climbs at its right end asks for more scans; a flat one, for something else."
    return Markdown(text)


def augmentation_table() -> HTML | Markdown:
    """Set the network trained on images bent at random beside the one trained on them as scanned."""
    runs = whole_runs(DATASET)
    if not {AS_SCANNED, BENT} <= set(runs):
        return none_of("a network trained without augmentation")
    plain, bent = [runs[AS_SCANNED]], [runs[BENT]]
    rows = {"as scanned": table_row(plain), "bent at random": table_row(bent, plain)}
    without = {name: {c: x for c, x in row.items() if c != "seeds"} for name, row in rows.items()}
    return shown(without, "training images")


def read_augmentation() -> Markdown | None:
    """Say what bending the images is worth, with its number."""
    runs = whole_runs(DATASET)
    if not {AS_SCANNED, BENT} <= set(runs):
        return None
    found = compare([runs[BENT]], [runs[AS_SCANNED]])
    text = f"Bending them changes Dice by {in_figures(found)}. "
    if found["low"] < 0 < found["high"]:
        text += "The interval includes zero. Augmentation keeps a network from learning its images by heart; the next "
        text += "section asks whether this one ever came that far."
    return Markdown(text)


def pairs_of_table() -> dict[tuple[str, str], Record]:
    """Gather runs by method and by whether the network has seen the subjects; the tools have seen nobody."""
    runs = whole_runs(DATASET)
    found: dict[tuple[str, str], Record] = {}
    for n in (1, 3):
        for subjects, start in (("trained on", "seen_"), ("new", "")):
            run = runs.get(f"{start}beyond_{n}cas_none")
            if run and f"seen_beyond_{n}cas_none" in runs:
                found[title(run.method) or "", subjects] = run
    return found | {(name, "new"): run for name, run in sorted(tools(runs).items())} if found else {}


def seen_table() -> HTML | Markdown:
    """Show Dice before and after registration, of subjects that were trained on and of new ones."""
    found = pairs_of_table()
    if not found:
        return none_of("pairs of training subjects")
    rows = {}
    for key, run in found.items():
        before, after = run.test.dice_initial or 0, run.test.dice_mean or 0
        rows[key] = {"pairs": str(run.test.pairs), "Dice before": f"{before:.3f}", "after": f"{after:.3f}"}
        rows[key] |= {"gain": f"{after - before:.3f}", "folds, %": f"{run.test.folding_percent:.2f}"}
    return HTML(html_table(pd.DataFrame(rows).T.rename_axis(["method", "subjects"])))


def gains_of_subjects(record: Record) -> dict[str, float]:
    """Average the gain over the start for each subject, over all pairs it is in."""
    gains: dict[str, list[float]] = defaultdict(list)
    for row in record.rows:
        for subject in (row["moving"], row["fixed"]):
            gains[subject].append(row["dice"] - row["dice_initial"])
    return {subject: float(np.mean(values)) for subject, values in gains.items()}


def seen_over_new(cascades: int) -> dict[str, float]:
    """Measure what it is worth to be known to the network, each subject beside itself.

    Everyone is tested in one fold and trained on in others. The mean over the four test subjects of a fold counts as
    one, for they share a network and each other; the interval is over folds.
    """
    parts = read_records(DATASET)
    known = gains_of_subjects(whole_runs(DATASET)[f"seen_beyond_{cascades}cas_none"])
    each = []
    for k in range(FOLDS):
        new = gains_of_subjects(parts[f"beyond_{cascades}cas_none_fold{k}"])
        each.append(np.mean([known[subject] - gain for subject, gain in new.items()]))
    mean, half = np.mean(each), t.ppf(0.975, len(each) - 1) * np.std(each, ddof=1) / len(each) ** 0.5
    return {"gain": float(mean), "low": float(mean - half), "high": float(mean + half)}


def read_seen() -> Markdown | None:
    """Say what the records tell about subjects and network, with its numbers."""
    runs, text = whole_runs(DATASET), ""
    best = best_tool(runs)
    for n in (1, 3):
        alone, adapted = f"beyond_{n}cas_none", f"adapted_{n}cas"
        if f"seen_{alone}" not in runs:
            continue
        text += f"*{in_words(n).capitalize()}*: with a network that knows the subject, the same subject gains more, by "
        text += f"{in_figures(seen_over_new(n))}. "
        if best:
            text += f"*{best}* is {gained(tools(runs)[best], runs[alone])} ahead. "
        if best and adapted in runs:
            each = (runs[alone], runs[adapted], tools(runs)[best])
            start, end, aim = (run.test.dice_mean or 0 for run in each)
            text += f"Adapted to each pair, it wins {100 * (end - start) / (aim - start):.0f} % of that back. "
    return Markdown(text) if text else None
