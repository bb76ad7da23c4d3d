"""`lddr register`: bring one NIfTI scan onto another."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lddr.cli.options import add_model, load
from lddr.errors import InputError
from lddr.files import require_writable

HELP = "bring one NIfTI scan onto another"
OUTPUTS = ("warped.nii.gz", "warped_labels.nii.gz", "displacement.nii.gz", "displacement.npz")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--fixed", required=True, metavar="FILE", help="the scan that stays")
    parser.add_argument("--moving", required=True, metavar="FILE", help="the scan that is warped")
    parser.add_argument("--moving-labels", metavar="FILE", help="labels of the moving scan, warped along")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    formats = "of the displacement: voxels of the fixed grid (nifti), for ITK and ANTs (itk), the challenge's npz"
    parser.add_argument("--format", choices=("nifti", "itk", "learn2reg"), default="nifti", help=formats)
    add_model(parser)


def run(options: argparse.Namespace) -> None:
    """Read both scans, register them, write the results, all or none."""
    import numpy as np

    from lddr.data.nifti import read_image, read_labels, write_nifti
    from lddr.data.registry import DATASETS
    from lddr.infer.formats import for_itk, for_learn2reg, in_voxels
    from lddr.infer.register import register

    require_writable(options.out, folder=True)
    fixed, moving = read_image(options.fixed), read_image(options.moving)
    labels = read_labels(options.moving_labels, moving) if options.moving_labels else None
    model, config, about = load(options)
    known = DATASETS.get(about.get("dataset", ""))
    if known and known.prepared:
        print(f"lddr: warning: this model learnt from scans {known.prepared}, not whole ones.", file=sys.stderr)
    mapping = register(fixed, moving, model, config.size, about["spacing"], options.repeats)
    files: dict[str, Callable[[Path], Any]] = {}
    files["warped.nii.gz"] = lambda path: write_nifti(path, mapping.warp(moving), mapping.affine)
    if labels is not None:
        files["warped_labels.nii.gz"] = lambda path: write_nifti(path, mapping.warp(labels, True), mapping.affine)
    if options.format == "learn2reg":
        files["displacement.npz"] = lambda path: np.savez_compressed(path, for_learn2reg(mapping))
    elif options.format == "itk":
        files["displacement.nii.gz"] = lambda path: write_nifti(path, for_itk(mapping), mapping.affine, "vector")
    else:
        files["displacement.nii.gz"] = lambda path: write_nifti(path, in_voxels(mapping), mapping.affine)
    _write_together(Path(options.out).resolve(), files)
    length = np.linalg.norm(mapping.points - mapping.world, axis=-1)
    print(
        f"{options.out}: {', '.join(files)}. "
        f"Displacement: {length.mean():.1f} mm on average, {length.max():.1f} mm at most."
    )
    print(f"Next: open {options.out}/warped.nii.gz over {options.fixed} in a viewer and look before you trust it.")


def _write_together(folder: Path, files: dict[str, Callable[[Path], Any]]) -> None:
    """Write all files or none: into a folder within the wanted one first. What an earlier run left goes."""
    part = folder / ".part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            write(part / name)
        for name in files:
            (part / name).replace(folder / name)
        for name in set(OUTPUTS) - set(files):  # they would belong to another registration
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: results cannot be written here ({error.strerror}).") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
