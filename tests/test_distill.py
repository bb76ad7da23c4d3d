"""Distillation: what the released code would have failed, and what each objective sends where."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch

from lddr.errors import InputError
from lddr.models import ModelConfig, build_model
from lddr.networks.discriminator import Discriminator, DiscriminatorReleased
from lddr.train.config import DistillConfig, TrainConfig
from lddr.train.distill import Distillation, adversarial_step, critic_gap, gradient_penalty, joint_deformation
from lddr.train.loop import fit
from lddr.train.sampling import Batch

SIZE = (32, 32, 32)
MOVING = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))


class Linear(torch.nn.Module):
    """D(phi) = <w, phi>, whose gradient is w wherever you stand."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        w = torch.randn(1, 3, 4, 4, 4)
        self.w = torch.nn.Parameter(norm * w / w.norm())

    def forward(self, phi):
        return (self.w * phi).flatten(1).sum(1)


def fields(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, 3, *SIZE, generator=generator).requires_grad_()
    return student, torch.randn(2, 3, *SIZE, generator=generator)


def distillation(objective: str, **more) -> Distillation:
    config = DistillConfig.check({"objective": objective, **more})
    return Distillation(config, lambda batch: torch.zeros(len(batch.moving), 3, *SIZE), SIZE)


@pytest.mark.parametrize(("norm", "expected"), [(1.0, 0.0), (3.0, 4.0), (0.25, 0.5625)])
def test_penalty_of_a_linear_discriminator_is_known(norm, expected):
    penalty, norms = gradient_penalty(Linear(norm), torch.randn(5, 3, 4, 4, 4))
    assert penalty.item() == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(norms, torch.full((5,), norm))


@pytest.mark.parametrize("network", [Discriminator(), Discriminator(bounded=False), DiscriminatorReleased(SIZE)])
def test_penalty_gradient_norm_agrees_with_finite_differences(network):
    torch.manual_seed(0)
    network = network.double()
    phi = torch.randn(1, 3, *SIZE, dtype=torch.float64)
    _, norm = gradient_penalty(network, phi)
    (slope,) = torch.autograd.grad(network(phi.requires_grad_()).sum(), phi)
    direction, step = slope / slope.norm(), 1e-4
    with torch.no_grad():
        difference = (network(phi + step * direction) - network(phi - step * direction)) / (2 * step)
    assert difference.item() == pytest.approx(norm.item(), rel=1e-3)


def test_penalty_reaches_the_student_through_the_joint_deformation():
    student, teacher = fields()
    joint = joint_deformation(teacher, student, beta=0.1)
    assert torch.allclose(joint, 0.1 * teacher + 0.9 * student)
    penalty, _ = gradient_penalty(Discriminator(), joint)
    penalty.backward()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", ["l2", "warped", "paper", "wgan-gp"])
def test_student_gets_a_gradient_and_the_discriminator_stays_put(objective):
    distil = distillation(objective)
    student, teacher = fields()
    before = copy.deepcopy(distil.discriminator.state_dict())
    distil.student_term(student, teacher, MOVING).backward()
    assert student.grad.abs().sum() > 0
    assert all(p.grad is None for p in distil.discriminator.parameters())
    assert all(p.requires_grad for p in distil.discriminator.parameters())
    assert all(torch.equal(v, before[k]) for k, v in distil.discriminator.state_dict().items())


@pytest.mark.parametrize("objective", ["paper", "wgan-gp"])
def test_discriminator_moves_on_its_step_and_the_student_does_not(objective):
    distil = distillation(objective)
    student, teacher = fields()
    before = copy.deepcopy(distil.discriminator.state_dict())
    figures = distil.discriminator_step(student, teacher)
    assert any(not torch.equal(v, before[k]) for k, v in distil.discriminator.state_dict().items())
    assert student.grad is None
    assert all(math.isfinite(v) for v in figures.values())


def test_the_squared_gap_alone_reaches_the_student():
    """Without the penalty, which sends a gradient of its own."""
    student, teacher = fields()
    distillation("paper", penalty=0.0).student_term(student, teacher, MOVING).backward()
    assert student.grad.abs().sum() > 0


