"""Initial alignment: bodies are found whatever surrounds them, and what corresponds comes to lie together."""

from dataclasses import replace

import numpy as np
import pytest
from scanners import scan_of
from scipy import ndimage
from skimage.filters import threshold_otsu
from synthetic import ellipsoids

from lddr.data.grid import grid_affine
from lddr.data.threshold import otsu
from lddr.errors import InputError
from lddr.infer.align import ALIGNMENTS, best_shift, find_foreground, lay_grids
from lddr.infer.register import bring_together, see

SIZE = (32, 32, 32)
BODY = ellipsoids(1, SIZE)[0, 0].numpy()


def put(corner, side=64, body=BODY):
    """A body in a larger, empty volume."""
    volume = np.zeros((side, side, side), np.float32)
    volume[tuple(slice(a, a + n) for a, n in zip(corner, body.shape, strict=True))] = body
    return volume


def noisy(volume):
    return volume + 0.1 * np.abs(np.random.default_rng(0).normal(size=volume.shape)).astype(np.float32)


def like_ct(volume):
    """Air far below zero, and some voxels far brighter than the body."""
    rng = np.random.default_rng(1)
    scan = 1100 * volume - 1024 + rng.normal(0, 20, volume.shape)
    scan[rng.random(volume.shape) < 1e-3] = 3000
    return scan.astype(np.float32)


def shaded(volume):
    return volume * np.linspace(0.6, 1.4, len(volume), dtype=np.float32)[:, None, None]


@pytest.mark.parametrize("change", [np.copy, noisy, like_ct, shaded])
def test_a_body_is_found_wherever_it_lies_and_whatever_surrounds_it(change):
    """Two copies of one body: the same grid point must fall on the same spot of both."""
    fixed, moving = (scan_of(change(put(corner))) for corner in ((3, 20, 30), (28, 0, 9)))
    found = lay_grids(fixed, moving, SIZE, 1.0)
    assert found.shift == pytest.approx([25, -20, -21], abs=1)
    assert found.overlap > 0.9
    assert found.free.all()
    middle = found.fixed @ [15.5, 15.5, 15.5, 1]
    assert middle[:3] == pytest.approx(np.add((3, 20, 30), ndimage.center_of_mass(BODY)), abs=3)


def test_the_images_settle_the_last_voxel():
    fixed, moving = (scan_of(noisy(put(corner))) for corner in ((3, 20, 30), (28, 0, 9)))
    pair = bring_together(fixed, moving, SIZE, 1.0)
    assert pair.alignment.shift == pytest.approx([25, -20, -21], abs=0.1)
    assert np.corrcoef(pair.fixed.flatten(), pair.moving.flatten())[0, 1] > 0.9


@pytest.mark.parametrize("upside_down", [False, True])
def test_a_neck_of_any_length_does_not_move_the_head(upside_down):
    """The necks end at the border of their volumes; the free end of each head tells where it is."""

    def head(neck):
        volume = put((16, 16, neck))
        volume[26:38, 26:38, : neck + 8] = 0.7
        volume = volume[:, :, : neck + 36]
        return scan_of(volume[:, :, ::-1].copy() if upside_down else volume)

    bare, longer = head(4), head(24)
    found = lay_grids(bare, longer, SIZE, 1.0)
    moved = 0 if upside_down else 20
    assert found.shift == pytest.approx([0, 0, moved], abs=1.5)
    masses = find_foreground(longer).mass - find_foreground(bare).mass
    assert abs(masses[2] - moved) > 5, "centres of mass alone would be far off"


def test_a_crop_that_its_organ_fills_is_laid_by_its_middle():
    rng = np.random.default_rng(0)
    texture = [
        ndimage.gaussian_filter(rng.random(shape), 2).astype(np.float32) for shape in ((30, 41, 27), (34, 36, 33))
    ]
    fixed, moving = (scan_of(volume) for volume in texture)
    found, middles = (lay_grids(fixed, moving, SIZE, 1.0, align) for align in ("foreground", "centre"))
    assert np.array_equal(found.fixed, middles.fixed)
    assert np.array_equal(found.moving, middles.moving)
    assert not found.free.any()
    assert "fills them" in found.words
    assert np.array_equal(middles.fixed, grid_affine(fixed, SIZE, 1.0))


