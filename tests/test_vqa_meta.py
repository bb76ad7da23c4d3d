"""MAML against a problem solved by hand; MMQ's rules; labels made wrong on purpose and found."""

from collections import Counter

import numpy as np
import pytest
import torch
from vqa_samples import ask, stripes

from companions.vqa.config import MetaConfig, MmqConfig
from companions.vqa.labels import KINDS
from companions.vqa.maml import OTHER, Task, adapt, draw_task, meta_loss, train_meta_model
from companions.vqa.meta_net import WIDTH, MetaNet
from companions.vqa.mmq import (
    Labelling,
    clear_winner,
    fused_scores,
    judge,
    quantify,
    refine,
    starting_labels,
)
from companions.vqa.mmq_state import load_state, save_state
from lddr.errors import InputError


def line_loss(weights, x, y):
    """Half the mean squared error of a line with slope a and offset b."""
    return 0.5 * ((weights["a"] * x + weights["b"] - y) ** 2).mean()


def by_hand(w, support, query, steps, rate, first_order):
    """MAML's outer gradient of `line_loss`, in closed form.

    With H the mean of (x, 1)(x, 1)^T and c that of (x, 1) y, the gradient is H w - c. Steps give
    w' = A w + ... with A = (I - rate H)^steps, so the outer gradient is A^T (H_q w' - c_q); to first order, A is I.
    """

    def moments(x, y):
        rows = np.stack([x, np.ones_like(x)], axis=1)
        return rows.T @ rows / len(x), rows.T @ y / len(x)

    (h, c), (hq, cq) = moments(*support), moments(*query)
    adapted, a = w.copy(), np.eye(2)
    for _ in range(steps):
        adapted = adapted - rate * (h @ adapted - c)
        a = (np.eye(2) - rate * h) @ a
    return (np.eye(2) if first_order else a.T) @ (hq @ adapted - cq), adapted


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("first_order", [False, True])
def test_mamls_gradient_is_the_one_worked_out_by_hand(steps, first_order):
    support = (np.array([1.0, 2.0, -1.0]), np.array([2.0, 0.5, 1.0]))
    query = (np.array([0.5, 3.0]), np.array([-1.0, 2.0]))
    weights = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in (("a", 0.7), ("b", -0.3))}
    config = MetaConfig(inner_steps=steps, inner_rate=0.1, first_order=first_order)
    images = torch.from_numpy(np.concatenate([support[0], query[0]]))
    task = Task([], [0, 1, 2], torch.from_numpy(support[1]), [3, 4], torch.from_numpy(query[1]))
    meta_loss(line_loss, weights, [task], images, config).backward()
    wanted, adapted = by_hand(np.array([0.7, -0.3]), support, query, steps, 0.1, first_order)
    assert [weights[name].grad.item() for name in "ab"] == pytest.approx(wanted.tolist(), abs=1e-12)
    moved = adapt(line_loss, weights, images[:3], task.support_labels, steps, 0.1, first_order)
    assert [moved[name].item() for name in "ab"] == pytest.approx(adapted.tolist(), abs=1e-12)


def test_first_order_is_another_gradient():
    w, support, query = np.array([0.7, -0.3]), (np.array([1.0, 2.0]), np.zeros(2)), (np.array([3.0]), np.ones(1))
    assert not np.allclose(by_hand(w, support, query, 2, 0.1, True)[0], by_hand(w, support, query, 2, 0.1, False)[0])


def test_a_task_has_different_images_of_its_classes_and_of_others():
    classes = {name: list(range(10 * i, 10 * i + 8)) for i, name in enumerate("abcde")}
    config = MetaConfig(other=True)
    for seed in range(20):
        task = draw_task(classes, config, torch.Generator().manual_seed(seed))
        assert len(set(task.classes)) == 4
        assert task.classes[3] == OTHER
        images = task.support + task.query
        assert len(set(images)) == len(images) == 4 * 6
        for index, label in zip(images, [*task.support_labels.tolist(), *task.query_labels.tolist()], strict=True):
            own = [name for name, rows in classes.items() if index in rows][0]
            assert own == task.classes[label] or (label == 3 and own not in task.classes)


def test_the_meta_net_halves_four_times_and_averages(generator):
    net = MetaNet()
    images = torch.rand(3, 1, 84, 84, generator=generator)
    assert net.layers(images).shape == (3, WIDTH, 6, 6)
    assert net(images).shape == (3, WIDTH)
    assert sum(x.numel() for x in net.parameters()) == (9 + 1) * 64 + 3 * (9 * 64 + 1) * 64 + 4 * 2 * 64


