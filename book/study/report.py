"""The parts of the pages that are not prose: claims with their verdicts, costs, machines, commands.

`fill` puts them in the place of the markers of a page; `book/tools/build.py` calls it while it builds the book.
"""

import re
from collections.abc import Callable
from functools import cache

from lddr.deploy.cost import count_macs, count_parameters
from lddr.errors import InputError
from lddr.models import build_model
from lddr.record import AnyRecord
from study.brains import brains_table
from study.claims import CLAIMS, MISSING, Finding, describe, network, on_cpu, threads
from study.methods import in_words
from study.minutes import minutes
from study.records import escaped, read_costs, read_figure, read_records
from study.reliability import trials_table

FOLDERS = ("hippocampus", "liver_mr", "liver_mr_body", "simulated_brains", "sliver", "lits", "lspig", "lpba", "cost")
# Why, in a line that holds whatever the records say; the prose of the page says more.
WHY = {
    "C1": "the distance depends on how long the heavy networks were trained; ours several times as long as the light",
    "C2": "the multiplications of the two are about equal, so a large ratio cannot come from them",
    "C3": "weights are counted; no affine stem makes both of the posts' figures fit",
    "C4": "as for C1",
    "C5": "the time is one of a machine and its runtime, for the other networks too",
    "C6": "the literal equation sets up no adversaries, and in the released code ALDK comes with another learning rate",
    "C7": "teacher and discriminator are no part of the network that is kept",
    "C8": "while RCN is the best of the three, LDR + ALDK can be closer to it only if ALDK gains, which is C6",
}
# Claims about sets that cannot be had here.
ELSEWHERE = {"C1": "SLIVER", "C4": "LiTS, LSPIG and LPBA", "C6": "SLIVER"}


def verdict(claim: str, finding: Finding) -> str:
    """Write the verdict, and what it is a verdict on."""
    if claim not in ELSEWHERE:
        return f"**{finding.verdict}**"
    return f"**{finding.verdict}** on the nearest sets; on {ELSEWHERE[claim]} it cannot be tested here"


def claims_table(findings: dict[str, Finding]) -> str:
    """Make the report's first table: a row for each claim."""
    lines = ["| claim | the posts say (*the paper's*) | measured here | verdict | why |", "| --- " * 5 + "|"]
    for name, (text, _) in CLAIMS.items():
        measured = "".join(f'<span class="measured">{escaped(part)}</span>' for part in findings[name].parts)
        judged = f"{verdict(name, findings[name])} | {WHY[name]}"
        lines.append(f"| [{name}](#{name.lower()}) | {text} | {measured} | {judged} |")
    return "\n".join(lines)


def section(claim: str, finding: Finding) -> str:
    """Write what stands under the heading of one claim, before the prose."""
    measured = "\n".join(f"- {part[0].upper()}{part[1:]}" for part in map(escaped, finding.parts))
    return f"Verdict: {verdict(claim, finding)}.\n\n{measured}\n\n*Rule.* {finding.rule}"


def cost_table() -> str:
    """Make the table of the costs that are called light; weights and operations are counted, the rest is recorded."""
    records = list(on_cpu().values())
    timed = [f"seconds, {threads(record)}" for record in records] or ["seconds"]
    lines = [f"| network, cascades | weights, millions | GMAC | GB moved | {' | '.join(timed)} |"]
    lines += ["| --- " + "| --: " * (3 + len(timed)) + "|"]
    for name in ("LDR", "VTN"):
        for cascades in (1, 2, 3):
            config = network(name, cascades)
            model = build_model(config)
            weights, macs = count_parameters(model)["total"] / 1e6, count_macs(model, config.size) / 1e9
            costs = [record.networks[f"{name}, {in_words(cascades)}"] for record in records]
            moved = f"{costs[0]['bytes_moved'] / 1e9:.2f}" if costs else MISSING
            seconds = [f"{cost['seconds']:.2f}" for cost in costs] or [MISSING]
            lines.append(f"| {name}, {cascades} | {weights:.2f} | {macs:.1f} | {moved} | {' | '.join(seconds)} |")
    return "\n".join(lines)


