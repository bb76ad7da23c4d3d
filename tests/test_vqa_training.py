"""Answers as classes, batches, schedule, one small training that must beat what the question alone knows."""

from collections import Counter

import pytest
import torch
from vqa_samples import ask, small_vqa

from companions.vqa.answers import AnswerSet, score, soft_scores
from companions.vqa.authors import authors_cdae, authors_meta
from companions.vqa.baselines import most_frequent, nearest_question, right, shuffled
from companions.vqa.batches import batches, prepare
from companions.vqa.cdae import Cdae
from companions.vqa.config import VqaConfig
from companions.vqa.maml import train_meta_model
from companions.vqa.meta_net import MetaNet
from companions.vqa.model import Output, VqaModel
from companions.vqa.pictures import template_slices
from companions.vqa.start import body, fill, save_weights, starting_model
from companions.vqa.train import answer, batch_loss, fit, look, rate_factor
from lddr.errors import DivergedError, InputError

QUIET = {"progress": lambda steps, **_: steps}


def test_soft_scores():
    assert soft_scores(["left"]) == {"left": 1.0}
    assert soft_scores(["left", "right", "left"]) == {"left": 0.6, "right": 0.3}
    assert soft_scores(["left"] * 5) == {"left": 1.0}


def test_targets_are_right_answers_and_nothing_for_one_that_training_lacks():
    known = AnswerSet([ask("?", "yes"), ask("?", "left"), ask("?", "no")])
    assert known.answers == ["left", "no", "yes"]
    targets = known.targets([ask("?", "yes"), ask("?", "up")])
    assert targets.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert score(torch.tensor([[0.0, 1, 3], [1, 0, 0]]), targets).tolist() == [1, 0]


def test_the_schedule_is_the_released_codes():
    factors = [rate_factor(epoch) for epoch in range(20)]
    assert factors[:10] == [0.5, 1, 1.5, 2, 2, 2, 2, 2, 2, 2]
    assert factors[10:] == pytest.approx([2 * 0.75**k for k in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)])
    assert [rate_factor(epoch, 40) for epoch in (0, 2, 4, 6, 39)] == [0.5, 1, 1.5, 2, rate_factor(19)]


def test_batches_hold_every_question_once_and_few_images(generator):
    which = torch.arange(40).repeat_interleave(10)
    found = list(batches(which, 32, 4, generator))
    assert sorted(torch.cat(found).tolist()) == list(range(400))
    images = [len(which[batch].unique()) for batch in found]
    alone = [len(which[batch].unique()) for batch in batches(which, 32, 1, generator)]
    assert max(images) <= 14
    assert min(alone[:-1]) > 15
    first, second = (torch.cat(list(batches(which, 32, 4, generator))) for _ in range(2))
    assert not torch.equal(first, second)


def test_the_loss_is_cross_entropy_summed_over_answers_plus_a_share_of_reconstruction():
    logits, targets = torch.tensor([[0.0, 2.0], [1.0, -1.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    made, clean = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    loss, answering = batch_loss(Output(logits, None, made), targets, clean, 0.5)
    p = torch.sigmoid(logits)
    by_hand = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum() / 2
    assert answering.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert loss.item() == pytest.approx(by_hand.item() + 0.5, rel=1e-6)


def test_baselines_by_hand():
    train = [
        ask("Is there a mass?", "yes", types=("PRES",)),
        ask("Is there a cyst?", "no", types=("PRES",), image="b"),
        ask("Is there air?", "no", types=("PRES",), image="c"),
        ask("Where is the mass?", "left", closed=False, types=("POS",)),
    ]
    test = [
        ask("Is there any mass?", "yes", types=("PRES",)),
        ask("Where is it?", "left", closed=False, types=("POS",)),
        ask("What colour is it?", "grey", closed=False, types=("COLOR",)),
        ask("Is there a cyst?", "no", types=("PRES",), image="new"),
    ]
    assert most_frequent(train, test) == ["no", "left", "left", "no"]
    given = nearest_question(train, test)
    assert given[0] == "yes"
    assert given[3] == "no"
    assert right(given, test)[:2] == [1.0, 1.0]


def test_shuffled_images_are_the_same_images():
    which = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4] * 5)
    dealt = shuffled(which)
    assert Counter(dealt.tolist()) == Counter(which.tolist())
    assert (dealt == which).float().mean() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["ban", "san"])
def test_a_model_learns_what_the_question_alone_does_not_know(attention):
    config = VqaConfig(features="meta", attention=attention, hidden=64, epochs=20, learning_rate=0.004, dropout=0.2)
    prepared = prepare(small_vqa(), config)
    torch.manual_seed(0)
    model, read = starting_model(config, prepared)
    assert read == {}
    log = fit(model, prepared, config, **QUIET)
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    known = score(answer(model, prepared, prepared.train), prepared.train.targets).mean().item()
    others = answer(model, prepared, prepared.train, shuffled(prepared.train.which))
    alone = sum(right(most_frequent(small_vqa().train, small_vqa().train), small_vqa().train)) / len(small_vqa().train)
    assert known > alone + 0.1
    assert known > score(others, prepared.train.targets).mean().item() + 0.05


