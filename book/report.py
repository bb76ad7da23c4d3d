"""What the records say about each claim of the posts: the parts of the reproduction report that are not prose.

Every figure is read from `book/records`, every verdict follows from a rule that stands in the report beside it.
`fill` puts both in the place of the markers of a page; `book/build.py` calls it while it builds the book.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from statistics import mean
from typing import Any, NamedTuple

from lddr.compare import compare
from lddr.complexity import count_macs, count_parameters
from lddr.models import ModelConfig, build_model
from lddr.records import read_records
from lddr.results import by_method, in_words, whole_runs

DATASETS = {"hippocampus": "hippocampus MR", "liver_mr": "liver MR (CHAOS)"}
TOOLS = {"ants_syn": "ANTs SyN", "elastix": "Elastix"}
MISSING = "not measured yet"
Records = Sequence[dict[str, Any]]


class Finding(NamedTuple):
    """What was measured about a claim, what follows, and the rule it follows by."""

    measured: str
    verdict: str
    rule: str

    @property
    def parts(self) -> list[str]:
        """The measurements one by one."""
        return self.measured.split("; ")


def threads(record: dict[str, Any]) -> str:
    """The threads of a timing in words."""
    return f"{record['threads']} thread{'s' * (record['threads'] > 1)}"


def network(name: str, cascades: int) -> ModelConfig:
    """The networks of the claims at the paper's size: "LDR" with the light affine stem, "VTN" with its own."""
    affine = {"LDR": "light", "VTN": "vtn"}[name]
    return ModelConfig.check({"network": name.lower(), "affine": affine, "cascades": cascades, "size": [128] * 3})


def describe(ours: Records, theirs: Records, measure: str = "dice") -> tuple[str, dict[str, float]]:
    """A gain in words, with its interval, the pairs and the seeds it comes from."""
    gain = compare(ours, theirs, measure)
    words = f"{gain['gain']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    runs = f"{len(ours)} run{'s' * (len(ours) > 1)}"
    return f"{words} ({len(ours[0]['rows'])} pairs, {runs} against {len(theirs)})", gain


def graded(fully: bool, partly: bool) -> str:
    """The verdict on one measurement."""
    return "reproduced" if fully else "partly" if partly else "not reproduced"


def worst(verdicts: Sequence[str]) -> str:
    """One word for several: the common one, else "partly"."""
    known = [v for v in verdicts if v != "not yet"]
    if not known:
        return "not yet"
    return known[0] if len(set(known)) == 1 else "partly"


def three_cascades() -> dict[str, tuple[Records, str, Records] | None]:
    """Title of a data set -> LDR + ALDK with three cascades, and the best RCN with as many; None without records."""
    sides: dict[str, tuple[Records, str, Records] | None] = {}
    for name, title in DATASETS.items():
        methods = by_method(name)
        aldk = methods.get("LDR + ALDK, 3 cascades")
        heavy = [m for m in methods if re.match("RCN, VTN, 3(?!.*adapted)", m)]
        best = max(heavy, key=lambda m: mean(r["test"]["dice_mean"] for r in methods[m]), default="")
        sides[title] = (aldk, best, methods[best]) if aldk and best else None
    return sides


