"""The nine classes that MAML learns from: an organ, and what the question-answer pairs say about it.

The authors labelled the images by hand and did not publish the labels. Here they follow from rules, so that anybody can
make them again and see where they fail:

1. Every pair votes for "normal", "present" (an abnormality is present) or "organ" (an organ is abnormal in size, shape
   or position), or says nothing; see `vote`.
2. An image with votes for "present" or "organ" gets the one with more votes; "organ", the rarer one, if they are equal.
3. An image with votes for "normal" only is normal.
4. An image about which no pair says anything has no label. MMQ uses such images as its unlabelled pool.

Only pairs to train on may be handed over: a test pair would reveal its answer.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from companions.vqa.questions import Question

KINDS = ("normal", "present", "organ")
# Fluid, air, mass or tumour, and what else is there that should not be.
PRESENT = re.compile(
    r"\b(fluid|effusions?|ascites|blood|bleed(s|ing)?|ha?emorrhages?|h(a)?ematomas?|o?edema|\w*pneumothora\w+|"
    r"pneumoperitoneum|air|mass(es)?|tumou?rs?|lesions?|nodul\w+|cysts?|cystic|abscess\w*|cancer|carcinoma|neoplas\w+|"
    r"metasta\w+|infarct\w*|strokes?|ischemi\w+|opaci\w+|consolidat\w+|infiltrat\w+|pneumonia|fractur\w+|broken|"
    r"calcifi\w+|\w*stones?|stranding|plaques?|aneurysms?|obstruct\w*|patholog\w+|abnormal\w*|defects?|disease)\b"
)
# Large in size, or in a wrong position.
ORGAN = re.compile(
    r"\b(enlarge\w*|cardiomegaly|\w+megaly|dilat\w+|disten\w+|hypertroph\w+|atroph\w+|shift\w*|deviat\w+|displac\w+|"
    r"herniat\w+|hydrocephalus|hydronephrosis|widen\w*|narrow\w*|thicken\w*|volume loss|collapse\w*|elevated|"
    r"hyperinflat\w+|mass effect|compress\w*|effac\w*|swell\w*|swollen|"
    r"abnormal (size|shape|position)|(abnormally|too) (large|big|wide|small))\b"
)
SIZE_OR_PLACE = re.compile(r"\b(size|shape|position|silhouette|contours?|width|midline|location|wide|large)\b")
NORMAL = re.compile(r"\b(normal|unremarkable|midline|intact|symmetric\w*|clear|free of)\b")
NOTHING = re.compile(r"^(no|none|nothing|normal|0|no abnormality)\b")


def vote(question: Question) -> str | None:
    """Say what one pair tells about its image.

    A yes to a word of illness votes for that illness, a no votes for "normal". Where a question asks whether something
    is normal, yes and no change places. An open question names the illness in its answer or takes it for granted
    ("Where is the lesion?").

    Returns:
        One of `KINDS`; None if it tells nothing.
    """
    text, answer = question.text.lower(), question.answer
    if answer.startswith(("yes", "no")) and re.match(r"(yes|no)\b", answer):
        yes = answer.startswith("yes")
        if NORMAL.search(text):
            ill = "organ" if SIZE_OR_PLACE.search(text) else "present"
            return "normal" if yes else ill
        if ORGAN.search(text):
            return "organ" if yes else "normal"
        if PRESENT.search(text):
            return "present" if yes else "normal"
        return None
    if NOTHING.match(answer):
        return "normal"
    for words in (answer, text):  # the answer first: it says which of the two a question was about
        if ORGAN.search(words):
            return "organ"
        if PRESENT.search(words):
            return "present"
    return None


def image_kind(votes: Iterable[str | None]) -> str | None:
    """Apply rules 2 to 4 to the votes of one image's pairs."""
    count = Counter(votes)
    if count["present"] or count["organ"]:
        return "organ" if count["organ"] >= count["present"] else "present"
    return "normal" if count["normal"] else None


def agreement(votes: Iterable[str | None]) -> float:
    """Give the share that an image's class has among the votes that say anything; 0 if none does."""
    said = [given for given in votes if given]
    return said.count(image_kind(said) or "") / len(said) if said else 0.0


def votes_by_image(questions: Sequence[Question]) -> dict[str, list[str | None]]:
    """Collect the votes of all pairs: image name -> votes, sorted by name."""
    votes: dict[str, list[str | None]] = defaultdict(list)
    for question in questions:
        votes[question.image].append(vote(question))
    return dict(sorted(votes.items()))


def nine_classes(questions: Sequence[Question]) -> dict[str, str | None]:
    """Label images by the pairs about them.

    Args:
        questions: to train on.

    Returns:
        Image name -> class such as "head present", or None where no pair says anything; sorted by name.
    """
    organs = {question.image: question.organ.lower() for question in questions}
    kinds = {name: image_kind(given) for name, given in votes_by_image(questions).items()}
    return {name: kind and f"{organs[name]} {kind}" for name, kind in kinds.items()}
