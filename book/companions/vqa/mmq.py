"""MMQ: several meta-models of different quality, from data that are cleaned between them.

A meta-model is trained on labelled images. Then it judges the data: labels that it never believes are dropped, and
unlabelled images on whose class many tasks agree are added. The next meta-model is trained on the refined data, and so
on. At the end the meta-models are scored by how sure they are of right labels and by how much they differ, and the best
few are used side by side.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from tqdm.auto import tqdm

from companions.vqa.config import MetaConfig, MmqConfig
from companions.vqa.labels import agreement, image_kind, votes_by_image
from companions.vqa.maml import OTHER, draw_task, task_probabilities, train_meta_model
from companions.vqa.meta_net import MetaClassifier
from companions.vqa.questions import Question

POOL_QUERIES = 24  # unlabelled images that each task votes on


@dataclass(frozen=True)
class Labelling:
    """Which images have which class, and which have none.

    Attributes:
        classes: class -> indices of its images.
        unlabelled: indices of the others.
    """

    classes: dict[str, list[int]]
    unlabelled: list[int]

    @property
    def labelled(self) -> int:
        """Count the labelled images."""
        return sum(len(images) for images in self.classes.values())


@dataclass(frozen=True)
class Refinement:
    """What one refinement changed.

    Attributes:
        dropped: indices of images whose labels were dropped.
        added: index of an unlabelled image -> the class it was given.
    """

    dropped: list[int]
    added: dict[int, str]


@dataclass
class Quantified:
    """What MMQ leaves.

    Attributes:
        models: the meta-models, the first one trained on the labels as they were.
        labellings: the data that each of them was trained on.
        refinements: between them.
        logs: of their trainings.
        scores: of each, see `score_models`.
    """

    models: list[MetaClassifier] = field(default_factory=list)
    labellings: list[Labelling] = field(default_factory=list)
    refinements: list[Refinement] = field(default_factory=list)
    logs: list[list[dict[str, float]]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def best(self, keep: int) -> list[int]:
        """Give the indices of the `keep` meta-models with the highest scores, in the order they were trained."""
        order = sorted(range(len(self.models)), key=lambda index: -self.scores[index])
        return sorted(order[:keep])


def starting_labels(questions: Sequence[Question], names: Sequence[str], least: float) -> Labelling:
    """Label images by the rules of `labels`, as far as the pairs about an image agree.

    Args:
        questions: to train on.
        names: of the images, in the order of their indices.
        least: share of an image's votes that its class needs; an image whose pairs agree less joins the unlabelled.
    """
    classes: dict[str, list[int]] = {}
    unlabelled = []
    place = {name: index for index, name in enumerate(names)}
    organs = {question.image: question.organ.lower() for question in questions}
    for name, votes in votes_by_image(questions).items():
        if agreement(votes) >= least:
            classes.setdefault(f"{organs[name]} {image_kind(votes)}", []).append(place[name])
        else:
            unlabelled.append(place[name])
    return Labelling(dict(sorted(classes.items())), unlabelled)


def judge(
    model: MetaClassifier, images: Tensor, labelling: Labelling, meta: MetaConfig, mmq: MmqConfig, seed: int
) -> tuple[dict[int, float], dict[int, Counter[str]]]:
    """Let a meta-model judge the data by many tasks.

    Args:
        model: to ask.
        images: `[N, 1, 84, 84]`.
        labelling: of the images.
        meta, mmq: of the tasks, and of the votes.
        seed: of the tasks.

    Returns:
        Index of a labelled image -> the highest probability that any task gave to its own class; and index of an
        unlabelled image -> how many tasks gave it each class.
    """
    generator = torch.Generator().manual_seed(seed)
    confidence: dict[int, float] = {}
    votes: dict[int, Counter[str]] = {}
    for _ in range(mmq.episodes):
        task = draw_task(labelling.classes, meta, generator)
        weights, given = task_probabilities(model, task, images, meta, mmq.adapt_steps)
        for index, label, row in zip(task.query, task.query_labels.tolist(), given, strict=True):
            if task.classes[label] != OTHER:
                confidence[index] = max(confidence.get(index, 0.0), row[label].item())
        order = torch.randperm(len(labelling.unlabelled), generator=generator)[:POOL_QUERIES].tolist()
        pool = [labelling.unlabelled[i] for i in order]
        if len(pool) > 1:  # batch normalisation of a single image says nothing
            with torch.no_grad():
                answers = functional_call(model, weights, (images[pool],)).argmax(1).tolist()
            for index, answer in zip(pool, answers, strict=True):
                votes.setdefault(index, Counter())[task.classes[answer]] += 1
    return confidence, votes


def clear_winner(votes: Counter[str], config: MmqConfig) -> str | None:
    """Find the class that an unlabelled image gets: many votes, a single winner with enough of them, not "other"."""
    ranked = votes.most_common(2)
    enough = sum(votes.values()) > config.votes and ranked[0][1] > config.winner
    if not enough or ranked[0][0] == OTHER or (len(ranked) > 1 and ranked[1][1] == ranked[0][1]):
        return None
    return ranked[0][0]


def refine(
    labelling: Labelling,
    confidence: Mapping[int, float],
    votes: Mapping[int, Counter[str]],
    config: MmqConfig,
    smallest: int = 2,
) -> tuple[Labelling, Refinement]:
    """Drop labels that were never believed, and label images that tasks agree on.

    Dropped images join the unlabelled. A label that no task asked about is kept, and no class falls below `smallest`
    images, as no task could be drawn from it then.
    """
    added = {index: name for index, count in votes.items() if (name := clear_winner(count, config))}
    dropped, classes = [], {}
    for name, images in labelling.classes.items():
        doubtful = sorted((confidence.get(i, 1.0), i) for i in images if confidence.get(i, 1.0) < config.confidence)
        gone = {index for _, index in doubtful[: max(0, len(images) - smallest)]}
        dropped += sorted(gone)
        classes[name] = [i for i in images if i not in gone] + sorted(i for i, given in added.items() if given == name)
    unlabelled = [index for index in labelling.unlabelled if index not in added] + dropped
    return Labelling(classes, unlabelled), Refinement(dropped, dict(sorted(added.items())))


def fused_scores(confidence: Tensor, features: Tensor, alpha: float = 0.5) -> Tensor:
    """Score meta-models by how sure they are of right labels and by how much they differ from the others.

    score_i = alpha * confidence_i + (1 - alpha) * tanh(sum over j != i of (1 - cos(f_i, f_j))), averaged over images.

    Args:
        confidence: probability of the right class, `[models, images]`.
        features: of the same images, `[models, images, F]`.
        alpha: weight of confidence; the paper's 0.5 (the released script calls its function with 0.75).

    Returns:
        `[models]`.
    """
    unit = F.normalize(features, dim=2)
    cosine = torch.einsum("inf,jnf->ijn", unit, unit)
    apart = (1 - cosine).sum(1)  # a model's own cosine is one, so it adds nothing
    return (alpha * confidence + (1 - alpha) * torch.tanh(apart)).mean(1)


def score_models(
    models: Sequence[MetaClassifier], images: Tensor, labelling: Labelling, meta: MetaConfig, mmq: MmqConfig, seed: int
) -> list[float]:
    """Ask all meta-models about the same tasks and score them, see `fused_scores`."""
    generator = torch.Generator().manual_seed(seed)
    tasks = [draw_task(labelling.classes, meta, generator) for _ in range(max(1, mmq.episodes // 4))]
    sure, described = [], []
    for model in models:
        confidence, features = [], []
        for task in tasks:
            weights, given = task_probabilities(model, task, images, meta, mmq.adapt_steps)
            confidence.append(given[torch.arange(len(task.query)), task.query_labels])
            body = {name.removeprefix("net."): x for name, x in weights.items() if name.startswith("net.")}
            with torch.no_grad():
                features.append(functional_call(model.net, body, (images[task.query],)))
        sure.append(torch.cat(confidence))
        described.append(torch.cat(features))
    return fused_scores(torch.stack(sure), torch.stack(described), mmq.alpha).tolist()


def quantify(
    images: Tensor,
    start: Labelling,
    meta: MetaConfig,
    mmq: MmqConfig,
    progress: Callable[..., tqdm] = tqdm,
    found: Quantified | None = None,
    save: Callable[[Quantified], None] = lambda _: None,
) -> Quantified:
    """Train meta-models on data that are refined between them, and score them.

    Args:
        images: `[N, 1, 84, 84]`.
        start: labels to begin with.
        meta: of each meta-model's training.
        mmq: of refinements and scores.
        progress: draws the bars.
        found: what an interrupted call left through `save`; it is gone on with.
        save: called after each meta-model.

    Raises:
        InputError: too few classes to draw tasks from.
    """
    found = found or Quantified()
    for number in range(len(found.models), mmq.refinements + 1):
        labelling = start
        if number:
            confidence, votes = judge(found.models[-1], images, found.labellings[-1], meta, mmq, meta.seed + number)
            labelling, change = refine(found.labellings[-1], confidence, votes, mmq)
            found.refinements.append(change)
        model, log = train_meta_model(images, labelling.classes, meta, progress)
        found.models.append(model)
        found.labellings.append(labelling)
        found.logs.append(log)
        save(found)
    found.scores = score_models(found.models, images, found.labellings[-1], meta, mmq, meta.seed)
    return found
