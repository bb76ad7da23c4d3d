"""From a scan to the grid a network works on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, sparse
from torch import Tensor

from lddr.data.nifti import Scan, by_planes, read_image, read_labels
from lddr.errors import InputError


def normalise(scan: Scan, low: float = 5, high: float = 98) -> Scan:
    """Scale intensities to [0, 1], robustly: the given percentiles become 0 and 1, what lies outside is clipped.

    MR intensities have no unit and differ by orders of magnitude between scans, so each volume is scaled by itself. The
    percentiles were chosen on validation pairs of hippocampus MR: further out, a few extreme voxels take the range.

    Returns:
        The scan with its intensities scaled (chapter 01), float32; all zeros if the volume is flat.
    """
    array = scan.array
    a, b = (percentile(array, share) for share in (low, high))
    if b <= a:
        a, b = float(array.min()), float(array.max())
    if b <= a:
        return replace(scan, array=np.zeros(array.shape, np.float32))
    return replace(scan, array=by_planes(array, lambda plane: np.clip((plane - np.float64(a)) / (b - a), 0, 1)))


def percentile(array: np.ndarray, share: float) -> float:
    """Find a percentile, the same as `np.percentile` does, in a fraction of its time if the array is large.

    A sample of the values says between which two values the percentile lies. Only what lies between them is sorted, and
    counting what lies below them makes sure that the sample was right.
    """
    values = array.ravel(order="K")
    rank = share / 100 * (values.size - 1)
    least = int(rank)
    sample = np.sort(values[:: max(1, values.size // 2**16)])
    middle, margin = share / 100 * (sample.size - 1), 4 * np.sqrt(sample.size)  # eight standard deviations, or more
    low, high = sample[np.clip([int(middle - margin), int(middle + margin)], 0, sample.size - 1)]
    between = values[(values >= low) & (values <= high)] if low < high else None
    below = np.count_nonzero(values < low)
    inside = np.count_nonzero(values == low) if between is None else between.size
    if not below <= least or not least + 1 < below + inside:  # the sample misled, or is all there is
        return float(np.percentile(values, [share])[0])
    if between is None:
        return float(low)
    first, second = np.partition(between, [least - below, least - below + 1])[least - below :][:2]
    step, way = second - first, np.float64(rank - least)
    return float(first + step * way if way < 0.5 else second - step * (1 - way))  # in numpy's way, to the last digit


def grid_affine(scan: Scan, size: Sequence[int], spacing: float | Sequence[float]) -> np.ndarray:
    """Lay a network grid over the middle of a scan, along the scan's own axes: its affine (chapter 01).

    Where the spacing is the scan's own, the grid is shifted by at most half a voxel so that voxels fall onto voxels and
    nothing is interpolated.

    Args:
        scan: the scan.
        size, spacing: (D, H, W) of the grid, and its millimetres between voxels.

    Returns:
        `[4, 4]`, grid index -> millimetres in RAS space.
    """
    step = np.broadcast_to(np.asarray(spacing, float), 3) / scan.spacing
    offset = (np.array(scan.array.shape) - 1) / 2 - (np.array(size) - 1) / 2 * step
    same = np.isclose(step, 1, atol=1e-3)
    to_scan = np.diag([*np.where(same, 1.0, step), 1.0])
    to_scan[:3, 3] = np.where(same, np.floor(offset + 0.5), offset)
    return scan.affine @ to_scan


def to_grid(scan: Scan, affine: np.ndarray, size: Sequence[int], labels: bool = False) -> np.ndarray:
    """Resample a scan onto a grid (chapter 01).

    Images are blurred first where the grid is coarser (so that fine detail does not turn into noise) and interpolated
    linearly; labels take the nearest voxel. Outside the scan both are 0, so normalise an image before you resample it.

    Args:
        scan: an image, or labels if `labels` says so.
        affine, size: of the grid, `[4, 4]` (see `grid_affine`; its axes may also be oblique to the scan's), (D, H, W).

    Returns:
        `[D, H, W]`, the scan's type.
    """
    to_scan = np.linalg.inv(scan.affine) @ affine
    matrix, offset = to_scan[:3, :3], to_scan[:3, 3]
    sigma = np.maximum(np.linalg.norm(matrix, axis=1) - 1, 0) / 2
    aside = np.abs(matrix - np.diag(np.diag(matrix))).max() * max(size)
    if aside < 1e-6 and not labels and scan.array.dtype.kind == "f":  # the grid lies along the scan's axes, as most do
        steps = (np.diag(matrix), offset, sigma, scan.array.shape, size)
        return _along_axes(scan.array, [_resampling(*step) for step in zip(*steps, strict=True)])
    array = scan.array
    if sigma.any() and not labels:
        array = ndimage.gaussian_filter(array, sigma, mode="nearest")
    return ndimage.affine_transform(array, matrix, offset, tuple(size), order=0 if labels else 1, mode="constant")


def _resampling(step: float, offset: float, sigma: float, n: int, m: int) -> np.ndarray:
    """Write blurring and resampling along one axis as a matrix, `[m, n]`: what both do to each of n single voxels."""
    blurred = ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="nearest") if sigma else np.eye(n)
    step, offset = round(step, 9), round(offset, 9)  # else a rounding error puts the outermost voxels outside
    return ndimage.affine_transform(blurred, [[step, 0], [0, 1]], [offset, 0], (m, n), order=1, mode="constant")


def _along_axes(array: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply each axis of a volume by a matrix: three sparse products instead of one pass over all neighbourhoods.

    Sums are taken in one order, whatever the number of threads, so that the same scan gives the same bits.
    """
    order = np.argsort(array.strides)[::-1]  # the slowest axis first, so that the large volume is not copied
    volume = array.transpose(order)
    for axis, matrix in enumerate(matrices[i] for i in order):
        lines = np.moveaxis(volume, axis, 0)
        product = sparse.csr_array(matrix.astype(array.dtype)) @ lines.reshape(len(lines), -1)
        volume = np.moveaxis(product.reshape(-1, *lines.shape[1:]), 0, axis)
    return np.ascontiguousarray(volume.transpose(np.argsort(order)))


def read_on_grids(
    files: Iterable[tuple[Path, Path]], size: Sequence[int], place: Callable[[Scan, Scan], np.ndarray]
) -> tuple[Tensor, Tensor]:
    """Read images with their labels, each laid on a grid of its own place.

    Args:
        files: (image, labels) of every subject.
        size: (D, H, W).
        place: image and labels -> the grid's affine, `[4, 4]`.

    Returns:
        Normalised images `[N, 1, D, H, W]`, and labels of the same shape, uint8.

    Raises:
        InputError: a file that cannot be used.
    """
    images, labels = [], []
    for image_file, label_file in files:
        image = read_image(image_file)
        label = read_labels(label_file, image, most=255)
        if label.array.min() == label.array.max():
            raise InputError(f"{label_file}: all voxels are {label.array.max()}; expected the labels of an organ.")
        affine = place(image, label)
        images.append(to_grid(normalise(image), affine, size))
        labels.append(to_grid(label, affine, size, labels=True).astype(np.uint8))
    return torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(np.stack(labels)[:, None])


def check_extent(scan: Scan, size: Sequence[int], spacing: float) -> None:
    """Refuse a scan that cannot be what the network was trained on.

    Raises:
        InputError: less than a quarter or more than four times the grid along some axis.
    """
    extent, grid = np.array(scan.array.shape) * scan.spacing, np.array(size) * spacing
    if (extent < grid / 4).any() or (extent > grid * 4).any():
        covers, on = (" x ".join(f"{side:.0f}" for side in sides) for sides in (extent, grid))
        found = f"{scan.path}: the scan covers {covers} mm, the model works on {on}"
        raise InputError(f"{found} mm; crop the scan around the organ the model knows.")
