"""Imports: the package is quick to import, each command takes what it needs, and importing has no other effect."""

import json
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import lddr
from lddr.data.registry import load_cohort
from lddr.data.simulated import make_subject
from lddr.models import ModelConfig, build_model, save_model

MODULES = sorted(m.name for m in pkgutil.walk_packages(lddr.__path__, "lddr.") if not m.name.endswith("__main__"))


def fresh(code: str, *words: str, **variables: str) -> Any:
    """Run code in an interpreter of its own: what its last printed line says, as JSON."""
    environment = os.environ | variables
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


LOADED = "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


@pytest.mark.parametrize(
    "line", ["import lddr", "import lddr.cli.main", "from lddr.cli.main import main; main(['-h'])"]
)
def test_the_package_and_its_help_need_neither_torch_nor_numpy(line: str) -> None:
    code = f"import json, sys\ntry:\n    {line}\nexcept SystemExit:\n    pass\n{LOADED}"
    loaded = set(fresh(code))
    assert "lddr" in loaded
    assert not {"torch", "numpy", "scipy", "nibabel", "pydantic", "study"} & loaded


HEAVY = {"nilearn", "monai", "pandas", "matplotlib", "skimage", "h5py", "lightning_fabric", "sklearn", "study"}


@pytest.mark.slow
def test_register_imports_what_it_needs_and_no_more(tmp_path: Path) -> None:
    config = ModelConfig(size=[16, 16, 16], width=2)
    save_model(tmp_path / "m.safetensors", build_model(config, 0), config, {"spacing": 12.0, "dataset": "liver_mr"})
    for index, name in enumerate(("fixed", "moving")):
        image = make_subject(index, (16, 16, 16))[0][0, 0].numpy()
        nib.save(nib.Nifti1Image(image, np.diag([12.0, 12, 12, 1])), tmp_path / f"{name}.nii.gz")
    words = ["register", "--model", "m.safetensors", "--out", "out"]
    words += ["--fixed", "fixed.nii.gz", "--moving", "moving.nii.gz"]
    code = f"import json, os, sys\nos.chdir(sys.argv[1])\nfrom lddr.cli.main import main\nassert main({words}) == 0\n"
    loaded = set(fresh(code + LOADED, str(tmp_path)))
    assert (tmp_path / "out" / "warped.nii.gz").exists()
    assert {"torch", "nibabel", "safetensors"} <= loaded
    assert not HEAVY & loaded


def test_simulated_brains_that_are_stored_need_no_nilearn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds, in every kernel of every chapter."""
    monkeypatch.setenv("LDDR_CACHE", str(tmp_path))
    load_cohort("simulated_brains", "test", size=(16, 16, 16), subjects=2)
    code = "from lddr import load_cohort\nload_cohort('simulated_brains', 'test', size=[16, 16, 16], subjects=2)\n"
    assert "nilearn" not in fresh(f"import json, sys\n{code}{LOADED}")


WATCHED = """
import importlib, json, os, sys

package, modules = sys.argv[1], json.loads(sys.argv[2])
started, caught = [], {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"}

def watch(event, values):
    if event not in caught:
        return
    frame = sys._getframe(1)
    while frame and "site-packages" not in frame.f_code.co_filename and package not in frame.f_code.co_filename:
        frame = frame.f_back  # past the standard library, to who asked for it
    file = frame.f_code.co_filename if frame else "?"
    if file.startswith(package) or os.path.basename(str(values[0])) == "git":
        started.append([event, str(values), file])

sys.addaudithook(watch)
changed = {}
for name in modules:
    before = dict(os.environ)
    importlib.import_module(name)
    for variable in {*before, *os.environ}:
        if before.get(variable) != os.environ.get(variable):
            changed[variable] = name
print(json.dumps([started, changed, sorted(m for m in sys.modules if m.split(".")[0] == "study")]))
"""


@pytest.mark.slow
def test_importing_starts_no_process_and_changes_no_environment() -> None:
    started, changed, of_the_book = fresh(WATCHED, str(Path(lddr.__file__).parent), json.dumps(MODULES))
    assert len(MODULES) > 40
    assert started == []
    assert changed == {}
    assert of_the_book == []


def test_every_name_of_the_root_is_what_its_module_defines() -> None:
    for name in lddr.__all__:
        home = import_module(lddr.HOME[name])
        assert getattr(lddr, name) is getattr(home, name), name
        defined = getattr(getattr(home, name), "__module__", None)
        if defined not in (None, "typing", "collections.abc"):  # not so of a dictionary or an alias
            assert defined == home.__name__ or defined.startswith(f"{home.__name__}."), name
    assert set(lddr.__all__) <= set(dir(lddr))


def test_no_name_of_the_root_is_a_module_s_as_well() -> None:
    """Importing the module would put it in the function's place."""
    assert not set(lddr.__all__) & {name.split(".")[1] for name in MODULES}


def test_a_name_is_the_function_whatever_was_imported_before() -> None:
    code = (
        "import json, lddr.warping, lddr.infer.register, lddr.cli.evaluate\nfrom lddr import evaluate, register, warp\n"
    )
    code += "print(json.dumps([f'{x.__module__}.{x.__qualname__}' for x in (warp, register, evaluate)]))"
    assert fresh(code) == ["lddr.warping.warp", "lddr.infer.register.register", "lddr.infer.evaluate.evaluate"]


def test_another_name_is_refused_as_python_does_it() -> None:
    with pytest.raises(AttributeError, match="lddr has no 'settings'; its names are .*warp"):
        lddr.settings  # noqa: B018
    with pytest.raises(ImportError):
        from lddr import records  # noqa: F401
