"""Random bends, turns and tones: against SciPy and by hand, within their ranges, the same from the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.linalg import logm
from synthetic import ellipsoids, small_model
from torch import Tensor

from lddr.data.registry import load_cohort
from lddr.free_form import bspline_weights, free_form_field
from lddr.losses import corrcoef_loss
from lddr.train.augment import augment, random_affine, recolour, thicken, varied
from lddr.train.config import TrainConfig
from lddr.train.loop import fit
from lddr.train.sampling import Batch, draw_batch, random_pairs
from lddr.warping import identity_grid, warp

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


def brain(n: int = 2, side: int = 24) -> Tensor:
    """`[n, 1, D, H, W]`: a ball of textured tissue in the middle of empty background."""
    generator = torch.Generator().manual_seed(0)
    texture = 0.2 + 0.8 * torch.rand(n, 1, side, side, side, generator=generator)
    radius = (identity_grid((side,) * 3) - (side - 1) / 2).norm(dim=1, keepdim=True)
    return torch.where(radius < side / 3, texture, 0.0)


def test_affine_maps_keep_to_their_promises() -> None:
    """Turns, stretches and shears are read back from the matrix, by SciPy's logarithm; shifts are given as they are."""
    size = torch.Size(SIZE)
    for spread in (0.5, 1.0):
        matrices, shifts = random_affine(size, spread, 200, torch.Generator().manual_seed(1))
        logs = np.stack([logm(matrix.numpy().astype(float)).real for matrix in matrices])
        turns, stretches = (logs - logs.swapaxes(1, 2)) / 2, (logs + logs.swapaxes(1, 2)) / 2
        for found, most in (
            (np.abs(turns).max(), np.deg2rad(15)),
            (np.abs(stretches.diagonal(axis1=1, axis2=2)).max(), 0.12),
            (np.abs(stretches - stretches * np.eye(3)).max(), 0.06),
            ((shifts / torch.tensor(SIZE)).abs().max(), 0.05),
        ):
            assert 0.9 * spread * most < found <= spread * most * 1.001
        assert (torch.linalg.det(matrices) > 0).all()
        assert logs.mean(axis=0) == pytest.approx(np.zeros((3, 3)), abs=0.03 * spread)  # to both sides alike


def test_an_image_is_spread_about_the_middle_of_its_grid() -> None:
    """A linear ramp, pulled back through an affine map, is the ramp at the mapped places."""
    size = torch.Size((16, 20, 18))
    x = identity_grid(size)
    normal, c = torch.tensor([0.3, -0.5, 0.2]), torch.tensor([(n - 1) / 2 for n in size])
    ramp = torch.einsum("i,bidhw->bdhw", normal, x)[:, None]
    spread = augment(ramp, 0, torch.Generator().manual_seed(4), spread=0.3)
    generator = torch.Generator().manual_seed(4)
    free_form_field(size, 0, 1, generator)
    matrix, shift = random_affine(size, 0.3, 1, generator)
    mapped = torch.einsum("ij,jdhw->idhw", matrix[0], x[0] - c.view(3, 1, 1, 1)) + (c + shift[0]).view(3, 1, 1, 1)
    expected = torch.einsum("i,idhw->dhw", normal, mapped)
    inside = torch.stack([(m >= 0) & (m <= n - 1) for m, n in zip(mapped, size, strict=True)]).all(dim=0)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(spread[0, 0][inside], expected[inside], atol=1e-4, rtol=0)


