"""Scans of imaginary scanners, whose axes, voxels and origins are known, and models whose answers are."""

import nibabel as nib
import numpy as np
import torch

from lddr.data.nifti import Scan, read_image
from lddr.infer.maps import GridMap
from lddr.infer.register import register
from lddr.models import ModelConfig, build_model, save_model

SIZE, SPACING = [24, 24, 24], 2.0
SHIFT = np.array([3.0, -2.0, 1.0])  # voxels of the model's grid; 6, -4 and 2 mm along the scan's axes in RAS order


def shift_model(path):
    """Weights of a network that answers SHIFT to any two images, and the network."""
    config = ModelConfig(affine="light", size=SIZE, width=2)
    model = build_model(config, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.affine.head.bias[9:] = torch.tensor(SHIFT)
    save_model(path, model, config, {"spacing": SPACING}, half=False)
    return path, model


def bending_model(seed=0, std=0.3):
    """A network whose displacement differs from place to place."""
    torch.manual_seed(seed)
    network = build_model(ModelConfig(size=SIZE, width=2))
    with torch.no_grad():
        network.dense[0].head.weight.normal_(std=std)
    return network


def blob(shape, affine, centre, width=6):
    """A bump of 6 mm around a point in space, seen on a grid."""
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return np.exp(-((points - centre) ** 2).sum(-1) / (2 * width**2)).astype(np.float32)


def grid(codes="RAS", spacing=(1.0, 1.5, 2.5), angle=0.0, shape=(48, 32, 20)):
    """Shape and affine of a scan whose middle is the origin, turned about the vertical, stored in the order `codes`."""
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    empty = nib.Nifti1Image(np.zeros(shape, np.uint8), affine)
    orientation = nib.orientations.axcodes2ornt(codes)
    stored = empty.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), orientation))
    return stored.shape, stored.affine, turn


def write(path, codes="RAS", angle=0.0, centre=(0, 0, 0), **more):
    shape, affine, turn = grid(codes, angle=angle, **more)
    nib.save(nib.Nifti1Image(blob(shape, affine, np.array(centre, float)), affine), path)
    return turn


def scan_of(array, affine=None):
    """An array as a scan in RAS order, with voxels of 1 mm unless told."""
    affine = np.eye(4) if affine is None else affine
    return Scan(array, affine, "scan", affine, array.shape)


def bent_map(tmp_path, codes, angle):
    """A map with a displacement that differs from place to place, between two different grids."""
    write(tmp_path / "fixed.nii.gz", codes, angle)
    write(tmp_path / "moving.nii.gz", "RAS", 0.1, (3, 3, 3), spacing=(1.2, 1.0, 1.4), shape=(44, 48, 40))
    fixed, moving = read_image(tmp_path / "fixed.nii.gz"), read_image(tmp_path / "moving.nii.gz")
    mapping: GridMap = register(fixed, moving, bending_model(), SIZE, SPACING)
    assert np.linalg.norm(mapping.points - mapping.world, axis=-1).std() > 0.1
    return mapping, fixed, moving