def claim_1() -> Finding:
    """LDR + ALDK against the best RCN."""
    rule = (
        "The claim is about SLIVER, which cannot be had here. On each set that can: *reproduced* if the whole interval "
        "of the difference lies above -0.01, *partly* if the difference itself does, else *not reproduced*."
    )
    lines, verdicts = [], []
    for title, sides in three_cascades().items():
        if sides is None:
            lines.append(f"{title}: {MISSING}")
            continue
        aldk, best, rcn = sides
        words, gain = describe(aldk, rcn)
        lines.append(f"{title}: {words} against {best}")
        verdicts.append(graded(gain["low"] > -0.01, gain["gain"] > -0.01))
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_2() -> Finding:
    """Seconds of VTN over seconds of LDR."""
    rule = (
        "*Reproduced* if the measured ratios are at least half the claimed ones, *partly* if at least a quarter, else "
        "*not reproduced*. The Dice beside it does not enter the verdict."
    )
    lines, verdicts = [], []
    for name, record in read_records("cost").items():
        if record["device"] != "cpu":
            continue
        ratios = []
        for cascades, claimed in ((1, 15), (3, 21)):
            ldr, vtn = (record["networks"][f"{n}, {in_words(cascades)}"] for n in ("LDR", "VTN"))
            ratio = vtn["seconds"] / ldr["seconds"]
            ratios.append(
                f"{ratio:.1f} times at {in_words(cascades)} ({vtn['seconds']:.2f} s against {ldr['seconds']:.2f} s)"
            )
            verdicts.append(graded(ratio >= claimed / 2, ratio >= claimed / 4))
        lines.append(f"{threads(record)}: {', '.join(ratios)} [{name}]")
    lines = lines or [f"seconds: {MISSING}"]
    for name, title in DATASETS.items():
        sides = [by_method(name).get(method) for method in ("LDR + ALDK, 1 cascade", "RCN, VTN, 1 cascade")]
        lines.append(f"Dice on {title}, 1 cascade: {MISSING if None in sides else describe(*sides)[0]}")
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_3() -> Finding:
    """Parameters of RCN over parameters of LDR."""
    rule = (
        "*Reproduced* if both ratios are within a quarter of the claimed ones, *partly* if they are larger, else "
        "*not reproduced*. Weights are counted, so no record is needed."
    )
    one = [build_model(network(name, 1)).dense[0] for name in ("VTN", "LDR")]
    single = count_parameters(one[0])["total"] / count_parameters(one[1])["total"]
    three = [count_parameters(build_model(network(name, 3)))["total"] for name in ("VTN", "LDR")]
    ratio = three[0] / three[1]
    near = all(0.75 <= r / c <= 1.25 for r, c in ((single, 10), (ratio, 8)))
    verdict = graded(near, single >= 10 and ratio >= 8)
    words = f"one VTN has {single:.1f} times the weights of one LDR, without affine stems; with them, 3 cascades of "
    words += f"VTN have {ratio:.1f} times the weights of 3 of LDR ({three[0]:,} against {three[1]:,})"
    return Finding(words, verdict, rule)


def claim_4() -> Finding:
    """The mean loss against the best method, Dice and Jaccard."""
    rule = (
        "None of the three sets can be had here. Nearest: the loss against the best network on the sets that can; "
        "*reproduced* if at most 0.005 Dice and 0.0125 Jaccard, *partly* if at most twice that, else *not reproduced*."
    )
    lines, verdicts = [], []
    for title, sides in three_cascades().items():
        if sides is None:
            lines.append(f"{title}: {MISSING}")
            continue
        aldk, best, rcn = sides
        (dice, lost), (jaccard, shared) = describe(aldk, rcn), describe(aldk, rcn, "jaccard")
        lines.append(f"{title}: Dice {dice}, Jaccard {jaccard.partition(' (')[0]}")
        share = max(-lost["gain"] / 0.005, -shared["gain"] / 0.0125)
        verdicts.append(graded(share <= 1, share <= 2))
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_5() -> Finding:
    """Seconds of LDR on a CPU, and who else is as fast."""
    rule = (
        '*Reproduced* if three cascades of LDR take at most two seconds at 128³ on a CPU, which is "about 1 s", and '
        "no other network does; *partly* if others do as well; else *not reproduced*."
    )
    records = {n: r for n, r in read_records("cost").items() if r["device"] == "cpu"}
    if not records:
        return Finding(MISSING, "not yet", rule)
    lines, verdicts = [], []
    for name, record in records.items():
        seconds = {n: c["seconds"] for n, c in record["networks"].items()}
        quick = [n for n, s in seconds.items() if s <= 2]
        others = [n for n in quick if not n.startswith("LDR")]
        slow = [f"{TOOLS[tool]} {cost['seconds']:.0f} s" for tool, cost in record.get("tools", {}).items()]
        own = seconds["LDR, 3 cascades"]
        words = f"LDR with 3 cascades {own:.2f} s on {threads(record)} [{name}]"
        words += f"; within two seconds on {threads(record)}: {' / '.join(quick)}" if quick else ""
        lines.append(words + (f"; classical tools, on one thread: {', '.join(slow)}" if slow else ""))
        verdicts.append("not reproduced" if own > 2 else "partly" if others else "reproduced")
    return Finding("; ".join(lines), worst(verdicts), rule)


