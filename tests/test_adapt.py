"""Test-time optimisation: better on its own pair, and nothing else is touched."""

import torch
from synthetic import ellipsoids, small_model

from lddr.adapt import adapt
from lddr.losses import corrcoef_loss
from lddr.training import FitConfig


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
