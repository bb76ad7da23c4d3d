"""From file to file: a model whose answer is known moves scans by known millimetres, on every kind of grid."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from scanners import SHIFT, SIZE, SPACING, bent_map, blob, grid, shift_model, write
from scipy import ndimage

from lddr.cli.evaluate import command as recorded_command
from lddr.cli.main import main
from lddr.data.nifti import read_image, read_labels
from lddr.errors import InputError
from lddr.infer.formats import for_itk, for_learn2reg, in_voxels
from lddr.infer.maps import PointMap
from lddr.infer.register import register
from lddr.models import ModelConfig, build_model, load_model, save_model, weights_hash
from lddr.record import Method, read_record

CODES = {"plain": "RAS", "flipped": "LPS", "turned": "SAR"}


@pytest.fixture
def model(tmp_path):
    """Weights of a network that answers SHIFT to any two images."""
    return shift_model(tmp_path / "shift.safetensors")


def command(tmp_path, model, *more, align="centre"):
    """Register two files; a model that answers SHIFT to everything is asked about the middles of the volumes."""
    words = ["--fixed", tmp_path / "fixed.nii.gz", "--moving", tmp_path / "moving.nii.gz", "--model", model]
    words += ["--align", align]
    return main(["register", *map(str, [*words, "--out", tmp_path / "out", *more])])


@pytest.mark.parametrize("angle", [0.0, 0.3], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", CODES.values(), ids=CODES.keys())
def test_a_known_shift_moves_a_scan_by_known_millimetres(tmp_path, model, codes, angle):
    """The map says: look SHIFT further along the scan's axes. So a bump there comes to the middle of the fixed grid."""
    turn = write(tmp_path / "fixed.nii.gz", codes, angle)
    wanted = turn @ (SHIFT * SPACING)
    write(tmp_path / "moving.nii.gz", "RAS", angle, wanted, spacing=(1.0, 1.0, 1.0), shape=(48, 48, 48))
    assert command(tmp_path, model[0]) == 0
    fixed, warped = (nib.load(tmp_path / name) for name in ("fixed.nii.gz", "out/warped.nii.gz"))
    assert warped.shape == fixed.shape
    assert np.allclose(warped.affine, fixed.affine, atol=1e-5)
    assert np.abs(warped.get_fdata() - fixed.get_fdata()).max() < 0.04
    field = nib.load(tmp_path / "out" / "displacement.nii.gz")
    assert field.shape == (*fixed.shape, 3)
    millimetres = field.get_fdata() @ fixed.affine[:3, :3].T
    assert np.allclose(millimetres, wanted, atol=1e-3)


def test_where_the_scanner_put_the_origin_plays_no_part(tmp_path, model):
    write(tmp_path / "fixed.nii.gz")
    shape, affine, _ = grid()
    far = affine.copy()
    far[:3, 3] += [500, -300, 80]
    nib.save(nib.Nifti1Image(blob(shape, affine, SHIFT * SPACING), far), tmp_path / "moving.nii.gz")
    assert command(tmp_path, model[0]) == 0
    fixed, warped = (nib.load(tmp_path / name).get_fdata() for name in ("fixed.nii.gz", "out/warped.nii.gz"))
    assert np.abs(warped - fixed).max() < 0.04


def test_labels_go_along_and_keep_their_values(tmp_path, model):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz", centre=SHIFT * SPACING)
    moving = nib.load(tmp_path / "moving.nii.gz")
    labels = np.where(moving.get_fdata() > 0.5, 7, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, moving.affine), tmp_path / "labels.nii.gz")
    assert command(tmp_path, model[0], "--moving-labels", tmp_path / "labels.nii.gz") == 0
    warped = nib.load(tmp_path / "out" / "warped_labels.nii.gz").get_fdata()
    expected = nib.load(tmp_path / "fixed.nii.gz").get_fdata() > 0.5
    assert set(np.unique(warped)) == {0, 7}
    both = ((warped == 7) & expected).sum()
    assert 2 * both / ((warped == 7).sum() + expected.sum()) > 0.9