@given(contrast=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_other_tones_leave_the_background_and_stay_in_range(contrast: float, seed: int) -> None:
    images = brain()
    seen = recolour(images, contrast, torch.Generator().manual_seed(seed))
    assert seen.shape == images.shape
    assert (seen[images == 0] == 0).all()
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert torch.equal(seen, recolour(images, contrast, torch.Generator().manual_seed(seed)))
    assert not torch.equal(seen, recolour(images, contrast, torch.Generator().manual_seed(seed + 1)))


def test_more_contrast_changes_more_and_none_changes_nothing() -> None:
    images = brain(1)
    many = images.expand(40, -1, -1, -1, -1)
    assert recolour(images, 0.0, torch.Generator()) is images
    means = [
        (recolour(many, c, torch.Generator().manual_seed(0)) - many).square().mean().item() for c in (0.1, 0.4, 1.0)
    ]
    assert 0 < means[0] < means[1] < means[2]


def test_tones_of_a_smooth_image_stay_recognisable(generator: torch.Generator) -> None:
    """Dark stays darker than bright nearly always: tones may swap their order in places, not as a whole."""
    ramp = torch.linspace(0.2, 1, 24).view(1, 1, -1, 1, 1).expand(60, 1, 24, 24, 24).contiguous()
    seen = recolour(ramp, 0.7, generator).mean(dim=(1, 3, 4))
    assert ((seen[:, -4:].mean(dim=1) > seen[:, :4].mean(dim=1)).float().mean()) > 0.9


def test_thick_slices_average_neighbours_along_one_axis() -> None:
    """A checkerboard of single voxels loses its contrast along the thick axis, and its mean stays."""
    board = (identity_grid((16, 16, 16)).sum(dim=1, keepdim=True) % 2).float()
    stripes = [(identity_grid((16, 16, 16))[:, axis : axis + 1] % 2).float() for axis in range(3)]
    for seed in range(20):
        g = [torch.Generator().manual_seed(seed) for _ in range(4)]
        thick = thicken(board, 1.0, g[0])
        assert thick.mean() == pytest.approx(0.5, abs=0.02)
        kept = [thicken(stripe, 1.0, k).std().item() for stripe, k in zip(stripes, g[1:], strict=True)]
        unchanged = [k == pytest.approx(0.5, abs=1e-2) for k in kept]
        assert unchanged.count(False) <= 1  # only the axis that was drawn


def batch_of(**settings: object) -> Batch:
    return draw_batch(brain(4, 16), TrainConfig.check({"batch": 2, "seed": 3, **settings}), step=5)


def test_settings_that_are_off_draw_nothing() -> None:
    """Batches of the settings of old runs are what they were: pairs, one bend, mirror, by hand in that order."""
    images, config = brain(4, 16), TrainConfig(batch=2, seed=3, augmentation=0.3, mirror=True)
    batch = draw_batch(images, config, step=5)
    g = torch.Generator().manual_seed(int(np.random.SeedSequence([3, 5, 0]).generate_state(1)[0]))
    moving_ids, fixed_ids = random_pairs(4, 2, g)
    field = free_form_field((16, 16, 16), 0.3, 2, g)
    axes = [axis for axis in (2, 3, 4) if torch.rand((), generator=g) < 0.5]
    assert torch.equal(batch.moving, warp(images[moving_ids], field).flip(axes))
    assert torch.equal(batch.fixed, images[fixed_ids].flip(axes))
    assert batch.seen_moving is batch.moving
    assert batch.seen_fixed is batch.fixed


def test_the_network_sees_other_tones_than_the_loss_compares() -> None:
    plain, colourful = batch_of(spread=0.5), batch_of(spread=0.5, contrast=0.8)
    assert torch.equal(plain.moving, colourful.moving)  # tones are drawn last
    assert torch.equal(plain.fixed, colourful.fixed)
    for seen, compared in ((colourful.seen_moving, plain.moving), (colourful.seen_fixed, plain.fixed)):
        assert seen is not None
        assert not torch.equal(seen, compared)
        assert (seen[compared == 0] == 0).all()
    toned = batch_of(spread=0.5, tone=2.0)
    torch.testing.assert_close(toned.moving, plain.moving.square())
    torch.testing.assert_close(toned.fixed, plain.fixed.square())
    torch.testing.assert_close(toned.seen_moving, plain.moving)
    torch.testing.assert_close(toned.seen_fixed, plain.fixed)


def test_fixed_images_are_bent_and_spread_when_asked() -> None:
    plain = batch_of()
    assert torch.equal(batch_of(augmentation=0.3).fixed, plain.fixed)
    assert not torch.equal(batch_of(augmentation=0.3, bend_fixed=True).fixed, plain.fixed)
    for seen in (batch_of(spread=0.5).moving, batch_of(spread=0.5).fixed):
        assert not any(torch.equal(seen, one) for one in (plain.moving, plain.fixed))
    fine = batch_of(augmentation=0.3, controls=9).moving
    assert not torch.equal(fine, batch_of(augmentation=0.3).moving)


@pytest.mark.parametrize("settings", [{"contrast": 1.0}, {"tone": 2.0}])
def test_training_minimises_the_loss_of_what_is_compared(
    settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logged loss of the first step is that of the clean images, warped by what the seen ones gave."""
    images, model = ellipsoids(), small_model()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    config = TrainConfig.check({"steps": 1, "batch": 2, "log_every": 1, "device": "cpu", **settings})
    batch = draw_batch(images, config, 0)
    with torch.no_grad():
        displacement = model(batch.seen_moving, batch.seen_fixed).displacement
        expected = corrcoef_loss(warp(batch.moving, displacement), batch.fixed)
        wrong = corrcoef_loss(warp(batch.seen_moving, displacement), batch.seen_fixed)
    (row, *_) = fit(model, images, config, progress=False)
    assert row["l_rec"] == pytest.approx(expected.item(), abs=1e-6)
    assert row["l_rec"] != pytest.approx(wrong.item(), abs=1e-3)


def test_validation_subjects_change_as_training_images_do() -> None:
    cohort = load_cohort("simulated_brains", "validation", size=[16, 16, 16], subjects=3)
    assert varied(cohort, TrainConfig(augmentation=0.5, mirror=True)) is cohort
    config = TrainConfig(augmentation=0.5, spread=0.7, contrast=0.7, seed=2)
    hard, again = varied(cohort, config), varied(cohort, config)
    assert torch.equal(hard.images, again.images)
    assert torch.equal(hard.labels, again.labels)
    assert hard.ids == cohort.ids
    assert not torch.equal(hard.images, cohort.images)
    assert not torch.equal(hard.labels, cohort.labels)
    # Labels went where their images went: what is brain in one is brain in the other.
    hard = varied(cohort, config.model_copy(update={"contrast": 0.0}))
    assert ((hard.images > 0.2) == (hard.labels > 0)).float().mean() > 0.93
    assert set(hard.labels.unique().tolist()) <= set(cohort.labels.unique().tolist())