def released_seconds() -> str:
    """Write how fast the network of the released code is, beside the text's."""
    lines, names = [], ("LDR of the released code, 1 cascade", "LDR, 1 cascade", "VTN, 1 cascade")
    for record in on_cpu().values():
        if all(name in record.networks for name in names):
            seconds = [f"{name} {record.networks[name]['seconds']:.2f} s" for name in names]
            lines.append(f"- {threads(record)}: {', '.join(seconds)}")
    return "\n".join(lines) or f"- {MISSING}"


def rate_gain() -> str:
    """Write what the learning rate of the released code's ALDK is worth without any ALDK."""
    runs = [run for run in read_records("hippocampus").values() if run.method.recipe == "schedule" and run.parameters]
    kinds = ("paper", "released_none")
    fast, slow = ([run for run in runs if run.parameters and run.parameters["schedule"] == kind] for kind in kinds)
    return f"- Hippocampus MR, 1 cascade, learning rate alone: {describe(fast, slow) if fast and slow else MISSING}"


def all_records(folder: str) -> dict[str, AnyRecord]:
    """Read the records of every kind in one folder: name -> record, sorted by name."""
    found: dict[str, AnyRecord] = dict(read_costs() if folder == "cost" else read_records(folder))
    figure = read_figure(folder)
    return dict(sorted((found | ({"figure2": figure} if figure else {})).items()))


def commands_of(folder: str) -> str:
    """List one line a record: how to make it again, and how long it took."""
    lines = []
    for name, record in all_records(folder).items():
        day, line = (" ".join(text.split()) for text in (record.date[:10], record.command))
        line = line.lstrip("`~ ")  # on one line that begins with a word: so nothing in it can end the block
        lines.append(f"# {name}: {minutes(record)}, {day}\n{line}")
    return "```bash\n" + "\n".join(lines or ["# no records yet"]) + "\n```"


def machines() -> str:
    """Make the table of the machines that the records come from."""
    found: dict[tuple[str, ...], list[str]] = {}
    for folder in FOLDERS:
        for record in all_records(folder).values():
            m = record.machine
            where = [f"{m.cpu}, {m.cores} cores", m.gpu or "none", m.system, f"{m.python}, {m.torch}"]
            found.setdefault(tuple(where), []).append(record.date[:10])
    lines = ["| processor | GPU | system | Python, PyTorch | records | first and last day |", "| --- " * 6 + "|"]
    for key, dates in found.items():
        lines.append(
            f"| {' | '.join(map(escaped, key))} | {len(dates)} | {escaped(min(dates))}, {escaped(max(dates))} |"
        )
    return "\n".join(lines)


def fill(text: str) -> str:
    """Replace the `report: ...` markers of a page; other pages come back as they are.

    Args:
        text: of the page, Markdown.

    Raises:
        InputError: a marker that asks for what there is not.
    """

    @cache
    def finding(claim: str) -> Finding:
        return CLAIMS[claim][1]()

    def part(match: re.Match[str]) -> str:
        what, _, name = match[1].partition(" ")
        if what in CLAIMS:
            return section(what, finding(what))
        parts: dict[str, Callable[[], str]] = {
            "claims": lambda: claims_table({name: finding(name) for name in CLAIMS}),
            "cost": cost_table,
            "released": released_seconds,
            "rate": rate_gain,
            "machines": machines,
            "trials": trials_table,
            "brains": brains_table,
            "commands": lambda: commands_of(name),
        }
        if what not in parts:
            raise InputError(f"{match[0]}: a page can ask for {', '.join([*CLAIMS, *parts])}, not '{what}'.")
        return parts[what]()

    return re.sub(r"<!-- report: (.+?) -->", part, text)
