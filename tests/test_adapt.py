"""Test-time optimisation: better on its own pair, and nothing else is touched."""

import torch
from synthetic import ellipsoids, small_model

from lddr.adapt import adapt
from lddr.losses import corrcoef_loss
from lddr.training import FitConfig, reconstruction_loss


def test_it_adapts_the_network_as_it_will_be_used() -> None:
    """One step of Adam after two repeats is one step of the gradient that two repeats have."""
    images = ellipsoids(2)
    moving, fixed = images[:1], images[1:]
    config, model = FitConfig(steps=1, learning_rate=1e-3, smoothness=0.5), small_model()
    ours = adapt(model, moving, fixed, config, repeats=2)
    loss = torch.stack(list(reconstruction_loss(model(moving, fixed, 2), fixed, config).values())).sum()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    loss.backward()
    optimizer.step()
    theirs = model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())
    once = adapt(small_model(), moving, fixed, config).state_dict()
    assert not all(torch.equal(value, theirs[name]) for name, value in once.items())


def test_the_pair_fits_better_and_the_model_stays_as_it_was() -> None:
    images = ellipsoids(2)
    moving, fixed = images[:1], images[1:]
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # as in `evaluate`
        adapted = adapt(model, moving, fixed, FitConfig(steps=20, learning_rate=3e-3))
        losses = [corrcoef_loss(m(moving, fixed).warped[-1], fixed).item() for m in (model, adapted)]
    assert losses[1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not adapted.training
