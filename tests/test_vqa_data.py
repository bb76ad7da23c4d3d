"""VQA-RAD's files, checked; the two splits; what simulated questions promise; the true counts on the real data."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from vqa_samples import ask as question
from vqa_samples import small_vqa, write_vqa_rad

from companions.vqa import run
from companions.vqa.questions import STORED, plain, resized
from companions.vqa.radiology import load_vqa_rad, read_picture
from companions.vqa.simulated import Facts, ask, load_simulated_vqa, zoomed
from companions.vqa.splits import measure_leakage, split_by_image
from lddr.errors import InputError


def test_a_data_set_in_vqa_rads_form_is_read(tmp_path):
    place = write_vqa_rad(tmp_path, [{"answer_type": "CLOSED "}, {"qid": 2, "answer": 4, "question_type": "PRSE, POS"}])
    data = load_vqa_rad(place=place)
    assert data.names == ("synpic1.jpg",)
    assert data.images.shape == (1, 1, STORED, STORED)
    by_answer = {q.answer: q for q in data.train}
    assert by_answer["yes"].closed
    assert by_answer["4"].types == ("PRES", "POS")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer_type": "MAYBE"}, "trainset.json, entry 1: the answer type is 'MAYBE'; expected CLOSED or OPEN."),
        ({"question": ""}, "trainset.json, entry 1: expected words under 'question', found ''."),
        ({"image_organ": 3}, "trainset.json, entry 1: expected words under 'image_organ', found 3."),
        ({"answer": None}, "trainset.json, entry 1: expected a number under 'qid' and an answer under 'answer'."),
        ({"image_name": "synpic9.jpg"}, "synpic9.jpg: there is no such image, and question 1 is about it."),
    ],
)
def test_a_bad_row_is_one_sentence(tmp_path, row, says):
    place = write_vqa_rad(tmp_path, [{}, row])
    with pytest.raises(InputError, match=re.escape(says)):
        load_vqa_rad(place=place)


def test_a_truncated_image_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys):
    place = write_vqa_rad(tmp_path, [{}])
    file = place / "images" / "synpic1.jpg"
    file.write_bytes(file.read_bytes()[:900])
    monkeypatch.setenv("LDDR_DATA", str(tmp_path.parent))
    monkeypatch.setattr("companions.vqa.radiology.FOLDER", tmp_path.name)
    words = ["questions", "data=vqa_rad", f"record={tmp_path / 'record.json'}"]
    assert run.main(words) == 2
    said = capsys.readouterr().err.strip()
    assert "synpic1.jpg: this image is damaged or cut short" in said
    assert "\n" not in said
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("content", [b"[{", b"{}", b"[]"])
def test_a_file_that_is_no_list_of_rows_is_refused(tmp_path, content):
    place = write_vqa_rad(tmp_path, [{}])
    (place / "testset.json").write_bytes(content)
    with pytest.raises(InputError, match="testset.json: "):
        load_vqa_rad(place=place)


def test_without_data_the_way_to_them_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("LDDR_DATA", raising=False)
    with pytest.raises(InputError, match="LDDR_DATA is not set"):
        load_vqa_rad()
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    with pytest.raises(InputError, match="run data_scripts/fetch_vqa_rad.py"):
        load_vqa_rad()


def test_a_picture_is_squeezed_to_a_square_of_its_grey_values(tmp_path):
    file = tmp_path / "half.png"
    Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 50, 0).repeat(30, 1)).save(file)
    grey = read_picture(file)
    assert grey.shape == (STORED, STORED)
    assert grey[:, :100].max() == 0
    assert grey[:, 124:].min() == 255
    small = resized(torch.from_numpy(grey.copy())[None, None], 84)
    assert small.shape == (1, 1, 84, 84)
    assert small.mean().item() == pytest.approx(grey.mean() / 255, abs=1e-3)


def test_plain_answers():
    assert [plain(x) for x in ("Yes ", "Right  Lung", 4)] == ["yes", "right lung", "4"]


def test_leakage_is_counted():
    train = [
        question("Is it big?", "yes", image="a"),
        question("Where is it?", "left", closed=False, image="b"),
        question("Is/Are it big?", "no", image="c", phrase="frame", types=("SIZE",)),
    ]
    test = [
        question("is it  BIG?", "yes", image="a"),  # the same pair
        question("Where is the mass?", "left", closed=False, image="b"),  # another question, the same fact
        question("Is it large?", "no", image="c", types=("SIZE",)),  # its pattern stands in training
        question("Which side?", "right", closed=False, image="d"),  # an answer never seen
    ]
    found = measure_leakage(train, test)
    assert (found.images, found.images_in_training) == (4, 3)
    assert (found.pairs, found.patterns, found.same_open_answer) == (1, 1, 1)
    assert (found.unseen, found.unseen_open) == (1, 1)
    assert found.ceiling == 0.75
    assert found.open_ceiling == 0.5


def test_the_split_by_image_shares_no_image_and_leaves_patterns_out_of_the_test():
    everything = [
        *small_vqa().train,
        *small_vqa().test,
        question("Is/Are it?", "yes", image=small_vqa().names[0], phrase="frame"),
    ]
    train, test = split_by_image(everything, share=0.25)
    assert not {q.image for q in train} & {q.image for q in test}
    assert {q.organ for q in test} == {q.organ for q in small_vqa().train}
    assert all(q.phrase != "frame" for q in test)
    assert split_by_image(everything, share=0.25) == (train, test)


def test_simulated_questions_say_what_is_true():
    facts = Facts("axial", True, "left", "fluid", large=True, enlarged=False)
    answers = {text: answer for text, answer, _, _ in ask(facts)}
    assert answers["On which side is the lesion?"] == "left"
    assert answers["Is the lesion on the left?"] == "yes"
    assert answers["Is the size of the brain normal?"] == "yes"
    assert answers["Is this a sagittal image?"] == "no"
    for q in small_vqa().train:
        if q.text == "Which plane is this?":
            assert q.answer in q.image


def test_a_lesion_is_bright_and_lies_on_the_side_that_is_said():
    sides = {q.image: q.answer for q in (*small_vqa().train, *small_vqa().test) if "side is the lesion" in q.text}
    assert len(sides) > 3
    for name, side in sides.items():
        picture = small_vqa().images[small_vqa().names.index(name), 0].numpy()
        column = np.argwhere(picture > 250)[:, 1].mean()
        assert (column < STORED / 2) == (side == "left"), name


def test_an_enlarged_picture_is_larger_about_its_middle():
    picture = np.zeros((64, 64), np.float32)
    picture[22:42, 22:42] = 1
    assert zoomed(picture, 1.2).sum() == pytest.approx(picture.sum() * 1.44, rel=0.02)


def test_simulated_data_are_the_same_every_time_and_refuse_another_split():
    again = load_simulated_vqa(subjects=4)
    assert again.train == small_vqa().train
    assert torch.equal(again.images, small_vqa().images)
    with pytest.raises(InputError, match="There is no split 'random'"):
        load_simulated_vqa("random")


@pytest.mark.slow
def test_the_real_data_have_the_traps_that_the_chapter_names(real_data: Path):
    """Counted before, by hand and by others."""
    place = real_data / "VQA_RAD"
    if not place.is_dir():
        pytest.skip("LDDR_DATA has no VQA_RAD")
    data = load_vqa_rad(place=place)
    assert (len(data.train), len(data.test)) == (3064, 451)
    assert Counter(q.closed for q in data.test) == {True: 272, False: 179}
    found = measure_leakage(data.train, data.test)
    assert (found.images, found.images_in_training) == (203, 203)
    assert (found.pairs, found.unseen, found.unseen_open) == (14, 47, 41)
    assert round(100 * found.ceiling, 1) == 89.6
    assert round(100 * found.open_ceiling, 1) == 77.1
    assert found.patterns == 295
    free = [q for q in data.test if q.phrase == "freeform"]
    assert (len(free), sum(not q.closed for q in free)) == (308, 123)
    apart = load_vqa_rad("by_image", place)
    assert measure_leakage(apart.train, apart.test).images_in_training == 0