def test_headers_are_believed_only_if_asked():
    turned = np.diag([0.0, 0, 1.5, 1])
    turned[:2, :2] = 1.5 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    turned[:3, 3] = 200, -40, 7
    fixed, moving = scan_of(put((10, 10, 20))), scan_of(put((12, 10, 20)), turned)
    by_header = lay_grids(fixed, moving, SIZE, 1.0, "header")
    assert np.array_equal(by_header.fixed, by_header.moving)
    assert by_header.overlap == 0
    by_voxel = lay_grids(fixed, moving, SIZE, 1.0, "none")
    to_voxels = [
        np.linalg.inv(scan.affine) @ laid for scan, laid in ((fixed, by_voxel.fixed), (moving, by_voxel.moving))
    ]
    assert np.allclose(*to_voxels)
    with pytest.raises(
        InputError, match=r"scan has the shape \(64, 64, 64\), scan \(64, 64, 60\); voxels can only be laid"
    ):
        lay_grids(fixed, replace(moving, array=moving.array[..., :60], file_shape=(64, 64, 60)), SIZE, 1.0, "none")
    with pytest.raises(InputError, match="nothing of this scan lies where the other one is"):
        bring_together(fixed, moving, SIZE, 1.0, "header")


def test_a_model_may_know_where_bodies_lay_when_it_learnt():
    scan = scan_of(put((10, 12, 20)))
    found = lay_grids(scan, scan, SIZE, 1.0, mass_at=(2.0, -3.0, 5.0))
    mass = np.linalg.inv(found.fixed)[:3] @ [*find_foreground(scan).mass, 1]
    assert mass == pytest.approx([15.5 + 2, 15.5 - 3, 15.5 + 5], abs=0.51)  # voxels stay on voxels


@pytest.mark.parametrize("shift", [(1.3, -2.4, 0.7), (0, 0, 0), (-5, 5, 5.5)])
def test_a_known_shift_is_found_between_voxels(shift):
    place = np.moveaxis(np.indices(SIZE), 0, -1)
    fixed, moving = (np.exp(-((place - 15.5 - s) ** 2 / [50, 30, 20]).sum(-1)) for s in (0, np.array(shift)))
    assert best_shift(moving, fixed) == pytest.approx(shift, abs=0.05)


def test_images_that_have_nothing_in_common_are_left_where_they_are():
    fixed, moving = put((0, 0, 0), body=BODY[:20, :20, :20]), put((40, 40, 40), body=BODY[:20, :20, :20])
    assert np.array_equal(best_shift(moving, fixed), np.zeros(3))


def test_what_the_network_sees_does_not_depend_on_the_air_around():
    bare = scan_of(noisy(put((16, 16, 16))))
    start = np.eye(4)
    start[:3, 3] = -20
    padded = scan_of(np.pad(bare.array, 20), start)
    laid = grid_affine(bare, SIZE, 1.5)
    assert np.allclose(see(padded, laid, SIZE), see(bare, laid, SIZE), atol=1e-6)
    assert see(bare, laid, SIZE).max() == 1


def test_otsu_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    for image in (rng.normal(size=(20, 20, 20)), BODY, like_ct(put((4, 4, 4)))):
        assert otsu(image) == pytest.approx(threshold_otsu(image), rel=1e-6)


def test_the_command_line_knows_every_alignment():
    from lddr.cli.main import COMMANDS

    parser = __import__("argparse").ArgumentParser()
    COMMANDS["register"].add_options(parser)
    (action,) = (a for a in parser._actions if a.dest == "align")
    assert set(action.choices) == set(ALIGNMENTS)