@pytest.mark.parametrize(("codes", "angle"), [("RAS", 0.0), ("LPS", 0.3), ("SAR", -0.2)])
def test_itk_applies_the_field_and_finds_the_same_image(tmp_path, codes, angle):
    itk = pytest.importorskip("itk", reason="the extra 'baselines' (itk-elastix) is not installed")
    mapping, fixed, moving = bent_map(tmp_path, codes, angle)
    from lddr.data.nifti import write_nifti

    write_nifti(tmp_path / "field.nii.gz", for_itk(mapping), mapping.affine, "vector")
    image, vectors = itk.Image[itk.F, 3], itk.Image[itk.Vector[itk.F, 3], 3]
    apply = itk.WarpImageFilter[image, image, vectors].New()
    apply.SetInput(itk.imread(str(tmp_path / "moving.nii.gz"), itk.F))
    apply.SetDisplacementField(itk.imread(str(tmp_path / "field.nii.gz"), itk.Vector[itk.F, 3]))
    apply.SetOutputParametersFromImage(itk.imread(str(tmp_path / "fixed.nii.gz"), itk.F))
    apply.Update()
    resampled = apply.GetOutput()
    assert_same_inside(itk.array_from_image(resampled).transpose(), mapping.warp(moving))


@pytest.mark.parametrize(("codes", "angle"), [("RAS", 0.0), ("LPS", 0.3)])
def test_ants_applies_the_field_and_finds_the_same_image(tmp_path, codes, angle):
    ants = pytest.importorskip("ants", reason="the extra 'baselines' (antspyx) is not installed")
    mapping, _, moving = bent_map(tmp_path, codes, angle)
    from lddr.data.nifti import write_nifti

    write_nifti(tmp_path / "field.nii.gz", for_itk(mapping), mapping.affine, "vector")
    fixed = ants.image_read(str(tmp_path / "fixed.nii.gz"))
    warped = ants.apply_transforms(
        fixed, ants.image_read(str(tmp_path / "moving.nii.gz")), [str(tmp_path / "field.nii.gz")], "linear"
    )
    assert_same_inside(warped.numpy(), mapping.warp(moving))


def assert_same_inside(theirs, ours):
    """Libraries differ in what they do half a voxel from the moving image's edge; away from there they must agree."""
    inside = ndimage.binary_erosion((theirs > 0) & (ours > 0), iterations=2)
    assert inside.mean() > 0.3
    assert ours[inside].std() > 0.05
    assert np.abs(theirs - ours)[inside].max() < 1e-3


def test_monai_applies_the_voxel_field_on_one_grid(tmp_path, model):
    from monai.networks.blocks import Warp

    for name in ("fixed", "moving"):
        write(tmp_path / f"{name}.nii.gz", centre=(2, 1, 0))
    fixed, moving = read_image(tmp_path / "fixed.nii.gz"), read_image(tmp_path / "moving.nii.gz")
    mapping = register(fixed, moving, model[1], SIZE, SPACING)
    field = torch.from_numpy(np.moveaxis(in_voxels(mapping), -1, 0).copy())[None]
    theirs = Warp("bilinear", "zeros")(torch.from_numpy(moving.array)[None, None], field)[0, 0].numpy()
    assert_same_inside(theirs, mapping.warp(moving))
    packed = for_learn2reg(mapping)
    assert packed.shape == (3, *fixed.file_shape)
    assert packed.dtype == np.float16
    assert np.allclose(packed, field[0], atol=0.02)


def test_learn2reg_format_is_one_npz(tmp_path, model):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    assert command(tmp_path, model[0], "--format", "learn2reg") == 0
    made = ["displacement.npz", "lddr.json", "quality.png", "warped.nii.gz"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == made
    assert np.load(tmp_path / "out" / "displacement.npz")["arr_0"].shape == (3, 48, 32, 20)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.1])
