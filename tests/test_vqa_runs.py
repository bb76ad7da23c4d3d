"""The list of recorded runs, one small run of each kind, the records they leave, and the verdicts."""

import numpy as np
import pytest
from vqa_samples import ask, small_vqa

from companions.vqa import __main__ as command
from companions.vqa import run
from companions.vqa.evaluate import accuracy
from companions.vqa.grid import SEEDS, VARIANTS, runs
from companions.vqa.record import (
    PretrainingRecord,
    QuestionsRecord,
    VqaRecord,
    hash_questions,
    pack_scores,
    read_record,
    read_records,
    unpack_scores,
)
from companions.vqa.results import IN_WORDS, runs_of, table_rows
from companions.vqa.verdicts import CLAIMS, CONTRADICTED, MISSING, OPEN, SUPPORTED, findings
from lddr.errors import InputError
from lddr.record import provenance, write_record
from study import records


def test_every_listed_run_has_settings_that_hold_and_needs_that_are_listed():
    listed = runs()
    weights = {name: command.weights_of(one) for name, one in listed.items()}
    for name, one in listed.items():
        kind, words = one.words[3], one.words[4:]
        settings = run.check(kind, run.read_parameters(words))
        assert settings[run.OutputConfig].record.endswith(f"/{name}.json")
        assert all(weights[need] is not None for need in one.needs)
        if kind == "answer" and settings[run.VqaConfig].start == "pretrained":
            folder = settings[run.VqaConfig].weights
            assert {str(weights[need].parent) for need in one.needs} == {str(records.PROJECT / folder)}
    files = [weight for weight in weights.values() if weight]
    assert len(set(files)) == len(files)
    assert not [name for name in listed if name.startswith("by_image") and "authors" in name]


def test_every_claim_compares_variants_that_are_recorded_often_enough():
    listed = runs()
    for claim in CLAIMS:
        for sides in claim.comparisons:
            for variant, attention in sides:
                assert variant in IN_WORDS
                assert all(f"official_{variant}_{attention}_seed{seed}" in listed for seed in SEEDS)
    assert set(VARIANTS) <= set(IN_WORDS)


def test_the_command_lists_runs_and_refuses_a_name_that_is_none(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    assert command.main([]) == 0
    listed = capsys.readouterr().out
    assert "# official_mevf_ban_seed0: no record, about" in listed
    assert "features=mevf start=pretrained" in listed
    assert command.main(["--run", "official_mevf_gru*"]) == 2
    assert "There is no run named official_mevf_gru*" in capsys.readouterr().err


def test_what_a_run_reads_is_made_first(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    listed = runs()
    first, then = command.with_needs(listed, ["official_mevf_ban_seed1"])
    assert first == ["official_pre_meta_seed1", "official_pre_cdae_seed1"]
    assert then == ["official_mevf_ban_seed1"]
    for name in first:
        file = command.weights_of(listed[name])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert command.with_needs(listed, ["official_mevf_ban_seed1"]) == ([], ["official_mevf_ban_seed1"])


@pytest.mark.slow
def test_one_run_of_each_kind_leaves_a_record_that_can_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "data_of", lambda name, split: small_vqa())
    tiny = ["iterations=1", "tasks=1", "inner_steps=1", "shots=1", "queries=1"]
    more = {"meta": tiny, "cdae": ["steps=2", "batch=2"], "questions": []}
    more["mmq"] = [*tiny, "refinements=1", "episodes=2", "adapt_steps=1", "first_order=true"]
    for kind, words in more.items():
        output = [] if kind == "questions" else [f"output={tmp_path / kind}.safetensors"]
        assert run.main([kind, *words, *output, f"record={tmp_path / kind}.json"]) == 0, capsys.readouterr().err
    words = ["features=mmq_mevf", "start=pretrained", f"weights={tmp_path}", "hidden=16", "epochs=1"]
    assert run.main(["answer", *words, f"record={tmp_path / 'answer'}.json"]) == 0
    asked, answered = read_record(tmp_path / "questions.json"), read_record(tmp_path / "answer.json")
    made = read_record(tmp_path / "mmq.json")
    assert isinstance(asked, QuestionsRecord)
    assert isinstance(answered, VqaRecord)
    assert isinstance(made, PretrainingRecord)
    assert answered.test_set == asked.test_set == hash_questions(small_vqa().test)
    assert len(answered.scores) == len(answered.predicted) == len(asked.rows) == len(small_vqa().test)
    assert accuracy(asked.questions(), unpack_scores(answered.scores)) == answered.test
    assert sorted(answered.read) == ["cdae.safetensors", "mmq.safetensors"]
    assert len(made.log) == len(made.scores) == 2
    assert "features=mmq_mevf" in answered.command
    assert "epochs=1" in answered.command
    assert not (tmp_path / "mmq.part.pt").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["answer", "record=a.json", "epoch=3"], "There is no parameter 'epoch': did you mean 'epochs'?"),
        (["answer", "record=a.json", "features=vgg"], "Parameter 'features' is 'vgg'"),
        (["meta", "record=a.json"], "give output=FILE.safetensors"),
        (["answer", "features=none"], "Parameter 'record'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.main(words) == 2
    assert says in capsys.readouterr().err


def test_a_file_that_is_no_record_is_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"kind": "vqa"}')
    with pytest.raises(InputError, match="not a record of this companion"):
        read_record(file)


