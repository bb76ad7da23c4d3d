"""Stored displacements are the teacher's own, survive interruption, and are refused where they do not belong."""

import re

import h5py
import pytest
import torch

from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.models import ModelConfig, build_model
from lddr.train import teacher as teacher_module
from lddr.train.config import DistillConfig, TrainConfig
from lddr.train.distill import Distillation
from lddr.train.loop import fit
from lddr.train.sampling import Batch
from lddr.train.teacher import StoredTeacher, extract, on_the_fly

SIZE = (16, 18, 20)
PAIRS = [(0, 1), (2, 0), (3, 1), (1, 2), (0, 3)]


def cohort(size=SIZE, names="abcd", seed=0):
    images = torch.rand(4, 1, *size, generator=torch.Generator().manual_seed(seed))
    labels = torch.zeros(4, 1, *size, dtype=torch.uint8)
    return Cohort("made up", "train", tuple(names), images, labels, {1: "one"}, 1.0, "none")


def make_teacher(seed=0):
    model = build_model(ModelConfig(width=2, cascades=2, size=list(SIZE)), seed=seed)
    for stem in model.dense:  # away from the identity
        torch.nn.init.normal_(stem.head.weight, std=0.3)
    return model.eval()


def ask(data, pairs):
    ids = torch.tensor(pairs).T
    return Batch(data.images[ids[0]], data.images[ids[1]], *ids)


def test_stored_displacements_are_the_teachers_own_to_half_precision(tmp_path):
    data, model = cohort(), make_teacher()
    extract(model, data, PAIRS, tmp_path / "store.h5", batch=2, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["store.h5"]
    stored = StoredTeacher(tmp_path / "store.h5", model, data)
    assert stored.pairs == PAIRS
    batch = ask(data, [PAIRS[3], PAIRS[0]])
    live = on_the_fly(model)(batch)
    assert live.abs().max() > 0.1
    assert torch.allclose(stored(batch), live, rtol=1e-3, atol=1e-3)


def test_interrupted_extraction_goes_on_and_computes_nothing_twice(tmp_path, monkeypatch):
    data, model, path = cohort(), make_teacher(), tmp_path / "store.h5"
    asked = []

    def counting(model, stop_after):
        teach = on_the_fly(model)

        def wrapped(batch):
            if len(asked) >= stop_after:
                raise KeyboardInterrupt
            asked.append(batch.moving_ids.tolist())
            return teach(batch)

        return wrapped

    monkeypatch.setattr(teacher_module, "on_the_fly", lambda m: counting(m, 2))
    with pytest.raises(KeyboardInterrupt):
        extract(model, data, PAIRS, path, batch=1, progress=False)
    assert not path.exists()
    with pytest.raises(InputError, match="not finished; run the extraction"):
        StoredTeacher(path, model, data)
    monkeypatch.setattr(teacher_module, "on_the_fly", lambda m: counting(m, 99))
    extract(model, data, PAIRS, path, batch=1, progress=False)
    assert asked == [[m] for m, _ in PAIRS]
    extract(model, data, PAIRS, path, batch=1, progress=False)  # all there: nothing to do
    assert len(asked) == len(PAIRS)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda: (make_teacher(1), cohort()), "teacher"),
        (lambda: (make_teacher(), cohort(size=(16, 16, 16))), "grid"),
        (lambda: (make_teacher(), cohort(names="abce")), "subjects"),
        (lambda: (make_teacher(), cohort(seed=1)), "subjects"),  # other images under the same names
    ],
)
def test_a_store_of_another_teacher_grid_or_cohort_is_refused_by_name(tmp_path, change, name):
    path = tmp_path / "store.h5"
    extract(make_teacher(), cohort(), PAIRS, path, progress=False)
    model, data = change()
    with pytest.raises(InputError, match=f"{re.escape(str(path))}: the displacements .* with another {name}"):
        StoredTeacher(path, model, data)
    with pytest.raises(InputError, match=f"another {name}"):
        extract(model, data, PAIRS, path, progress=False)


def test_another_list_of_pairs_is_refused(tmp_path):
    extract(make_teacher(), cohort(), PAIRS, tmp_path / "store.h5", progress=False)
    with pytest.raises(InputError, match="another list of pairs"):
        extract(make_teacher(), cohort(), PAIRS[:3], tmp_path / "store.h5", progress=False)


def test_changed_values_unknown_pairs_and_foreign_files_are_refused(tmp_path):
    data, model, path = cohort(), make_teacher(), tmp_path / "store.h5"
    extract(model, data, PAIRS, path, progress=False)
    with h5py.File(path, "r+") as store:
        store["displacement"][1, 0, 3, 3, 3] += 1
    stored = StoredTeacher(path, model, data)
    stored(ask(data, [PAIRS[0]]))
    with pytest.raises(InputError, match=r"pair \(2, 0\) is damaged"):
        stored(ask(data, [PAIRS[1]]))
    with pytest.raises(InputError, match=r"no displacement for the pair \(3, 2\)"):
        stored(ask(data, [(3, 2)]))
    (tmp_path / "text.h5").write_text("not a store")
    with pytest.raises(InputError, match="not a store of displacements"):
        StoredTeacher(tmp_path / "text.h5", model, data)
    with pytest.raises(InputError, match="there is no such file"):
        StoredTeacher(tmp_path / "none.h5", model, data)


def test_a_student_learns_from_the_file_what_it_would_learn_from_the_teacher(tmp_path):
    """The same pairs, the same weights but for the file's half precision; and augmentation is refused."""
    data, model, path = cohort(), make_teacher(), tmp_path / "store.h5"
    extract(model, data, PAIRS, path, progress=False)
    stored, students = StoredTeacher(path, model, data), []
    for source in (stored, on_the_fly(model)):
        student = build_model(ModelConfig(width=2, size=list(SIZE)), seed=3)
        distil = Distillation(DistillConfig(objective="l2", every=1), source, SIZE)
        fit(student, data.images, TrainConfig(steps=5), distillation=distil, pairs=PAIRS, progress=False)
        students.append(torch.cat([w.flatten() for w in student.state_dict().values()]))
    alone = build_model(ModelConfig(width=2, size=list(SIZE)), seed=3)
    fit(alone, data.images, TrainConfig(steps=5), pairs=PAIRS, progress=False)
    without = torch.cat([w.flatten() for w in alone.state_dict().values()])
    assert (students[0] - students[1]).abs().mean() < 0.05 * (without - students[1]).abs().mean()
    with pytest.raises(InputError, match="set augmentation to 0"):
        fit(alone, data.images, TrainConfig(steps=1, augmentation=0.2), pairs=PAIRS, progress=False)


def test_the_networks_of_a_distillation_follow_the_images_to_their_device():
    """PyTorch's "meta" device holds shapes and no values; it stands in for a GPU on machines that have none."""
    model = build_model(ModelConfig(network="ldr", affine="light", cascades=1, width=2, size=[16, 16, 16]), seed=0)
    images, ids = torch.zeros(2, 1, 16, 16, 16, device="meta"), torch.tensor([0, 1])
    assert on_the_fly(model)(Batch(images, images, ids, ids)).device.type == "meta"
