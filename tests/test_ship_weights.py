"""Shipping weights: the entries of the manifest come out of the records again, and what does not belong is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lddr.models import WEIGHTS, shipped_models
from study import ship_weights
from study.records import PROJECT, RECORDS


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, in place of the package's."""
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr(ship_weights, "WEIGHTS", tmp_path)
    return tmp_path


def test_the_shipped_models_can_be_shipped_again(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure of the manifest is one of the record it names."""
    monkeypatch.chdir(PROJECT)
    manifest = shipped_models()
    aliases: dict[str, list[str]] = {name: [] for name, entry in manifest.items() if "alias_of" not in entry}
    for name, entry in manifest.items():
        if "alias_of" in entry:
            aliases[entry["alias_of"]].append(name)
    for name, others in aliases.items():
        ship_weights.main([name, str(WEIGHTS / manifest[name]["file"]), manifest[name]["record"], *others])
    assert json.loads((shelf / "manifest.json").read_text()) == manifest
    for entry in manifest.values():
        assert (shelf / entry["file"]).read_bytes() == (WEIGHTS / entry["file"]).read_bytes()


def test_what_does_not_belong_is_refused(shelf: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    weights = str(WEIGHTS / "student_1cas_none.safetensors")
    record = RECORDS / "hippocampus" / "student_1cas_none.json"
    mine = tmp_path / "mine.json"
    shutil.copy(record, mine)
    for words, found in (
        ([str(record), str(record)], "not a model saved by lddr"),
        ([weights, str(RECORDS / "hippocampus" / "baseline_elastix.json")], "expected the record of a training run"),
        ([weights, str(RECORDS / "cost" / "cost_cpu_1.json")], "expected the record of a training run"),
        ([weights, str(mine)], "expected a record within"),
    ):
        assert found in refused(ship_weights.main, ["mine", *words])
    assert json.loads((shelf / "manifest.json").read_text()) == {}
    assert not list(shelf.glob("*.safetensors"))
