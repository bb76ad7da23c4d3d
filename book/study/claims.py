"""What the records say about each claim of the posts: the measurements, and the rules by which they are judged.

Every figure is read from the book's records or counted here. Every verdict follows from a rule, which the report shows
beside it. `study.report` puts both into the pages, and a chapter that speaks of a claim takes it from here as well.
"""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import NamedTuple

from lddr.deploy.cost import count_macs, count_parameters
from lddr.models import ModelConfig, build_model
from lddr.record import CostRecord, Record
from study.methods import by_method, in_words
from study.records import read_costs
from study.stats import compare

DATASETS = {"hippocampus": "hippocampus MR", "liver_mr": "liver MR (CHAOS)"}
TOOLS = {"ants_syn": "ANTs SyN", "elastix": "Elastix"}
MISSING = "not measured yet"
Records = Sequence[Record]
CLAIMED_GAINS = {1: 0.034, 2: 0.040, 3: 0.031}  # C6: Dice of LDR + ALDK over LDR alone, for each number of cascades
CLAIMED_LOSS = {"dice": 0.005, "jaccard": 0.0125}  # C4: mean loss of the light network against the best method
# C1 and C4 set light networks of three cascades beside a heavy one of as many; LDR + ALDK is what the posts claim.
ALDK = "LDR + ALDK, 3 cascades"
LIGHT = ("LDR, 3 cascades", ALDK, "LDR, best recipe, 3 cascades")
HEAVY = ("RCN, VTN, 3 cascades", "RCN, VTN, 3 cascades, softer")


class Finding(NamedTuple):
    """What was measured about a claim, what follows, and the rule it follows by."""

    measured: str
    verdict: str
    rule: str

    @property
    def parts(self) -> list[str]:
        """List the measurements one by one."""
        return self.measured.split("; ")


class Distance(NamedTuple):
    """How a light network compares with the best heavy one, on one data set.

    Attributes:
        light, heavy: the two methods, as Table 1 names them.
        ours, theirs: their records, one a seed.
        dice, jaccard: see `compare`; a `gain` below zero is a loss of the light network.
    """

    light: str
    heavy: str
    ours: Records
    theirs: Records
    dice: dict[str, float]
    jaccard: dict[str, float]


def distances(dataset: str) -> dict[str, Distance]:
    """Compare the light networks of three cascades with the best heavy one of as many: what C1 and C4 are about.

    The best heavy one is the RCN of VTN, as trained or trained on with less smoothness, with the higher mean Dice; none
    that is adapted to each pair.

    Args:
        dataset: for example "hippocampus".

    Returns:
        Light method -> distance, for those of `LIGHT` that are recorded; empty without a heavy network.
    """
    methods = by_method(dataset)
    heavy = [name for name in HEAVY if name in methods]
    if not heavy:
        return {}
    best = max(heavy, key=lambda name: mean_dice(methods[name]))
    theirs, found = methods[best], {}
    for light in LIGHT:
        if ours := methods.get(light):
            both = compare(ours, theirs), compare(ours, theirs, "jaccard")
            found[light] = Distance(light, best, ours, theirs, *both)
    return found


def mean_dice(records: Records) -> float:
    """Average the mean Dice of a method over its seeds."""
    return mean(record.test.dice_mean for record in records if record.test.dice_mean is not None)


def threads(record: CostRecord) -> str:
    """Say in words on how many threads something was timed."""
    return f"{record.threads} thread{'s' * (record.threads > 1)}"


def on_cpu() -> dict[str, CostRecord]:
    """Read the cost records of CPUs."""
    return {name: record for name, record in read_costs().items() if record.device == "cpu"}


def network(name: str, cascades: int) -> ModelConfig:
    """Describe a network of the claims at the paper's size: "LDR" with the light affine stem, "VTN" with its own."""
    affine = {"LDR": "light", "VTN": "vtn"}[name]
    return ModelConfig.check({"network": name.lower(), "affine": affine, "cascades": cascades, "size": [128] * 3})


def interval(gain: dict[str, float]) -> str:
    """Write a gain with its interval."""
    return f"{gain['gain']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"


def origin(ours: Records, theirs: Records) -> str:
    """Write how many pairs and seeds a gain comes from."""
    return f"({len(ours[0].rows)} pairs, {len(ours)} run{'s' * (len(ours) > 1)} against {len(theirs)})"


