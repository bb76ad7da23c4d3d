"""A displacement after the registration: the same map in every form, for images, points, and the way back."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scanners import SHIFT, SPACING, bent_map, blob, grid, shift_model, write
from scipy import ndimage

from lddr.cli.main import main
from lddr.data.nifti import read_image, read_labels, write_nifti
from lddr.infer.apply import closest_rigid, determinant, inverse, map_points
from lddr.infer.formats import read_displacement, save_displacement
from lddr.infer.maps import GridMap, apply_affine, indices
from lddr.warping import jacobian_determinant

FORMS = ["nifti", "itk", "grid"]


def apply(tmp_path, *more, displacement="field.nii.gz", out="new.nii.gz"):
    words = ["apply", "--displacement", tmp_path / displacement, "--out", tmp_path / out, *more]
    return main([str(word) for word in words])


def inside(volume, theirs, depth=2):
    """Away from the border, at which libraries differ by half a voxel."""
    both = ndimage.binary_erosion((theirs > 0) & (volume > 0), iterations=depth)
    assert both.mean() > 0.2
    return both


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("codes", "angle"), [("RAS", 0.0), ("LPS", 0.3), ("SAR", -0.2)])
def test_every_form_brings_the_same_map_back(tmp_path, form, codes, angle):
    mapping, fixed, moving = bent_map(tmp_path, codes, angle)
    save_displacement(tmp_path / "field.nii.gz", mapping, form)
    found, said = read_displacement(tmp_path / "field.nii.gz")
    assert said == form
    again = replace(found, affine=mapping.affine, shape=mapping.shape)
    assert np.abs(again.points - mapping.points).max() < 2e-3
    assert np.abs(again.warp(moving) - mapping.warp(moving)).max() < 1e-3
    outermost = apply_affine(mapping.affine, np.array([[0, 0, 0], np.array(mapping.shape) - 1]))
    assert np.abs(map_points(found, outermost) - mapping.points[[0, -1], [0, -1], [0, -1]]).max() < 2e-3


def test_the_small_field_has_the_model_s_voxels_and_covers_the_fixed_scan(tmp_path):
    """The fixed scan reaches far beyond the model's grid; ITK takes the displacement outside a field as zero."""
    mapping, fixed, _ = bent_map(tmp_path, "LPS", 0.3)
    wide = replace(mapping, shape=tuple(3 * n for n in mapping.shape))
    save_displacement(tmp_path / "field.nii.gz", wide, "grid")
    field = nib.load(tmp_path / "field.nii.gz")
    assert nib.affines.voxel_sizes(field.affine) == pytest.approx([SPACING] * 3)
    voxels = apply_affine(np.linalg.inv(field.affine) @ wide.affine, indices(wide.shape))
    assert (voxels >= -1e-4).all()
    assert (voxels <= np.array(field.shape[:3]) - 1 + 1e-4).all()


@pytest.mark.parametrize("form", ["itk", "grid"])
@pytest.mark.parametrize(("codes", "angle"), [("RAS", 0.0), ("LPS", 0.3)])
def test_itk_takes_points_and_images_along_the_same_map(tmp_path, form, codes, angle):
    itk = pytest.importorskip("itk", reason="the extra 'baselines' (itk-elastix) is not installed")
    mapping, fixed, moving = bent_map(tmp_path, codes, angle)
    save_displacement(tmp_path / "field.nii.gz", mapping, form)
    field = itk.imread(str(tmp_path / "field.nii.gz"), itk.Vector[itk.F, 3])
    transform = itk.DisplacementFieldTransform[itk.F, 3].New()
    transform.SetDisplacementField(field)
    for voxel in np.random.default_rng(0).integers(0, mapping.shape, (50, 3)):
        right, front, up = apply_affine(mapping.affine, voxel)
        left, back, top = transform.TransformPoint([-right, -front, up])
        assert [-left, -back, top] == pytest.approx(mapping.points[tuple(voxel)], abs=2e-3)
    image = itk.Image[itk.F, 3]
    resample = itk.WarpImageFilter[image, image, type(field)].New()
    resample.SetInput(itk.imread(str(tmp_path / "moving.nii.gz"), itk.F))
    resample.SetDisplacementField(field)
    resample.SetOutputParametersFromImage(itk.imread(str(tmp_path / "fixed.nii.gz"), itk.F))
    resample.Update()
    theirs, ours = itk.array_from_image(resample.GetOutput()).transpose(), mapping.warp(moving)
    assert np.abs(theirs - ours)[inside(ours, theirs)].max() < 1e-3


