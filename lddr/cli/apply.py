"""`lddr apply`: take a displacement to other scans, labels or points, or look at it."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lddr.cli.options import finite
from lddr.errors import InputError, warn
from lddr.files import require_not_input, require_writable

if TYPE_CHECKING:
    from lddr.infer.maps import GridMap

HELP = "take a displacement to other scans, labels or points"
ABOUT = """Use a displacement that lddr register wrote, or a field of ITK or ANTs.

A displacement says for every point of the fixed scan where it lies in the
moving one. So it brings what lies on the moving scan (--moving: another
contrast, labels) onto the fixed one, and takes points of the fixed scan to the
moving one. --inverse does both the other way round: it takes landmarks of the
moving scan to the fixed one. Millimetres are those of the scanner, to the
Right, Anterior and Superior (RAS)."""
EXAMPLES = [
    "lddr apply --displacement result/displacement.nii.gz --moving labels.nii.gz --labels --out warped_labels.nii.gz",
    "lddr apply --displacement result/displacement.nii.gz --points landmarks.csv --inverse --out landmarks_fixed.csv",
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--displacement", required=True, metavar="FILE", help="which map")
    parser.add_argument("--inverse", action="store_true", help="from the moving to the fixed scan; alone: write it")
    parser.add_argument("--moving", metavar="FILE", help="the scan to be warped")
    parser.add_argument("--labels", action="store_true", help="it holds labels: take the nearest voxel")
    parser.add_argument("--fill", type=finite, metavar="VALUE", help="outside it (default: its least intensity)")
    points = "points to be mapped: x, y and z in the first three columns, a first line of names if you like"
    parser.add_argument("--points", metavar="FILE.csv", help=points)
    units = "of the points: mm (RAS, the default), or voxels of the file they belong to, counted from 0; then --like "
    units += "names the scan they lie in, unless the displacement has its grid, and --moving the scan they go to"
    parser.add_argument("--units", choices=("mm", "voxels"), default="mm", help=units)
    parser.add_argument("--jacobian", action="store_true", help="write the determinant: 1 keeps volume, below 0 folds")
    like = "a scan whose grid the result gets (default: that of the displacement)"
    parser.add_argument("--like", metavar="FILE", help=like)
    parser.add_argument("--out", required=True, metavar="FILE", help="where the result goes: .nii.gz, or .csv")


def run(options: argparse.Namespace) -> None:
    """Read the displacement, apply it, write the result."""
    wanted = _wanted(options)
    outputs = _outputs(options, wanted)
    from lddr.data.nifti import read_image, write_nifti
    from lddr.infer.apply import inverse, share_outside
    from lddr.infer.formats import read_displacement, save_displacement

    mapping, form = read_displacement(options.displacement)
    if form == "grid" and not options.like and (wanted == "warp" or options.units == "voxels"):
        found = f"{options.displacement}: this displacement lies on the model's grid, which is no scan's"
        raise InputError(f"{found}; name the scan whose grid is meant with --like (mostly the fixed one).")
    if options.inverse:
        mapping, residual = inverse(mapping)
        off = 100 * (residual > 0.5).mean()
        print(f"Inverse: residual {residual.mean():.3f} voxels on average, above half a voxel in {off:.2f} %.")
        if wanted == "inverse":
            write_nifti(outputs[1], residual, mapping.affine)
            save_displacement(outputs[0], mapping, form)
            print(f"{outputs[0]}: the displacement from the moving scan to the fixed one; {outputs[1]}: its residual.")
            return
    if options.like:
        like = read_image(options.like)
        mapping = replace(mapping, affine=like.file_affine, shape=like.file_shape)
        share = share_outside(mapping)
        if share > 0.01:
            found = f"{100 * share:.0f} % of {options.like} lie outside the displacement"
            warn(f"{found}; there that of its border goes on (ITK takes none).")
    {"warp": _warp, "points": _map, "jacobian": _measure}[wanted](options, mapping, outputs[0])


def _wanted(options: argparse.Namespace) -> str:
    """Settle what is asked for, one thing at a time."""
    asked = {"points": options.points, "jacobian": options.jacobian, "warp": options.moving and not options.points}
    names = [name for name, given in asked.items() if given] or ["inverse"] * options.inverse
    if len(names) != 1:
        expected = "one of --moving, --points, --jacobian and --inverse"
        raise InputError(f"{'Too much' if names else 'Nothing'} is asked of the displacement; expected {expected}.")
    if names != ["warp"] and (options.labels or options.fill is not None):
        raise InputError("--labels and --fill say how a scan is warped: give --moving too, or leave them out.")
    if names == ["points"] and options.units == "voxels":
        if not options.moving:
            raise InputError("--units voxels needs --moving as well: the scan in whose voxels the points are wanted.")
        if options.inverse and not options.like:
            raise InputError(
                "--units voxels with --inverse needs --like as well: the scan in whose voxels they are now."
            )
    if names == ["inverse"] and options.like:
        raise InputError("--like is for what is warped or mapped; an inverse gets the grid of the displacement.")
    return names[0]


def _outputs(options: argparse.Namespace, wanted: str) -> list[Path]:
    """Name the files to write, and refuse those that would harm what is there."""
    ending = ".csv" if wanted == "points" else ".nii.gz"
    if not options.out.endswith(ending) or options.out == ending:
        raise InputError(f"{options.out}: expected a name that ends in {ending}.")
    outputs = [Path(options.out)]
    if wanted == "inverse":
        outputs.append(Path(f"{options.out.removesuffix(ending)}_residual{ending}"))
    inputs = [path for path in (options.displacement, options.moving, options.points, options.like) if path]
    for path in outputs:
        require_not_input(path, inputs)
        require_writable(path)
        if path.exists():
            raise InputError(f"{path}: this file is there already; remove it, or choose another name.")
    return outputs


def _warp(options: argparse.Namespace, mapping: "GridMap", out: Path) -> None:
    from lddr.data.nifti import read_image, read_labels, write_nifti

    moving = (read_labels if options.labels else read_image)(options.moving)
    write_nifti(out, mapping.warp(moving, options.labels, options.fill), mapping.affine)
    onto = f"the grid of {options.like}" if options.like else "the displacement's grid"
    print(f"{out}: {options.moving}, warped onto {onto}.")


def _map(options: argparse.Namespace, mapping: "GridMap", out: Path) -> None:
    import numpy as np

    from lddr.data.nifti import read_image
    from lddr.files import atomic_write
    from lddr.infer.apply import map_points, points_outside, read_points, write_points
    from lddr.infer.maps import apply_affine

    lines, points = read_points(options.points)
    unit = "mm (RAS)"
    if options.units == "voxels":
        points, unit = apply_affine(mapping.affine, points), f"voxels of {options.moving}"
    outside = points_outside(mapping, points)
    if outside:
        warn(f"{outside} of {len(points)} points lie outside the displacement; there that of its border goes on.")
    points = map_points(mapping, points)
    if options.units == "voxels":
        points = apply_affine(np.linalg.inv(read_image(options.moving).file_affine), points)
    with atomic_write(out) as part:
        write_points(part, lines, points)
    one, other = ("moving", "fixed") if options.inverse else ("fixed", "moving")
    print(f"{out}: {len(points)} points of the {one} scan, as they lie in the {other} one, in {unit}.")


def _measure(options: argparse.Namespace, mapping: "GridMap", out: Path) -> None:
    from lddr.data.nifti import write_nifti
    from lddr.infer.apply import determinant

    volume = determinant(mapping)
    write_nifti(out, volume, mapping.affine)
    folded = 100 * (volume <= 0).mean()
    print(f"{out}: determinants from {volume.min():.2f} to {volume.max():.2f}, {folded:.2f} % folded.")
