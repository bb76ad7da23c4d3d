"""MAML: find weights from which a few gradient steps on a few images lead to a good classifier.

The inner loop adapts the weights to one task. The outer loop changes the weights that all tasks start from, so that the
adapted ones do well on images they were not adapted on. `torch.func.grad` gives the inner gradient as a function of
the weights, so the outer gradient can go through it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad
from tqdm.auto import tqdm

from companions.vqa.config import MetaConfig
from companions.vqa.meta_net import MetaClassifier
from companions.vqa.minimise import minimise
from lddr.errors import InputError

Weights = dict[str, Tensor]
Loss = Callable[[Weights, Tensor, Tensor], Tensor]
OTHER = "other"  # the class that stands for all classes a task did not draw


class Task(NamedTuple):
    """A small classification problem: images to adapt on, and images to be judged by.

    Attributes:
        classes: names, in the order of the labels.
        support, query: indices of images.
        support_labels, query_labels: their classes in this task, int64.
    """

    classes: list[str]
    support: list[int]
    support_labels: Tensor
    query: list[int]
    query_labels: Tensor


def adapt(
    loss: Loss, weights: Weights, images: Tensor, labels: Tensor, steps: int, rate: float, first_order: bool = False
) -> Weights:
    """Run the inner loop: plain gradient steps on the images of one task.

    Args:
        loss: of weights, images and labels; a single number.
        weights: to start from; they are not changed.
        images, labels: of the task.
        steps: how many.
        rate: length of a step, times the gradient.
        first_order: take the gradient for a constant, so that the outer gradient does not go through it: a third of
            the time, and only an approximation of MAML.

    Returns:
        The adapted weights; differentiable with respect to `weights`.
    """
    for _ in range(steps):
        at = {name: weight.detach() for name, weight in weights.items()} if first_order else weights
        slope = grad(loss)(at, images, labels)
        weights = {name: weight - rate * slope[name] for name, weight in weights.items()}
    return weights


def classification_loss(model: nn.Module) -> Loss:
    """Make the loss of a classifier: cross entropy, as a function of its weights."""

    def loss(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (images,)), labels)

    return loss


def draw_task(classes: Mapping[str, Sequence[int]], config: MetaConfig, generator: torch.Generator) -> Task:
    """Draw classes, and images of each: different ones, as long as a class has enough of them.

    Args:
        classes: name -> indices of its images.
        config: ways, shots, queries, and whether there is a class for all others.
        generator: decides.
    """
    names = sorted(classes)
    chosen = [names[i] for i in torch.randperm(len(names), generator=generator)[: config.ways].tolist()]
    pools = {name: list(classes[name]) for name in chosen}
    if config.other:
        pools[OTHER] = [index for name in names if name not in chosen for index in classes[name]]
    support, query, wanted = [], [], config.shots + config.queries
    for pool in pools.values():
        if len(pool) >= wanted:
            drawn = torch.randperm(len(pool), generator=generator)[:wanted]
        else:
            drawn = torch.randint(len(pool), (wanted,), generator=generator)
        images = [pool[i] for i in drawn.tolist()]
        support += images[: config.shots]
        query += images[config.shots :]
    labels = torch.arange(len(pools))
    to_adapt, to_judge = labels.repeat_interleave(config.shots), labels.repeat_interleave(config.queries)
    return Task(list(pools), support, to_adapt, query, to_judge)


def require_classes(classes: Mapping[str, Sequence[int]], config: MetaConfig) -> None:
    """Refuse (`InputError`) fewer classes than a task needs, or one without images."""
    filled = [name for name, images in classes.items() if len(images)]
    needed = config.ways + config.other
    if len(filled) < needed or len(filled) < len(classes):
        raise InputError(f"Meta-training needs {needed} classes with images, found {len(filled)} of {len(classes)}.")


def meta_loss(loss: Loss, weights: Weights, tasks: Sequence[Task], images: Tensor, config: MetaConfig) -> Tensor:
    """Compute the outer loss: that of the adapted weights on each task's query images, averaged over tasks."""
    losses = []
    for task in tasks:  # one after another: on a CPU that is quicker than vmap, whose convolutions become grouped ones
        inner = (images[task.support], task.support_labels, config.inner_steps, config.inner_rate, config.first_order)
        adapted = adapt(loss, weights, *inner)
        losses.append(loss(adapted, images[task.query], task.query_labels))
    return torch.stack(losses).mean()


def train_meta_model(
    images: Tensor,
    classes: Mapping[str, Sequence[int]],
    config: MetaConfig,
    progress: Callable[..., tqdm] = tqdm,
) -> tuple[MetaClassifier, list[dict[str, float]]]:
    """Meta-train a network on tasks drawn from labelled images.

    Args:
        images: `[N, 1, 84, 84]`.
        classes: name -> indices of its images; no test image may be among them.
        config: of the training.
        progress: draws the bar.

    Returns:
        The meta-model, and the log: `step` and `loss`, averaged over each twentieth of the training.

    Raises:
        InputError: too few classes, or one without images.
    """
    require_classes(classes, config)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    model = MetaClassifier(config.ways + config.other)
    weights: Weights = {name: weight for name, weight in model.named_parameters()}
    of_weights = classification_loss(model)

    def loss() -> Tensor:
        tasks = [draw_task(classes, config, generator) for _ in range(config.tasks)]
        return meta_loss(of_weights, weights, tasks, images, config)

    log = minimise(loss, model, config.meta_rate, config.iterations, 20, progress, "MAML")
    return model, log


@torch.no_grad()
def task_probabilities(
    model: MetaClassifier, task: Task, images: Tensor, config: MetaConfig, steps: int
) -> tuple[Weights, Tensor]:
    """Adapt a meta-model to a task, and ask it about the query images.

    Returns:
        The adapted weights, and the probability of each class for each query image, `[Q, classes]`.
    """
    weights: Weights = {name: weight for name, weight in model.named_parameters()}
    loss = classification_loss(model)
    adapted = adapt(loss, weights, images[task.support], task.support_labels, steps, config.inner_rate)
    return adapted, functional_call(model, adapted, (images[task.query],)).softmax(1)
