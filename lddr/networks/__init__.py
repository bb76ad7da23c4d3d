"""The networks of the method. Each takes (moving, fixed) and returns a displacement or an affine map."""

from lddr.networks.affine import LightAffine, VTNAffine
from lddr.networks.ldr import LDR
from lddr.networks.unet import LDRReleased, VoxelMorph
from lddr.networks.vtn import VTN

__all__ = ["LDR", "VTN", "LDRReleased", "LightAffine", "VTNAffine", "VoxelMorph"]
