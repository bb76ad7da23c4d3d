"""Networks: published sizes, any volume size, a start near the identity, batch entries that do not see each other."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lddr.cascade import RecursiveCascade
from lddr.networks import LDR, VTN, LDRReleased, LightAffine, VoxelMorph, VTNAffine
from lddr.warping import warp

ODD = (37, 50, 41)
DENSE: dict[str, Callable[[], nn.Module]] = {
    "ldr": lambda: LDR(4),
    "vtn": lambda: VTN(2),
    "ldr_released": LDRReleased,
    "voxelmorph": VoxelMorph,
}
AFFINE: dict[str, Callable[[], nn.Module]] = {
    "light_affine": lambda: LightAffine(4),
    "vtn_affine": lambda: VTNAffine(ODD, 2),
}
dense = pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
every = pytest.mark.parametrize("make", (DENSE | AFFINE).values(), ids=DENSE | AFFINE)
affine = pytest.mark.parametrize("make", AFFINE.values(), ids=AFFINE)


def pair(size: tuple[int, ...], batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    moving, fixed = torch.rand(2, batch, 1, *size, generator=torch.Generator().manual_seed(seed))
    return moving, fixed


def conv(inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> int:
    """Numbers in a convolution, transposed or not."""
    return inputs * outputs * kernel**3 + bias * outputs


def size_of(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def awake(network: nn.Module) -> nn.Module:
    """Weights that hand the signal on, no biases: with PyTorch's start VTN's deepest features hardly know the input."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network.eval()


def vtn_encoder(c: int, levels: int = 6) -> int:
    """conv1, conv2, and from conv3 on a second convolution at each level."""
    halving = conv(2, c) + sum(conv(c * 2**i, c * 2 ** (i + 1)) for i in range(levels - 1))
    return halving + sum(conv(c * 2**i, c * 2**i) for i in range(2, levels))


def unet(down: list[int], up: list[int]) -> int:
    """VoxelMorph-2: convolutions at 1/16, 1/8, 1/4, 1/2 and again 1/2 of the grid, two at full size."""
    encoder = sum(conv(a, b) for a, b in zip([2, *down], down, strict=False))
    at_16th, at_8th, at_4th, at_half, again_at_half, at_full, again_at_full = up
    decoder = conv(down[3], at_16th) + conv(at_16th + down[2], at_8th) + conv(at_8th + down[1], at_4th)
    decoder += conv(at_4th + down[0], at_half) + conv(at_half, again_at_half)
    decoder += conv(again_at_half + 2, at_full) + conv(at_full, again_at_full)
    return encoder + decoder + conv(again_at_full, 3)


def test_ldr_has_the_size_of_the_posts() -> None:
    """16, 32, 64, 128 down; 128->64, (64+64)->32, (32+32)->16, (16+16)->3 up; kernel 4 throughout."""
    down = conv(2, 16, 4) + conv(16, 32, 4) + conv(32, 64, 4) + conv(64, 128, 4)
    up = conv(128, 64, 4) + conv(128, 32, 4) + conv(64, 16, 4) + conv(32, 3, 4)
    assert size_of(LDR()) == down + up
    assert size_of(LDR()) == pytest.approx(1.55e6, rel=0.005)


def test_vtn_has_the_published_size() -> None:
    decoder, incoming = 0, 512
    for skip in (256, 128, 64, 32, 16):
        decoder += conv(incoming, 3)  # predict a flow
        decoder += conv(3, 3, 4, bias=False) + conv(incoming, skip, 4, bias=False)  # double it, and the features
        incoming = skip + skip + 3
    assert size_of(VTN()) == vtn_encoder(16) + decoder + conv(incoming, 3, 4, bias=False)
    assert size_of(VTN()) == pytest.approx(28.3e6, rel=0.002)
    assert size_of(VTN()) / size_of(LDR()) == pytest.approx(18, abs=0.3)


def test_vtn_affine_has_the_published_size() -> None:
    stem = VTNAffine((128, 128, 128))
    assert size_of(stem) == vtn_encoder(16) + conv(512, 9, 2) + conv(512, 3, 2)  # 128 / 64 = 2 voxels a side are left
    assert size_of(stem) == pytest.approx(14.1e6, rel=0.005)


def test_fewer_levels_leave_out_the_coarsest_layers() -> None:
    """16, 32, 64, 128 down; 128->64, (64+64+3)->32, (32+32+3)->16 up; 48 / 16 = 3 and 64 / 16 = 4 voxels are left."""
    decoder, incoming = 0, 128
    for skip in (64, 32, 16):
        decoder += conv(incoming, 3) + conv(3, 3, 4, bias=False) + conv(incoming, skip, 4, bias=False)
        incoming = skip + skip + 3
    assert size_of(VTN(levels=4)) == vtn_encoder(16, 4) + decoder + conv(incoming, 3, 4, bias=False)
    assert size_of(VTNAffine((48, 64, 48), levels=4)) == vtn_encoder(16, 4) + 128 * 12 * 3 * 4 * 3 + 12


def test_on_a_single_voxel_only_the_middle_of_a_kernel_ever_learns() -> None:
    """Why small grids need fewer levels: six halvings of 48 arrive at one voxel, surrounded by padding."""
    network = VTN(2)
    network(*pair((48, 64, 48))).sum().backward()
    gradient = network.encoder.refine[-1].weight.grad
    assert gradient[:, :, 1, 1, 1].abs().max() > 0
    gradient[:, :, 1, 1, 1] = 0
    assert gradient.abs().max() == 0