QUESTIONS = [ask("?", "yes", image=f"i{n // 3}", qid=n) for n in range(300)]


def record_of(variant: str, attention: str, seed: int, right: float, split: str = "official", **more) -> VqaRecord:
    """A made-up run that answers a share of `QUESTIONS`, the same ones for each share but for a few."""
    rng = np.random.default_rng(0)
    scores = (rng.random(300) < right).astype(float)
    scores[seed * 2 : seed * 2 + 2] = 1 - scores[seed * 2 : seed * 2 + 2]
    found = accuracy(QUESTIONS, scores)
    fields = {"features": "meta", "start": "scratch", "parameters": {}, "weight_count": 1, "training_seconds": 1.0}
    return VqaRecord(
        **provenance(["made", "up"]),
        **{"variant": variant, "attention": attention, "seed": seed, "dataset": "vqa_rad", "split": split},
        **{"log": [], "test": found, "shuffled": found, "scores": pack_scores(scores), "predicted": [], **fields},
        **{"test_set": hash_questions(QUESTIONS), **more},
    )


def asked(split: str = "official") -> QuestionsRecord:
    rows = [{"qid": q.qid, "image": q.image, "closed": True, "types": ["PRES"], "phrase": "freeform", "answer": "yes"}
            for q in QUESTIONS]  # fmt: skip
    baselines = {"most_frequent": pack_scores([1] * 300)}
    about = {"dataset": "vqa_rad", "split": split, "test_set": hash_questions(QUESTIONS), "leakage": {}, "classes": {}}
    return QuestionsRecord(**provenance(["made", "up"]), **about, rows=rows, baselines=baselines)


def test_verdicts_follow_the_rule():
    shares = {"maml": 0.8, "maml_scratch": 0.5, "cdae": 0.5, "cdae_scratch": 0.8, "mevf": 0.801}
    made = {"q": asked()}
    for variant, right in shares.items():
        for seed in range(5):
            made[f"{variant}{seed}"] = record_of(variant, "san", seed, right)
    found = {finding.claim.name: finding.verdict for finding in findings(made)}
    assert found["M1"] == SUPPORTED
    assert found["M2"] == CONTRADICTED
    assert found["M3"] == OPEN  # better than one of the two only
    assert found["M4"] == found["M5"] == found["M6"] == MISSING
    del made["maml4"]  # four runs are not enough
    assert findings(made)[0].verdict == MISSING
    (comparison,) = findings(made)[1].comparisons
    assert len(comparison.mcnemar) == 5
    assert "CDAE with SAN against CDAE, from scratch with SAN" in str(comparison)


def test_tables_show_baselines_runs_and_the_papers_figures(put):
    put("vqa/q", asked())
    for seed in (1, 0):
        put(f"vqa/mevf{seed}", record_of("mevf", "ban", seed, 0.6))
    found = read_records()
    assert [record.seed for record in runs_of(found, "official", "mevf", "ban")] == [0, 1]
    baseline, row = table_rows(found, "official", "ban", ["maml", "mevf"])
    assert baseline.figures["all"] == (1.0, 0.0)
    assert (row.name, row.runs, row.paper) == ("MEVF", 2, (43.9, 75.1, 62.7))


def test_runs_about_other_questions_are_not_compared():
    made = {"q": asked(), "a": record_of("mevf", "ban", 0, 0.6, test_set="another")}
    with pytest.raises(InputError, match="answered other questions"):
        runs_of(made, "official", "mevf", "ban")
    assert write_record  # records of this companion are written as all others