CLAIMED_GAINS = {1: 0.034, 2: 0.040, 3: 0.031}


def claim_6() -> Finding:
    """The gain of ALDK over LDR alone."""
    rule = (
        "The claim is about SLIVER. On each set here and for each number of cascades: *reproduced* if the interval "
        "of Dice lies above 0 and reaches the claimed gain, *partly* if it lies above 0, else *not reproduced*."
    )
    lines, verdicts = [], []
    for name, title in DATASETS.items():
        methods = by_method(name)
        for cascades, claimed in CLAIMED_GAINS.items():
            sides = [methods.get(f"{m}, {in_words(cascades)}") for m in ("LDR + ALDK", "LDR")]
            if None in sides:
                lines.append(f"{title}, {in_words(cascades)}: {MISSING}")
                continue
            words, gain = describe(*sides)
            jaccard, _ = describe(*sides, "jaccard")
            lines.append(f"{title}, {in_words(cascades)}: {words}, Jaccard {jaccard.partition(' (')[0]}")
            above = gain["low"] > 0
            verdicts.append(graded(above and gain["high"] >= claimed, above))
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_7() -> Finding:
    """The student with ALDK is the student without, when it is at work."""
    rule = "*Reproduced* if the recorded students with and without ALDK have the same number of weights and operations."
    runs, lines, same = whole_runs("hippocampus"), [], []
    for cascades in (1, 2, 3):
        pair = [runs.get(f"student_{cascades}cas_{objective}_seed0") for objective in ("none", "paper")]
        if None in pair:
            lines.append(f"{in_words(cascades)}: {MISSING}")
            continue
        weights = [run["weights"] for run in pair]
        configs = [{k: r["parameters"][k] for k in ModelConfig.model_fields if k in r["parameters"]} for r in pair]
        macs = [count_macs(build_model(ModelConfig.check(c)), c["size"]) for c in configs]
        same.append(weights[0] == weights[1] and macs[0] == macs[1])
        counted = f"{weights[0]:,} and {weights[1]:,} weights, {macs[0] / 1e9:.2f} and {macs[1] / 1e9:.2f} GMAC"
        lines.append(f"{in_words(cascades)}, without and with: {counted}")
    verdict = "not yet" if not same else "reproduced" if all(same) else "not reproduced"
    return Finding("; ".join(lines), verdict, rule)


def claim_8() -> Finding:
    """Their Figure 2 in numbers: who is closer to the 1-cascade RCN."""
    rule = (
        "What is seen is put in numbers, on all pairs: *reproduced* if LDR + ALDK lies within 0.01 Dice of RCN and "
        "LDR alone at least 0.01 below LDR + ALDK; *partly* if the order is the same; else *not reproduced*."
    )
    lines, verdicts = [], []
    for name, title in DATASETS.items():
        methods = by_method(name)
        names = ("LDR, 1 cascade", "LDR + ALDK, 1 cascade", "RCN, VTN, 1 cascade")
        if any(n not in methods for n in names):
            lines.append(f"{title}: {MISSING}")
            continue
        ldr, aldk, rcn = (mean(r["test"]["dice_mean"] for r in methods[n]) for n in names)
        lines.append(f"{title}: LDR {ldr:.3f}, LDR + ALDK {aldk:.3f}, RCN {rcn:.3f}")
        for other, method in zip(("LDR alone", "RCN"), names[::2], strict=True):
            lines.append(f"{title}, LDR + ALDK over {other}: {describe(methods[names[1]], methods[method])[0]}")
        close, order = abs(aldk - rcn) <= 0.01 and ldr <= aldk - 0.01, ldr < aldk < rcn
        verdicts.append(graded(close, order))
    return Finding("; ".join(lines), worst(verdicts), rule)


