"""The picture beside a result: what it shows, in colours that can be read off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scanners import scan_of
from synthetic import ellipsoids

from lddr.infer.maps import GridMap
from lddr.infer.picture import BLUE, COLUMNS, ORANGE, cut_section, draw_picture

SIZE = (32, 28, 24)
LAID = np.diag([2.0, 2.0, 2.0, 1.0])
BODY = ellipsoids(1, SIZE)[0, 0].numpy()


def moved(displacement=None, by=(0, 0, 0)):
    field = np.zeros((3, *SIZE), np.float32) if displacement is None else displacement.astype(np.float32)
    return GridMap(field + np.reshape(by, (3, 1, 1, 1)).astype(np.float32), LAID, LAID, LAID, SIZE)


def section(mapping, axis=2, moving=BODY):
    determinant = np.ones(SIZE, np.float32)
    return cut_section(scan_of(BODY, LAID), scan_of(moving, LAID), mapping, determinant, (0, 0), 64, axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_section_is_the_volume_s_own_plane_upright(axis):
    ramp = sum((i + 1) * index for i, index in enumerate(np.indices(SIZE))).astype(np.float32)
    found = cut_section(scan_of(ramp, LAID), scan_of(ramp, LAID), moved(), np.ones(SIZE), (0, 0), 32, axis).fixed
    across, up = (a for a in range(3) if a != axis)
    assert found.shape == (SIZE[up], SIZE[across])
    assert np.allclose(np.diff(found, axis=1), across + 1, atol=1e-3), "left to right"
    assert np.allclose(np.diff(found, axis=0), -(up + 1), atol=1e-3), "rows run from the top down"


def test_before_and_after_differ_by_the_displacement():
    found = section(moved(by=(2, 0, 0)), moving=np.roll(BODY, 2, axis=0))
    assert np.abs(found.after - found.fixed).max() < 1e-3
    assert np.abs(found.before - found.fixed).max() > 0.3


def test_lines_come_from_where_the_displacement_says():
    """Straight lines, 16 across the longest side: here every 4 pixels; moved by half of that, they lie in between."""
    still, shifted = (section(moved(by=by)).lines for by in ((0, 0, 0), (1, 0, 0)))
    columns = np.flatnonzero(still.min(axis=0) > 0.5)
    assert len(columns) == 2 * 16, "each line falls between two pixels"
    assert set(np.diff(columns)) == {1, 3}
    assert not np.allclose(still, shifted, atol=0.3)
    assert np.allclose(still[:, 2:], shifted[:, :-2], atol=0.05), "one voxel is 2 pixels here"


def colours(path: Path, column: str) -> np.ndarray:
    page = np.asarray(Image.open(path).convert("RGB")).astype(float)
    left = 26 + list(COLUMNS).index(column) * (96 + 8)
    return page[90:, left : left + 96].reshape(-1, 3)


def has(found: np.ndarray, colour, near=12) -> bool:
    return bool((np.abs(found - np.asarray(colour)).max(axis=1) < near).mean() > 0.01)


def test_a_picture_has_five_columns_that_say_what_they_show(tmp_path):
    fixed, moving = scan_of(BODY, LAID), scan_of(np.roll(BODY, 6, axis=0), LAID)
    folding = np.zeros((3, *SIZE))
    folding[0, 14:18] = -8 * np.linspace(0, 1, 4)[:, None, None]
    for name, mapping in {"good": moved(by=(6, 0, 0)), "folded": moved(folding, (0, 0, 0))}.items():
        draw_picture(tmp_path / f"{name}.png", fixed, moving, mapping, ["a title", "of two \udcff lines"], side=96)
    good, folded = (tmp_path / f"{name}.png" for name in ("good", "folded"))
    assert has(colours(good, "before"), BLUE)
    assert has(colours(good, "before"), ORANGE)
    assert not has(colours(good, "after"), BLUE)
    assert has(colours(good, "after"), BLUE + ORANGE)
    assert has(colours(good, "grid"), BLUE, 60)
    assert not has(colours(good, "difference"), BLUE, 60)
    assert has(colours(folded, "difference"), BLUE, 60)
    assert has(colours(folded, "volume"), (0, 0, 0))
    assert not has(colours(good, "volume"), (0, 0, 0))


def test_a_scan_that_is_flat_in_view_does_not_stop_the_picture(tmp_path):
    flat = replace(scan_of(BODY, LAID), array=np.zeros(SIZE, np.float32))
    draw_picture(tmp_path / "flat.png", flat, flat, moved(), ["flat"])
    assert Image.open(tmp_path / "flat.png").size[0] > 1000
