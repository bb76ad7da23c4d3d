"""Images without labels for the auto-encoder: those of training questions, and slices of scans."""

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from companions.vqa.questions import STORED, VqaData
from lddr.data.grid import normalise
from lddr.data.liver import FOLDER as LIVER
from lddr.data.nifti import read_image
from lddr.data.simulated import template

TEMPLATE = (96, 96, 96)  # voxels of the template brain that is cut


def as_pictures(slices: list[Tensor]) -> Tensor:
    """Bring slices in [0, 1] to the form of stored images, `[N, 1, 224, 224]` uint8."""
    scaled = [
        F.interpolate(x[None, None].float(), (STORED, STORED), mode="bilinear", align_corners=False) for x in slices
    ]
    return (torch.cat(scaled).clamp(0, 1) * 255).round().to(torch.uint8)


def template_slices(step: int = 2) -> Tensor:
    """Cut the MNI152 brain in all three planes, upright, every `step` voxels, as far as there is brain."""
    volume = template(TEMPLATE)[0][0, 0]
    slices = [volume.select(axis, index).T.flip(0) for axis in range(3) for index in range(0, TEMPLATE[axis], step)]
    return as_pictures([cut for cut in slices if (cut > 0.05).float().mean() > 0.1])


def liver_slices(root: Path) -> Tensor | None:
    """Cut the abdominal MR scans of CHAOS under `root` into axial slices; None if they are not there."""
    files = sorted((root / LIVER).glob("image_*.nii.gz"))
    slices = []
    for file in files:
        scan = normalise(read_image(file))
        volume = torch.from_numpy(np.ascontiguousarray(scan.array, dtype=np.float32))
        slices += [volume[:, :, index].T.flip(0) for index in range(volume.shape[2])]
    return as_pictures(slices) if slices else None


def unlabelled_images(data: VqaData) -> Tensor:
    """Collect what the auto-encoder learns from: `[N, 1, 224, 224]` uint8.

    Of VQA-RAD these are the images of training questions, slices of the template brain and, where `LDDR_DATA` has them,
    of abdominal MR; the authors had 11,779 images from the web. Of simulated data: the training images.
    """
    images = [data.images[data.training_images()]]
    if data.name == "vqa_rad":
        images.append(template_slices())
        liver = liver_slices(Path(os.environ.get("LDDR_DATA", "")).expanduser())
        images += [] if liver is None else [liver]
    return torch.cat(images)
