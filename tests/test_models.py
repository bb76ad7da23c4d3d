"""Models: what is saved comes back, and what is not a model is refused with a sentence."""

import hashlib
import json
import re
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


def rewritten(path: Path, change: object) -> None:
    """Write a saved model again with something changed, and with the checksum that a careless program would leave."""
    with safe_open(path, "pt") as file:
        metadata, weights = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}
    change(metadata, weights)
    save_file(weights, path, metadata)


def set_about(**values: object) -> object:
    def change(metadata: dict[str, str], weights: dict[str, torch.Tensor]) -> None:
        metadata["about"] = json.dumps(json.loads(metadata["about"]) | values)
        del metadata["sha256"]

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            set_about(spacing="two"),
            "its description is not usable. Parameter 'spacing' is 'two': input should be a valid",
        ),
        (set_about(spacing=float("nan")), "Parameter 'spacing' is nan: input should be a finite number."),
        (set_about(spacing=-1.0), "Parameter 'spacing' is -1.0: input should be greater than 0."),
        (set_about(fold="first"), "Parameter 'fold' is 'first': input should be a valid integer."),
        (set_about(dataset=3), "Parameter 'dataset' is 3: input should be a valid string."),
        (lambda m, _: m.update(about="[1, 2]", sha256=""), "Expected names and values, found [1, 2]."),
        (lambda m, _: m.update(about="7", sha256=""), "Expected names and values, found 7."),
        (lambda m, _: m.update(about="{", sha256=""), "not a model saved by lddr"),
        (lambda m, _: m.update(about="[" * 100_000, sha256=""), "not a model saved by lddr"),
        (lambda m, _: m.update(model='{"width": 100000}', sha256=""), "Parameter 'width' is 100000: input should be"),
        (lambda m, _: m.update(model='{"size": [1e9]}', sha256=""), "Parameter 'size"),
        (lambda m, _: m.update(model="null", sha256=""), "Expected names and values, found None."),
    ],
)
def test_a_description_that_makes_no_sense_is_one_sentence(
    tmp_path: Path, model: RecursiveCascade, change: object, sentence: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model, CONFIG, ABOUT)
    rewritten(path, change)
    with pytest.raises(InputError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert sentence in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, model: RecursiveCascade, value: float) -> None:
    path = tmp_path / "model.safetensors"
    with torch.no_grad():
        model.dense[1].head.weight[0, 0, 0, 0, 0] = value
    save_model(path, model, CONFIG, ABOUT)
    with pytest.raises(InputError, match="some weights are NaN or infinite; train the model again"):
        load_model(path)


def test_no_flipped_bit_of_a_saved_model_is_used(tmp_path: Path, model: RecursiveCascade) -> None:
    """Wherever it is: in a weight, in the description or in the names."""
    path = tmp_path / "model.safetensors"
    save_model(path, model, CONFIG, ABOUT | {"spacing": 2.0})
    whole = path.read_bytes()
    places = torch.randint(8 * len(whole), (60,), generator=torch.Generator().manual_seed(0)).tolist()
    header = 8 * whole.index(b"2.0") + 1
    for place in [*places, header]:
        data = bytearray(whole)
        data[place // 8] ^= 1 << (place % 8)
        path.write_bytes(data)
        with pytest.raises(InputError, match=re.escape(f"{path}: ")):
            load_model(path)


def test_a_shipped_model_that_changed_is_refused(
    tmp_path: Path, model: RecursiveCascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "file.safetensors", model, CONFIG, ABOUT)
    rewritten(tmp_path / "file.safetensors", lambda metadata, _: metadata.pop("sha256"))  # as older ones are
    content = (tmp_path / "file.safetensors").read_bytes()
    entry = {"file": "file.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps({"brains": entry}))
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    load_model("brains")
    (tmp_path / "file.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="the weights are damaged; copy or download the file again"):
        load_model("brains")
    load_model(tmp_path / "file.safetensors")  # an old file by its path has nothing to be compared with


def test_names_that_are_no_files_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x" * 300, "a\0b", str(tmp_path), ""):
        with pytest.raises(InputError, match="neither a file nor a shipped model"):
            load_model(name)
    save_model(tmp_path / "m.safetensors", build_model(CONFIG), CONFIG, ABOUT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model("~/m.safetensors")[1] == CONFIG

    def forbidden(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); ask its owner"):
        load_model(tmp_path / "m.safetensors")