@pytest.mark.parametrize("codes", CODES.values())
def test_a_map_that_moves_nothing_gives_the_whole_scan_back(tmp_path, codes, angle):
    """Also its outermost planes, which rounding errors of an oblique affine push out by a billionth of a voxel."""
    shape, affine, _ = grid(codes, angle=angle)
    array = np.random.default_rng(0).random(shape, dtype=np.float32) + 1
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    world = PointMap(np.zeros((*shape, 3)), scan.file_affine).world
    assert np.allclose(PointMap(world, scan.file_affine).warp(scan), array, atol=1e-4)


def test_labels_that_fill_their_scan_fill_a_finer_grid_over_the_same_box(tmp_path):
    """The outer half of the outermost voxels belongs to them."""
    shape, affine, _ = grid(angle=0.3)
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), affine), tmp_path / "labels.nii.gz")
    labels, third = read_labels(tmp_path / "labels.nii.gz"), np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    third[:3, 3] = -1 / 3  # three voxels where there was one, the middle one at its centre
    world = PointMap(np.zeros((*(3 * np.array(shape)), 3)), affine @ third).world
    assert (PointMap(world, affine @ third).warp(labels, labels=True) == 1).all()
    beyond = PointMap(world + affine[:3, 0] * shape[0], affine @ third)
    assert not beyond.warp(labels, labels=True).any()


def test_nothing_of_an_earlier_run_stays_and_nothing_of_the_user_goes(tmp_path, model, capsys):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    nifti(ONES.astype(np.uint8))(tmp_path / "labels.nii.gz")
    words = ["--moving-labels", tmp_path / "labels.nii.gz", "--format", "learn2reg", "--no-picture"]
    assert command(tmp_path, model[0], *words) == 0
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["displacement.npz", "lddr.json", "warped.nii.gz", "warped_labels.nii.gz"]
    assert command(tmp_path, model[0], "--no-picture") == 0
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["displacement.nii.gz", "lddr.json", "warped.nii.gz"]
    (tmp_path / "out" / "notes.txt").touch()
    assert command(tmp_path, model[0]) == 2
    assert "holds 'notes.txt', which lddr did not write" in capsys.readouterr().err


def test_a_model_that_learnt_from_cut_scans_comes_with_a_warning(tmp_path, model, capsys):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    assert command(tmp_path, model[0]) == 0
    assert capsys.readouterr().err == ""
    config = ModelConfig(size=SIZE, width=2)
    save_model(model[0], build_model(config, seed=0), config, {"spacing": SPACING, "dataset": "liver_mr"})
    assert command(tmp_path, model[0]) == 0
    error = capsys.readouterr().err
    assert error.startswith("lddr: warning: this model learnt from scans cut around the liver")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["taken", "taken/file.txt/figures.json", "/proc/figures.json"])
def test_figures_that_could_not_be_written_are_not_even_made(tmp_path, monkeypatch, capsys, name):
    if name.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("there is no /proc here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file.txt").touch()
    words = ["evaluate", "--dataset", "simulated_brains", "--model", "no_such_model", "--json", name]
    assert main(words) == 2  # before it looks for the model
    assert f"lddr: {name}: cannot be written, since " in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--subjects", "-45"], "--subjects: found '-45', expected a whole number from 2 up"),
        (["--subjects", "0"], "--subjects: found '0', expected a whole number from 2 up"),
        (["--fine", "0"], "--fine: found '0', expected a whole number from 16 up"),
        (["--fold", "9"], "--fold: found '9', expected a whole number from 0 to 3"),
        (["--adapt", "0"], "--adapt: found '0', expected a whole number from 1 up"),
        (["--repeats", "0"], "--repeats: found '0', expected a whole number from 1 up"),
        (["--repeats", "two"], "--repeats: found 'two', expected a whole number from 1 up"),
        (["--fold", "2"], "The fold is 2, but hippocampus is not tested in folds; leave it out."),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tmp_path, capsys, words, sentence):
    words = [*words, "--json", str(tmp_path / "figures.json")]
    try:
        code = main(["evaluate", "--dataset", "hippocampus", "--model", "hippocampus", *words])
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert sentence in capsys.readouterr().err


