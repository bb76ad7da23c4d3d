"""Test-time optimisation: better on its own pair, and nothing else is touched."""

import pytest
import torch
from synthetic import ellipsoids, small_model

from lddr.errors import DivergedError
from lddr.infer.adapt import adapt, by_adapted_network, stalled
from lddr.infer.evaluate import by_network
from lddr.losses import corrcoef_loss
from lddr.objective import LossWeights, reconstruction_loss

STIFFNESS = LossWeights(smoothness=0.5)


def test_it_adapts_the_network_as_it_will_be_used() -> None:
    """One step of Adam after two repeats is one step of the gradient that two repeats have."""
    images = ellipsoids(2)
    moving, fixed = images[:1], images[1:]
    model = small_model()
    ours = adapt(model, moving, fixed, 1, 1e-3, STIFFNESS, repeats=2)
    loss = torch.stack(list(reconstruction_loss(model(moving, fixed, 2), fixed, STIFFNESS).values())).sum()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss.backward()
    optimizer.step()
    theirs = model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())
    once = adapt(small_model(), moving, fixed, 1, 1e-3, STIFFNESS).state_dict()
    assert not all(torch.equal(value, theirs[name]) for name, value in once.items())


def test_the_pair_fits_better_and_the_model_stays_as_it_was() -> None:
    images = ellipsoids(2)
    moving, fixed = images[:1], images[1:]
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # as in `evaluate`
        adapted = adapt(model, moving, fixed, steps=20, learning_rate=3e-3)
        losses = [corrcoef_loss(m(moving, fixed).warped[-1], fixed).item() for m in (model, adapted)]
    assert losses[1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not adapted.training


def test_the_registrar_adapts_to_every_pair_afresh() -> None:
    """Each answer is that of `adapt` on this pair alone, with the same steps, rate, weights and repeats."""
    images = ellipsoids(3)
    model = small_model().train()
    register = by_adapted_network(model, 3, 2e-3, STIFFNESS, repeats=2)
    for m, f in ((0, 1), (1, 2), (0, 1)):
        moving, fixed = images[m : m + 1], images[f : f + 1]
        adapted = adapt(small_model(), moving, fixed, 3, 2e-3, STIFFNESS, repeats=2)
        with torch.no_grad():
            expected = adapted(moving, fixed, repeats=2).displacement
        found = register(moving, fixed)
        assert torch.equal(found, expected)
        assert not found.requires_grad
        assert not torch.equal(found, by_network(model, repeats=2)(moving, fixed))
    assert model.training


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([1.0, 0.9, 0.8, 0.7], 2, False),
        ([1.0, 0.5, 0.4999, 0.51], 2, True),  # 0.02 % better: that is nothing
        ([1.0, 0.5, 0.4994, 0.51], 2, False),  # 0.12 % better
        ([0.5, 0.6], 2, False),  # nothing came before
        ([], 2, False),
    ],
)
def test_a_loss_stands_still_if_it_falls_by_less_than_a_thousandth(losses, patience, expected) -> None:
    assert stalled(losses, patience) is expected


def test_adaptation_stops_where_nothing_is_to_be_gained() -> None:
    """With a rate of almost nothing the loss stands still from the first step on."""
    images, losses = ellipsoids(2), []
    adapt(small_model(), images[:1], images[1:], 40, 1e-12, patience=4, watch=losses.append)
    assert len(losses) == 5
    losses.clear()
    adapt(small_model(), images[:1], images[1:], 7, 1e-12, watch=losses.append)
    assert len(losses) == 7
    losses.clear()
    adapt(small_model(), images[:1], images[1:], 12, 3e-3, patience=4, watch=losses.append)
    assert len(losses) == 12
    assert losses[-1] < losses[0]


def test_a_loss_that_is_no_number_stops_it() -> None:
    images = ellipsoids(2)
    with pytest.raises(DivergedError, match="The loss of the pair is nan after 0 steps"):
        adapt(small_model(), images[:1] * torch.nan, images[1:], 3)
