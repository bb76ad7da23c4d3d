"""The liver set: folds that test every subject once, cubes that lie where they should, scans that are laid on them."""

import json
import re
import shlex

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from lddr.cli import main as cli
from lddr.data.grid import to_grid
from lddr.data.liver import SIDES, body, box_centre, cube_affine, fold_ids, window
from lddr.data.nifti import read_image
from lddr.data.registry import DATASETS, load_cohort
from lddr.errors import InputError
from lddr.infer.evaluate import on_finer_grid
from lddr.models import load_model, save_model
from lddr.train import run as runs
from lddr.warping import resize_displacement, warp

SHAPE, SPACING = (40, 40, 16), (8.0, 8.0, 20.0)


def write_set(root, ids, codes="LAS", grow=0):
    """Bodies of 40 voxels with a bright liver, 7 x 5 x 3 voxels, at a place of its own; a second organ has label 4."""
    folder = root / "CHAOS_MR_T2SPIR"
    folder.mkdir()
    corners = {}
    for n, i in enumerate(ids):
        image, label = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.int16)
        image[4:36, 8:32, 1:15] = 100
        corner = np.array([20 + n % 3, 15 - n % 4, 5 + n % 2])
        liver = tuple(slice(c, c + s) for c, s in zip(corner, (7, 5 + grow * (n % 3), 3), strict=True))
        image[liver], label[liver] = 300, 1
        label[8:11, 12:15, 9:11] = 4
        corners[i] = corner
        for name, array in (("image", image), ("label", label)):
            ras = nib.Nifti1Image(array, np.diag([*SPACING, 1.0]))
            turn = nib.orientations.ornt_transform(
                nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
            )
            nib.save(ras.as_reoriented(turn), folder / f"{name}_{i}.nii.gz")
    return corners


def test_every_subject_is_tested_once_and_never_seen_before() -> None:
    tested = [i for fold in range(4) for i in fold_ids("test", fold)]
    assert len(tested) == len(set(tested)) == 16
    for fold in range(4):
        train, validation, test = (fold_ids(split, fold) for split in ("train", "validation", "test"))
        assert (len(train), len(validation), len(test)) == (10, 2, 4)
        assert set(train) | set(validation) | set(test) == set(tested)


@pytest.mark.parametrize("codes", ["LAS", "RAS", "PSR"])
def test_the_liver_lies_in_the_middle_of_its_cube_at_its_true_size(tmp_path, codes) -> None:
    write_set(tmp_path, fold_ids("test", 0), codes)
    n = 33
    cohort = load_cohort("liver_mr", "test", tmp_path, size=(n, n, n))
    assert cohort.spacing == pytest.approx(SIDES["liver_mr"] / (n - 1)) == 8.0
    for label, image in zip(cohort.labels[:, 0], cohort.images[:, 0], strict=True):
        assert set(label.unique().tolist()) == {0, 1}  # the other organ is not asked for
        inside = np.argwhere(label.numpy())
        assert inside.mean(0) == pytest.approx([(n - 1) / 2] * 3, abs=0.6)
        extent = (inside.max(0) - inside.min(0) + 1) * cohort.spacing
        assert extent == pytest.approx(np.array([7, 5, 3]) * SPACING, abs=8)
        assert image[label > 0].mean() > 1.5 * image[label == 0].mean()


def test_the_cube_around_the_body_asks_no_label(tmp_path) -> None:
    ids = fold_ids("test", 0)
    corners = write_set(tmp_path, ids)
    side = SIDES["liver_mr_body"]
    cohort = load_cohort("liver_mr_body", "test", tmp_path, size=(45, 45, 45))
    for i, label in zip(cohort.ids, cohort.labels[:, 0].numpy(), strict=True):
        body = np.array([[4, 8, 1], [35, 31, 14]]).mean(0) * SPACING  # the middle of the body, mm
        liver = (corners[i] + np.array([3, 2, 1])) * SPACING
        found = (np.argwhere(label).mean(0) / 44 - 0.5) * side
        assert found == pytest.approx(liver - body, abs=cohort.spacing)


def test_white_is_twice_the_median_of_the_body_whatever_the_gain() -> None:
    scan = torch.zeros(1, 1, 20, 20, 20)
    scan[..., 4:16, 4:16, 4:16] = 0.3
    scan[..., 5:8, 5:8, 5:8] = 0.45  # a liver
    scan[..., 12:14, 12:14, 12:14] = 0.9  # a bowel
    scan[..., 12:14, 12:14, 8:10] = 0.6
    shown = window(torch.cat([scan, 0.5 * scan]))
    expected = {0.0: 0.0, 0.3: 0.5, 0.45: 0.75, 0.6: 1.0, 0.9: 1.0}
    for before, after in expected.items():
        there = torch.isclose(scan[0], torch.tensor(before))
        assert there.any()
        assert torch.allclose(shown[:, there], torch.tensor(after))


