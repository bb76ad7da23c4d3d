"""Stored displacements are the teacher's own, survive interruption, and are refused where they do not belong."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.files import locked
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


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


DIES = """
import os, signal, sys
import h5py
from pathlib import Path
from lddr.train import teacher
from test_teacher import PAIRS, cohort, make_teacher

moment, path = sys.argv[1:]
if moment == "while the store is made":
    create = h5py.Group.create_dataset
    def die(*words, **more):
        create(*words, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    h5py.Group.create_dataset = die
elif moment == "while displacements are written":
    flush, calls = h5py.File.flush, []
    def die(store):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(store)
    h5py.File.flush = die
else:
    teacher.flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
teacher.extract(make_teacher(), cohort(), PAIRS, path, batch=1, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["while the store is made", "while displacements are written", "before it takes its name"]
)
def test_a_killed_extraction_goes_on_to_the_same_store(tmp_path, moment):
    path = tmp_path / "killed" / "store.h5"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    child = subprocess.run([sys.executable, "-c", DIES, moment, str(path)], env=environment, timeout=300, check=False)
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    for store in (path, tmp_path / "store.h5"):
        extract(make_teacher(), cohort(), PAIRS, store, batch=1, progress=False)
    assert contents(path.parent) == ["store.h5"]
    with h5py.File(path) as killed, h5py.File(tmp_path / "store.h5") as whole:
        assert sorted(killed) == sorted(whole)
        for name in whole:
            assert (killed[name][:] == whole[name][:]).all(), name


def test_a_disk_without_room_for_the_store_is_one_sentence_at_the_start(tmp_path, small_disk, capfd):
    """HDF5 itself would write on, say so a hundred times at the end, and crash."""
    path = tmp_path / "store.h5"
    with small_disk(100_000), pytest.raises(InputError, match=r"store\.h5.*: cannot be written \(File too large\)"):
        extract(make_teacher(), cohort(), PAIRS, path, progress=False)
    assert contents(tmp_path) == []
    extract(make_teacher(), cohort(), PAIRS, path, progress=False)
    assert contents(tmp_path) == ["store.h5"]
    with h5py.File(path) as store:  # all room was taken at the start, in one piece
        assert store["displacement"].id.get_offset() + store["displacement"].nbytes <= path.stat().st_size
    assert "file write failed" not in capfd.readouterr().err


def test_two_extractions_into_one_store_are_not_mixed_and_a_finished_one_is_only_read(tmp_path):
    path = tmp_path / "store.h5"
    with locked(tmp_path / ".store.h5.lddr.lock", "extracting store.h5"):
        with pytest.raises(InputError, match=r"process \d+ on .* is extracting store\.h5 here; wait for it"):
            extract(make_teacher(), cohort(), PAIRS, path, progress=False)
    extract(make_teacher(), cohort(), PAIRS, path, progress=False)
    with locked(tmp_path / ".store.h5.lddr.lock", "extracting store.h5"):  # as where nobody may write
        extract(make_teacher(), cohort(), PAIRS, path, progress=False)


def test_a_store_where_nothing_can_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        extract(make_teacher(), cohort(), PAIRS, tmp_path / "file" / "store.h5", progress=False)


def test_a_store_without_its_arrays_or_with_some_of_other_shapes_is_no_store(tmp_path):
    data, model, path = cohort(), make_teacher(), tmp_path / "store.h5"
    sentence = f"{re.escape(str(path))}: not a store of displacements, or a damaged one; delete it, extract again"
    extract(model, data, PAIRS, path, progress=False)
    whole = path.read_bytes()
    for name in ("pairs", "done", "checksum", "displacement"):
        for put in (lambda _: None, lambda values: values[:-1], lambda values: values[0]):
            path.write_bytes(whole)
            with h5py.File(path, "r+") as store:
                values = put(store[name][()])
                del store[name]
                if values is not None:
                    store[name] = values
            for use in (lambda: StoredTeacher(path, model, data), lambda: extract(model, data, PAIRS, path)):
                with pytest.raises(InputError, match=sentence):
                    use()
    path.write_bytes(whole)
    with h5py.File(path, "r+") as store:
        store["done"][1] = 0
    with pytest.raises(InputError, match=sentence):
        StoredTeacher(path, model, data)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as store:
        store.attrs["teacher"] = np.arange(3)
    with pytest.raises(InputError, match="were made with another teacher"):
        StoredTeacher(path, model, data)


def test_what_was_damaged_in_an_unfinished_store_is_computed_again(tmp_path, monkeypatch):
    data, model, path, part = cohort(), make_teacher(), tmp_path / "store.h5", tmp_path / "store.h5.part"
    extract(model, data, PAIRS, path, progress=False)
    wanted = StoredTeacher(path, model, data)(ask(data, PAIRS))
    path.rename(part)
    with h5py.File(part, "r+") as store:
        store["done"][4] = 0
        store["displacement"][1, 2, 3, 3, 3] += 1
    asked, teach = [], on_the_fly(model)

    def counting(batch):
        asked.extend(batch.moving_ids.tolist())
        return teach(batch)

    monkeypatch.setattr(teacher_module, "on_the_fly", lambda _: counting)
    extract(model, data, PAIRS, path, progress=False)
    assert asked == [PAIRS[1][0], PAIRS[4][0]]
    assert torch.allclose(StoredTeacher(path, model, data)(ask(data, PAIRS)), wanted, atol=1e-3)  # in other batches