CLAIMS: dict[str, tuple[str, Callable[[], Finding]]] = {
    "C1": ("SLIVER, 3 cascades: LDR + ALDK has 0.3 % less Dice than the best (3 cascades of VTN + affine)", claim_1),
    "C2": ("on a CPU about 15 times faster than VTN at 1 cascade (Dice 0.2 % lower), about 21 times at 3", claim_2),
    "C3": ("about 8 times fewer parameters at 3 cascades; one LDR about 10 times fewer than one VTN", claim_3),
    "C4": ("LiTS, LSPIG, LPBA: a mean loss of 0.5 % Dice and 1.25 % Jaccard", claim_4),
    "C5": ("about 1 s a registration on a CPU, the only such method in their table", claim_5),
    "C6": ("SLIVER, ALDK over LDR alone: Dice +3.4, +4.0, +3.1 % for 1, 2, 3 cascades", claim_6),
    "C7": ("ALDK changes neither the parameters nor the time of inference", claim_7),
    "C8": ("by eye: LDR + ALDK is close to RCN with 1 cascade, LDR alone leaves clearly more mismatch", claim_8),
}


# Why, in a line that holds whatever the records say; the prose of the page says more.
WHY = {
    "C1": "the distance depends on how long the heavy networks were trained; ours several times as long as the light",
    "C2": "the multiplications of the two are about equal, so a large ratio cannot come from them",
    "C3": "weights are counted; no affine stem makes both of the posts' figures fit",
    "C4": "as for C1",
    "C5": "the time is one of a machine and its runtime, for the other networks too",
    "C6": "the literal equation is no game, and in the released code ALDK comes with another learning rate",
    "C7": "teacher and discriminator are no part of the network that is kept",
    "C8": "while RCN is the best of the three, LDR + ALDK can be closer to it only if ALDK gains, which is C6",
}
# Claims about sets that cannot be had here.
ELSEWHERE = {"C1": "SLIVER", "C4": "LiTS, LSPIG and LPBA", "C6": "SLIVER"}


def verdict(claim: str, finding: Finding) -> str:
    """The verdict, and what it is a verdict on."""
    if claim not in ELSEWHERE:
        return f"**{finding.verdict}**"
    return f"**{finding.verdict}** on the nearest sets; on {ELSEWHERE[claim]} it cannot be tested here"


def claims_table(findings: dict[str, Finding]) -> str:
    """The report's first table: a row for each claim."""
    lines = ["| claim | the posts say (*the paper's*) | measured here | verdict | why |", "| --- " * 5 + "|"]
    for name, (text, _) in CLAIMS.items():
        measured = "".join(f'<span class="measured">{part}</span>' for part in findings[name].parts)
        judged = f"{verdict(name, findings[name])} | {WHY[name]}"
        lines.append(f"| [{name}](#{name.lower()}) | {text} | {measured} | {judged} |")
    return "\n".join(lines)


def section(claim: str, finding: Finding) -> str:
    """What stands under the heading of one claim, before the prose."""
    measured = "\n".join(f"- {part[0].upper()}{part[1:]}" for part in finding.parts)
    return f"Verdict: {verdict(claim, finding)}.\n\n{measured}\n\n*Rule.* {finding.rule}"


