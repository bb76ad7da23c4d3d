"""The paper's own sets: files as the authors of RCN lay them out are written here, in miniature, and read."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from lddr.cli.main import main
from lddr.config import read_parameters
from lddr.data.cohort import evaluation_pairs
from lddr.data.published import HELD_OUT
from lddr.data.registry import load_cohort
from lddr.errors import InputError
from lddr.models import ModelConfig, build_model, save_model
from lddr.record import Method, Record, read_record
from lddr.train.config import FIELDS, RunConfig
from study import grid
from study.methods import METHODS, title
from study.records import PROJECT

SIZE = (16, 16, 16)


def write(root: Path, file: str, names: list[str], values: tuple[int, ...] = (255,), labelled: bool = True) -> None:
    """Blocks of other grey in every scan, shifted from scan to scan; labels are the blocks."""
    (root / "RCN").mkdir(exist_ok=True)
    with h5py.File(root / "RCN" / file, "w") as store:
        for i, name in enumerate(names):
            volume, segmentation = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
            for k, value in enumerate(values):
                place = (slice(2 + i % 4, 9 + i % 4), slice(3, 12), slice(2 + 5 * k, 6 + 5 * k))
                volume[place], segmentation[place] = 51 * (k + 1), value
            group = store.create_group(name)
            group["volume"] = volume
            if labelled:
                group["segmentation"] = segmentation


def test_volumes_and_masks_arrive_as_networks_want_them(tmp_path: Path) -> None:
    write(tmp_path, "sliver_val.h5", ["10", "9"])
    cohort = load_cohort("sliver", "test", tmp_path, size=SIZE)
    assert cohort.ids == ("10", "9")
    assert cohort.size == SIZE
    assert cohort.spacing == 1
    assert cohort.images.max() == pytest.approx(0.2)  # 51 of 255
    assert cohort.labels.sum(dim=(1, 2, 3, 4)).tolist() == [7 * 9 * 4] * 2
    assert cohort.labels.unique().tolist() == [0, 1]
    assert cohort.labels[0, 0, 2, 3, 2] == 1
    assert cohort.labels[1, 0, 2, 3, 2] == 0


def test_brains_keep_every_structure(tmp_path: Path) -> None:
    write(tmp_path, "lpba_val.h5", ["S02", "S01"], values=(21, 182))
    cohort = load_cohort("lpba", "test", tmp_path, size=SIZE)
    assert cohort.ids == ("S01", "S02")
    assert cohort.label_names == {21: "structure 21", 182: "structure 182"}


def test_training_and_validation_never_share_a_scan_and_come_from_other_files(tmp_path: Path) -> None:
    write(tmp_path, "msd_dataset.h5", [f"pancreas/{i}" for i in range(HELD_OUT)] + ["hepaticvessel/1"], labelled=False)
    write(tmp_path, "youyi_liver.h5", ["a_225"])
    train, validation = (load_cohort("lits", split, tmp_path, size=SIZE) for split in ("train", "validation"))
    assert len(validation) == HELD_OUT
    assert len(train) == 2
    assert not set(train.ids) & set(validation.ids)
    assert train.ids[-1] == "a_225"
    assert not validation.labels.any()
    assert train.labels[-1].any()


def test_pigs_are_paired_with_themselves(tmp_path: Path) -> None:
    write(tmp_path, "lspig_val.h5", ["2018_01_pregas", "2017_02_aftergas", "2018_01_aftergas", "2017_02_pregas"])
    ids = load_cohort("lspig", "test", tmp_path, size=SIZE).ids
    pairs = evaluation_pairs(4, "couples")
    assert sorted(pairs) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert all(ids[i][:7] == ids[j][:7] and ids[i] != ids[j] for i, j in pairs)
    with pytest.raises(InputError, match="'couples' of 3"):
        evaluation_pairs(3, "couples")


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sliver_val\.h5: expected a file of the preprocessed sets"):
        load_cohort("sliver", "test", tmp_path)
    write(tmp_path, "sliver_val.h5", ["1", "2"])
    with pytest.raises(InputError, match="1 has 16x16x16 voxels, expected 128x128x128"):
        load_cohort("sliver", "test", tmp_path)
    with pytest.raises(InputError, match="train, validation, test, not 'holdout'"):
        load_cohort("sliver", "holdout", tmp_path)
    (tmp_path / "RCN" / "lits_val.h5").write_bytes(b"PK\x03\x04 an unpacked archive")
    with pytest.raises(InputError, match=r"lits_val\.h5: not an HDF5 file"):
        load_cohort("lits", "test", tmp_path, size=SIZE)
    with h5py.File(tmp_path / "RCN" / "lspig_val.h5", "w") as store:
        store["volume"] = np.zeros(SIZE)
    with pytest.raises(InputError, match=r"lspig_val\.h5: no group with a 'volume'"):
        load_cohort("lspig", "test", tmp_path, size=SIZE)


def test_without_a_folder_the_way_to_the_scans_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDDR_DATA", raising=False)
    with pytest.raises(InputError, match="the page Datasets"):
        load_cohort("lpba", "test")


def test_a_model_is_measured_on_them_by_one_command(tmp_path: Path) -> None:
    write(tmp_path, "lspig_val.h5", ["p1_after", "p1_pre", "p2_after", "p2_pre"])
    config = ModelConfig.check({"size": list(SIZE)})
    save_model(tmp_path / "w.safetensors", build_model(config, 0), config, {"dataset": "sliver", "spacing": 1.0})
    words = (
        f"--dataset lspig --root {tmp_path} --pairs couples --model {tmp_path}/w.safetensors --json {tmp_path}/r.json"
    )
    assert main(["evaluate", *words.split()]) == 0
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["test"]["pairs"] == 4
    assert [(r["moving"], r["fixed"]) for r in record["rows"]] == [
        ("p1_after", "p1_pre"),
        ("p1_pre", "p1_after"),
        ("p2_after", "p2_pre"),
        ("p2_pre", "p2_after"),
    ]


def test_a_training_run_on_scans_without_labels_leaves_a_record_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation scans of the livers have none, so their Dice does not exist: null in the log, and no best weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    write(tmp_path, "sliver_val.h5", ["1", "2"])
    write(tmp_path, "msd_dataset.h5", [f"pancreas/{i:02}" for i in range(HELD_OUT + 2)], labelled=False)
    write(tmp_path, "youyi_liver.h5", ["a_225"])
    words = ["dataset=sliver", f"size={list(SIZE)}", "steps=2", "width=2", "validate_every=1", "record=a.json"]
    assert main(["train", *words, "folder=run"]) == 0
    record = read_record("a.json")
    assert isinstance(record, Record)
    assert [row["validation_dice"] for row in record.log if "validation_dice" in row] == [None, None]
    assert record.test.dice_mean > 0
    assert record.split == {"train": 3, "validation": HELD_OUT, "test": 2}


def test_commands_for_the_tables_appear_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    assert not grid.paper_runs()
    for file in ("sliver_val.h5", "lspig_val.h5"):
        write(tmp_path, file, ["1", "2"])
    runs = grid.paper_runs()
    assert {name.split("/")[0] for name in runs} == {"sliver", "lspig"}
    titles = set()
    for name, run in runs.items():
        if run.words[:2] == ["lddr", "train"]:
            file, *words = run.words[2:]
            config = RunConfig.check(read_parameters([str(PROJECT / file), *words], FIELDS))
            assert config.model.size == [128, 128, 128]
            assert config.output.record == f"book/records/{name}.json"
            objective, recipe = config.distill.objective, config.output.recipe
            titles.add(title(Method.of_network(config.model, objective=objective, recipe=recipe)))
    rows = [(kind, n) for kind in ("RCN, VTN", "LDR", "LDR + ALDK") for n in (1, 2, 3)]
    assert titles == {f"{kind}, {n} cascade{'s' * (n > 1)}" for kind, n in rows}, "rows of Table 1"
    assert titles <= set(METHODS)
    student = runs["sliver/student_2cas_paper_seed0"]
    assert "teacher=runs/sliver/teacher_3cas/weights.safetensors" in student.words
    assert student.reads == ("runs/sliver/teacher_3cas/weights.safetensors",)
    assert "couples" in runs["lspig/student_2cas_paper_seed0"].words


def change(root: Path, file: str, scan: str, **arrays: np.ndarray | None) -> Path:
    path = root / "RCN" / file
    with h5py.File(path, "r+") as store:
        for name, array in arrays.items():
            del store[scan][name]
            if array is not None:
                store[scan][name] = array
    return path


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.float32, bool])
def test_a_mask_of_zero_and_one_is_a_mask_too(tmp_path: Path, stored: type) -> None:
    write(tmp_path, "sliver_val.h5", ["1", "2"])
    wanted = load_cohort("sliver", "test", tmp_path, size=SIZE).labels
    for i, scan in enumerate(("1", "2")):
        array = wanted[i, 0].numpy().astype(np.uint8 if stored is bool else stored)
        change(tmp_path, "sliver_val.h5", scan, segmentation=array)
    assert load_cohort("sliver", "test", tmp_path, size=SIZE).labels.equal(wanted)
    assert wanted.any()


FILLED = np.full(SIZE, 7, np.int16)
ODD = np.where(np.indices(SIZE)[0] % 2, 300, 0).astype(np.int16)


@pytest.mark.parametrize(
    ("name", "what", "array", "sentence"),
    [
        (
            "sliver",
            "segmentation",
            FILLED,
            "the segmentation of 1 holds 7 to 7; expected the mask of a liver, 0 and 255",
        ),
        (
            "sliver",
            "segmentation",
            ODD,
            "the segmentation of 1 holds 0 to 300; expected the mask of a liver, 0 and 255",
        ),
        ("sliver", "segmentation", 0 * ODD, "1 has no segmentation, so nothing can be measured on it; leave it out."),
        ("sliver", "segmentation", None, "1 has no segmentation, so nothing can be measured on it; leave it out."),
        ("lpba", "segmentation", ODD, "the segmentation of 1 holds 0 to 300; expected whole numbers from 0 to 255"),
        ("lpba", "segmentation", -ODD, "the segmentation of 1 holds -300 to 0; expected whole numbers from 0 to 255"),
        (
            "lpba",
            "segmentation",
            ODD / 600,
            "the segmentation of 1 holds 0 to 0.5; expected whole numbers from 0 to 255",
        ),
        ("sliver", "segmentation", np.full(SIZE, "x", "S1"), "the segmentation of 1 is not made of numbers."),
        ("sliver", "volume", ODD, "1 has intensities from 0 to 300; expected 0 to 255, as these sets have."),
        ("sliver", "volume", ODD / 300, "1 has intensities from 0 to 1; expected 0 to 255, as these sets have."),
        ("sliver", "volume", 0 * ODD, "1 has intensities from 0 to 0; expected 0 to 255, as these sets have."),
        ("sliver", "volume", np.full(SIZE, np.inf), "the volume of 1 holds NaN or infinite numbers."),
        ("sliver", "segmentation", FILLED[:4], "1 has 4x16x16 voxels, expected 16x16x16."),
    ],
)
def test_values_that_would_be_changed_in_silence_are_refused(
    tmp_path: Path, name: str, what: str, array: np.ndarray | None, sentence: str
) -> None:
    write(tmp_path, f"{name}_val.h5", ["1", "2"], values=(21,) if name == "lpba" else (255,))
    path = change(tmp_path, f"{name}_val.h5", "1", **{what: array})
    with pytest.raises(InputError) as problem:
        load_cohort(name, "test", tmp_path, size=SIZE)
    assert str(problem.value).startswith(f"{path}: {sentence}")


def test_a_damaged_chunk_is_noticed_if_the_file_has_checksums(tmp_path: Path) -> None:
    write(tmp_path, "sliver_val.h5", ["1", "2"])
    path = tmp_path / "RCN" / "sliver_val.h5"
    with h5py.File(path, "r+") as store:
        values = store["1"]["volume"][()]
        del store["1"]["volume"]
        store["1"].create_dataset("volume", data=values, fletcher32=True, chunks=SIZE)
    data = bytearray(path.read_bytes())
    data[data.rfind(values.tobytes()) + 500] ^= 1  # the first is what was deleted
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"sliver_val\.h5: not an HDF5 file, or a damaged one; get it again"):
        load_cohort("sliver", "test", tmp_path, size=SIZE)


def test_a_tilde_in_the_folder_of_the_scans_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "sliver_val.h5", ["1", "2"])
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert load_cohort("sliver", "test", f"~/{tmp_path.name}", size=SIZE).ids == ("1", "2")
    monkeypatch.setenv("LDDR_DATA", f"~/{tmp_path.name}")
    assert load_cohort("sliver", "test", size=SIZE).ids == ("1", "2")
    assert grid.paper_runs()


def test_a_split_without_labels_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path, "msd_dataset.h5", [f"pancreas/{i:02}" for i in range(HELD_OUT + 2)], labelled=False)
    write(tmp_path, "youyi_liver.h5", ["a_225"])
    config = ModelConfig.check({"size": list(SIZE)})
    save_model(tmp_path / "w.safetensors", build_model(config, 0), config, {"dataset": "sliver", "spacing": 1.0})
    words = f"--dataset sliver --split validation --root {tmp_path} --model {tmp_path}/w.safetensors"
    assert main(["evaluate", *words.split(), "--json", str(tmp_path / "r.json")]) == 2
    said = "lddr: sliver: pancreas/00 has no labels to measure with; choose another split.\n"
    assert capsys.readouterr().err.endswith(said)
    assert not (tmp_path / "r.json").exists()
