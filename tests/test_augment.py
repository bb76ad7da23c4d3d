"""Random bending: B-splines against SciPy, the promised amplitude, the same field from the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from lddr.free_form import bspline_weights, free_form_field
from lddr.train.augment import augment
from lddr.warping import warp

SIZE = (12, 20, 16)


@given(controls=st.integers(4, 9), n=st.integers(2, 40))
def test_weights_add_up_to_one_and_are_never_negative(controls: int, n: int) -> None:
    weights = bspline_weights(controls, n)
    assert weights.shape == (n, controls)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(n))


def test_weights_are_scipy_s_cubic_b_splines() -> None:
    controls, n = 6, 31
    position = np.linspace(1, controls - 2, n)  # one control point beyond each end of the volume
    spline = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    expected = np.stack([np.nan_to_num(spline(position - j)) for j in range(controls)], axis=1)
    np.testing.assert_allclose(bspline_weights(controls, n), expected, atol=1e-6)


@given(amplitude=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_a_field_stays_below_its_amplitude_along_each_axis(amplitude: float, seed: int) -> None:
    field = free_form_field(SIZE, amplitude, 3, torch.Generator().manual_seed(seed))
    assert field.shape == (3, 3, *SIZE)
    for axis, n in enumerate(SIZE):
        assert field[:, axis].abs().max() <= amplitude * n / 4


def test_fields_use_a_good_part_of_their_amplitude(generator: torch.Generator) -> None:
    fields = free_form_field(SIZE, 0.4, 200, generator)
    for axis, n in enumerate(SIZE):
        largest = fields[:, axis].abs().amax(dim=(1, 2, 3))
        assert largest.max() > 0.4 * 0.4 * n / 4
        assert largest.min() < 0.05 * 0.4 * n / 4  # each field draws its own strength
        assert fields[:, axis].mean().abs() < 0.02 * n  # to both sides alike


def test_a_field_is_smooth(generator: torch.Generator) -> None:
    """Five control points over n voxels: between neighbours the field changes by a fraction of its size."""
    field = free_form_field((40, 40, 40), 0.4, 20, generator)
    steps = max(field.diff(dim=axis).abs().max() for axis in (2, 3, 4))
    assert steps < 0.1 * field.abs().max()


def test_the_same_seed_bends_the_same_way(generator: torch.Generator) -> None:
    images = torch.rand(2, 1, *SIZE, generator=generator)
    state = torch.get_rng_state()
    first, again, other = (augment(images, 0.4, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is nobody's business here"


def test_every_image_is_bent_by_its_own_field(generator: torch.Generator) -> None:
    image = torch.rand(1, 1, *SIZE, generator=generator)
    bent = augment(image.expand(2, -1, -1, -1, -1), 0.4, torch.Generator().manual_seed(3))
    fields = free_form_field(SIZE, 0.4, 2, torch.Generator().manual_seed(3))
    torch.testing.assert_close(bent[:1], warp(image, fields[:1]))
    torch.testing.assert_close(bent[1:], warp(image, fields[1:]))
    assert not torch.equal(bent[0], bent[1])


@pytest.mark.parametrize("amplitude", [0, 0.0])
def test_amplitude_zero_leaves_images_alone(generator: torch.Generator, amplitude: float) -> None:
    images = torch.rand(2, 1, *SIZE, generator=generator)
    assert torch.equal(augment(images, amplitude, generator), images)
