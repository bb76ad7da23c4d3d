"""`lddr register`: bring one NIfTI scan onto another."""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lddr.cli.options import add_model, at_least, collector_at_rest, finite, load
from lddr.errors import InputError, warn
from lddr.results import require_result_folder, result_folder

if TYPE_CHECKING:
    from lddr.cascade import RecursiveCascade
    from lddr.data.nifti import Scan
    from lddr.infer.maps import GridMap
    from lddr.infer.register import Pair

    Scans = tuple[Scan, Scan, Scan | None, Scan | None]

HELP = "bring one NIfTI scan onto another"
ABOUT = """Bring a moving scan onto a fixed one. The results are written into a folder:
warped.nii.gz, the moving scan on the grid of the fixed one; its labels, if
there are any; displacement.nii.gz, which lddr apply takes; and quality.png,
a picture to judge them by."""
EXAMPLES = [
    "lddr register --fixed fixed.nii.gz --moving moving.nii.gz --model simulated_brains --out result",
    "lddr register --fixed fixed.nii.gz --moving moving.nii.gz --moving-labels labels.nii.gz \\\n"
    "      --model simulated_brains --adapt 20 --format itk --out adapted",
]
PATIENCE = 10  # steps of adaptation without a gain, after which it stops


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--fixed", required=True, metavar="FILE", help="the scan that stays")
    parser.add_argument("--moving", required=True, metavar="FILE", help="the scan that is warped")
    parser.add_argument("--moving-labels", metavar="FILE", help="labels of the moving scan, warped along")
    parser.add_argument("--fixed-labels", metavar="FILE", help="labels of the fixed scan: Dice before and after")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    align = "what is laid on one another first: the body parts (foreground, the default), the middles of the volumes "
    align += "(centre), the places that the headers say (header), or voxel on voxel (none)"
    parser.add_argument("--align", choices=("foreground", "centre", "header", "none"), default="foreground", help=align)
    adapt = "let the model learn on this pair first, for so many steps (50 is a good number)"
    parser.add_argument("--adapt", type=at_least(1), metavar="STEPS", help=adapt)
    formats = "of the displacement: voxels of the fixed grid (nifti), for ITK and ANTs (itk), the challenge's npz"
    parser.add_argument("--format", choices=("nifti", "itk", "learn2reg"), help=formats)
    field = "of the displacement: at every fixed voxel (full), or on the model's grid, small, for ITK and ANTs (grid)"
    parser.add_argument("--field", choices=("full", "grid"), default="full", help=field)
    fill = "what stands in the warped scan where the moving one has nothing (default: its least intensity)"
    parser.add_argument("--fill", type=finite, metavar="VALUE", help=fill)
    parser.add_argument("--no-picture", action="store_true", help="leave quality.png out")
    add_model(parser)


def run(options: argparse.Namespace) -> None:
    """Read both scans, register them, write the results, all or none."""
    given = (options.fixed, options.moving, options.moving_labels, options.fixed_labels, options.model)
    inputs = [path for path in given if path]
    require_result_folder(options.out, inputs)
    if options.field == "grid" and options.format not in (None, "itk"):
        raise InputError(f"--field grid is in ITK's format; leave out --format {options.format}, or take --field full.")
    if options.fixed_labels and not options.moving_labels:
        raise InputError("--fixed-labels are compared with --moving-labels: give both, or neither.")
    form = "grid" if options.field == "grid" else options.format or "nifti"
    with collector_at_rest():
        (fixed, moving, labels, fixed_labels), model, pair = _prepare(options, form)
    from lddr.infer.register import find_map

    print(_aligned(pair))
    if options.adapt:
        model = _adapt(model, pair, options)
    mapping = find_map(model, pair, options.repeats)
    with result_folder(options.out, inputs, options.words) as folder, ThreadPoolExecutor(2) as pool:
        judged = pool.submit(_judge, pair, mapping)
        jobs = _jobs(options, form, (fixed, moving, labels), mapping, judged)
        for job in [pool.submit(write, folder / name) for name, write in jobs.items()]:
            job.result()
    print(judged.result())
    if labels and fixed_labels:
        print(_dice(mapping, labels, fixed_labels))
    print(f"{options.out}: {', '.join(jobs)}.")
    look = "warped.nii.gz over the fixed scan in a viewer" if options.no_picture else "quality.png"
    print(f"Next: look at {look} in {options.out} before you trust it.")


def _prepare(options: argparse.Namespace, form: str) -> "tuple[Scans, RecursiveCascade, Pair]":
    """Read the scans and the model, and lay the scans on one another."""
    (fixed, moving), (labels, fixed_labels) = _read(options)
    from lddr.data.registry import DATASETS
    from lddr.infer.align import LEAST_OVERLAP
    from lddr.infer.formats import require_itk_agrees
    from lddr.infer.register import bring_together

    if form in ("itk", "grid"):
        require_itk_agrees(fixed, moving)
    model, config, about = load(options)
    if not about.get("spacing"):
        raise InputError(f"{options.model}: the model does not say how large its voxels are (spacing); save it again.")
    known = DATASETS.get(about.get("dataset", ""))
    if known and known.prepared:
        warn(f"this model learnt from scans {known.prepared}, not whole ones.")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(import_module, "lddr.kernels.affine")  # numba takes a while to import
        pair = bring_together(fixed, moving, config.size, about["spacing"], options.align, about.get("dataset", ""))
    if pair.alignment.overlap < LEAST_OVERLAP:
        warn(
            f"the two scans hardly overlap where they are laid on one another (Dice of their boxes "
            f"{pair.alignment.overlap:.2f}); look at the result, and try another --align than {options.align}."
        )
    return (fixed, moving, labels, fixed_labels), model, pair