def test_ants_reads_the_small_field_to_the_same_map(tmp_path):
    ants = pytest.importorskip("ants", reason="the extra 'baselines' (antspyx) is not installed")
    mapping, _, moving = bent_map(tmp_path, "LPS", 0.3)
    save_displacement(tmp_path / "field.nii.gz", mapping, "grid")
    fixed, source = (ants.image_read(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    theirs = ants.apply_transforms(fixed, source, [str(tmp_path / "field.nii.gz")], "linear").numpy()
    ours = mapping.warp(moving)
    assert np.abs(theirs - ours)[inside(ours, theirs)].max() < 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_the_command_warps_like_the_registration_did(tmp_path, form):
    mapping, fixed, moving = bent_map(tmp_path, "LPS", 0.3)
    save_displacement(tmp_path / "field.nii.gz", mapping, form)
    like = ["--like", tmp_path / "fixed.nii.gz"] if form == "grid" else []
    assert apply(tmp_path, "--moving", tmp_path / "moving.nii.gz", *like) == 0
    warped = nib.load(tmp_path / "new.nii.gz")
    assert np.allclose(warped.affine, mapping.affine, atol=1e-4)
    assert np.abs(warped.get_fdata() - mapping.warp(moving)).max() < 1e-3
    labels = (moving.array > 0.3).astype(np.uint8) * 9
    write_nifti(tmp_path / "labels.nii.gz", labels, moving.affine)
    assert apply(tmp_path, "--moving", tmp_path / "labels.nii.gz", "--labels", *like, out="l.nii.gz") == 0
    theirs = nib.load(tmp_path / "l.nii.gz").get_fdata()
    ours = mapping.warp(read_labels(tmp_path / "labels.nii.gz"), labels=True)
    assert set(np.unique(theirs)) == {0, 9}
    assert (theirs != ours).mean() < 1e-3


def test_a_field_of_another_program_is_read_as_itk_does(tmp_path):
    """4 mm to the Left, 1 to the Posterior, 2 up: written without a word of ours."""
    shape, affine, _ = grid("LPS", angle=0.2)
    field = nib.Nifti1Image(np.broadcast_to(np.float32([4, 1, 2]), (*shape, 1, 3)).copy(), affine)
    field.header.set_intent("vector")
    nib.save(field, tmp_path / "field.nii.gz")
    (tmp_path / "points.csv").write_text("1,2,3\n")
    assert apply(tmp_path, "--points", tmp_path / "points.csv", out="new.csv") == 0
    assert np.loadtxt(tmp_path / "new.csv", delimiter=",") == pytest.approx([1 - 4, 2 - 1, 3 + 2], abs=1e-3)


def unnamed(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.float32), np.eye(4)), tmp_path / "field.nii.gz")


def broken(tmp_path):
    write_nifti(tmp_path / "field.nii.gz", np.full((8, 8, 8, 1, 3), np.nan, np.float32), np.eye(4), "vector")


def no_vectors(tmp_path):
    write_nifti(tmp_path / "field.nii.gz", np.zeros((8, 8, 8), np.float32), np.eye(4))


def of_the_challenge(tmp_path):
    np.savez(tmp_path / "field.npz", np.zeros((3, 8, 8, 8)))


def two_places(tmp_path):
    field = nib.Nifti1Image(np.zeros((8, 8, 8, 1, 3), np.float32), np.eye(4))
    field.header.set_intent("vector")
    field.set_qform(np.diag([1, 1, 1, 1.0]) + np.eye(4, k=3) * 9, code=1)
    nib.save(field, tmp_path / "field.nii.gz")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (unnamed, "the header does not say what the numbers are (shape (8, 8, 8, 3), intent '')"),
        (broken, "some vectors are NaN or infinite"),
        (no_vectors, "expected a vector at every voxel, found the shape (8, 8, 8)"),
        (of_the_challenge, "the challenge's form says nothing of millimetres"),
        (two_places, "the header says in two ways where the vectors lie"),
    ],
)
def test_a_field_that_does_not_say_what_it_means_is_refused(tmp_path, capsys, make, sentence):
    make(tmp_path)
    (tmp_path / "points.csv").write_text("1,2,3\n")
    (name,) = (p.name for p in tmp_path.iterdir() if p.name.startswith("field"))
    assert apply(tmp_path, "--points", tmp_path / "points.csv", displacement=name, out="new.csv") == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new.csv").exists()


