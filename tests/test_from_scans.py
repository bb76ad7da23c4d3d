"""Dice of the records from scans and weights: of `lddr` only the networks are used, no warp, cascade or metric."""

import json
from statistics import mean

import nibabel as nib
import numpy as np
import pytest
import torch
from by_hand import RECORDS
from scipy import ndimage

from lddr.data.registry import load_cohort
from lddr.models import load_model


def on_grid(array, size):
    """A volume on the middle of a grid of its own spacing, 0 outside: grid index i is voxel i + offset."""
    result = np.zeros(size, array.dtype)
    source, target = [], []
    for n, m in zip(array.shape, size, strict=True):
        offset = int(np.floor((n - m) / 2 + 0.5))
        start, end = max(0, -offset), min(m, n - offset)
        source.append(slice(start + offset, end + offset))
        target.append(slice(start, end))
    result[tuple(target)] = array[tuple(source)]
    return result


def hippocampus_scan(folder, name, size):
    """Image, scaled between its percentiles 5 and 98, and labels, read from their files."""
    arrays = []
    for part in ("imagesTr", "labelsTr"):
        file = nib.as_closest_canonical(nib.load(folder / "Task04_Hippocampus" / part / f"{name}.nii.gz"))
        arrays.append(np.asarray(file.dataobj, dtype=np.float32))
    low, high = np.percentile(arrays[0], [5, 98])
    image = np.clip((arrays[0] - low) / (high - low), 0, 1)
    return on_grid(image.astype(np.float32), size), on_grid(arrays[1], size)


def positions_found(model, moving, fixed):
    """Where in the moving image each voxel of the fixed one lies, `[3, D, H, W]`: x -> c + A (x + v(x) - c) + b."""
    grid = np.indices(moving.shape).astype(np.float64)
    centre = ((np.array(moving.shape) - 1) / 2).reshape(3, 1, 1, 1)
    as_batch = [torch.from_numpy(volume)[None, None] for volume in (moving, fixed)]
    with torch.no_grad():
        matrix, shift = (x[0].double().numpy() for x in model.affine(*as_batch))

    def affine(points):
        return centre + np.einsum("ij,jdhw->idhw", matrix, points - centre) + shift.reshape(3, 1, 1, 1)

    warped = ndimage.map_coordinates(moving, affine(grid), order=1, mode="nearest")
    (dense,) = model.dense
    with torch.no_grad():
        flow = dense(torch.from_numpy(warped)[None, None], as_batch[1])[0].double().numpy()
    return affine(grid + flow)


def mean_dice(moving_labels, fixed_labels, positions):
    """Each label's mask interpolated linearly, the largest share wins, Dice by counting; mean over labels."""
    known = np.unique(moving_labels)
    shares = [
        ndimage.map_coordinates((moving_labels == v).astype(np.float32), positions, order=1, mode="nearest")
        for v in known
    ]
    warped = known[np.argmax(shares, axis=0)]
    scores = []
    for value in set(np.unique(fixed_labels)) | set(known) - {0}:
        a, b = warped == value, fixed_labels == value
        scores += [2 * (a & b).sum() / (a.sum() + b.sum())] if value else []
    return mean(scores)


def test_a_dice_of_the_shipped_hippocampus_model_from_scans_and_weights(real_data):
    record = json.loads((RECORDS / "hippocampus" / "student_1cas_none.json").read_text())
    model, config, _ = load_model("student_1cas_none")
    row = record["rows"][17]
    (moving, moving_labels), (fixed, fixed_labels) = (
        hippocampus_scan(real_data, row[side], config.size) for side in ("moving", "fixed")
    )
    found = mean_dice(moving_labels, fixed_labels, positions_found(model, moving, fixed))
    assert found == pytest.approx(row["dice"], abs=1e-3), f"{row['moving']}, {row['fixed']}"


@pytest.mark.parametrize("i", [0, 2])  # few pairs, because a subject takes a second to simulate
def test_a_dice_of_the_shipped_brain_model_from_images_and_weights(i):
    record = json.loads((RECORDS / "simulated_brains" / "student_1cas_none.json").read_text())
    model, config, _ = load_model("simulated_brains")
    cohort = load_cohort("simulated_brains", "test", size=config.size, subjects=i + 2)
    row = record["rows"][i]
    assert (row["moving"], row["fixed"]) == cohort.ids[i : i + 2]
    positions = positions_found(model, *(cohort.images[k, 0].numpy() for k in (i, i + 1)))
    found = mean_dice(*(cohort.labels[k, 0].numpy() for k in (i, i + 1)), positions)
    assert found == pytest.approx(row["dice"], abs=1e-3), f"{row['moving']}, {row['fixed']}"