# What was added to a bare registration.


def test_the_alignment_is_printed_and_a_poor_one_is_warned_of(tmp_path, model, capsys):
    shape, affine, _ = grid()
    for name, corner in (("fixed", 0), ("moving", 40)):
        start = affine.copy()
        start[0, 3] += corner
        nib.save(nib.Nifti1Image(blob(shape, affine, (4, -3, 2)), start), tmp_path / f"{name}.nii.gz")
    assert command(tmp_path, model[0], align="foreground") == 0
    said = capsys.readouterr()
    assert "what is brighter than the background, by its centre of mass" in said.out
    assert "(+40.0 mm right, +0.0 front, +0.0 up in scanner coordinates)" in said.out
    assert said.err == ""
    assert command(tmp_path, model[0], align="header") == 0  # 40 mm apart, on a grid of 48
    assert "lddr: warning: the two scans hardly overlap" in capsys.readouterr().err


def test_adaptation_is_reported_and_changes_the_answer(tmp_path, model, capsys):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz", centre=(3, 0, 0))
    assert command(tmp_path, model[0]) == 0
    as_it_is = nib.load(tmp_path / "out" / "displacement.nii.gz").get_fdata()
    assert command(tmp_path, model[0], "--adapt", "3") == 0
    said = re.search(
        r"Adapted to this pair in 3 of 3 steps: the loss went from (\S+) to (\S+)\.", capsys.readouterr().out
    )
    assert float(said[2]) < float(said[1])
    adapted = nib.load(tmp_path / "out" / "displacement.nii.gz").get_fdata()
    assert 0.001 < np.abs(adapted - as_it_is).max() < 3


def test_labels_of_both_scans_are_compared(tmp_path, model, capsys):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz", centre=SHIFT * SPACING)
    for name in ("fixed", "moving"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        labels = np.where(image.get_fdata() > 0.5, 7, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / f"{name}_labels.nii.gz")
    words = ["--moving-labels", tmp_path / "moving_labels.nii.gz", "--fixed-labels", tmp_path / "fixed_labels.nii.gz"]
    assert command(tmp_path, model[0], *words) == 0
    said = re.search(r"Dice of 1 labels \(nearest\): (\S+) before, (\S+) after\.", capsys.readouterr().out)
    inputs = [nib.load(tmp_path / f"{name}_labels.nii.gz").get_fdata() for name in ("fixed", "moving")]
    warped = nib.load(tmp_path / "out" / "warped_labels.nii.gz").get_fdata()
    for found, (a, b) in zip(said.groups(), (inputs, (inputs[0], warped)), strict=True):
        assert float(found) == pytest.approx(
            2 * ((a == 7) & (b == 7)).sum() / ((a == 7).sum() + (b == 7).sum()), abs=1e-3
        )


@pytest.mark.parametrize("more", [[], ["--fill", "5"]])
def test_air_of_a_ct_is_not_filled_with_water(tmp_path, model, more):
    shape, affine, _ = grid()
    write(tmp_path / "fixed.nii.gz", shape=(60, 44, 30))
    array = (900 * blob(shape, affine, (0, 0, 0)) - 1024).astype(np.int16)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "moving.nii.gz")
    assert command(tmp_path, model[0], *more) == 0
    warped = nib.load(tmp_path / "out" / "warped.nii.gz").get_fdata()
    assert (warped[-2:] == (5 if more else -1024)).all()
    assert warped.max() > -200


