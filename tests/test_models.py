"""Models: what is saved comes back, and what is not a model is refused with a sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lddr import models
from lddr.cascade import RecursiveCascade
from lddr.errors import InputError
from lddr.models import ModelConfig, build_model, load_model, save_model, weights_hash
from lddr.networks import LDR, VTN, LDRReleased, LightAffine, VoxelMorph, VTNAffine

CONFIG = ModelConfig(network="ldr", affine="light", cascades=2, width=3, size=[16, 20, 18])
ABOUT = {"dataset": "ellipsoids", "dice": 0.5, "licence": "CC0"}


@pytest.fixture
def model() -> RecursiveCascade:
    return build_model(CONFIG, seed=1)


@pytest.mark.parametrize(
    ("network", "affine", "dense_type", "affine_type"),
    [
        ("ldr", "light", LDR, LightAffine),
        ("vtn", "vtn", VTN, VTNAffine),
        ("ldr_released", "light", LDRReleased, LightAffine),
        ("voxelmorph", "none", VoxelMorph, type(None)),
    ],
)
def test_the_description_decides_what_is_built(network: str, affine: str, dense_type: type, affine_type: type) -> None:
    built = build_model(ModelConfig(network=network, affine=affine, cascades=3, width=2, size=[70, 64, 20]))
    assert [type(stem) for stem in built.dense] == [dense_type] * 3
    assert type(built.affine) is affine_type
    if network == "vtn":
        assert built.affine.grid == (2, 1, 1)
        assert [stem.scale for stem in built.dense] == [20 / 3] * 3
    stems = {id(p) for p in built.dense[0].parameters()} & {id(p) for p in built.dense[1].parameters()}
    assert not stems, "every cascade has weights of its own"


def test_the_seed_decides_the_starting_weights() -> None:
    assert weights_hash(build_model(CONFIG, seed=1)) == weights_hash(build_model(CONFIG, seed=1))
    assert weights_hash(build_model(CONFIG, seed=1)) != weights_hash(build_model(CONFIG, seed=2))


def test_a_model_comes_back_as_it_was(tmp_path: Path, model: RecursiveCascade) -> None:
    path = tmp_path / "deeper" / "model.safetensors"
    save_model(path, model, CONFIG, ABOUT, half=False)
    loaded, config, about = load_model(path)
    assert config == CONFIG
    assert about == ABOUT
    assert weights_hash(loaded) == weights_hash(model)
    assert not loaded.training
    moving, fixed = torch.rand(2, 1, 1, *CONFIG.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded(moving, fixed).displacement, model(moving, fixed).displacement)
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"], "no temporary file is left"


def test_half_precision_halves_the_file_and_rounds_once(tmp_path: Path, model: RecursiveCascade) -> None:
    for name, half in (("full", False), ("half", True)):
        save_model(tmp_path / name, model, CONFIG, ABOUT, half=half)
    saved = (tmp_path / "full").stat().st_size - (tmp_path / "half").stat().st_size
    assert saved == pytest.approx(2 * sum(p.numel() for p in model.parameters()), abs=200)  # headers differ a little
    with safe_open(tmp_path / "half", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}
    loaded, *_ = load_model(tmp_path / "half")
    for (name, value), original in zip(loaded.state_dict().items(), model.state_dict().values(), strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, original.half().float()), name
    save_model(tmp_path / "again", loaded, CONFIG, ABOUT)
    assert weights_hash(load_model(tmp_path / "again")[0]) == weights_hash(loaded)


def test_the_hash_sees_every_weight(model: RecursiveCascade) -> None:
    before = weights_hash(model)
    assert len(before) == 64
    with torch.no_grad():
        model.dense[1].head.weight[-1, -1, -1, -1, -1] += 1e-3
    assert weights_hash(model) != before


def test_a_shipped_model_is_found_by_name(
    tmp_path: Path, model: RecursiveCascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "file.safetensors", model, CONFIG, ABOUT)
    (tmp_path / "manifest.json").write_text(
        json.dumps({"brains": {"file": "file.safetensors"}, "other": {"file": "x"}})
    )
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    assert load_model("brains")[1:] == (CONFIG, ABOUT)
    with pytest.raises(InputError) as error:
        load_model("brain")
    assert str(error.value) == "brain: neither a file nor a shipped model (those are brains, other)."


def test_every_shipped_model_loads_and_is_described() -> None:
    for name, entry in models.shipped_models().items():
        assert {"file", "dataset", "licence"} <= entry.keys(), name
        loaded, config, _ = load_model(name)
        assert len(loaded.dense) == config.cascades


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def other_weights(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path, {"model": CONFIG.model_dump_json(), "about": "{}"})


def no_json(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path, {"model": "a small one", "about": "{}"})


def text(path: Path) -> None:
    path.write_text("I am a model, honestly.")


def cut_short(path: Path) -> None:
    save_model(path, build_model(CONFIG), CONFIG, ABOUT)
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("write", [foreign, other_weights, no_json, text, cut_short, empty])
def test_what_is_no_model_is_refused(tmp_path: Path, write: object) -> None:
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(InputError) as error:
        load_model(path)
    expected = "not a model saved by lddr (expected a .safetensors file with its description)."
    assert str(error.value) == f"{path}: {expected}"
