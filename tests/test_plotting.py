"""Pictures show what they say: the right slice, the right way up, the right colours."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lddr.plotting import section, show_overlap, show_training, slice_slider


@pytest.mark.parametrize(
    ("plane", "across", "up", "through"), [("sagittal", 1, 2, 0), ("coronal", 0, 2, 1), ("axial", 0, 1, 2)]
)
def test_a_section_has_its_axes_where_they_are_named(plane, across, up, through):
    """One bright voxel: its column is its index along the first axis of the plane, its row along the second."""
    volume = torch.zeros(1, 1, 5, 6, 7)
    position = [3, 1, 5]
    volume[0, 0, *position] = 1
    picture = section(volume, plane, position[through])
    ((row, column),) = np.argwhere(picture)
    assert (column, row) == (position[across], position[up])


def test_overlap_is_white_where_labels_agree_red_where_not_black_outside():
    warped, fixed = torch.zeros(2, 1, 1, 4, 4, 3, dtype=torch.uint8)
    warped[0, 0, 1:3], fixed[0, 0, 2:4] = 1, 1  # agree at 2; 1 and 3 are in one of them only
    figure, ax = plt.subplots()
    show_overlap(ax, warped, fixed, "axial", 1)
    image = ax.images[0]
    colours = image.cmap(image.norm(image.get_array()))[0, :, :3]
    assert np.allclose(colours[0], 0)
    assert np.allclose(colours[2], 1)
    assert np.allclose(colours[[1, 3]], [0xD6 / 255, 0x27 / 255, 0x28 / 255])
    plt.close(figure)


def test_the_slider_holds_one_picture_a_slice_and_needs_no_kernel():
    drawn = []
    html = slice_slider(lambda ax, index: drawn.append(index), range(2, 8, 2), "slices").data
    assert drawn == [2, 4, 6]
    assert html.count("data:image/webp;base64,") == 3 + 1  # the frames, and the one shown first
    assert 'max="2"' in html
    assert not plt.get_fignums()


def test_training_is_drawn_also_where_a_validation_could_not_be_measured():
    """As read from a record, where what does not exist is null."""
    log = [{"step": step, "loss": 1.5 / step, "l_rec": 1 / step} for step in range(1, 5)]
    log += [
        {"step": 2, "validation_dice": 0.5},
        {"step": 3, "validation_dice": None},
        {"step": 4, "validation_dice": 0.75},
    ]
    figure = show_training(log, baseline=0.25)
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[1, 1], [2, 1 / 2], [3, 1 / 3], [4, 1 / 4]])
    np.testing.assert_allclose(right.lines[0].get_xydata().astype(float), [[2, 0.5], [3, np.nan], [4, 0.75]])
    assert set(right.lines[1].get_ydata()) == {0.25}
    figure.canvas.draw()
    plt.close(figure)
