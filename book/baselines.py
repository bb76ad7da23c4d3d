"""Measure two classical tools on the pairs the networks are tested on: ANTs SyN, and Elastix affine + B-spline.

    python book/baselines.py [--tool elastix] [--dataset hippocampus] [--pairs 50]

Both see the very volumes that the networks see, and both answers are turned into a displacement in voxels and measured
by the same function. Settings are the tools' own defaults for such images, named in the records. Both run on one
thread, so that their seconds mean the same everywhere.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # ITK reads it when it is imported

import ants
import itk
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lddr.data import evaluation_pairs, load_cohort
from lddr.evaluate import measure, summarise
from lddr.records import provenance, write_record
from lddr.warp import identity_grid

RECORDS = Path(__file__).parent / "records"
MARGIN = 32  # voxels by which coordinates are continued outside the volume, for arrows that leave it


def ants_syn(moving: np.ndarray, fixed: np.ndarray) -> Tensor:
    """SyN with ANTs' defaults ("SyN": affine, then SyN with mutual information, 40-20-0 iterations).

    The composed map is read off by pulling images of the coordinates themselves through it.
    """
    target, source = ants.from_numpy(fixed), ants.from_numpy(moving)
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(target, source, "SyN", outprefix=f"{folder}/syn", random_seed=1)
        places = []
        for axis in range(3):
            line = np.arange(-MARGIN, moving.shape[axis] + MARGIN, dtype=np.float32)
            shape = [n + 2 * MARGIN for n in moving.shape]
            values = np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(3)]), shape)
            coordinate = ants.from_numpy(np.ascontiguousarray(values), origin=[-float(MARGIN)] * 3)
            places.append(ants.apply_transforms(target, coordinate, found["fwdtransforms"], "linear").numpy())
    return torch.from_numpy(np.stack(places))[None] - identity_grid(fixed.shape)


def elastix(moving: np.ndarray, fixed: np.ndarray) -> Tensor:
    """Elastix's default affine, then its default B-spline (mutual information; final grid 8 voxels)."""
    target, source = (itk.image_from_array(np.ascontiguousarray(a.T)) for a in (fixed, moving))
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(itk.ParameterObject.GetDefaultParameterMap("affine", 3))
    parameters.AddParameterMap(itk.ParameterObject.GetDefaultParameterMap("bspline", 3, 8.0))
    _, found = itk.elastix_registration_method(target, source, parameter_object=parameters, log_to_console=False)
    with tempfile.TemporaryDirectory() as folder:  # transformix leaves a file behind
        field = itk.transformix_deformation_field(source, found, output_directory=folder)
    # ITK's array runs (z, y, x) and its vectors (x, y, z); transposing the array brings x to axis 0 again.
    return torch.from_numpy(np.ascontiguousarray(itk.array_from_image(field).transpose(3, 2, 1, 0)))[None]


TOOLS: dict[str, Callable[[np.ndarray, np.ndarray], Tensor]] = {"ants_syn": ants_syn, "elastix": elastix}


def main() -> None:
    """Register the ring pairs of the test subjects with every tool; one record each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="hippocampus")
    parser.add_argument("--tool", choices=TOOLS, help="only this one")
    parser.add_argument("--pairs", type=int, help="only the first so many")
    options = parser.parse_args()
    test = load_cohort(options.dataset, "test")
    pairs = evaluation_pairs(len(test))[: options.pairs]
    for name in [options.tool] if options.tool else TOOLS:
        register, rows = TOOLS[name], []
        for moving, fixed in tqdm(pairs, desc=name, unit="pair"):
            start = time.perf_counter()
            displacement = register(*(test.images[i, 0].numpy() for i in (moving, fixed)))
            rows.append(measure(test, (moving, fixed), displacement, time.perf_counter() - start, surfaces=True))
        summary = summarise(rows, test.label_names)
        command = f"python book/baselines.py --tool {name} --dataset {options.dataset}"
        command += f" --pairs {options.pairs}" if options.pairs else ""
        details = {
            "method": name,
            "settings": (register.__doc__ or "").strip(),
            "threads": 1,
            "dataset": options.dataset,
        }
        details |= {"split": {"test": len(test)}, "pairs": "ring", "labels": "linear", "licence": test.licence}
        rounded = [{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        record = provenance(command, **details, test=summary, rows=rounded)
        write_record(RECORDS / options.dataset / f"baseline_{name}.json", record)
        print(f"{name}: Dice {summary['dice_mean']:.3f}, {summary['seconds_per_pair']:.1f} s a pair")


if __name__ == "__main__":
    main()