def test_wgan_discriminator_widens_the_gap_and_the_literal_equation_closes_it():
    """With a linear discriminator, which has a gap to begin with."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 4, 4, generator=generator)
    student = student + 0.5  # so that the two are told apart at once
    gaps = {}
    for objective in ("wgan-gp", "paper"):
        torch.manual_seed(0)
        distil = distillation(objective, penalty=0.0)
        distil.discriminator = Linear(3.0)
        distil.optimizer = torch.optim.Adam(distil.discriminator.parameters(), 0.01)
        gaps[objective] = [critic_gap(distil.discriminator, student, teacher).detach()]
        for _ in range(20):
            distil.discriminator_step(student, teacher)
            gaps[objective].append(critic_gap(distil.discriminator, student, teacher).detach())
    distances = [gap.mean().item() for gap in gaps["wgan-gp"]]
    assert all(after > before for before, after in itertools.pairwise(distances))
    start, *_, end = gaps["paper"]
    assert start.abs().min() > 0.1
    assert end.square().mean() < 0.1 * start.square().mean()


def test_released_objective_has_exactly_the_gradient_of_gamma_l_rec():
    distil = distillation("released", gamma=0.3)
    before = copy.deepcopy(distil.discriminator.state_dict())
    student, _ = fields()
    l_rec = student.square().mean()
    change, figures = distil.step(l_rec, student, Batch(*torch.zeros(2, 2, 1, *SIZE), *torch.zeros(2, 2)))
    (got,) = torch.autograd.grad(l_rec + change, student, retain_graph=True)
    (expected,) = torch.autograd.grad(0.3 * l_rec, student)
    assert torch.allclose(got, expected)
    assert figures == {}
    assert all(torch.equal(v, before[k]) for k, v in distil.discriminator.state_dict().items())


def test_l2_is_the_mean_squared_length_of_the_difference():
    student, teacher = torch.zeros(2, 3, *SIZE), torch.ones(2, 3, *SIZE)
    assert distillation("l2").student_term(student, teacher, MOVING).item() == pytest.approx(3.0)


def test_warped_compares_what_the_two_make_of_the_moving_image():
    """A displacement that goes nowhere but in the padding counts for `l2`, not for `warped`; a shifted image does."""
    moving = torch.zeros(1, 1, *SIZE)
    moving[..., 8:24, 8:24, 8:24] = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0))
    still = torch.zeros(1, 3, *SIZE)
    in_padding, shifted = still.clone(), still.clone()
    in_padding[..., :2, :2, :2] = 1.0
    shifted[:, 0] = 2.0
    distil = distillation("warped")
    assert distil.student_term(in_padding, still, moving).item() == pytest.approx(0, abs=1e-4)
    rolled = np.corrcoef(moving.roll(-2, dims=2).flatten(), moving.flatten())[0, 1]
    assert distil.student_term(shifted, still, moving).item() == pytest.approx(1 - rolled, abs=1e-4)
    assert distillation("l2").student_term(in_padding, still, moving) > 0


def test_learning_strategy_is_every_third_step_until_the_end_of_its_share():
    config = DistillConfig(objective="l2", every=3, until=0.5)
    on = [step for step in range(20) if adversarial_step(config, step, 20)]
    assert on == [0, 3, 6, 9]
    assert not any(adversarial_step(DistillConfig(objective="none"), step, 20) for step in range(20))


def test_training_with_a_discriminator_resumes_to_the_same_weights(tmp_path):
    """Interrupting after a checkpoint and going on gives an uninterrupted run's weights, discriminator included."""
    images = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    size = {"size": list(SIZE), "width": 4}
    config = TrainConfig(steps=6, checkpoint_every=3, log_every=1)

    def run(folder, stop_at=None):
        model, distil = build_model(ModelConfig.check(size), seed=0), distillation("paper")

        def stop(model):
            if stop_at:
                raise KeyboardInterrupt
            return {}

        settings = config.model_copy(update={"validate_every": stop_at or 100})
        try:
            fit(model, images, settings, folder=folder, validate=stop, distillation=distil, progress=False)
        except KeyboardInterrupt:
            return None
        return [*model.state_dict().values(), *distil.discriminator.state_dict().values()]

    straight = run(tmp_path / "straight")
    assert run(tmp_path / "broken", stop_at=4) is None
    resumed_model, resumed = build_model(ModelConfig.check(size), seed=0), distillation("paper")
    settings = config.model_copy(update={"validate_every": 4})
    fit(resumed_model, images, settings, folder=tmp_path / "broken", distillation=resumed, progress=False)
    again = [*resumed_model.state_dict().values(), *resumed.discriminator.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))


def test_every_row_of_the_log_has_the_figures_of_the_last_adversarial_step():
    """Also where the steps that are logged are never the adversarial ones."""
    images = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    model = build_model(ModelConfig(width=4, size=list(SIZE)), seed=0)
    log = fit(
        model, images, TrainConfig(steps=6, log_every=2), distillation=distillation("paper", every=2), progress=False
    )
    rows = [row for row in log if "loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all({"l_dis", "d_student", "d_teacher", "penalty", "gradient_norm"} <= row.keys() for row in rows)


def test_what_a_discriminator_cannot_do_is_refused_by_name():
    with pytest.raises(InputError, match=r"no side of \[32, 16, 32\] may be below 32"):
        Distillation(DistillConfig(objective="paper"), lambda batch: batch.moving, (32, 16, 32))
    model = build_model(ModelConfig(width=4, size=list(SIZE)), seed=0)
    with pytest.raises(InputError, match="set devices to 1"):
        fit(model, torch.rand(2, 1, *SIZE), TrainConfig(devices=2), distillation=distillation("paper"), progress=False)


@pytest.mark.parametrize("side", [32, 37, 48, 64])
def test_discriminators_read_any_grid_and_answer_with_one_number(side):
    phi = torch.randn(2, 3, side, side + 3, side)
    assert Discriminator()(phi).shape == (2,)
    assert DiscriminatorReleased((side, side + 3, side))(phi).shape == (2,)


def test_discriminator_of_the_text_has_its_layer_sizes():
    features = Discriminator().features(torch.zeros(1, 3, 128, 128, 128))
    assert [tuple(f.shape[1:3]) for f in features] == [(3, 128), (16, 64), (32, 32), (64, 16), (128, 8), (256, 4)]
