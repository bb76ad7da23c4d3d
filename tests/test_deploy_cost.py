"""Costs against hand counts from the layer lists, a loop over every tap, and PyTorch's own bookkeeping."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile

from lddr.cascade import RecursiveCascade
from lddr.deploy import bench
from lddr.deploy.bench import latency
from lddr.deploy.cost import count_macs, count_parameters, peak_memory
from lddr.networks import LDR, VTN, LDRReleased, LightAffine, VoxelMorph, VTNAffine

FULL = (128, 128, 128)


class Pair(nn.Module):
    """Layers in a row, called as a registration network is."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        return self.layers(torch.cat([moving, fixed], dim=1))


def gigamacs(*layers: tuple[int, int, int, int]) -> float:
    """Sum over layers given as (voxels of the smaller grid along a side, kernel, channels in, channels out), in 1e9."""
    return sum(n**3 * k**3 * a * b for n, k, a, b in layers) / 1e9


def test_a_convolution_costs_its_taps() -> None:
    assert count_macs(Pair(nn.Conv3d(2, 5, 3, stride=2, padding=1)), (8, 10, 6)) == (4 * 5 * 3) * 27 * 2 * 5
    assert count_macs(Pair(nn.Conv3d(2, 5, 3, padding=1)), (8, 10, 6)) == (8 * 10 * 6) * 27 * 2 * 5


def test_a_transposed_convolution_costs_its_taps_counted_one_by_one() -> None:
    """It spreads every input voxel over the kernel: walk over them all. (Per OUTPUT voxel it would be 8 times more.)"""
    size, kernel, channels_in, channels_out = (4, 3, 5), 4, 2, 3
    layer = nn.ConvTranspose3d(channels_in, channels_out, kernel, stride=2, padding=1, bias=False)
    voxels = itertools.product(*map(range, size))
    taps = sum(channels_in * channels_out for _ in voxels for _ in itertools.product(range(kernel), repeat=3))
    assert count_macs(Pair(layer), size) == taps
    # Once more from arithmetic itself: with ones everywhere and no crop, the outputs add up to the products.
    layer = nn.ConvTranspose3d(channels_in, channels_out, kernel, stride=2, bias=False)
    nn.init.ones_(layer.weight)
    assert layer(torch.ones(1, channels_in, *size)).sum().item() == taps == count_macs(Pair(layer), size)


def test_ldr_macs_at_full_size() -> None:
    down = [(64, 4, 2, 16), (32, 4, 16, 32), (16, 4, 32, 64), (8, 4, 64, 128)]
    up = [(8, 4, 128, 64), (16, 4, 128, 32), (32, 4, 64, 16), (64, 4, 32, 3)]
    assert count_macs(LDR(), FULL) / 1e9 == pytest.approx(gigamacs(*down, *up), rel=1e-12)