def _read(options: argparse.Namespace) -> "tuple[list[Scan], list[Scan | None]]":
    """Read images and labels side by side: unpacking lets go of the interpreter, which imports PyTorch meanwhile."""
    from lddr.data.nifti import read_image, read_labels

    with ThreadPoolExecutor(4) as pool:
        images = [pool.submit(read_image, path) for path in (options.fixed, options.moving)]

        def read_those(path: str | None, image: int) -> "Scan | None":
            return read_labels(path, images[image].result()) if path else None

        labels = [pool.submit(read_those, options.moving_labels, 1), pool.submit(read_those, options.fixed_labels, 0)]
        import lddr.infer.register  # noqa: F401

        return [image.result() for image in images], [one.result() for one in labels]


def _aligned(pair: "Pair") -> str:
    right, front, up = pair.alignment.shift.round(1) + 0.0  # no -0.0
    shift = f"{right:+.1f} mm right, {front:+.1f} front, {up:+.1f} up in scanner coordinates"
    return f"Laid on one another: {pair.alignment.words} ({shift})."


def _adapt(model: "RecursiveCascade", pair: "Pair", options: argparse.Namespace) -> "RecursiveCascade":
    """Adapt the model to the pair, with a bar, and say how that went."""
    from tqdm import tqdm

    from lddr.infer.adapt import adapt

    losses: list[float] = []
    with tqdm(total=options.adapt, desc="adapting", unit="step", leave=False, disable=not sys.stderr.isatty()) as bar:

        def watch(loss: float) -> None:
            losses.append(loss)
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update()

        more = {"repeats": options.repeats, "patience": PATIENCE, "watch": watch}
        adapted = adapt(model, pair.moving, pair.fixed, options.adapt, **more)
    early = ", as the loss stood still" if len(losses) < options.adapt else ""
    took = f"Adapted to this pair in {len(losses)} of {options.adapt} steps{early}"
    print(f"{took}: the loss went from {losses[0]:.3f} to {losses[-1]:.3f}.")
    return adapted


def _judge(pair: "Pair", mapping: "GridMap") -> str:
    """Say in numbers, on the model's grid, what quality.png shows."""
    import numpy as np
    import torch

    from lddr.losses import corrcoef
    from lddr.metrics import regularity
    from lddr.warping import warp

    displacement = torch.from_numpy(mapping.displacement)[None]
    inside = pair.fixed > 0.1
    images = (pair.moving, warp(pair.moving, displacement))
    before, after = (corrcoef(image[inside][None], pair.fixed[inside][None]).item() for image in images)
    step = np.tensordot(mapping.moving_grid[:3, :3], mapping.displacement, 1)
    length = np.linalg.norm(step, axis=0)[inside[0, 0].numpy()]
    return (
        f"Correlation of the bright parts {before:.3f} before, {after:.3f} after; displacement {length.mean():.1f} mm "
        f"on average, {length.max():.1f} at most; {regularity(displacement)[0]:.2f} % folded."
    )


def _jobs(
    options: argparse.Namespace,
    form: Any,
    scans: "tuple[Scan, Scan, Scan | None]",
    mapping: "GridMap",
    judged: "Future[str]",
) -> dict[str, Callable[[Path], Any]]:
    """List the files to write; each is computed where it is written, and the largest one comes first."""
    from lddr.data.nifti import write_nifti
    from lddr.infer.formats import save_displacement
    from lddr.infer.picture import draw_picture

    fixed, moving, labels = scans
    name = f"displacement.{'npz' if form == 'learn2reg' else 'nii.gz'}"
    jobs: dict[str, Callable[[Path], Any]] = {name: partial(save_displacement, mapping=mapping, form=form)}
    jobs["warped.nii.gz"] = lambda path: write_nifti(path, mapping.warp(moving, fill=options.fill), mapping.affine)
    if labels is not None:
        jobs["warped_labels.nii.gz"] = lambda path: write_nifti(path, mapping.warp(labels, True), mapping.affine)
    if not options.no_picture:
        names = f"{Path(options.moving).name} onto {Path(options.fixed).name}, model {Path(options.model).name}"
        jobs["quality.png"] = lambda path: draw_picture(path, fixed, moving, mapping, [names, judged.result()])
    return jobs


def _dice(mapping: "GridMap", labels: "Scan", fixed_labels: "Scan") -> str:
    """Measure the mean Dice of the labels, without the background, before and after."""
    from dataclasses import replace

    import numpy as np
    import torch

    from lddr.metrics import nanmean, overlap

    on_fixed = replace(mapping, affine=fixed_labels.affine, shape=fixed_labels.array.shape)
    target = torch.from_numpy(fixed_labels.array)
    known = target.unique()[1:].tolist()
    still = replace(on_fixed, displacement=np.zeros_like(mapping.displacement))
    warped = (torch.from_numpy(which.warp(labels, labels=True)) for which in (still, on_fixed))
    before, after = (nanmean(overlap(image, target, known)[0].values()) for image in warped)
    return f"Dice of {len(known)} labels (nearest): {before:.3f} before, {after:.3f} after."