def cost_table() -> str:
    """The four things that are called light. Weights and operations are counted here, the rest is read from records."""
    records = [r for r in read_records("cost").values() if r["device"] == "cpu"]
    timed = [f"seconds, {threads(r)}" for r in records] or ["seconds"]
    lines = [f"| network, cascades | weights, millions | GMAC | GB moved | {' | '.join(timed)} |"]
    lines += ["| --- " + "| --: " * (3 + len(timed)) + "|"]
    for name in ("LDR", "VTN"):
        for cascades in (1, 2, 3):
            config = network(name, cascades)
            model = build_model(config)
            weights, macs = count_parameters(model)["total"] / 1e6, count_macs(model, config.size) / 1e9
            costs = [r["networks"][f"{name}, {in_words(cascades)}"] for r in records]
            moved = f"{costs[0]['bytes_moved'] / 1e9:.2f}" if costs else MISSING
            seconds = [f"{c['seconds']:.2f}" for c in costs] or [MISSING]
            lines.append(f"| {name}, {cascades} | {weights:.2f} | {macs:.1f} | {moved} | {' | '.join(seconds)} |")
    return "\n".join(lines)


def released_seconds() -> str:
    """How fast the network of the released code is, beside the text's."""
    lines = []
    for record in read_records("cost").values():
        names = ("LDR of the released code, 1 cascade", "LDR, 1 cascade", "VTN, 1 cascade")
        if record["device"] == "cpu" and all(n in record["networks"] for n in names):
            seconds = [f"{n} {record['networks'][n]['seconds']:.2f} s" for n in names]
            lines.append(f"- {threads(record)}: {', '.join(seconds)}")
    return "\n".join(lines) or f"- {MISSING}"


def rate_gain() -> str:
    """What the learning rate of the released code's ALDK is worth without any ALDK."""
    runs = whole_runs("hippocampus")
    fast, slow = ([r for n, r in runs.items() if n.startswith(f"schedule_{s}_")] for s in ("paper", "released_none"))
    return f"- Hippocampus MR, 1 cascade, learning rate alone: {describe(fast, slow)[0] if fast and slow else MISSING}"


def seconds(record: dict[str, Any]) -> float:
    """What making a record again takes: its training, else its registrations, else the timed calls of a cost record.

    Networks are called twice more than `runs` says, to warm up (`book/cost.py`). 0 where nothing was timed.
    """
    took = record.get("training_seconds") or sum(row.get("seconds", 0) for row in record.get("rows", []))
    networks, tools = (record.get(kind, {}).values() for kind in ("networks", "tools"))
    calls = [(cost, cost.get("runs", 1) + 2) for cost in networks] + [(cost, cost.get("runs", 1)) for cost in tools]
    return took or sum(cost["seconds"] * count for cost, count in calls)


def minutes(record: dict[str, Any]) -> str:
    """The same in words."""
    took = seconds(record)
    if not took:
        return "not timed"
    return f"{took / 60:.0f} min" if took >= 60 else "under 1 min"


def commands_of(dataset: str) -> str:
    """One line a record: how to make it again, and how long it took."""
    lines = [f"# {n}: {minutes(r)}, {r['date'][:10]}\n{r['command']}" for n, r in read_records(dataset).items()]
    return "```bash\n" + "\n".join(lines or ["# no records yet"]) + "\n```"


def machines() -> str:
    """Where the records come from."""
    found: dict[tuple[str, ...], list[str]] = {}
    for dataset in ("hippocampus", "liver_mr", "liver_mr_body", "simulated_brains", "cost"):
        for record in read_records(dataset).values():
            m = record["machine"]
            key = (f"{m['cpu']}, {m['cores']} cores", m["gpu"] or "none", m["system"], f"{m['python']}, {m['torch']}")
            found.setdefault(key, []).append(record["date"][:10])
    lines = ["| processor | GPU | system | Python, PyTorch | records | first and last day |", "| --- " * 6 + "|"]
    for key, dates in found.items():
        lines.append(f"| {' | '.join(key)} | {len(dates)} | {min(dates)}, {max(dates)} |")
    return "\n".join(lines)


def fill(text: str) -> str:
    """A page with its `report: ...` markers replaced; other pages come back as they are.

    Args:
        text: of the page, Markdown.
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
            "commands": lambda: commands_of(name),
        }
        return parts[what]()

    return re.sub(r"<!-- report: (.+?) -->", part, text)
