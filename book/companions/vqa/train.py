"""Train a model to answer questions, and ask it."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from companions.vqa.answers import score
from companions.vqa.batches import Part, Prepared, batches
from companions.vqa.config import VqaConfig
from companions.vqa.model import Inputs, Output, VqaModel
from lddr.errors import DivergedError

USUAL_EPOCHS = 20  # the schedule of the learning rate is written for so many


def rate_factor(epoch: int, epochs: int = USUAL_EPOCHS) -> float:
    """Give the factor of the learning rate in an epoch (from 0).

    The released code warms up in four epochs, by factors 0.5, 1, 1.5 and 2, and stays at twice the rate that its
    options name; from the tenth epoch on, it multiplies by 0.75 every second epoch. For another number of epochs the
    schedule is stretched.
    """
    place = epoch * USUAL_EPOCHS / epochs
    return 0.5 * min(int(place) + 1, 4) * 0.75 ** max(0, (int(place) - 8) // 2)


def batch_loss(output: Output, targets: Tensor, clean: Tensor | None, weight: float) -> tuple[Tensor, Tensor]:
    """Compute L = L_vqa + weight * L_rec.

    Args:
        output: of the model.
        targets: how right each answer is, `[B, answers]`.
        clean: the images that the model reconstructed, in [0, 1].
        weight: alpha 2.

    Returns:
        L, and L_vqa alone: binary cross entropy, summed over answers, averaged over questions.
    """
    answering = F.binary_cross_entropy_with_logits(output.logits, targets, reduction="sum") / len(targets)
    if output.reconstructed is None or clean is None:
        return answering, answering
    return answering + weight * F.mse_loss(output.reconstructed, clean), answering


def look(prepared: Prepared, which: Tensor) -> tuple[Inputs, Tensor]:
    """Take the images of a batch, each once, in the order of their first question; and each question's place there."""
    place = {image: number for number, image in enumerate(dict.fromkeys(which.tolist()))}
    return prepared.images.rows(torch.tensor([*place])), torch.tensor([place[image] for image in which.tolist()])


def fit(
    model: VqaModel, prepared: Prepared, config: VqaConfig, progress: Callable[..., tqdm] = tqdm
) -> list[dict[str, float]]:
    """Train a model in place; the weights after the last epoch are kept, as no questions are held out to choose by.

    Args:
        model: to train.
        prepared: what it is trained on.
        config: of the training.
        progress: draws the bar.

    Returns:
        The log, one row an epoch: `loss` (L_vqa), `score` on training questions while training, `seconds` so far.

    Raises:
        DivergedError: the loss is not finite.
    """
    torch.manual_seed(config.seed)  # of dropout
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adamax(model.parameters(), lr=config.learning_rate)
    train, log, begin = prepared.train, [], time.perf_counter()
    for epoch in progress(range(config.epochs), desc="training", unit="epoch"):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_factor(epoch, config.epochs)
        losses, scores = [], []
        for batch in batches(train.which, config.batch, config.per_image, generator):
            images, places = look(prepared, train.which[batch])
            output = model(train.words[batch], images, places, config.decoded)
            clean = images.large[: config.decoded] if images.large is not None else None
            loss, answering = batch_loss(output, train.targets[batch], clean, config.reconstruction)
            if not torch.isfinite(loss):
                raise DivergedError(f"The loss is {loss.item()} in epoch {epoch}: try a smaller learning_rate.")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            losses.append(answering.item() * len(batch))
            scores.append(score(output.logits.detach(), train.targets[batch]).sum().item())
        row = {"epoch": epoch + 1, "loss": sum(losses) / len(train.which), "score": sum(scores) / len(train.which)}
        log.append(row | {"seconds": round(time.perf_counter() - begin, 1)})
    model.eval()
    return log


@torch.no_grad()
def answer(model: VqaModel, prepared: Prepared, part: Part, which: Tensor | None = None, batch: int = 64) -> Tensor:
    """Ask a model.

    Args:
        model: trained.
        prepared: with all images.
        part: the questions.
        which: other images than the questions' own, `[Q]`: to see what an answer owes to its image.
        batch: questions at a time.

    Returns:
        Logits, `[Q, answers]`, in the order of the questions.
    """
    model.eval()
    which = part.which if which is None else which
    order = torch.argsort(which, stable=True)  # questions about one image follow each other, so it is encoded once
    logits = torch.empty(len(order), part.targets.shape[1])
    for rows in order.split(batch):
        images, places = look(prepared, which[rows])
        logits[rows] = model(part.words[rows], images, places).logits
    return logits
