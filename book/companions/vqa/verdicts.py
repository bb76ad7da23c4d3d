"""The claims M1 to M6, and the rules by which the records judge them; written before any recorded run.

Every claim says that one way to describe images answers more questions than another. It is judged on the official
split, on all 451 questions, by overall accuracy, with at least five runs on each side.
"""

from collections.abc import Sequence
from typing import NamedTuple

from companions.vqa.evaluate import Difference, mcnemar_test, paired_bootstrap
from companions.vqa.results import IN_WORDS, Records, questions_of, runs_of, score_matrix
from study.stats import holm

LEAST_RUNS = 5
RULE = (
    "Supported if, for every comparison that the claim needs, the 95 % interval of the difference in overall accuracy "
    "on the official split (bootstrap over images and runs, five runs or more on each side) lies above zero, and "
    "its p-value, corrected by Holm's method for all comparisons of M1 to M6, is below 0.05. Contradicted if an "
    "interval lies below zero. Otherwise not shown. The split by image is reported beside it and decides nothing."
)
MISSING, SUPPORTED, CONTRADICTED, OPEN = "not measured yet", "supported", "contradicted", "not shown"


class Side(NamedTuple):
    """A variant with an attention, as `companions.vqa.grid` names them."""

    variant: str
    attention: str

    def __str__(self) -> str:
        """Write it as a table does."""
        return f"{IN_WORDS[self.variant]} with {self.attention.upper()}"


class Claim(NamedTuple):
    """A claim, and the comparisons that it needs: each says that the first side is better than the second."""

    name: str
    words: str
    comparisons: tuple[tuple[Side, Side], ...]


# M1 to M3 are about the posts' Table 1, whose rows all use SAN; M4 and M5 about Table 2; M6 about MMQ, which uses BAN.
CLAIMS = (
    Claim(
        "M1",
        "MAML, fine-tuned, beats the same network from scratch.",
        ((Side("maml", "san"), Side("maml_scratch", "san")),),
    ),
    Claim(
        "M2",
        "CDAE, fine-tuned, beats the same network from scratch.",
        ((Side("cdae", "san"), Side("cdae_scratch", "san")),),
    ),
    Claim(
        "M3",
        "MAML and CDAE together (MEVF) beat either alone.",
        ((Side("mevf", "san"), Side("maml", "san")), (Side("mevf", "san"), Side("cdae", "san"))),
    ),
    Claim(
        "M4",
        "MEVF beats ImageNet features, with SAN and with BAN.",
        ((Side("mevf", "san"), Side("imagenet", "san")), (Side("mevf", "ban"), Side("imagenet", "ban"))),
    ),
    Claim(
        "M5",
        "With MEVF, BAN answers better than SAN.",
        ((Side("mevf", "ban"), Side("mevf", "san")),),
    ),
    Claim(
        "M6",
        "MMQ beats MAML, and MMQ + MEVF beats MEVF.",
        ((Side("mmq", "ban"), Side("maml", "ban")), (Side("mmq_mevf", "ban"), Side("mevf", "ban"))),
    ),
)


class Comparison(NamedTuple):
    """One comparison, measured.

    Attributes:
        ours, theirs: the two sides.
        runs: of each side.
        official, by_image: the difference on each split; None where it was not measured.
        corrected: the p-value of the official one, by Holm's method for all claims.
        mcnemar: p-values of the runs with equal seeds, one by one, on the official split.
    """

    ours: Side
    theirs: Side
    runs: tuple[int, int]
    official: Difference | None
    by_image: Difference | None
    corrected: float
    mcnemar: list[float]

    def __str__(self) -> str:
        """Write what was measured, in points."""
        if self.official is None:
            return f"{self.ours} against {self.theirs}: {MISSING}"
        text = f"{self.ours} against {self.theirs}: {self.official} points, {self.runs[0]} and {self.runs[1]} runs"
        return text + (f"; split by image {self.by_image}" if self.by_image else "")


class Finding(NamedTuple):
    """What the records say about a claim."""

    claim: Claim
    verdict: str
    comparisons: list[Comparison]
    rule: str = RULE


def difference(records: Records, split: str, ours: Side, theirs: Side) -> tuple[Difference | None, tuple[int, int]]:
    """Compare two sides on one split; None if one of them has too few runs. Also gives their numbers of runs."""
    asked = questions_of(records, split)
    a, b = (runs_of(records, split, *side) for side in (ours, theirs))
    runs = len(a), len(b)
    if asked is None or min(runs) < LEAST_RUNS:
        return None, runs
    images = [question.image for question in asked.questions()]
    return paired_bootstrap(score_matrix(a), score_matrix(b), images), runs


def compare(records: Records, ours: Side, theirs: Side) -> Comparison:
    """Measure one comparison; its corrected p-value is filled in by `findings`, which knows all of them."""
    official, runs = difference(records, "official", ours, theirs)
    by_image, _ = difference(records, "by_image", ours, theirs)
    a, b = ({record.seed: record for record in runs_of(records, "official", *side)} for side in (ours, theirs))
    both = [(score_matrix([a[seed]])[0], score_matrix([b[seed]])[0]) for seed in sorted(a.keys() & b.keys())]
    return Comparison(ours, theirs, runs, official, by_image, float("nan"), [mcnemar_test(*pair) for pair in both])


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Apply the rule to the comparisons of one claim."""
    measured = [one.official for one in comparisons if one.official is not None]
    if any(one.high < 0 for one in measured):
        return CONTRADICTED
    if len(measured) < len(comparisons):
        return MISSING
    clear = all(one.low > 0 for one in measured) and all(one.corrected < 0.05 for one in comparisons)
    return SUPPORTED if clear else OPEN


def findings(records: Records) -> list[Finding]:
    """Judge all claims by the records."""
    measured = [[compare(records, ours, theirs) for ours, theirs in claim.comparisons] for claim in CLAIMS]
    p_values = [one.official.p if one.official else float("nan") for group in measured for one in group]
    corrected = iter(holm(p_values))
    judged = [[one._replace(corrected=float(next(corrected))) for one in group] for group in measured]
    return [Finding(claim, verdict(group), group) for claim, group in zip(CLAIMS, judged, strict=True)]
