"""All data sets in one view, and what chapter 09 reads off more than one table: light networks beside heavy ones."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from lddr.deploy.cost import count_parameters
from lddr.record import Method, Record
from study.claims import CLAIMED_LOSS, distances
from study.methods import METHODS, NETWORKS, TOOLS, by_method, in_words, title
from study.records import escaped, read_costs
from study.stats import compare, dice_table
from study.table1 import START, Methods, network_of, shell
from study.tables import MISSING, downloads, html_table, shown

PAPER = {"SLIVER": "sliver", "LiTS": "lits", "LSPIG": "lspig", "LPBA": "lpba"}  # its sets, which cannot be shipped
COST = {"ldr": "LDR", "vtn": "VTN of our teacher", "voxelmorph": "VoxelMorph"}  # how the records of cost call them


@cache
def described() -> dict[str, Method]:
    """List what stands behind each name of Table 1, whether there are records or not."""
    every = [Method(tool=tool) for tool in TOOLS]
    for network, objective, recipe in NETWORKS:
        for cascades in (1, 2, 3):
            for adapted in (0, 1):
                about = {"network": network, "objective": objective, "recipe": recipe, "adapted": adapted}
                every.append(Method(cascades=cascades, **about))
    return {name: method for method in every if (name := title(method))}


def recorded_cost(method: Method | None, file: str = "cost_cpu_1") -> float | None:
    """Look up the seconds of one 128³ pair; None for what was not measured, and for a network that is adapted.

    For RCN they are those of our teacher's VTN, whose Dice stands in the tables.
    """
    record = read_costs().get(file)
    if record is None or method is None or method.adapted:
        return None
    networks = record.networks.get(f"{COST.get(method.network or '')}, {in_words(method.cascades or 0)}")
    found = record.tools.get(method.tool) if method.tool else networks
    return found["seconds"] if found else None


def weights_at_128(method: Method | None) -> int | None:
    """Count the weights of the network of a method, built for volumes of 128³; None if it has none."""
    config = network_of(method) if method else None
    if config is None:
        return None
    levels = {"levels": 4} if config.network == "vtn" else {}  # as our teacher has
    return count_parameters(shell(config.model_copy(update={"size": [128] * 3} | levels)))["total"]


def overview(recorded: Mapping[str, Methods], live: Methods, live_name: str) -> pd.DataFrame:
    """Gather Dice / Jaccard of every method on every data set, and what one 128³ pair costs.

    Args:
        recorded: title of a data set -> its methods.
        live: those measured in this run.
        live_name: the title of their column.
    """

    def overlaps(runs: Sequence[Record]) -> str:
        means = ([run.test.dice_mean for run in runs], [run.test.jaccard_mean for run in runs])
        return " / ".join(f"{np.mean(np.array(values, float)):.3f}" for values in means)

    frame = pd.DataFrame(index=[*METHODS, *(n for n in live if n not in METHODS and n != START)])
    sets = {**recorded, live_name: live} | {name: by_method(folder) for name, folder in PAPER.items()}
    for name, methods in sets.items():
        head = name if methods else f"{name} ({'needs the scans' if name in PAPER else 'no records yet'})"
        frame[head] = [overlaps(methods[n]) if n in methods else MISSING for n in frame.index]
    of = [described().get(name) for name in frame.index]
    for head, file in (("CPU, s", "cost_cpu_1"), ("GPU, s", "cost_gpu")):
        seconds = [recorded_cost(method, file) for method in of]
        head = head if any(seconds) else f"{head} (not measured here)"
        frame[head] = [f"{s:.2f}" if s else MISSING for s in seconds]
    weights = [weights_at_128(method) for method in of]
    frame["weights, M"] = [f"{n / 1e6:.2f}" if n else MISSING for n in weights]
    return frame.rename_axis("method")


def overview_page(frame: pd.DataFrame, out: str | None = None) -> HTML:
    """Show `overview` with its legend and downloads; `out` as of `downloads`."""
    costs = read_costs().get("cost_cpu_1")
    cpu = escaped(costs.machine.cpu) if costs else "no cost records yet"
    legend = (
        f"<p>Dice / Jaccard; {MISSING}: no record yet. <i>needs the scans</i>: a data set of the paper that cannot be "
        "shipped, see Datasets; its column fills itself when records are there. Seconds: one pair of 128 x 128 x 128 "
        f"voxels on one thread of a CPU ({cpu}), or on a GPU. "
        "Seconds and weights of <i>RCN, VTN</i> are those of our teacher, whose Dice stands in the line; the VTN of "
        "the paper, which is deeper, was not trained here (chapter 11 has its costs). In the book, a click on a header "
        "sorts.</p>"
    )
    return HTML(html_table(frame, "overview") + legend + downloads(frame, "table1_overview", out))


def trained_alike(methods: Methods) -> HTML | Markdown:
    """Set VoxelMorph beside LDR with as many cascades: the same training, so the difference is one of networks."""
    rows = {}
    for n, heavy in {1: "VoxelMorph + affine", 3: "RCN, VoxelMorph, 3 cascades"}.items():
        light = f"LDR, {in_words(n)}"
        if heavy in methods and light in methods:
            both = [methods[heavy], methods[light]]
            gain = compare(both[0], both[1])
            weights = [runs[0].weight_count for runs in both]
            seconds = [recorded_cost(runs[0].method) for runs in both]
            rows[in_words(n)] = {
                "VoxelMorph": f"{np.nanmean(dice_table(both[0])):.3f}",
                "LDR": f"{np.nanmean(dice_table(both[1])):.3f}",
                "difference": f"{gain['gain']:+.3f}",
                "95 % interval": f"{gain['low']:+.3f}, {gain['high']:+.3f}",
                "times the weights": _times(weights, 2),
                "times the seconds": _times(seconds, 1),
            }
    return shown(rows, "Dice")


def _times(both: Sequence[float | None], digits: int) -> str:
    more, less = both
    return f"{more / less:.{digits}f}" if more and less else MISSING


def claims_page(datasets: Sequence[str]) -> HTML | Markdown:
    """Set what the posts say of light beside heavy networks (C1, C4) beside the records of some data sets."""
    columns = ["heavy network", "Dice, hundredths (95 % interval)", "Jaccard, hundredths"]
    claimed = {measure: 100 * loss for measure, loss in CLAIMED_LOSS.items()}
    said = {
        ("SLIVER (paper, C1)", "LDR + ALDK, 3 cascades"): ("VTN + affine, 3 cascades", "-0.3", ""),
        ("LiTS, LSPIG, LPBA, mean (paper, C4)", "the light model"): ("", *(f"{-x:g}" for x in claimed.values())),
    }
    for name in datasets:
        for light, found in distances(name).items():
            dice, low, high = (100 * found.dice[end] for end in ("gain", "low", "high"))
            words = (found.heavy, f"{dice:+.1f} ({low:+.1f} to {high:+.1f})", f"{100 * found.jaccard['gain']:+.1f}")
            said[name, light] = words
    rows = {row: dict(zip(columns, cells, strict=True)) for row, cells in said.items()}
    return shown(rows, ["data", "light network"])


def judge(datasets: Sequence[str]) -> Markdown:
    """Say in a sentence for each data set how much Dice the closest light network loses."""
    lines = []
    for name in datasets:
        found = distances(name)
        if not found:
            lines.append(f"For `{name}` there are no records of three light cascades beside a heavy network yet.")
            continue
        least = -max(round(100 * one.dice["gain"], 1) for one in found.values())
        words = f"{abs(least):.1f} hundredths"
        if least <= 0:
            lines.append(f"On `{name}` the closest loses nothing: its Dice is {words} above the heavy network's.")
            continue
        within = "no more than" if least <= 100 * CLAIMED_LOSS["dice"] else "more than"
        lines.append(f"On `{name}` the closest loses {words} of Dice: {within} the mean loss the posts report.")
    return Markdown(" ".join(lines))