def test_answers_come_in_the_order_of_the_questions():
    config = VqaConfig(features="meta", hidden=16)
    prepared = prepare(small_vqa(), config)
    model = VqaModel(config, prepared.vectors, len(prepared.answers)).eval()
    logits = answer(model, prepared, prepared.test, batch=7)
    for row in (0, 3, len(logits) - 1):
        images, places = look(prepared, prepared.test.which[row : row + 1])
        with torch.no_grad():
            alone = model(prepared.test.words[row : row + 1], images, places).logits[0]
        assert torch.allclose(logits[row], alone, atol=1e-5)


def test_every_kind_of_features_makes_a_model():
    for features in ("none", "meta", "cdae", "mevf", "mmq", "mmq_mevf"):
        config = VqaConfig(features=features, hidden=16)
        prepared = prepare(small_vqa(), config)
        model, _ = starting_model(config, prepared)
        images, places = look(prepared, prepared.test.which[:3])
        out = model(prepared.test.words[:3], images, places, decoded=1)
        assert out.logits.shape == (3, len(prepared.answers))
        assert (out.reconstructed is not None) == ("cdae" in features or "mevf" in features)


def test_a_training_that_diverges_says_so():
    config = VqaConfig(features="none", hidden=16, epochs=1, learning_rate=1e30)
    prepared = prepare(small_vqa(), config)
    model, _ = starting_model(config, prepared)
    with pytest.raises(DivergedError, match="try a smaller learning_rate"):
        fit(model, prepared, config, **QUIET)


def test_pretrained_weights_start_a_model_and_others_are_refused(tmp_path):
    config = VqaConfig(features="mevf", start="pretrained", weights=str(tmp_path), hidden=16)
    prepared = prepare(small_vqa(), config)
    with pytest.raises(InputError, match="meta.safetensors: there is no such file"):
        starting_model(config, prepared)
    net, cdae = MetaNet(), Cdae()
    save_weights(tmp_path / "meta.safetensors", {f"0.{n}": x for n, x in body(net.state_dict()).items()})
    save_weights(tmp_path / "cdae.safetensors", cdae.state_dict())
    model, read = starting_model(config, prepared)
    assert torch.equal(model.image.meta[0].layers[0].weight, net.layers[0].weight)
    assert torch.equal(model.image.cdae.encode1.weight, cdae.encode1.weight)
    assert sorted(read) == ["cdae.safetensors", "meta.safetensors"]
    with pytest.raises(InputError, match="These weights are not of this network"):
        fill(MetaNet(), {"layers.1.weight": torch.zeros(1)})
    for bad in ({"features": "none"}, {"features": "imagenet"}):
        with pytest.raises(InputError, match="There is nothing to pre-train"):
            starting_model(config.model_copy(update=bad), prepared)
    with pytest.raises(InputError, match="The authors' weights do not start 'mmq'"):
        starting_model(config.model_copy(update={"features": "mmq", "start": "authors"}), prepared)
    with pytest.raises(InputError, match="give weights=FOLDER"):
        starting_model(config.model_copy(update={"weights": None}), prepared)


def test_the_body_of_a_meta_model_is_a_meta_net():
    model, _ = train_meta_model(*_two_images(), **QUIET)
    net = MetaNet()
    fill(net, body(model.net.state_dict()))
    assert torch.equal(net.layers[3].weight, model.net.layers[3].weight)


def _two_images():
    from companions.vqa.config import MetaConfig

    images = torch.rand(4, 1, 84, 84, generator=torch.Generator().manual_seed(0))
    config = MetaConfig(iterations=1, tasks=1, ways=2, shots=1, queries=1, inner_steps=1)
    return images, {"a": [0, 1], "b": [2, 3]}, config


def test_the_template_gives_upright_slices_of_all_planes():
    slices = template_slices(step=12)
    assert slices.shape[1:] == (1, 224, 224)
    assert slices.dtype == torch.uint8
    assert len(slices) > 6


def test_the_authors_weights_are_turned_to_our_layout(real_data):
    place = real_data / "VQA_RAD"
    if not (place / "authors_maml.safetensors").is_file():
        pytest.skip("LDDR_DATA has no weights of the authors")
    weights = authors_meta(place)
    fill(MetaNet(), weights)
    assert weights["layers.0.weight"].shape == (64, 1, 3, 3)
    Cdae().load_state_dict(authors_cdae(place))