# Points.


@pytest.fixture
def shifted(tmp_path):
    """Two scans, and the displacement between them: SHIFT along the axes of the moving scan, which is turned."""
    write(tmp_path / "fixed.nii.gz", "LPS")
    turn = write(tmp_path / "moving.nii.gz", "RAS", 0.3, spacing=(1.2, 1.0, 1.4), shape=(44, 48, 40))
    path, _ = shift_model(tmp_path / "shift.safetensors")
    words = ["register", "--fixed", tmp_path / "fixed.nii.gz", "--moving", tmp_path / "moving.nii.gz", "--model", path]
    assert main([str(w) for w in [*words, "--align", "centre", "--out", tmp_path / "out", "--no-picture"]]) == 0
    return turn


def test_points_go_from_the_fixed_scan_to_the_moving_one_and_back(tmp_path, shifted, capsys):
    (tmp_path / "points.csv").write_text("x,y,z,name\n0,0,0,nose\n-5,4.5,3,ear\n")
    field = "out/displacement.nii.gz"
    capsys.readouterr()
    assert apply(tmp_path, "--points", tmp_path / "points.csv", displacement=field, out="there.csv") == 0
    said = capsys.readouterr().out
    assert said.endswith("2 points of the fixed scan, as they lie in the moving one, in mm (RAS).\n")
    lines = (tmp_path / "there.csv").read_text().splitlines()
    assert lines[0] == "x,y,z,name"
    assert [line.split(",")[3] for line in lines[1:]] == ["nose", "ear"]
    found = np.array([[float(x) for x in line.split(",")[:3]] for line in lines[1:]])
    fixed_middle = np.array([0, 0, 0])
    wanted = [shifted @ (np.array(p) - fixed_middle + SHIFT * SPACING) for p in ((0, 0, 0), (-5, 4.5, 3))]
    assert found == pytest.approx(np.array(wanted), abs=1e-3)
    assert apply(tmp_path, "--points", tmp_path / "there.csv", "--inverse", displacement=field, out="back.csv") == 0
    assert "2 points of the moving scan, as they lie in the fixed one" in capsys.readouterr().out
    back = np.loadtxt(tmp_path / "back.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
    assert back == pytest.approx(np.array([[0, 0, 0], [-5, 4.5, 3]]), abs=2e-3)


def test_points_may_be_voxels_of_the_files(tmp_path, shifted):
    fixed, moving = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("fixed", "moving"))
    (tmp_path / "points.csv").write_text("20,11,9\n")
    words = ["--points", tmp_path / "points.csv", "--units", "voxels", "--moving", tmp_path / "moving.nii.gz"]
    assert apply(tmp_path, *words, displacement="out/displacement.nii.gz", out="there.csv") == 0
    millimetres = shifted @ (apply_affine(fixed.affine, np.array([20, 11, 9])) + SHIFT * SPACING)
    wanted = apply_affine(np.linalg.inv(moving.affine), millimetres)
    assert np.loadtxt(tmp_path / "there.csv", delimiter=",") == pytest.approx(wanted, abs=1e-3)
    words = ["--points", tmp_path / "there.csv", "--units", "voxels", "--moving", tmp_path / "fixed.nii.gz"]
    words += ["--inverse", "--like", tmp_path / "moving.nii.gz"]
    assert apply(tmp_path, *words, displacement="out/displacement.nii.gz", out="back.csv") == 0
    assert np.loadtxt(tmp_path / "back.csv", delimiter=",") == pytest.approx([20, 11, 9], abs=2e-3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2,3\n1,2\n", "line 2 is '1,2'; expected three finite numbers, x,y,z."),
        ("1;2;3\n4;5;6\n", "line 2 is '4;5;6'"),
        ("1,2,3\n1,nan,2\n", "line 2 is '1,nan,2'"),
        ("x,y,z\n", "no point was found"),
        ("", "no point was found"),
    ],
)
def test_a_table_that_is_none_is_refused_by_its_line(tmp_path, shifted, capsys, text, sentence):
    (tmp_path / "points.csv").write_text(text)
    words = ["--points", tmp_path / "points.csv"]
    assert apply(tmp_path, *words, displacement="out/displacement.nii.gz", out="new.csv") == 2
    assert sentence in capsys.readouterr().err