def test_cubes_of_two_sizes_share_their_corners(tmp_path) -> None:
    """So a displacement found on the coarse one means the same on the fine one."""
    write_set(tmp_path, fold_ids("test", 0))
    coarse, fine = (load_cohort("liver_mr", "test", tmp_path, size=(n, n, n)) for n in (17, 33))
    shift = torch.zeros(1, 3, 17, 17, 17)
    shift[:, 0] = 2.0  # 32 mm
    moved = warp(fine.labels[:1].float(), resize_displacement(shift, fine.size))[0, 0] > 0.5
    before, after = (ndimage.center_of_mass(np.asarray(a)) for a in (fine.labels[0, 0], moved))
    assert (np.array(before) - after) * fine.spacing == pytest.approx([32, 0, 0], abs=1)
    assert coarse.spacing == 2 * fine.spacing


def test_grids_that_do_not_share_their_corners_are_refused() -> None:
    """Simulated brains have voxels whose edges, not centres, meet the sides of the box."""
    coarse, fine = (load_cohort("simulated_brains", "test", size=(n, n, n), subjects=2) for n in (16, 32))
    with pytest.raises(InputError, match="do not share their corners"):
        on_finer_grid(torch.zeros(1, 3, 16, 16, 16), coarse, fine)


def test_what_is_not_there_is_said(tmp_path) -> None:
    with pytest.raises(InputError, match="expected the files image_N.nii.gz"):
        load_cohort("liver_mr", "test", tmp_path)
    with pytest.raises(InputError, match="0 to 3, not 4"):
        fold_ids("test", 4)
    with pytest.raises(InputError, match="not 'tests'"):
        fold_ids("tests", 0)
    (tmp_path / "CHAOS_MR_T2SPIR").mkdir()
    with pytest.raises(InputError, match="cubes of 16 voxels a side or more, not 1x1x1"):
        load_cohort("liver_mr", "test", tmp_path, size=(1, 1, 1))
    with pytest.raises(InputError, match="none of the subjects"):
        load_cohort("liver_mr", "test", tmp_path)


def test_a_whole_scan_is_prepared_as_the_scans_of_the_set_were(tmp_path) -> None:
    """What a user's scan looks like to the network is what training images looked like."""
    ids, size = fold_ids("test", 0), (45, 45, 45)
    write_set(tmp_path, ids)
    cohort = load_cohort("liver_mr_body", "test", tmp_path, size=size)
    scan = read_image(tmp_path / "CHAOS_MR_T2SPIR" / f"image_{ids[0]}.nii.gz")
    grid = cube_affine(scan, box_centre(body(scan.array)), size, SIDES["liver_mr_body"])
    seen = to_grid(DATASETS["liver_mr_body"].prepare(scan), grid, size)
    assert np.abs(seen - cohort.images[0, 0].numpy()).mean() < 0.01
    assert np.abs(seen - 2 * cohort.images[0, 0].numpy()).mean() > 0.05  # as it is without the window


@pytest.mark.parametrize("name", ["liver_mr", "liver_mr_body"])
@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("image", 7, "image_{i}.nii.gz: all voxels are 7; expected a scan with contrast."),
        ("label", 0, "label_{i}.nii.gz: all voxels are 0; expected the labels of an organ."),
        ("label", 4, "label_{i}.nii.gz: no voxel holds 1, the label of the liver."),
    ],
)
def test_a_scan_without_anything_or_without_a_liver_is_named(tmp_path, name, kind, value, sentence) -> None:
    ids = fold_ids("test", 0)
    write_set(tmp_path, ids)
    path = tmp_path / "CHAOS_MR_T2SPIR" / f"{kind}_{ids[1]}.nii.gz"
    there = nib.load(path)
    array = np.asarray(there.dataobj)
    array = np.where(array == 1, value, array) if value == 4 else np.full_like(array, value)
    nib.save(nib.Nifti1Image(array, there.affine), path)
    with pytest.raises(InputError, match=re.escape(sentence.format(i=ids[1]))):
        load_cohort(name, "test", tmp_path, size=(17, 17, 17))


