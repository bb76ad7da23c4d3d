"""The rules for the nine classes, on rows written by hand."""

import pytest
from vqa_samples import ask, small_vqa

from companions.vqa.labels import agreement, image_kind, nine_classes, vote


@pytest.mark.parametrize(
    ("text", "answer", "closed", "kind"),
    [
        ("Is there a pneumothorax?", "yes", True, "present"),
        ("Is there a pneumothorax?", "no", True, "normal"),
        ("Is there free air under the diaphragm?", "yes", True, "present"),
        ("Is the heart enlarged?", "yes", True, "organ"),
        ("Is the heart enlarged?", "no", True, "normal"),
        ("Is the trachea midline?", "yes", True, "normal"),
        ("Is the trachea midline?", "no", True, "organ"),
        ("Is this image normal?", "no", True, "present"),
        ("Is the heart size normal?", "no", True, "organ"),
        ("Is the image abnormal?", "yes", True, "present"),
        ("Where is the lesion located?", "right lobe of the liver", False, "present"),
        ("What is abnormal about the heart?", "cardiomegaly", False, "organ"),
        ("What is abnormal in this image?", "none", False, "normal"),
        ("What plane is this?", "axial", False, None),
        ("Is this an MRI?", "yes", True, None),
        ("Is the mass on the left or right?", "left", True, "present"),
        ("What do you see?", "normal", False, "normal"),
        ("What is it?", "nodules", False, "present"),  # begins like "no", and is none
    ],
)
def test_what_a_pair_says(text, answer, closed, kind):
    assert vote(ask(text, answer, closed)) == kind


def test_an_image_gets_the_kind_with_more_votes_and_organ_on_a_tie():
    assert image_kind(["present", "present", "organ", "normal"]) == "present"
    assert image_kind(["present", "organ"]) == "organ"
    assert image_kind(["normal", None]) == "normal"
    assert image_kind([None]) is None
    assert agreement(["present", "normal", None, "present"]) == pytest.approx(2 / 3)
    assert agreement([None]) == 0


def test_classes_are_named_by_organ_and_images_without_a_word_have_none():
    questions = [
        ask("Is there a mass?", "yes", image="b", organ="CHEST"),
        ask("Is this an MRI?", "yes", image="a"),
        ask("Is the liver enlarged?", "yes", image="c", organ="ABD"),
    ]
    assert nine_classes(questions) == {"a": None, "b": "chest present", "c": "abd organ"}


def test_the_rules_find_what_was_drawn_into_simulated_slices():
    everything = [*small_vqa().train, *small_vqa().test]
    lesion = {q.image for q in everything if q.text == "Is there a lesion?" and q.answer == "yes"}
    large = {q.image for q in everything if q.text == "Is the brain enlarged?" and q.answer == "yes"}
    for image, label in nine_classes(everything).items():
        assert label is not None
        if image not in lesion | large:
            assert label.endswith("normal")
        elif image in lesion - large:
            assert label.endswith("present")
        elif image in large - lesion:
            assert label.endswith("organ")