def describe(ours: Records, theirs: Records) -> str:
    """Write a gain in Dice, with its interval, the pairs and the seeds it comes from."""
    return f"{interval(compare(ours, theirs))} {origin(ours, theirs)}"


def graded(fully: bool, partly: bool) -> str:
    """Give the verdict on one measurement."""
    return "reproduced" if fully else "partly" if partly else "not reproduced"


def worst(verdicts: Sequence[str]) -> str:
    """Give one word for several verdicts: the common one, else "partly"."""
    known = set(verdicts) or {"not yet"}
    return known.pop() if len(known) == 1 else "partly"


def claim_1() -> Finding:
    """Compare LDR + ALDK with the best RCN."""
    rule = (
        "The claim is about SLIVER, which cannot be had here. On each set that can: *reproduced* if the whole interval "
        "of the difference lies above -0.01, *partly* if the difference itself does, else *not reproduced*."
    )
    lines, verdicts = [], []
    for name, title in DATASETS.items():
        if found := distances(name).get(ALDK):
            lines.append(f"{title}: {interval(found.dice)} {origin(found.ours, found.theirs)} against {found.heavy}")
            verdicts.append(graded(found.dice["low"] > -0.01, found.dice["gain"] > -0.01))
        else:
            lines.append(f"{title}: {MISSING}")
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_2() -> Finding:
    """Divide the seconds of VTN by those of LDR."""
    rule = (
        "*Reproduced* if the measured ratios are at least half the claimed ones, *partly* if at least a quarter, else "
        "*not reproduced*. The Dice beside it does not enter the verdict."
    )
    lines, verdicts = [], []
    for name, record in on_cpu().items():
        ratios = []
        for cascades, claimed in ((1, 15), (3, 21)):
            ldr, vtn = (record.networks[f"{n}, {in_words(cascades)}"]["seconds"] for n in ("LDR", "VTN"))
            ratio = vtn / ldr
            ratios.append(f"{ratio:.1f} times at {in_words(cascades)} ({vtn:.2f} s against {ldr:.2f} s)")
            verdicts.append(graded(ratio >= claimed / 2, ratio >= claimed / 4))
        lines.append(f"{threads(record)}: {', '.join(ratios)} [{name}]")
    lines = lines or [f"seconds: {MISSING}"]
    for name, title in DATASETS.items():
        methods = by_method(name)
        aldk, rcn = (methods.get(method) for method in ("LDR + ALDK, 1 cascade", "RCN, VTN, 1 cascade"))
        lines.append(f"Dice on {title}, 1 cascade: {describe(aldk, rcn) if aldk and rcn else MISSING}")
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_3() -> Finding:
    """Divide the parameters of RCN by those of LDR."""
    rule = (
        "*Reproduced* if both ratios are within a quarter of the claimed ones, *partly* if they are larger, else "
        "*not reproduced*. Weights are counted, so no record is needed."
    )
    one = [count_parameters(build_model(network(name, 1)).dense[0])["total"] for name in ("VTN", "LDR")]
    single = one[0] / one[1]
    three = [count_parameters(build_model(network(name, 3)))["total"] for name in ("VTN", "LDR")]
    ratio = three[0] / three[1]
    near = all(0.75 <= r / c <= 1.25 for r, c in ((single, 10), (ratio, 8)))
    verdict = graded(near, single >= 10 and ratio >= 8)
    words = f"one VTN has {single:.1f} times the weights of one LDR, without affine stems; with them, 3 cascades of "
    words += f"VTN have {ratio:.1f} times the weights of 3 of LDR ({three[0]:,} against {three[1]:,})"
    return Finding(words, verdict, rule)