def test_a_field_for_itk_is_refused_where_itk_would_read_the_scan_otherwise(tmp_path, model, capsys):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    moving = nib.load(tmp_path / "moving.nii.gz")
    moving.set_sform(None, code=0)
    moving.set_qform(None, code=0)
    nib.save(moving, tmp_path / "moving.nii.gz")
    for words in (["--format", "itk"], ["--field", "grid"]):
        assert command(tmp_path, model[0], *words) == 2
        assert "moving.nii.gz: ITK and ANTs would put this scan elsewhere" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert command(tmp_path, model[0]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--field", "grid", "--format", "nifti"], "--field grid is in ITK's format; leave out --format nifti"),
        (["--fixed-labels", "x.nii.gz"], "--fixed-labels are compared with --moving-labels: give both, or neither."),
        (["--fill", "inf"], "--fill: found 'inf', expected a finite number"),
        (["--align", "middle"], "argument --align: invalid choice: 'middle'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, model, capsys, words, sentence):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    try:
        code = command(tmp_path, model[0], *words)
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert sentence in capsys.readouterr().err


def test_an_answer_that_is_not_finite_is_not_written(tmp_path, model):
    write(tmp_path / "fixed.nii.gz")
    scan = read_image(tmp_path / "fixed.nii.gz")
    with torch.no_grad():
        model[1].affine.head.bias[9] = torch.nan
    with pytest.raises(InputError, match="The model's displacement is not finite"):
        register(scan, scan, model[1], SIZE, SPACING)


def test_the_one_pass_is_the_chain(tmp_path):
    """What is computed in float32, voxel by voxel, is what the definition says, link by link."""
    mapping, _, moving = bent_map(tmp_path, "SAR", 0.3)
    written = PointMap(mapping.points, mapping.affine)
    assert np.allclose(mapping.world, written.world)
    assert np.abs(mapping.vectors() - written.vectors()).max() < 1e-3
    turn = np.linalg.inv(mapping.affine[:3, :3])
    assert np.abs(mapping.vectors(turn) - written.vectors(turn)).max() < 1e-3
    assert np.abs(mapping.warp(moving, fill=-1) - written.warp(moving, fill=-1)).max() < 1e-3
    labels = replace(moving, array=(9 * (moving.array > 0.2)).astype(np.int16))
    assert (mapping.warp(labels, True) != written.warp(labels, True)).mean() < 1e-3


def case(name, change, sentence):
    return pytest.param(change, sentence, id=name)


def nifti(array):
    return lambda path: nib.save(nib.Nifti1Image(array, grid()[1]), path)


ONES = np.ones((48, 32, 20), np.float32)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        case(
            "truncated",
            lambda t: (t / "moving.nii.gz").write_bytes((t / "moving.nii.gz").read_bytes()[:-2000]),
            "{t}/moving.nii.gz: the file is damaged or cut short; copy or download it again.",
        ),
        case(
            "4-D",
            lambda t: nifti(np.stack([ONES, ONES], -1))(t / "moving.nii.gz"),
            "{t}/moving.nii.gz: expected a 3-D volume, found 4-D with shape (48, 32, 20, 2).",
        ),
        case(
            "NaN",
            lambda t: nifti(ONES * np.nan)(t / "fixed.nii.gz"),
            "{t}/fixed.nii.gz: 30720 of 30720 voxels are NaN or infinite; expected finite intensities.",
        ),
        case(
            "text",
            lambda t: (t / "fixed.nii.gz").write_text("hello"),
            "{t}/fixed.nii.gz: this is not a NIfTI file (expected .nii or .nii.gz).",
        ),
        case("absent", lambda t: (t / "fixed.nii.gz").unlink(), "{t}/fixed.nii.gz: there is no such file."),
        case(
            "labels of another shape",
            lambda t: nifti(ONES[:-1].astype(np.uint8))(t / "labels.nii.gz"),
            "{t}/labels.nii.gz: the labels have shape (47, 32, 20), their image {t}/moving.nii.gz has (48, 32, 20).",
        ),
        case(
            "labels of another place",
            lambda t: nib.save(nib.Nifti1Image(ONES.astype(np.uint8), np.eye(4)), t / "labels.nii.gz"),
            "{t}/labels.nii.gz: the labels have shape (48, 32, 20), their image {t}/moving.nii.gz has (48, 32, 20), "
            "and their affines differ.",
        ),
        case(
            "output is a file",
            lambda t: (t / "out").write_text("in the way"),
            "{t}/out: this is a file; choose a new folder for the results.",
        ),
        case(
            "far too large",
            lambda t: write(t / "fixed.nii.gz", spacing=(9.0, 9.0, 9.0)),
            "{t}/fixed.nii.gz: the scan covers 432 x 288 x 180 mm, the model works on 48 x 48 x 48 mm; "
            "crop the scan around the organ the model knows.",
        ),
    ],
)
def test_bad_input_is_one_sentence_exit_code_2_and_nothing_written(tmp_path, model, capsys, change, sentence):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    nifti(ONES.astype(np.uint8))(tmp_path / "labels.nii.gz")
    change(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert command(tmp_path, model[0], "--moving-labels", tmp_path / "labels.nii.gz") == 2
    output = capsys.readouterr()
    assert output.err == f"lddr: {sentence.format(t=tmp_path)}\n"
    assert output.out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_an_unknown_model_is_a_sentence(tmp_path, capsys):
    write(tmp_path / "fixed.nii.gz")
    write(tmp_path / "moving.nii.gz")
    assert command(tmp_path, "no_such_model") == 2
    assert "no_such_model: neither a file nor a shipped model" in capsys.readouterr().err


def test_evaluate_writes_figures_with_their_provenance(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LDDR_CACHE", str(tmp_path / "cache"))
    config = ModelConfig(size=[32, 32, 32], width=2)
    about = {"spacing": 6.0, "objective": "l2", "recipe": "brief", "seed": 4}
    save_model(tmp_path / "m.safetensors", build_model(config, seed=0), config, about)
    words = ["evaluate", "--dataset", "simulated_brains", "--subjects", "3", "--model", str(tmp_path / "m.safetensors")]
    words += ["--repeats", "2", "--labels", "nearest", "--json", str(tmp_path / "figures.json")]
    assert main([*words, "--root", "/some/where/private"]) == 0
    record = read_record(tmp_path / "figures.json")
    assert shlex.split(record.command) == ["lddr", *words], "the folder of the scans is each reader's own"
    assert record.method == Method.of_network(config, objective="l2", recipe="brief", seed=4, repeats=2)
    assert (record.dataset, record.split) == ("simulated_brains", {"test": 3})
    assert (record.fold, record.pair_list) == (None, "ring")
    assert (record.labels, record.measured_on, record.parameters) == ("nearest", None, None)
    assert record.weights_sha256 == weights_hash(load_model(tmp_path / "m.safetensors")[0])
    assert record.licence.startswith("made from the ICBM 2009a")
    assert record.test.pairs == len(record.rows) == 3
    assert record.test.dice_mean == pytest.approx(record.test.dice_initial, abs=0.01)  # untrained: leaves things alone
    assert record.test.dice_mean == pytest.approx(np.mean([row["dice"] for row in record.rows]), abs=1e-5)
    assert "3 pairs: Dice" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--root", "/data/mine"], ["--root=/data/mine"]])
def test_the_folder_of_the_scans_stays_out_of_the_recorded_command(words):
    options = SimpleNamespace(words=["lddr", "evaluate", *words, "--json", "--root.json"])
    assert recorded_command(options) == ["lddr", "evaluate", "--json", "--root.json"]


def test_an_option_cannot_be_shortened(capsys):
    """`--roo FOLDER` would pass for --root, and the folder would stay in the recorded command."""
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "--dataset", "hippocampus", "--model", "hippocampus", "--json", "a", "--roo", "/data/mine"])
    assert left.value.code == 2
    assert "unrecognized arguments: --roo /data/mine" in capsys.readouterr().err


def test_models_lists_what_is_shipped(capsys):
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    for name, about in models.items():
        assert name in table
        assert {"file", "dataset", "cascades", "objective", "bytes", "dice_mean", "licence"} <= set(about)
