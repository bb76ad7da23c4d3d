"""Chapter 13 on somebody else's files: a pair and a folder go in; image, labels, field and weights come out."""

from pathlib import Path

import nibabel as nib
import numpy as np
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from synthetic import ellipsoids

from lddr.data.nifti import write_nifti
from lddr.models import ModelConfig, build_model, load_model, save_model

CHAPTER = Path(__file__).parent.parent / "notebooks" / "13_your_own_scans.ipynb"


@pytest.fixture
def files(tmp_path):
    """Seven small scans with axes to the left, back and top; a model for them; nothing simulated."""
    affine = np.diag([-2.0, -2.0, 2.5, 1.0])
    (tmp_path / "scans").mkdir()
    for i, volume in enumerate(ellipsoids(7, (24, 24, 20))):
        path = tmp_path / "scans" / f"s{i}.nii.gz" if i > 1 else tmp_path / ("F.nii.gz", "M.nii.gz")[i]
        write_nifti(path, 500 * volume[0].numpy(), affine)
        if i < 2:
            write_nifti(tmp_path / ("FL.nii.gz", "ML.nii.gz")[i], (volume[0] > 0.3).numpy().astype(np.uint8), affine)
    config = ModelConfig(size=[16, 16, 16], width=2)
    about = {"dataset": "ellipsoids", "spacing": 3.0, "licence": "none"}
    save_model(tmp_path / "small.safetensors", build_model(config, seed=0), config, about)
    return tmp_path


def run(files, **parameters):
    names = {"fixed_file": "F.nii.gz", "moving_file": "M.nii.gz", "scans": "scans", "model": "small.safetensors"}
    given = {name: str(files / value) for name, value in names.items()} | {"steps": 2, "subjects": 2} | parameters
    papermill.execute_notebook(CHAPTER, files / "run.ipynb", given, cwd=files, progress_bar=False)


def test_own_files_give_image_labels_field_and_weights(files):
    run(files, fixed_labels_file="FL.nii.gz", moving_labels_file="ML.nii.gz", out="here", weights="mine.safetensors")
    fixed = nib.load(files / "F.nii.gz")
    for name, shape in {"warped": (24, 24, 20), "warped_labels": (24, 24, 20), "displacement": (24, 24, 20, 3)}.items():
        image = nib.load(files / "here" / "registered" / f"{name}.nii.gz")
        assert image.shape == shape
        assert np.allclose(image.affine, fixed.affine)
    assert not list((files / "here").glob("*.nii.gz"))  # nothing simulated beside them
    _, config, about = load_model(files / "mine.safetensors")
    assert config.size == [16, 16, 16]
    assert about["spacing"] == 3.0


def test_one_file_alone_is_answered_with_a_sentence(files):
    with pytest.raises(PapermillExecutionError, match="Give both fixed_file and moving_file"):
        run(files, moving_file=None)
