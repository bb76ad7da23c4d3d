"""Simulated brains: reproducible, cached, plausible, and with a truth that really is one."""

import pytest
import torch

from lddr.data.simulated import SPLITS, load_simulated_brains, make_subject, template
from lddr.errors import InputError
from lddr.losses import corrcoef
from lddr.metrics import nanmean, overlap, regularity
from lddr.warping import integrate_velocity, warp, warp_labels

SIZE = (32, 32, 32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LDDR_CACHE", str(tmp_path))
    return tmp_path


def test_a_subject_is_decided_by_seed_and_index_alone():
    again, other_index, other_seed = make_subject(3, SIZE), make_subject(4, SIZE), make_subject(3, SIZE, seed=1)
    first = make_subject(3, SIZE)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other_index[0])
    assert not torch.equal(first[0], other_seed[0])


def test_a_subject_is_the_same_on_a_finer_grid():
    coarse, fine = make_subject(3, SIZE)[2], make_subject(3, (48, 48, 48))[2]
    middle, finer = coarse[0, :, 16, 16, 16] / 32, fine[0, :, 24, 24, 24] / 48
    assert torch.allclose(middle, finer, atol=0.01)
    assert middle.norm() > 0.001


def test_splits_share_no_subject(cache):
    ranges = [set(indices) for indices in SPLITS.values()]
    assert sum(map(len, ranges)) == len(set.union(*ranges))
    assert load_simulated_brains("validation", SIZE, 2).ids == ("brain_040", "brain_041")


def test_the_true_displacement_brings_any_subject_onto_any_other(cache):
    cohort = load_simulated_brains("test", (48, 48, 48), 3)
    labels = list(cohort.label_names)
    for moving, fixed in ((0, 1), (1, 2), (2, 0)):
        truth = cohort.true_displacement(moving, fixed)
        before = corrcoef(cohort.images[moving, None], cohort.images[fixed, None])
        after = corrcoef(warp(cohort.images[moving, None], truth), cohort.images[fixed, None])
        assert before < 0.92
        assert after > 0.97
        carried = warp_labels(cohort.labels[moving, None], truth)
        assert nanmean(overlap(cohort.labels[moving], cohort.labels[fixed], labels)[0].values()) < 0.65
        assert nanmean(overlap(carried, cohort.labels[fixed, None], labels)[0].values()) > 0.82
        assert regularity(truth)[0] == 0


def test_the_truth_in_both_directions_cancels(cache):
    cohort = load_simulated_brains("test", (48, 48, 48), 2)
    there, back = cohort.true_displacement(0, 1), cohort.true_displacement(1, 0)
    residual = (there + warp(back, there))[..., 8:-8, 8:-8, 8:-8].norm(dim=1)
    assert there.norm(dim=1).mean() > 1
    assert residual.mean() < 0.1


def test_every_label_is_there_and_every_image_is_in_range(cache):
    cohort = load_simulated_brains("test", SIZE, 4)
    assert cohort.images.min() == 0
    assert cohort.images.max() <= 1
    for labels in cohort.labels:
        assert set(labels.unique().tolist()) == {0, *cohort.label_names}
    assert (cohort.images[cohort.labels == 0] == 0).all()


def test_left_and_right_are_where_they_should_be():
    """Array axis 0 runs from left to right, so a label named "left" has the smaller index."""
    _, labels, names = template(SIZE)
    for axis, (low, high) in enumerate((("left", "right"), ("back", "front"), ("bottom", "top"))):
        for value, name in names.items():
            if low in name.split():
                opposite = next(v for v, n in names.items() if n == name.replace(low, high))
                place = [torch.nonzero(labels[0, 0] == v)[:, axis].float().mean() for v in (value, opposite)]
                assert place[0] < place[1], name


def test_the_second_time_subjects_come_from_the_cache(cache, monkeypatch):
    first = load_simulated_brains("test", SIZE, 2)
    monkeypatch.setattr("lddr.data.simulated.make_subject", lambda *_: pytest.fail("made again"))
    second = load_simulated_brains("test", SIZE, 2)
    assert torch.equal(first.images, second.images)
    assert not list(cache.rglob("*.part"))


def test_velocities_do_not_fold():
    for index in range(4):
        assert regularity(integrate_velocity(make_subject(index, SIZE)[2]))[0] == 0


@pytest.mark.parametrize("size", [(8, 8, 8), (200, 200, 200), (32, 32, 48)])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(InputError, match="cubes of 16 to 160 voxels a side, not"):
        load_simulated_brains("test", size)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="one of train, validation, test, not 'dev'"):
        load_simulated_brains("dev")
