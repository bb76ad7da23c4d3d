"""A displacement as other tools read it."""

import numpy as np

from lddr.infer.register import PointMap


def in_voxels(mapping: PointMap) -> np.ndarray:
    """Give the displacement in voxels of the fixed file's grid: the book's convention, with the channel last.

    `[X, Y, Z, 3]` float32; channel i moves along array axis i of the fixed file.
    """
    steps = (mapping.points - mapping.world) @ np.linalg.inv(mapping.affine[:3, :3]).T
    return steps.astype(np.float32)


def for_itk(mapping: PointMap) -> np.ndarray:
    """Give the displacement as ITK and ANTs read it: millimetres to Left, Posterior and Superior.

    `[X, Y, Z, 1, 3]` float32; save it with the intent "vector".
    """
    ras = mapping.points - mapping.world
    return (ras * [-1, -1, 1]).astype(np.float32)[:, :, :, None, :]


def for_learn2reg(mapping: PointMap) -> np.ndarray:
    """Give the displacement as the Learn2Reg challenge reads it: voxels of the fixed grid, channel first.

    `[3, X, Y, Z]` float16.
    """
    return np.moveaxis(in_voxels(mapping), -1, 0).astype(np.float16)
