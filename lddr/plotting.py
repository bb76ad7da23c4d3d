"""Pictures of volumes, displacements and training, in one style.

Volumes are in RAS order, so array axis 0 runs from left to right, 1 from back to front, 2 from bottom to top. A plane
is named by the axis that sticks out of it: sagittal (0), coronal (1), axial (2). In every picture the patient's left is
on the left, and up is up (or the front).
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from lddr.warping import jacobian_determinant

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
DIRECTIONS = ("left → right", "back → front", "bottom → top")

# Okabe and Ito's palette: eight colours that people with any colour vision can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
MOVING, FIXED, WARPED = COLOURS[1], COLOURS[0], COLOURS[2]


def use_style() -> None:
    """Set the book's figure style; call once at the top of a notebook."""
    plt.rc("axes", prop_cycle=plt.cycler(color=COLOURS))
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("figure", dpi=100, facecolor="white")
    plt.rc("font", size=11)
    plt.rc("image", cmap="gray", interpolation="nearest")
    plt.rc("legend", frameon=False)
    plt.rc("savefig", bbox="tight")


def section(volume: Tensor | np.ndarray, plane: Plane = "axial", index: int | None = None) -> np.ndarray:
    """Cut one slice out of a volume, turned so that `imshow(..., origin="lower")` shows it upright.

    Args:
        volume: `[D, H, W]`, or with leading axes of length 1.
        index: which slice; None takes the middle.

    Returns:
        2-D, rows along the later of the two remaining axes.
    """
    array = np.asarray(volume).squeeze()
    axis = PLANES[plane]
    return array.take(array.shape[axis] // 2 if index is None else index, axis=axis).T


def show_section(
    ax: Axes, volume: Tensor | np.ndarray, plane: Plane = "axial", index: int | None = None, **imshow: Any
) -> None:
    """Draw one slice (see `section`) with its two directions written on the axes.

    What `imshow` holds is passed on to matplotlib; without limits, grey from 0 to 1.
    """
    settings: dict[str, Any] = {"vmin": 0, "vmax": 1, "origin": "lower"} | imshow
    ax.imshow(section(volume, plane, index), **settings)
    across, up = (direction for axis, direction in enumerate(DIRECTIONS) if axis != PLANES[plane])
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(across, fontsize=9)
    ax.set_ylabel(up, fontsize=9)


def outline(
    ax: Axes, labels: Tensor | np.ndarray, colour: str, plane: Plane = "axial", index: int | None = None
) -> None:
    """Draw the borders of an integer volume's labels in one colour, where `show_section` has drawn the same slice."""
    cut = section(labels, plane, index)
    for value in np.unique(cut[cut > 0]):
        ax.contour(cut == value, levels=[0.5], colors=[colour], linewidths=1.2)


def show_registration(
    moving: Tensor, fixed: Tensor, warped: Tensor, labels: tuple[Tensor, Tensor, Tensor] | None = None
) -> Figure:
    """Three planes by five columns: moving, fixed, warped, and the difference to fixed before and after.

    Args:
        moving, fixed, warped: volumes on one grid, in [0, 1].
        labels: their label maps in the same order, outlined if given.
    """
    columns = {"moving": moving, "fixed": fixed, "warped": warped}
    columns |= {"moving − fixed": moving - fixed, "warped − fixed": warped - fixed}
    figure, axes = plt.subplots(3, 5, figsize=(11, 7), layout="constrained")
    for row, plane in zip(axes, PLANES, strict=True):
        for ax, (title, volume) in zip(row, columns.items(), strict=True):
            show_section(ax, volume, plane)
            ax.set_title(title if plane == "sagittal" else "")
        for ax in row[3:]:
            ax.images[0].set(cmap="PuOr", clim=(-1, 1))
        for ax, label, colour in zip(row, labels or (), (MOVING, FIXED, WARPED), strict=False):
            outline(ax, label, colour, plane)
        row[0].set_ylabel(f"{plane}\n{row[0].get_ylabel()}", fontsize=9)
    figure.colorbar(axes[0, 4].images[0], ax=axes[:, 4], shrink=0.5, label="difference of intensities")
    return figure


def show_overlap(ax: Axes, warped: Tensor, fixed: Tensor, plane: Plane = "axial", index: int | None = None) -> None:
    """Draw where two integer volumes agree (white) and where not (red), as Figure 2 of the posts' Part 3 does."""
    a, b = np.asarray(warped), np.asarray(fixed)
    picture = np.where(a != b, 2, (b > 0).astype(int))
    show_section(ax, picture, plane, index, cmap=ListedColormap(["black", "white", "#D62728"]), vmax=2)


def show_grid(
    ax: Axes, displacement: Tensor, plane: Plane = "axial", index: int | None = None, step: int = 3, **line: Any
) -> None:
    """Draw a regular grid after the displacement: where the points of a slice are fetched from, seen from the front.

    Args:
        displacement: `[1, 3, D, H, W]`, voxels, cut as `section` does.
        step: voxels between lines.
        line: passed on to matplotlib.
    """
    across, up = (axis for axis in range(3) if axis != PLANES[plane])
    x, y = section(displacement[0, across], plane, index), section(displacement[0, up], plane, index)
    rows, columns = np.indices(x.shape)
    settings: dict[str, Any] = {"color": COLOURS[0], "linewidth": 0.7} | line
    ax.plot((columns + x)[::step].T, (rows + y)[::step].T, **settings)
    ax.plot((columns + x)[:, ::step], (rows + y)[:, ::step], **settings)
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_xlabel(DIRECTIONS[across], fontsize=9)
    ax.set_ylabel(DIRECTIONS[up], fontsize=9)


def show_jacobian(ax: Axes, displacement: Tensor, plane: Plane = "axial", index: int | None = None) -> Any:
    """Colour a slice by the Jacobian determinant: white 1, orange below, purple above, black folds.

    `[1, 3, D, H, W]`, voxels -> the drawn image, for a colour bar.
    """
    determinant = jacobian_determinant(displacement)
    show_section(ax, determinant, plane, index, cmap="PuOr", vmin=0, vmax=2)
    folded = section(determinant <= 0, plane, index)
    ax.imshow(np.ma.masked_equal(folded, 0), cmap=ListedColormap(["black"]), origin="lower")
    return ax.images[0]


def show_training(log: Sequence[dict[str, float]], baseline: float | None = None) -> Figure:
    """Draw the loss of the training pairs and the Dice of the validation pairs, over steps.

    Args:
        log: of `lddr.train.loop.fit`.
        baseline: Dice before registration, drawn as a dashed line.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    steps, loss = (np.array([row[name] for row in log if "loss" in row]) for name in ("step", "l_rec"))
    window = max(1, len(loss) // 20)
    left.plot(steps, loss, color=COLOURS[0], alpha=0.3 if window > 1 else 1.0, label="one step")
    if window > 1:
        smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
        left.plot(steps[window - 1 :], smooth, color=COLOURS[0], label="running mean")
    left.set(xlabel="training step", ylabel="$1-$CorrCoef of training pairs")
    left.legend()
    rows = [row for row in log if "validation_dice" in row]
    right.plot([r["step"] for r in rows], [r["validation_dice"] for r in rows], "o-", color=WARPED, label="registered")
    if baseline is not None:
        right.axhline(baseline, color=MOVING, linestyle="--", label="not registered")
    right.set(xlabel="training step", ylabel="mean Dice of validation pairs")
    right.legend()
    for ax in (left, right):
        ax.locator_params(axis="x", nbins=6)
    return figure


def slice_slider(draw: Callable[[Axes, int], None], indices: Sequence[int], title: str, inches: float = 4.0) -> Any:
    """Make a slider through slices that works in a plain web page: every frame is drawn beforehand.

    Args:
        draw: called with an axis and each of the slice indices.
        title: what the frames show; also the alternative text.
        inches: width of a frame.

    Returns:
        An object that a notebook shows as a picture with a slider under it.
    """
    from IPython.display import HTML

    frames = []
    for index in indices:
        figure, ax = plt.subplots(figsize=(inches, inches), layout="constrained")
        draw(ax, index)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="webp", dpi=90, pil_kwargs={"quality": 70})
        plt.close(figure)
        frames.append("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
    start = len(frames) // 2
    sources = ",".join(f'"{frame}"' for frame in frames)
    move = "const f=this.closest('figure');f.querySelector('img').src=f.frames[this.value];"
    return HTML(
        f'<figure class="slice-slider"><img src="{frames[start]}" alt="{title}" style="max-width:100%"><br>'
        f'<input type="range" min="0" max="{len(frames) - 1}" value="{start}" oninput="{move}" '
        f'style="width:100%;max-width:{inches * 90:.0f}px" aria-label="slice of: {title}"><figcaption>{title}: '
        f"drag to move through the slices.</figcaption><script>document.currentScript.parentElement.frames=[{sources}]"
        f"</script></figure>"
    )