def test_meta_training_learns_and_is_the_same_every_time():
    images, classes = stripes(8)
    config = MetaConfig(iterations=12, tasks=2, first_order=True, inner_steps=2, inner_rate=0.3, meta_rate=3e-3)
    model, log = train_meta_model(images, classes, config, progress=lambda steps, **_: steps)
    again, _ = train_meta_model(images, classes, config, progress=lambda steps, **_: steps)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_too_few_classes_are_refused():
    images, classes = stripes(2)
    with pytest.raises(InputError, match="needs 5 classes with images, found 4 of 4"):
        train_meta_model(images, classes, MetaConfig(ways=4, other=True))


def test_a_winner_needs_votes_a_lead_and_a_name():
    config = MmqConfig(votes=47, winner=15)
    assert clear_winner(Counter(a=30, b=18), config) == "a"
    assert clear_winner(Counter(a=30, b=17), config) is None  # 47 are not more than 47
    assert clear_winner(Counter(a=24, b=24), config) is None
    assert clear_winner(Counter(a=15, b=14, c=13, d=12), config) is None
    assert clear_winner(Counter({OTHER: 40, "a": 20}), config) is None


def test_refining_drops_what_is_never_believed_and_adds_what_many_agree_on():
    labelling = Labelling({"a": [0, 1, 2, 3], "b": [4, 5]}, [6, 7])
    confidence = {0: 0.9, 1: 0.29, 2: 0.3, 4: 0.1, 5: 0.2}  # nobody asked about 3
    votes = {6: Counter(b=50), 7: Counter(a=20, b=20)}
    refined, change = refine(labelling, confidence, votes, MmqConfig())
    assert change.dropped == [1]  # b keeps its last two, although neither is believed
    assert change.added == {6: "b"}
    assert refined.classes == {"a": [0, 2, 3], "b": [4, 5, 6]}
    assert refined.unlabelled == [7, 1]


def test_scores_reward_confidence_and_difference():
    """Two models alike and one apart, in closed form."""
    features = torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]], [[0.0, 1.0]]])
    confidence = torch.tensor([[0.8], [0.4], [0.4]])
    wanted = [0.5 * 0.8 + 0.5 * np.tanh(1), 0.5 * 0.4 + 0.5 * np.tanh(1), 0.5 * 0.4 + 0.5 * np.tanh(2)]
    assert fused_scores(confidence, features).tolist() == pytest.approx(wanted, abs=1e-6)


def test_labels_that_votes_dispute_join_the_unlabelled():
    questions = [ask("Is there a mass?", "yes", image="a")] * 3 + [ask("Is there a cyst?", "no", image="a")]
    questions += [ask("Is there a mass?", "yes", image="b"), ask("Is there a cyst?", "no", image="b")]
    found = starting_labels(questions, ["b", "a"], 0.75)
    assert found == Labelling({f"head {KINDS[1]}": [1]}, [0])


QUIET = {"progress": lambda steps, **_: steps}


def test_labels_made_wrong_on_purpose_are_doubted():
    images, classes = stripes(9)
    wrong = [classes["across 2"].pop(), classes["across 6"].pop()]
    classes["along 2"] += wrong[:1]
    classes["along 6"] += wrong[1:]
    # With the class "other", the true class of a wrong label is always there to be preferred.
    meta = MetaConfig(iterations=15, tasks=2, other=True, first_order=True, inner_rate=0.3, meta_rate=3e-3)
    model, _ = train_meta_model(images, classes, meta, **QUIET)
    confidence, _ = judge(model, images, Labelling(classes, []), meta, MmqConfig(episodes=25, adapt_steps=5), seed=0)
    right = [value for index, value in confidence.items() if index not in wrong]
    assert max(confidence[index] for index in wrong) < np.percentile(right, 10)


def test_an_interrupted_mmq_goes_on_where_it_was(tmp_path):
    images, classes = stripes(7)
    start = Labelling({name: rows[:6] for name, rows in classes.items()}, [rows[6] for rows in classes.values()])
    meta = MetaConfig(iterations=2, tasks=1, other=True, first_order=True, inner_steps=1)
    mmq = MmqConfig(refinements=1, episodes=4, adapt_steps=1, votes=2, winner=1)
    file = tmp_path / "state.pt"

    def interrupt(found):
        save_state(file, meta, mmq, found)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantify(images, start, meta, mmq, save=interrupt, **QUIET)
    done = load_state(file, meta, mmq)
    assert len(done.models) == 1
    resumed = quantify(images, start, meta, mmq, found=done, **QUIET)
    whole = quantify(images, start, meta, mmq, **QUIET)
    assert resumed.scores == whole.scores
    assert resumed.refinements == whole.refinements
    assert resumed.labellings == whole.labellings
    assert len(whole.best(1)) == 1
    assert load_state(file, meta, mmq.model_copy(update={"refinements": 2})) is None