def test_points_outside_the_field_are_announced(tmp_path, shifted, capsys):
    (tmp_path / "points.csv").write_text("0,0,0\n900,0,0\n")
    words = ["--points", tmp_path / "points.csv"]
    assert apply(tmp_path, *words, displacement="out/displacement.nii.gz", out="new.csv") == 0
    assert "lddr: warning: 1 of 2 points lie outside the displacement" in capsys.readouterr().err


# The inverse, the change of volume.


@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0])
def test_there_and_back_again(angle):
    """Also where the scanners are turned far against each other, where no fixed-point iteration would converge."""
    rng = np.random.default_rng(0)
    bends = np.stack([ndimage.gaussian_filter(rng.normal(size=(24, 26, 22)), 4) for _ in range(3)])
    bends *= 3 / np.abs(bends).max()
    fixed_grid, moving_grid = grid("RAS", (2.0, 2, 2), 0.1)[1], grid("RAS", (2.0, 2, 2), angle)[1]
    moving_grid[:3, 3] += 300, -40, 7
    shape, affine, _ = grid("LPS", angle=0.4)
    mapping = GridMap(bends.astype(np.float32), fixed_grid, moving_grid, affine, shape)
    assert determinant(mapping).min() > 0
    back, residual = inverse(mapping)
    assert np.median(residual) < 1e-4
    start = apply_affine(fixed_grid, rng.uniform(5, 16, (200, 3)))
    there = map_points(mapping, start)
    assert np.linalg.norm(there - start, axis=1).min() > 100
    assert np.abs(map_points(back, there) - start).max() < 0.1  # both are linear between voxels of 2 mm


def test_the_rigid_part_is_found_exactly():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = turn, (50, -80, 300)
    laid = np.diag([2.0, 2, 3, 1])
    mapping = GridMap(np.zeros((3, 9, 8, 7), np.float32), laid, rigid @ laid, laid, (9, 8, 7))
    assert np.allclose(closest_rigid(mapping), rigid, atol=1e-6)


def test_the_inverse_is_written_with_its_residual_and_undoes_a_warp(tmp_path, shifted, capsys):
    field = "out/displacement.nii.gz"
    assert apply(tmp_path, "--inverse", displacement=field, out="back.nii.gz") == 0
    assert "above half a voxel in 0.00 %" in capsys.readouterr().out
    residual = nib.load(tmp_path / "back_residual.nii.gz")
    assert np.abs(residual.get_fdata()).max() < 1e-3
    words = ["--moving", tmp_path / "out" / "warped.nii.gz", "--like", tmp_path / "moving.nii.gz"]
    assert apply(tmp_path, *words, displacement="back.nii.gz", out="home.nii.gz") == 0
    home, moving = (nib.load(tmp_path / name).get_fdata() for name in ("home.nii.gz", "moving.nii.gz"))
    assert np.abs(home - moving)[home > 0.1].max() < 0.05
    assert apply(tmp_path, *words, "--inverse", displacement=field, out="home2.nii.gz") == 0
    assert np.abs(nib.load(tmp_path / "home2.nii.gz").get_fdata() - home).max() < 1e-3