def test_light_affine_size() -> None:
    assert size_of(LightAffine()) == conv(2, 16) + conv(16, 32) + conv(32, 64) + conv(64, 128) + 128 * 12 + 12


def test_the_two_unets_have_the_published_sizes() -> None:
    assert size_of(VoxelMorph()) == unet([16, 32, 32, 32], [32, 32, 32, 32, 32, 16, 16])
    assert size_of(VoxelMorph()) == pytest.approx(0.30e6, rel=0.005)
    assert size_of(LDRReleased()) == unet([32, 32, 32, 16], [32, 32, 32, 32, 16, 16, 16])
    assert size_of(LDRReleased()) == pytest.approx(0.28e6, rel=0.005)


@dense
@pytest.mark.parametrize("size", [ODD, (16, 17, 31), (64, 16, 20)])
def test_a_dense_network_returns_a_displacement_of_the_input_s_size(make: Callable[[], nn.Module], size: tuple) -> None:
    with torch.no_grad():
        assert make()(*pair(size, batch=2)).shape == (2, 3, *size)


@settings(max_examples=8)
@given(size=st.tuples(*[st.integers(16, 35)] * 3))
def test_any_size_passes_through_every_network(size: tuple[int, int, int]) -> None:
    for make in DENSE.values():
        with torch.no_grad():
            assert make()(*pair(size)).shape == (1, 3, *size)


@affine
@pytest.mark.parametrize("size", [ODD, (16, 17, 31), (64, 16, 20)])
def test_an_affine_stem_returns_a_matrix_and_a_translation(make: Callable[[], nn.Module], size: tuple) -> None:
    with torch.no_grad():
        matrix, translation = make()(*pair(size, batch=2))
    assert matrix.shape == (2, 3, 3)
    assert translation.shape == (2, 3)


def test_affine_numbers_are_read_row_by_row() -> None:
    """The head's bias is all there is when its weights are zero: nine numbers for A - I, then three for b."""
    stem = LightAffine(4)
    nn.init.zeros_(stem.head.weight)
    stem.head.bias.data = torch.arange(1.0, 13.0)
    matrix, translation = stem(*pair((16, 16, 16)))
    assert matrix[0].tolist() == [[2, 2, 3], [4, 6, 6], [7, 8, 10]]
    assert translation[0].tolist() == [10, 11, 12]


@pytest.mark.parametrize("make_affine", [lambda: None, *AFFINE.values()], ids=["none", *AFFINE])
@dense
def test_an_untrained_cascade_is_near_the_identity(make: Callable[[], nn.Module], make_affine: Callable) -> None:
    torch.manual_seed(0)
    moving, fixed = pair((32, 33, 34))
    with torch.no_grad():
        result = RecursiveCascade(make_affine(), [make(), make()])(moving, fixed)
    assert 0 < result.displacement.abs().max() < 0.1
    assert (result.warped[-1] - moving).abs().max() < 0.1


def answer(network: nn.Module, moving: Tensor, fixed: Tensor) -> Tensor:
    """The displacement, or the translation of an affine map, `[B, ...]`, scaled so that the largest entry is 1."""
    found = network(moving, fixed)
    found = found[1] if isinstance(found, tuple) else found
    return found / found.abs().amax(dim=tuple(range(1, found.ndim)), keepdim=True)


@every
def test_batch_entries_do_not_see_each_other(make: Callable[[], nn.Module]) -> None:
    network = awake(make())
    moving, fixed = pair((24, 20, 18), batch=3)
    with torch.no_grad():
        together, alone = answer(network, moving, fixed), answer(network, moving[1:2], fixed[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-2


@every
def test_both_images_are_looked_at(make: Callable[[], nn.Module]) -> None:
    network = awake(make())
    (moving, fixed), (other, _) = pair((16, 16, 16)), pair((16, 16, 16), seed=1)
    with torch.no_grad():
        start = answer(network, moving, fixed)
        for a, b in [(other, fixed), (moving, other), (fixed, moving)]:
            assert (answer(network, a, b) - start).abs().max() > 1e-2


def test_vtn_shares_its_reach_among_the_cascades() -> None:
    torch.manual_seed(0)
    one, three = VTN(2, 1), VTN(2, 3)
    three.load_state_dict(one.state_dict())
    moving, fixed = pair((32, 32, 32))
    with torch.no_grad():
        torch.testing.assert_close(3 * three(moving, fixed), one(moving, fixed))


def test_voxelmorph_s_own_package_reads_a_displacement_as_we_do() -> None:
    """The public package's model gives a field of the same shape, and warps its source with it as `warp` does."""
    voxelmorph = pytest.importorskip("voxelmorph")
    torch.manual_seed(0)
    theirs = voxelmorph.nn.models.VxmPairwise(
        3, 1, 1, nb_features=[4, 4, 4], flow_initializer=0.05, integration_steps=0
    )
    moving, fixed = pair((16, 32, 24))  # their sizes must be multiples of 8
    with torch.no_grad():
        field, warped = theirs(moving, fixed, return_warped_source=True)
        assert field.shape == VoxelMorph()(moving, fixed).shape
    assert field.abs().max() > 0.02
    inner = (..., *[slice(2, -2)] * 3)  # at the border they take zero, we repeat it
    torch.testing.assert_close(warp(moving, field)[inner], warped[inner], atol=2e-5, rtol=0)
