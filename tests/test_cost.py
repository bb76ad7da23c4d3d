"""Costs: bytes against counts on paper, and records that hold all they promise. No test depends on seconds."""

import math

import pytest
import torch
from torch import Tensor, nn

from lddr.deploy import bench
from lddr.deploy.cost import bytes_moved, count_macs
from lddr.models import build_model
from lddr.networks import LDR
from lddr.record import CostRecord, read_record
from study import cost
from study.records import read_costs

FULL = (128, 128, 128)


class OnMoving(nn.Sequential):
    """Layers in a row that look at the moving image alone."""

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        return super().forward(moving)


def test_a_convolution_moves_its_input_its_weights_and_its_output():
    size = (8, 10, 6)
    layer = nn.Conv3d(1, 5, 3, stride=2, padding=1)
    expected = 4 * (8 * 10 * 6 + (27 * 1 * 5 + 5) + 5 * 4 * 5 * 3)
    assert bytes_moved(OnMoving(layer), size) == expected
    layer = nn.ConvTranspose3d(1, 3, 4, stride=2, padding=1, bias=False)
    assert bytes_moved(OnMoving(layer), size) == 4 * (8 * 10 * 6 + 64 * 3 + 3 * 16 * 20 * 12)


def test_an_activation_reads_and_writes_and_a_view_does_neither():
    size, voxels = (8, 10, 6), 8 * 10 * 6
    assert bytes_moved(OnMoving(nn.ReLU()), size) == 4 * 2 * voxels
    assert bytes_moved(OnMoving(nn.ReLU(inplace=True)), size) == 4 * 2 * voxels
    assert bytes_moved(OnMoving(nn.Flatten(2), nn.Unflatten(2, size), nn.Identity()), size) == 0
    assert bytes_moved(OnMoving(nn.Flatten(2), nn.ReLU(), nn.Unflatten(2, size)), size) == 4 * 2 * voxels


def test_a_tensor_that_repeats_itself_counts_once():
    class Repeats(nn.Module):
        def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
            return moving.expand(1, 7, -1, -1, -1) + 1

    assert bytes_moved(Repeats(), (4, 4, 4)) == 4 * (1 + 7) * 64


def test_ldr_moves_what_its_layers_do_on_paper():
    """Convolutions (with bias), activations, and the three places where skips are joined; in channels at full size."""
    down, up = [2, 16, 32, 64, 128], [(128, 64), (128, 32), (64, 16), (32, 3)]
    channels, weights = 1 + 1 + 2, 0.0  # the two images are joined
    for level in range(4):
        a, b = down[level : level + 2]
        channels += a / 8**level + 3 * b / 8 ** (level + 1)  # read, write; then read and write by the activation
        weights += 64 * a * b + b
    for level, (a, b) in zip((4, 3, 2, 1), up, strict=True):
        channels += (2 * a if level < 4 else 0) / 8**level  # joined from its two halves
        channels += a / 8**level + (1 if level == 1 else 3) * b / 8 ** (level - 1)
        weights += 64 * a * b + b
    assert bytes_moved(LDR(), FULL) == 4 * (weights + channels * math.prod(FULL))


def test_more_cascades_move_more_by_the_same_amount_each():
    names = cost.models(64)
    one, two, three = (
        bytes_moved(build_model(config), config.size)
        for name, config in names.items()
        if name in ("LDR, 1 cascade", "LDR, 2 cascades", "LDR, 3 cascades")
    )
    assert three - two == two - one > 0


def test_light_in_weights_is_not_light_in_traffic():
    """VTN has many times the weights of LDR; on volumes of 128 voxels a side most of what is moved are features."""
    names = cost.models(128)
    ldr, released, vtn, voxelmorph = (
        build_model(names[f"{name}, 1 cascade"]) for name in ("LDR", "LDR of the released code", "VTN", "VoxelMorph")
    )
    moved = {model: bytes_moved(model, FULL) for model in (ldr, released, vtn, voxelmorph)}
    assert 0.5 < moved[vtn] / moved[ldr] < 2
    assert moved[released] > 2 * moved[ldr]
    assert moved[voxelmorph] > 2 * moved[ldr]


