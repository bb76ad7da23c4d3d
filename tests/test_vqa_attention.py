"""Auto-encoder, SAN and BAN against shapes, properties and sums written out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from companions.vqa.ban import BilinearAttention
from companions.vqa.cdae import CODE, Cdae, pretrain_cdae, reconstruction_loss, varied
from companions.vqa.config import CdaeConfig
from companions.vqa.question import Encoded
from companions.vqa.san import StackedAttention


@pytest.fixture
def question(generator):
    mask = torch.tensor([[True, True, True], [True, False, False]])
    states = torch.randn(2, 3, 8, generator=generator) * mask[..., None]
    return Encoded(states, states[torch.arange(2), mask.sum(1) - 1], mask)


def test_the_auto_encoder_has_the_shapes_of_the_post(generator):
    model, images = Cdae(), torch.rand(2, 1, 128, 128, generator=generator)
    code = model.encode(images)
    assert code.shape == (2, 16, 32, 32)
    assert code[0].numel() == CODE == 16384
    made = model(images)
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items() if name.endswith("weight")}
    assert shapes["encode2.weight"] == (32, 64, 3, 3)
    assert shapes["decode3.weight"] == (32, 64, 3, 3)


def test_relu_after_pooling_is_relu_before_it(generator):
    model, x = Cdae(), torch.rand(2, 1, 128, 128, generator=generator)
    y = F.max_pool2d(F.relu(model.encode1(x)), 2)
    y = F.max_pool2d(F.relu(model.encode2(y)), 2)
    assert torch.allclose(model.encode(x), F.relu(model.encode3(y)), atol=1e-6)


def test_the_reconstruction_loss_compares_with_the_clean_image(generator):
    class Identity(Cdae):
        def forward(self, images):
            return images

    images = torch.rand(4, 1, 64, 64, generator=generator)
    loss = reconstruction_loss(Identity(), images, 0.1, generator)
    assert loss.item() == pytest.approx(0.01, rel=0.05)  # the variance of the noise
    assert reconstruction_loss(Identity(), images, 0.0, generator) == 0


def test_varied_images_are_parts_of_the_images(generator):
    images = torch.rand(6, 1, 32, 32, generator=generator)
    changed = varied(images, generator)
    assert changed.shape == images.shape
    assert changed.min() >= images.min() - 1e-6
    assert changed.max() <= images.max() + 1e-6
    ramp = torch.linspace(0, 1, 32).expand(6, 1, 32, 32)
    slope = varied(ramp, generator).diff(dim=3).mean((1, 2, 3))
    assert all(0.8 * 0.98 / 31 < abs(value) <= 1.01 / 31 for value in slope.tolist())
    assert {value > 0 for value in slope.tolist()} == {True, False}  # some are mirrored


def test_the_auto_encoder_learns():
    images = torch.zeros(4, 1, 224, 224, dtype=torch.uint8)
    images[:, :, 60:160, 60:160] = 200
    _, log = pretrain_cdae(images, CdaeConfig(steps=10, batch=1, learning_rate=5e-3), progress=lambda steps, **_: steps)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]


def test_sans_attention_is_one_on_a_single_vector_whatever_the_question(question, generator):
    san = StackedAttention(5, 8).eval()
    image = torch.randn(2, 1, 5, generator=generator)
    joint, attention = san(image, question)
    assert joint.shape == (2, 8)
    assert torch.equal(attention, torch.ones(2, 2, 1))
    assert torch.allclose(joint, question.last + 2 * torch.tanh(san.image(image[:, 0])), atol=1e-6)


def test_sans_attention_sums_to_one_over_places_and_finds_the_one_that_matters(question, generator):
    san = StackedAttention(5, 8).eval()
    image = torch.randn(2, 6, 5, generator=generator)
    joint, attention = san(image, question)
    assert attention.shape == (2, 2, 6)
    assert torch.allclose(attention.sum(2), torch.ones(2, 2))
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    again, turned = san(image[:, order], question)
    assert torch.allclose(again, joint, atol=1e-6)
    assert torch.allclose(turned, attention[:, :, order], atol=1e-6)


def test_bans_attention_sums_to_one_and_is_zero_on_padding(question, generator):
    ban = BilinearAttention(5, 8).eval()
    attention = ban.attend(torch.randn(2, 4, 5, generator=generator), question)
    assert attention.shape == (2, 2, 4, 3)
    assert torch.allclose(attention.sum((2, 3)), torch.ones(2, 2))
    assert attention[1, :, :, 1:].abs().sum() == 0
    assert (attention[0] > 0).all()


def test_ban_is_the_sum_over_all_pairs_of_place_and_word(question, generator):
    ban = BilinearAttention(5, 8, glimpses=2).eval()
    image = torch.randn(2, 4, 5, generator=generator)
    with torch.no_grad():
        joint, attention = ban(image, question)
        for b in range(2):
            length = int(question.mask[b].sum())
            states = question.states[b, :length].numpy()
            for g in range(2):
                seen = np.zeros(8)
                places = ban.image_nets[g](image[b]).numpy()
                words = ban.question_nets[g](torch.from_numpy(states)).numpy()
                for n in range(4):
                    for t in range(length):
                        seen += attention[b, g, n, t].item() * places[n] * words[t]
                states = states + ban.outputs[g](torch.from_numpy(seen).float()).numpy()
            assert joint[b].numpy() == pytest.approx(states.sum(0), abs=1e-5)
