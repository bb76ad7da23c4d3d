"""Test-time optimisation: better on its own pair, and nothing else is touched."""

import torch
from synthetic import ellipsoids, small_model

from lddr.infer.adapt import adapt, by_adapted_network
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