def test_a_run_on_one_fold_is_measured_on_the_finer_grid(tmp_path, monkeypatch, capsys) -> None:
    """Through the command line: ordered pairs, the fold's own subjects, figures of the fine grid, fewer to train on."""
    write_set(tmp_path, [i for fold in range(4) for i in fold_ids("test", fold)], grow=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    words = ["dataset=liver_mr", "fold=2", "pairs=all", "size=[17,17,17]", "fine_size=[33,33,33]", "train_subjects=3"]
    assert (
        cli.main(
            ["train", *words, "steps=2", "width=2", "validate_every=2", "record=a_fold2.json", "weights=w.safetensors"]
        )
        == 0
    )
    record = json.loads((tmp_path / "a_fold2.json").read_text())
    words = ["--model", "w.safetensors", "--dataset", "liver_mr", "--fold", "2", "--pairs", "all", "--fine", "33"]
    assert cli.main(["evaluate", *words, "--json", "b.json"]) == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["test"]["dice_mean"] == pytest.approx(record["test"]["dice_mean"], abs=2e-3)
    assert (again["fold"], again["pair_list"], again["measured_on"]) == (2, "all", [33, 33, 33])
    assert cli.main(["evaluate", *words, "--subjects", "2", "--adapt", "3", "--json", "c.json"]) == 0
    adapted = json.loads((tmp_path / "c.json").read_text())
    assert (adapted["method"]["adapted"], again["method"]["adapted"]) == (3, 0)
    pair = [(name, row[name]) for row in (adapted["rows"][0], again["rows"][0]) for name in ("moving", "fixed")]
    assert pair[:2] == pair[2:]
    assert adapted["rows"][0]["jacobian_std"] != again["rows"][0]["jacobian_std"]
    (tmp_path / "c.json").unlink()
    assert cli.main(shlex.split(adapted["command"])[1:]) == 0
    repeated = json.loads((tmp_path / "c.json").read_text())
    for row in (*adapted["rows"], *repeated["rows"]):
        del row["seconds"]
    assert repeated["rows"] == adapted["rows"]
    for weight, name in (("0", "loose"), ("1e6", "stiff")):
        more = ["--subjects", "2", "--adapt", "9", "--smoothness", weight, "--json", f"{name}.json"]
        assert cli.main(["evaluate", *words, *more]) == 0
    loose, stiff = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("loose", "stiff"))
    assert stiff["test"]["jacobian_std"] < 0.5 * loose["test"]["jacobian_std"]
    assert cli.main(["evaluate", *words, "--adapt", "3", "--smoothness", "-1", "--json", "no.json"]) == 2
    assert not (tmp_path / "no.json").exists()
    capsys.readouterr()
    assert cli.main(["evaluate", *words, "--smoothness", "0.5", "--json", "no.json"]) == 2
    assert "--smoothness is the weight of roughness in --adapt" in capsys.readouterr().err
    assert not (tmp_path / "no.json").exists()
    assert record["split"] == {"train": 3, "validation": 2, "test": 4}
    assert len(record["rows"]) == 12
    assert {row["moving"] for row in record["rows"]} == set(fold_ids("test", 2))
    fine = load_cohort("liver_mr", "test", size=(33, 33, 33), fold=2)
    row = record["rows"][0]
    a, b = (fine.labels[fine.ids.index(row[which])].numpy() > 0 for which in ("moving", "fixed"))
    assert row["dice_initial"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-4)


def test_a_model_is_tested_on_subjects_it_has_never_seen(tmp_path, monkeypatch, capsys) -> None:
    """Its weights know their fold: it is the one that is taken, another one is refused, in training too."""
    write_set(tmp_path, [i for fold in range(4) for i in fold_ids("test", fold)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    tiny = ["size=[32,32,32]", "steps=1", "width=2", "affine=none"]
    assert cli.main(["train", "dataset=liver_mr", "fold=2", *tiny, "weights=w.safetensors"]) == 0
    model, config, about = load_model("w.safetensors")
    assert about["fold"] == 2
    words = ["evaluate", "--model", "w.safetensors", "--json", "a.json", "--dataset"]

    def tested() -> set[str]:
        record = json.loads((tmp_path / "a.json").read_text())
        assert {row["moving"] for row in record["rows"]} == set(fold_ids("test", record["fold"]))
        return {row["moving"] for row in record["rows"]}

    assert cli.main([*words, "liver_mr"]) == 0
    assert not tested() & set(fold_ids("train", 2))
    capsys.readouterr()
    for dataset in ("liver_mr", "liver_mr_body"):  # the same subjects
        assert cli.main([*words, dataset, "--fold", "0"]) == 2
        sentence = "w.safetensors: trained for fold 2, this model has seen the test scans of fold 0."
        assert capsys.readouterr().err == f"lddr: {sentence}\n"
        monkeypatch.setattr(runs, "fit", lambda *_, **__: pytest.fail("training began"))
        for more in (["start=w.safetensors"], ["teacher=w.safetensors", "objective=l2"]):
            assert cli.main(["train", f"dataset={dataset}", "fold=0", *tiny, *more]) == 2
            assert capsys.readouterr().err == f"lddr: {sentence}\n"
    for fold in (0, 1):  # older weights know nothing
        save_model("w.safetensors", model, config, {name: about[name] for name in about if name != "fold"})
        assert cli.main([*words, "liver_mr", *(["--fold", "1"] if fold else [])]) == 0
        assert tested() == set(fold_ids("test", fold))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "--model", "w.safetensors", "--dataset", "simulated_brains", "--subjects", "2"]
    assert cli.main([*words, "--json", "b.json"]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["fold"] is None