def encoder_layers() -> list[tuple[int, int, int, int]]:
    layers = [(64, 3, 2, 16), (32, 3, 16, 32)]
    for n, c in ((16, 64), (8, 128), (4, 256), (2, 512)):
        layers += [(n, 3, c // 2, c), (n, 3, c, c)]
    return layers


def test_vtn_macs_at_full_size() -> None:
    layers, incoming = encoder_layers(), 512
    for n, skip in ((2, 256), (4, 128), (8, 64), (16, 32), (32, 16)):
        layers += [(n, 3, incoming, 3), (n, 4, 3, 3), (n, 4, incoming, skip)]
        incoming = 2 * skip + 3
    assert count_macs(VTN(), FULL) / 1e9 == pytest.approx(gigamacs(*layers, (64, 4, incoming, 3)), rel=1e-12)
    assert count_macs(VTNAffine(FULL), FULL) / 1e9 == pytest.approx(
        gigamacs(*encoder_layers(), (1, 2, 512, 12)), rel=1e-12
    )


def test_voxelmorph_macs_at_full_size() -> None:
    down = [(64, 3, 2, 16), (32, 3, 16, 32), (16, 3, 32, 32), (8, 3, 32, 32)]
    up = [
        (8, 3, 32, 32),
        (16, 3, 64, 32),
        (32, 3, 64, 32),
        (64, 3, 48, 32),
        (64, 3, 32, 32),
        (128, 3, 34, 16),
        (128, 3, 16, 16),
    ]
    assert count_macs(VoxelMorph(), FULL) / 1e9 == pytest.approx(gigamacs(*down, *up, (128, 3, 16, 3)), rel=1e-12)


def test_few_parameters_are_not_few_operations() -> None:
    """The book's lesson: 18 times fewer parameters, about the same work; 5 times fewer again, 7 times the work."""
    parameters = {network: count_parameters(network())["total"] for network in (LDR, VTN, LDRReleased)}
    macs = {network: count_macs(network(), FULL) for network in parameters}
    assert parameters[VTN] / parameters[LDR] > 18
    assert macs[VTN] / macs[LDR] == pytest.approx(1.09, abs=0.01)
    assert parameters[LDR] / parameters[LDRReleased] > 5
    assert macs[LDRReleased] / macs[LDR] > 7


def test_a_cascade_costs_the_sum_of_its_stems() -> None:
    stems = [LDR(4), LDR(4)]
    cascade = RecursiveCascade(LightAffine(4), stems)
    counts = count_parameters(cascade)
    assert counts["affine"] == count_parameters(cascade.affine)["total"]
    assert counts["dense1"] == counts["dense2"] == count_parameters(stems[0])["total"]
    assert counts["total"] == counts["affine"] + counts["dense1"] + counts["dense2"]
    assert list(counts) == ["total", "affine", "dense1", "dense2"]
    size = (32, 20, 24)
    assert count_macs(cascade, size) == count_macs(cascade.affine, size) + 2 * count_macs(stems[0], size)


def test_a_cascade_without_affine_and_with_a_shared_stem() -> None:
    stem = LDR(4)
    counts = count_parameters(RecursiveCascade(None, [stem, stem]))
    assert list(counts) == ["total", "dense1", "dense2"]
    assert counts["total"] == counts["dense1"] == counts["dense2"]


def test_peak_memory_of_a_chain_on_paper() -> None:
    """Four bytes a number: weights; two images; two channels that join them; 6 channels, and 1 more beside them."""
    size = (10, 12, 8)
    chain = Pair(nn.Conv3d(2, 6, 1, bias=False), nn.Conv3d(6, 1, 1, bias=False))
    expected = 4 * ((2 * 6 + 6) + (2 + 2 + 6 + 1) * math.prod(size))
    assert peak_memory(chain, size) == expected
    views = nn.Flatten(2), nn.Unflatten(2, size)
    assert peak_memory(Pair(*chain.layers[:1], *views, *chain.layers[1:]), size) == expected, "a view takes no memory"


def test_peak_memory_of_ldr_on_paper() -> None:
    """The worst moment is the head: what it reads and writes at half and full size, and every skip still held."""
    channels = 2 + 2  # the images, apart and joined; all in channels at full size
    channels += sum(c / 8**level for level, c in enumerate((16, 32, 64, 128), start=1))  # features on the way down
    channels += 16 / 8 + 32 / 8 + 3  # the last features on the way up, the same joined with their skip, the result
    assert peak_memory(LDR(), FULL) == 4 * (count_parameters(LDR())["total"] + channels * math.prod(FULL))


@pytest.mark.parametrize("make", [lambda: LDR(8), lambda: VTN(4), VoxelMorph], ids=["ldr", "vtn", "voxelmorph"])
def test_peak_memory_is_part_of_what_pytorch_s_allocator_sees(make: Callable[[], nn.Module]) -> None:
    """Replay the allocator's own log of a real run: the same tensors, and the kernels' scratch space on top."""
    size = (32, 40, 36)
    model = make()
    moving, fixed = torch.rand(2, 1, 1, *size)
    with torch.no_grad():
        model(moving, fixed)
        with profile(profile_memory=True) as profiler:
            model(moving, fixed)
    sizes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    seen = max(itertools.accumulate(sizes))
    tensors = peak_memory(model, size) - 4 * (count_parameters(model)["total"] + 2 * moving.numel())
    assert 0 < tensors <= seen


def test_memory_grows_with_the_volume_and_freed_tensors_do_not_count() -> None:
    small, large = (peak_memory(LDR(), (n, n, n)) for n in (32, 64))
    weights = 4 * count_parameters(LDR())["total"]
    assert (large - weights) / (small - weights) == pytest.approx(8, rel=0.02)
    deep = Pair(nn.Conv3d(2, 8, 1), *[nn.Conv3d(8, 8, 1) for _ in range(2)])
    deeper = Pair(nn.Conv3d(2, 8, 1), *[nn.Conv3d(8, 8, 1) for _ in range(20)])
    grown = peak_memory(deeper, (16, 16, 16)) - peak_memory(deep, (16, 16, 16))
    assert grown == 18 * (8 * 8 + 8) * 4, "only the weights of the extra layers"


def test_counting_leaves_the_model_as_it_is() -> None:
    model = RecursiveCascade(VTNAffine((37, 50, 41), 2), [LDR(4)])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert count_macs(model, (37, 50, 41)) > 0
    assert peak_memory(model, (37, 50, 41)) > 0
    for name, value in model.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[name])


def test_latency_is_the_median_of_the_runs_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that we turn ourselves: the first two calls are slow, the others take 1, 2 and 9 seconds in turn."""
    now, taken = 0.0, []
    seconds = itertools.chain([100.0, 100.0], itertools.cycle([1.0, 2.0, 9.0]))
    monkeypatch.setattr(bench, "Timer", partial(bench.Timer, timer=lambda: now))

    class Slow(nn.Conv3d):
        def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
            nonlocal now
            assert not torch.is_grad_enabled()
            assert not self.training
            assert moving.shape == fixed.shape == (1, 1, 4, 5, 6)
            taken.append(next(seconds))
            now += taken[-1]
            return moving

    model = Slow(1, 1, 1).train()
    assert latency(model, (4, 5, 6), runs=30) == 2.0
    assert model.training
    assert taken.count(9.0) >= 2, "nothing was measured"
    found = bench.stopwatch(bench.registration(model, (4, 5, 6)), runs=30)
    measured = taken[-found["runs"] :]
    assert 100.0 not in measured
    assert found["runs"] >= 5
    assert found["seconds"] == np.median(measured)
    assert found["quartiles"] == pytest.approx(np.quantile(measured, [0.25, 0.75]))


def test_the_stopwatch_leaves_the_number_of_threads_alone() -> None:
    """PyTorch's own would measure with one."""
    threads, seen = torch.get_num_threads(), set()
    torch.set_num_threads(threads + 1)
    try:
        bench.stopwatch(lambda: seen.add(torch.get_num_threads()), runs=1)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert seen == {threads + 1}
