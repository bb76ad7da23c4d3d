"""The data sets by name: each one loads or says how to get it, and no other place needs to know what they are."""

import re
from pathlib import Path

import pytest

from lddr.data import published
from lddr.data.hippocampus import split_ids
from lddr.data.liver import fold_ids
from lddr.data.registry import DATASETS, data_set, fold_of, load_cohort, share_subjects
from lddr.errors import InputError
from lddr.train.config import DataConfig

ROOT = Path(__file__).parent.parent
FROM_DISK = [name for name, known in DATASETS.items() if known.folder]


@pytest.mark.parametrize("name", FROM_DISK)
def test_scans_that_are_not_there_come_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("LDDR_DATA", raising=False)
    known = DATASETS[name]
    sentence = f"The scans of {name} are not shipped: get them {known.get}, then set LDDR_DATA to the folder that "
    with pytest.raises(InputError, match=re.escape(sentence)):
        load_cohort(name, "test")
    for script in re.findall(r"python (\S+\.py)", known.get):
        assert (ROOT / script).is_file()
    for root in (tmp_path, tmp_path / "none"):  # the folder is there, but the scans are not
        with pytest.raises(InputError, match=re.escape(f"{root / known.folder}")):
            load_cohort(name, "test", root)


@pytest.mark.parametrize("name", FROM_DISK)
def test_the_folder_may_be_given_or_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LDDR_DATA", str(tmp_path / "mine"))
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "mine"))):
        load_cohort(name, "test")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "given"))):
        load_cohort(name, "test", tmp_path / "given")


def test_what_needs_no_scans_loads_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDDR_DATA", raising=False)
    monkeypatch.setenv("LDDR_CACHE", str(tmp_path))
    assert [name for name, known in DATASETS.items() if known.folder is None] == ["simulated_brains"]
    cohort = load_cohort("simulated_brains", "validation", size=[16, 16, 16], subjects=2, seed=1)
    assert (cohort.name, cohort.split, cohort.size, len(cohort)) == ("simulated_brains", "validation", (16, 16, 16), 2)
    assert cohort.licence == DATASETS["simulated_brains"].licence
    assert (cohort.images != load_cohort("simulated_brains", "validation", None, (16, 16, 16), 2).images).any()


# Subjects of the test split -> of the fold that is 0, or of a set without folds.
TESTED = {"hippocampus": split_ids("test"), "liver_mr": fold_ids("test", 0), "liver_mr_body": fold_ids("test", 0)}


@pytest.mark.parametrize("name", FROM_DISK)
def test_each_set_loads_from_the_folder_it_names(real_data: Path, name: str) -> None:
    known = DATASETS[name]
    if not (real_data / known.folder).is_dir():
        pytest.skip(f"{known.folder} is not in LDDR_DATA")
    cohort = load_cohort(name, "test", real_data, subjects=2)
    assert (cohort.name, cohort.split, len(cohort)) == (name, "test", 2)
    assert cohort.ids == tuple(TESTED[name][:2])
    assert cohort.licence == known.licence
    assert cohort.images.shape == cohort.labels.shape == (2, 1, *cohort.size)
    assert (cohort.images.min(), cohort.images.max()) == (0, 1)
    assert {0, *cohort.label_names} == set(cohort.labels.unique().tolist())


@pytest.mark.parametrize("name", [name for name, known in DATASETS.items() if known.folds])
def test_the_fold_that_is_asked_for_is_loaded(real_data: Path, name: str) -> None:
    known = DATASETS[name]
    if not (real_data / known.folder).is_dir():
        pytest.skip(f"{known.folder} is not in LDDR_DATA")
    for fold in range(known.folds):
        cohort = load_cohort(name, "test", real_data, (16, 16, 16), subjects=1, fold=fold)
        assert cohort.ids == tuple(fold_ids("test", fold)[:1])
    assert load_cohort(name, "test", real_data, (16, 16, 16), subjects=1).ids == tuple(fold_ids("test", 0)[:1])
    with pytest.raises(InputError, match=f"one of 0 to {known.folds - 1}, not {known.folds}"):
        load_cohort(name, "test", real_data, fold=known.folds)


def test_the_settings_allow_every_fold_there_is() -> None:
    most = max(known.folds for known in DATASETS.values()) - 1
    assert DataConfig.check({"fold": most}).fold == most
    with pytest.raises(InputError, match=f"less than or equal to {most}"):
        DataConfig.check({"fold": most + 1})


@pytest.mark.parametrize("name", DATASETS)
def test_every_set_is_taken_by_the_settings_and_described(name: str) -> None:
    known = data_set(name)
    assert DataConfig.check({"dataset": name}).dataset == name
    assert known.title
    assert known.licence
    assert bool(known.folder) == bool(known.get)


def test_every_set_of_the_paper_is_known() -> None:
    assert published.SETS.keys() == {name for name, known in DATASETS.items() if known.folder == published.FOLDER}


def test_another_name_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(InputError) as error:
        load_cohort("hippocampi", "test")
    assert str(error.value) == "There is no data set 'hippocampi': did you mean 'hippocampus'?"
    with pytest.raises(InputError) as error:
        data_set("zzz")
    assert str(error.value) == f"There is no data set 'zzz': the known ones are {', '.join(sorted(DATASETS))}."


def test_a_fold_is_the_one_that_was_asked_for_and_only_of_a_set_tested_in_folds() -> None:
    assert [fold_of("liver_mr", fold) for fold in (None, 0, 3)] == [0, 0, 3]
    assert [fold_of("liver_mr", fold, default=2) for fold in (None, 0)] == [2, 0]
    assert fold_of("hippocampus", None, default=2) is None
    with pytest.raises(InputError, match="The fold is 0, but hippocampus is not tested in folds; leave it out."):
        fold_of("hippocampus", 0)
    with pytest.raises(InputError, match="did you mean 'liver_mr'?"):
        fold_of("liver_mri", None)


def test_two_sets_share_subjects_only_in_one_folder_and_in_folds() -> None:
    sharing = {frozenset(pair) for pair in [("liver_mr", "liver_mr"), ("liver_mr", "liver_mr_body")]}
    sharing |= {frozenset(["liver_mr_body"])}
    for one in DATASETS:
        for other in DATASETS:
            assert share_subjects(one, other) == (frozenset([one, other]) in sharing), (one, other)
    assert not share_subjects(None, "liver_mr")
    assert not share_subjects("liver_mr", "made up")
    assert not share_subjects(None, None)