def claim_4() -> Finding:
    """Measure the loss against the best method, in Dice and Jaccard."""
    rule = (
        "None of the three sets can be had here. Nearest: the loss against the best network on the sets that can; "
        f"*reproduced* if at most {CLAIMED_LOSS['dice']} Dice and {CLAIMED_LOSS['jaccard']} Jaccard, *partly* if at "
        "most twice that, else *not reproduced*."
    )
    lines, verdicts = [], []
    for name, title in DATASETS.items():
        if found := distances(name).get(ALDK):
            dice = f"{interval(found.dice)} {origin(found.ours, found.theirs)}"
            lines.append(f"{title}: Dice {dice}, Jaccard {interval(found.jaccard)}")
            share = max(-getattr(found, measure)["gain"] / claimed for measure, claimed in CLAIMED_LOSS.items())
            verdicts.append(graded(share <= 1, share <= 2))
        else:
            lines.append(f"{title}: {MISSING}")
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_5() -> Finding:
    """Look up the seconds of LDR on a CPU, and who else is as fast."""
    rule = (
        '*Reproduced* if three cascades of LDR take at most two seconds at 128³ on a CPU, which is "about 1 s", and '
        "no other network does; *partly* if others do as well; else *not reproduced*."
    )
    lines, verdicts = [], []
    for name, record in on_cpu().items():
        seconds = {n: cost["seconds"] for n, cost in record.networks.items()}
        quick = [n for n, s in seconds.items() if s <= 2]
        others = [n for n in quick if not n.startswith("LDR")]
        slow = [f"{TOOLS[tool]} {cost['seconds']:.0f} s" for tool, cost in record.tools.items()]
        own = seconds["LDR, 3 cascades"]
        words = f"LDR with 3 cascades {own:.2f} s on {threads(record)} [{name}]"
        words += f"; within two seconds on {threads(record)}: {' / '.join(quick)}" if quick else ""
        lines.append(words + (f"; classical tools, on one thread: {', '.join(slow)}" if slow else ""))
        verdicts.append("not reproduced" if own > 2 else "partly" if others else "reproduced")
    return Finding("; ".join(lines) or MISSING, worst(verdicts), rule)


def claim_6() -> Finding:
    """Measure the gain of ALDK over LDR alone."""
    rule = (
        "The claim is about SLIVER. On each set here and for each number of cascades: *reproduced* if the interval "
        "of Dice lies above 0 and reaches the claimed gain, *partly* if it lies above 0, else *not reproduced*."
    )
    lines, verdicts = [], []
    for name, title in DATASETS.items():
        methods = by_method(name)
        for cascades, claimed in CLAIMED_GAINS.items():
            aldk, alone = (methods.get(f"{m}, {in_words(cascades)}") for m in ("LDR + ALDK", "LDR"))
            if not aldk or not alone:
                lines.append(f"{title}, {in_words(cascades)}: {MISSING}")
                continue
            gain, jaccard = compare(aldk, alone), compare(aldk, alone, "jaccard")
            words = f"{interval(gain)} {origin(aldk, alone)}, Jaccard {interval(jaccard)}"
            lines.append(f"{title}, {in_words(cascades)}: {words}")
            above = gain["low"] > 0
            verdicts.append(graded(above and gain["high"] >= claimed, above))
    return Finding("; ".join(lines), worst(verdicts), rule)


def claim_7() -> Finding:
    """Compare the student with ALDK and the one without, as they are when they register."""
    rule = "*Reproduced* if the recorded students with and without ALDK have the same number of weights and operations."
    methods, lines, same = by_method("hippocampus"), [], []
    for cascades in (1, 2, 3):
        sides = [methods.get(f"{m}, {in_words(cascades)}", []) for m in ("LDR", "LDR + ALDK")]
        weights = [run.weight_count for runs in sides for run in runs[:1] if run.weight_count]
        if len(weights) < 2:
            lines.append(f"{in_words(cascades)}: {MISSING}")
            continue
        built = [runs[0].method.model_dump(include=set(ModelConfig.model_fields)) for runs in sides]
        configs = [ModelConfig.check(words) for words in built]
        macs = [count_macs(build_model(config), config.size) for config in configs]
        same.append(weights[0] == weights[1] and macs[0] == macs[1])
        counted = f"{weights[0]:,} and {weights[1]:,} weights, {macs[0] / 1e9:.2f} and {macs[1] / 1e9:.2f} GMAC"
        lines.append(f"{in_words(cascades)}, without and with: {counted}")
    verdict = "not yet" if not same else "reproduced" if all(same) else "not reproduced"
    return Finding("; ".join(lines), verdict, rule)


def claim_8() -> Finding:
    """Put Figure 2 of the posts in numbers: who is closer to the RCN of one cascade."""
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
        ldr, aldk, rcn = (mean_dice(methods[n]) for n in names)
        lines.append(f"{title}: LDR {ldr:.3f}, LDR + ALDK {aldk:.3f}, RCN {rcn:.3f}")
        for other, method in zip(("LDR alone", "RCN"), names[::2], strict=True):
            lines.append(f"{title}, LDR + ALDK over {other}: {describe(methods[names[1]], methods[method])}")
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