def test_the_determinant_of_a_known_stretch(tmp_path):
    """x goes to 1.2 x, y to 0.9 y: 1.08 of the volume, whatever the voxels, the turn and the slab."""
    shape, affine, _ = grid("LPS", (1.0, 1.5, 2.0), 0.3, (40, 20, 18))
    stretch = np.diag([1.2, 0.9, 1.0, 1.0])
    laid = np.eye(4)
    mapping = GridMap(np.zeros((3, 4, 4, 4), np.float32), laid, stretch @ laid, affine, shape)
    save_displacement(tmp_path / "field.nii.gz", mapping, "itk")
    assert apply(tmp_path, "--jacobian") == 0
    volume = nib.load(tmp_path / "new.nii.gz")
    assert np.allclose(volume.affine, affine, atol=1e-4)
    assert np.allclose(volume.get_fdata(), 1.2 * 0.9, atol=1e-3)


@pytest.mark.parametrize("long", [3, 16, 17, 18, 19, 31, 33, 50])
def test_determinants_slab_by_slab_are_those_of_the_whole(long):
    torch.manual_seed(0)
    displacement = torch.randn(1, 3, long, 5, 6)
    mapping = GridMap(displacement[0].numpy(), np.eye(4), np.eye(4), np.eye(4), (long, 5, 6))
    assert np.allclose(determinant(mapping), jacobian_determinant(displacement)[0], atol=1e-4)


# What is refused.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Nothing is asked of the displacement; expected one of --moving, --points, --jacobian and --inverse."),
        (["--jacobian", "--points", "p.csv"], "Too much is asked of the displacement"),
        (["--jacobian", "--labels"], "--labels and --fill say how a scan is warped"),
        (["--points", "p.csv", "--units", "voxels"], "--units voxels needs --moving as well"),
        (["--inverse", "--like", "fixed.nii.gz"], "--like is for what is warped or mapped"),
        (["--points", "p.csv"], "expected a name that ends in .csv."),
        (["--moving", "moving.nii.gz", "--fill", "nan"], "--fill: found 'nan', expected a finite number"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(tmp_path, capsys, words, sentence):
    try:
        code = apply(tmp_path, *words)
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert sentence in capsys.readouterr().err


def test_a_small_field_needs_a_scan_to_lay_the_result_on(tmp_path, capsys):
    mapping, _, _ = bent_map(tmp_path, "RAS", 0.0)
    save_displacement(tmp_path / "field.nii.gz", mapping, "grid")
    assert apply(tmp_path, "--moving", tmp_path / "moving.nii.gz") == 2
    assert "lies on the model's grid, which is no scan's; name the scan whose grid is meant" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path, shifted, capsys):
    words = ["--moving", tmp_path / "moving.nii.gz"]
    before = (tmp_path / "moving.nii.gz").read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "moving.nii.gz")
    for name in ("moving.nii.gz", "link.nii.gz", "out/displacement.nii.gz"):
        assert apply(tmp_path, *words, displacement="out/displacement.nii.gz", out=name) == 2
        assert "would be written over" in capsys.readouterr().err
    (tmp_path / "mine.nii.gz").touch()
    assert apply(tmp_path, *words, displacement="out/displacement.nii.gz", out="mine.nii.gz") == 2
    assert "this file is there already" in capsys.readouterr().err
    assert (tmp_path / "moving.nii.gz").read_bytes() == before


@pytest.mark.parametrize(("more", "outside"), [([], -1024), (["--fill", "-7"], -7), (["--labels"], 0)])
def test_outside_the_moving_scan_stands_its_background(tmp_path, more, outside):
    """Air of a CT is -1024; 0 would be water."""
    _, affine, _ = grid()
    array = np.round(500 * blob((48, 32, 20), affine, (0, 0, 0))) - 1024
    write_nifti(tmp_path / "moving.nii.gz", (array + 1024 if more == ["--labels"] else array).astype(np.int16), affine)
    laid = affine.copy()
    laid[:3, 3] -= [60, 0, 0]
    still = GridMap(np.zeros((3, 4, 4, 4), np.float32), np.eye(4), np.eye(4), laid, (100, 32, 20))
    save_displacement(tmp_path / "field.nii.gz", still, "nifti")
    assert apply(tmp_path, "--moving", tmp_path / "moving.nii.gz", *more) == 0
    warped = nib.load(tmp_path / "new.nii.gz").get_fdata()
    assert (warped[:10] == outside).all()
    assert np.abs(warped[60:] - read_image(tmp_path / "moving.nii.gz").array[:40]).max() < 0.1