def test_counting_bytes_leaves_the_model_as_it_is():
    model = build_model(cost.models(32)["VTN of our teacher, 1 cascade"], seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert bytes_moved(model, (32, 32, 32)) > 0
    assert model.training
    for name, value in model.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[name])


def still(moving: Tensor, fixed: Tensor) -> Tensor:
    assert moving.shape == fixed.shape == (1, 1, 32, 32, 32)
    return torch.zeros(1, 3, *moving.shape[2:])


@pytest.mark.slow
def test_the_record_holds_every_network_and_how_it_was_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "TOOLS", {"ants_syn": still})
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # the other tests want theirs
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    long = bench.stopwatch
    monkeypatch.setattr(bench, "stopwatch", lambda call, runs: long(call, runs=1))
    cost.main(["--size", "32", "--tools", "--out", str(tmp_path / "new")])
    (file,) = (tmp_path / "new").iterdir()
    assert file.name == "cost_cpu_1.json"
    record = read_record(file)
    assert isinstance(record, CostRecord)
    assert record.command == "python -m study.cost --threads 1 --size 32 --runs 7 --tools"
    assert (record.device, record.threads, record.size) == ("cpu", 1, [32, 32, 32])
    configs = cost.models(32)
    assert set(record.networks) == set(configs)
    counted = {"parameters", "macs", "bytes_moved", "peak_memory", "seconds", "runs"}
    for name, network in record.networks.items():
        assert set(network) == counted | {"model", "quartiles"}
        assert all(network[key] > 0 for key in counted)
        assert network["quartiles"][0] <= network["seconds"] <= network["quartiles"][1]
        assert network["macs"] == count_macs(build_model(configs[name]), (32, 32, 32))
    assert set(record.tools["ants_syn"]) == {"seconds", "quartiles", "runs", "threads"}
    assert record.tools["ants_syn"]["runs"] == record.tools["ants_syn"]["threads"] == 1
    assert capsys.readouterr().out.count(" s on the cpu") == len(record.networks)


@pytest.mark.slow
def test_what_is_counted_in_the_recorded_costs_is_what_is_counted_now():
    """All but the seconds is the same on every machine."""
    records = read_costs()
    assert set(records) >= {"cost_cpu_1", "cost_cpu_2"}
    configs = cost.models(128)
    for record in records.values():
        assert set(record.networks) == set(configs)
        for name, network in record.networks.items():
            assert network["model"] == configs[name].model_dump(exclude_defaults=True)
            model = build_model(configs[name])
            assert network["parameters"] == sum(w.numel() for w in model.parameters())
            assert network["macs"] == count_macs(model, FULL)
            assert network["bytes_moved"] == bytes_moved(model, FULL)


def test_parameters_in_the_record_are_those_of_the_claims():
    parameters = {
        name: sum(w.numel() for w in build_model(config).parameters())
        for name, config in cost.models(128).items()
        if name in ("LDR, 1 cascade", "VTN, 1 cascade")
    }
    assert parameters["LDR, 1 cascade"] / 1e6 == pytest.approx(1.84, abs=0.01)
    assert parameters["VTN, 1 cascade"] / 1e6 == pytest.approx(28.3 + 14.1, abs=0.1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--runs", "3"], "--runs: found '3', expected a whole number from 7 up"),
        (["--size", "many"], "--size: found 'many', expected a whole number from 32 up"),
        (["--size", "64"], "--size is 64, but the book's own records are of 128 voxels a side: give --out too"),
        (["--threads", "100000"], "--threads: found '100000', expected a whole number from 1 to"),
    ],
)
def test_bad_options_get_a_sentence(words, expected, refused):
    assert expected in refused(cost.main, words)


def test_a_missing_tool_gets_a_sentence(monkeypatch, tmp_path, refused):
    def absent(moving: object, fixed: object) -> None:
        raise ModuleNotFoundError("No module named 'ants'", name="ants")

    monkeypatch.setattr(cost, "TOOLS", {"ants_syn": absent})
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    said = refused(cost.main, ["--size", "32", "--tools", "--out", str(tmp_path)])
    assert said == "--tools: ants is not installed; the extra 'baselines' brings it.\n"
    assert not list(tmp_path.iterdir())
