"""Make one recorded run: pre-train an encoder, train a model and ask it, or write down the questions of a split.

    python -m companions.vqa.run KIND name=value ...

KIND is `meta`, `cdae` or `mmq` (pre-training), `answer` (a model), or `questions`. `python -m companions.vqa` lists all
runs with their settings. It works on one thread, so that a run gives the same numbers beside others.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from tqdm.auto import tqdm

from companions.vqa.answers import score
from companions.vqa.baselines import most_frequent, nearest_question, right, shuffled
from companions.vqa.batches import prepare
from companions.vqa.cdae import pretrain_cdae
from companions.vqa.config import CdaeConfig, Data, MetaConfig, MmqConfig, Split, VqaConfig
from companions.vqa.evaluate import accuracy
from companions.vqa.labels import nine_classes
from companions.vqa.maml import train_meta_model
from companions.vqa.mmq import Labelling, Quantified, quantify, starting_labels
from companions.vqa.mmq_state import load_state, save_state
from companions.vqa.pictures import unlabelled_images
from companions.vqa.questions import META_SIDE, VqaData, resized
from companions.vqa.record import PretrainingRecord, QuestionsRecord, VqaRecord, hash_questions, pack_scores
from companions.vqa.splits import measure_leakage
from companions.vqa.start import body, data_of, save_weights, sha256, starting_model
from companions.vqa.train import answer, fit
from lddr.config import Config, read_parameters, unknown_name
from lddr.errors import InputError
from lddr.files import require_writable
from lddr.record import commit, provenance, rounded, write_record


class SourceConfig(Config):
    """Whose training images a pre-training learns from."""

    data: Data = "simulated_vqa"
    split: Split = "official"


class OutputConfig(Config):
    """What a run leaves, and where."""

    record: str = Field(description="JSON file of the record")
    output: str | None = Field(None, description=".safetensors file of pre-trained weights")
    variant: str = Field("", description="the name that a table gives to a model")


PARTS: dict[str, tuple[type[Config], ...]] = {
    "meta": (MetaConfig, SourceConfig, OutputConfig),
    "cdae": (CdaeConfig, SourceConfig, OutputConfig),
    "mmq": (MmqConfig, MetaConfig, SourceConfig, OutputConfig),
    "answer": (VqaConfig, OutputConfig),
    "questions": (SourceConfig, OutputConfig),
}


def check(kind: str, values: Mapping[str, Any]) -> dict[type[Config], Any]:
    """Hand each value to the settings that know its name.

    Raises:
        InputError: an unknown name, a wrong type or a value out of range.
    """
    known = [name for part in PARTS[kind] for name in part.model_fields]
    if unknown := [unknown_name(name, known) for name in values if name not in known]:
        raise InputError(" ".join(unknown))
    return {part: part.check({n: v for n, v in values.items() if n in part.model_fields}) for part in PARTS[kind]}


def classes_of(data: VqaData) -> dict[str, list[int]]:
    """Collect the indices of the training images of each of the nine classes."""
    place = {name: index for index, name in enumerate(data.names)}
    classes: dict[str, list[int]] = {}
    for name, label in nine_classes(data.train).items():
        if label:
            classes.setdefault(label, []).append(place[name])
    return dict(sorted(classes.items()))


def sizes(labelling: Labelling) -> dict[str, int]:
    """Count the images of each class, and the unlabelled ones."""
    return {name: len(images) for name, images in labelling.classes.items()} | {"unlabelled": len(labelling.unlabelled)}


def run_pretraining(kind: str, settings: dict[type[Config], Any], about: dict[str, Any]) -> None:
    """Pre-train meta-model, auto-encoder or MMQ's meta-models; leave weights and record.

    Raises:
        InputError: data that cannot be read, or outputs that cannot be written.
    """
    source, output = settings[SourceConfig], settings[OutputConfig]
    if not output.output:
        raise InputError("A pre-training needs a file for its weights: give output=FILE.safetensors.")
    require_writable(output.output)
    data, begin = data_of(source.data, source.split), time.perf_counter()
    more: dict[str, Any] = {}
    if kind == "cdae":
        config = settings[CdaeConfig]
        images = unlabelled_images(data)
        model, log = pretrain_cdae(images, config)
        more |= {"images": len(images), "log": [log]}
        save_weights(output.output, model.state_dict())
    else:
        config, small = settings[MetaConfig], resized(data.images, META_SIDE)
        if kind == "meta":
            classes = classes_of(data)
            meta, log = train_meta_model(small, classes, config)
            found = Quantified([meta], [Labelling(classes, [])], [], [log])
        else:
            mmq, state = settings[MmqConfig], Path(output.output).with_suffix(".part.pt")
            start = starting_labels(data.train, data.names, mmq.agreement)
            done = load_state(state, config, mmq)
            found = quantify(small, start, config, mmq, found=done, save=partial(save_state, state, config, mmq))
            state.unlink(missing_ok=True)
            more |= {"scores": found.scores, "best": found.best(mmq.keep)}
        weights = {
            f"{i}.{n}": x for i, model in enumerate(found.models) for n, x in body(model.net.state_dict()).items()
        }
        save_weights(output.output, weights, more.get("best", [0]))
        more |= {"images": sum(sizes(found.labellings[0]).values()), "log": found.logs}
        more["classes"] = [sizes(labelling) for labelling in found.labellings]
        more["refinements"] = [
            {"dropped": [data.names[i] for i in r.dropped], "added": {data.names[i]: c for i, c in r.added.items()}}
            for r in found.refinements
        ]
    parameters = {name: value for part in settings.values() for name, value in part.model_dump().items()}
    record = PretrainingRecord(
        **about,
        licence=data.licence,
        what=kind,
        dataset=data.name,
        split=data.split,
        seed=config.seed,
        parameters=parameters,
        training_seconds=round(time.perf_counter() - begin, 1),
        weights_sha256=sha256(Path(output.output)),
        **rounded(more),
    )
    write_record(output.record, record)


def run_answer(settings: dict[type[Config], Any], about: dict[str, Any]) -> None:
    """Train a model, ask it the test questions with their own and with other images, and leave the record.

    Raises:
        InputError: data or weights that cannot be read, settings that do not go together.
        DivergedError: the loss is not finite.
    """
    config, output = settings[VqaConfig], settings[OutputConfig]
    data = data_of(config.data, config.split)
    prepared = prepare(data, config)
    torch.manual_seed(config.seed)  # of the weights that nothing starts
    model, read = starting_model(config, prepared)
    log = fit(model, prepared, config)
    logits = answer(model, prepared, prepared.test)
    scores = score(logits, prepared.test.targets).tolist()
    others = answer(model, prepared, prepared.test, shuffled(prepared.test.which, config.seed))
    record = VqaRecord(
        **about,
        licence=data.licence,
        variant=output.variant or config.features,
        dataset=data.name,
        split=data.split,
        features=config.features,
        start=config.start,
        attention=config.attention,
        seed=config.seed,
        parameters=config.model_dump(),
        weight_count=sum(weight.numel() for weight in model.parameters()),
        training_seconds=log[-1]["seconds"],
        read=read,
        log=rounded(log),
        test_set=hash_questions(data.test),
        test=accuracy(data.test, scores),
        shuffled=accuracy(data.test, score(others, prepared.test.targets).tolist()),
        scores=pack_scores(scores),
        predicted=[prepared.answers.answers[place] for place in logits.argmax(1).tolist()],
    )
    write_record(output.record, record)
    print(f"{output.record}: {100 * (record.test.all or 0):.1f} % of {len(scores)} questions answered rightly.")


def run_questions(settings: dict[type[Config], Any], about: dict[str, Any]) -> None:
    """Write down the test questions of a split, what training gives away of them, and what baselines answer.

    Raises:
        InputError: data that cannot be read.
    """
    source, output = settings[SourceConfig], settings[OutputConfig]
    data = data_of(source.data, source.split)
    given = {rule.__name__: rule(data.train, data.test) for rule in (most_frequent, nearest_question)}
    rows = [
        {
            "qid": q.qid,
            "image": q.image,
            "closed": q.closed,
            "types": [*q.types],
            "phrase": q.phrase,
            "answer": q.answer,
        }
        for q in data.test
    ]
    record = QuestionsRecord(
        **about,
        licence=data.licence,
        dataset=data.name,
        split=data.split,
        test_set=hash_questions(data.test),
        rows=rows,
        leakage=measure_leakage(data.train, data.test)._asdict(),
        classes={name: len(images) for name, images in classes_of(data).items()},
        baselines={name: pack_scores(right(answers, data.test)) for name, answers in given.items()},
    )
    write_record(output.record, record)


def main(words: Sequence[str] | None = None) -> int:
    """Make one run; 0, or 2 with a sentence."""
    parser = argparse.ArgumentParser("python -m companions.vqa.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=PARTS)
    parser.add_argument("settings", nargs="*", metavar="name=value")
    options = parser.parse_args(words)
    commit()  # remembered from here on: the record names the code this process began with
    torch.set_num_threads(1)
    try:
        settings = check(options.kind, read_parameters(options.settings))
        require_writable(settings[OutputConfig].record)
        given = [f"{n}={json.dumps(v)}" if not isinstance(v, str) else f"{n}={v}" for n, v in shown(settings).items()]
        about = provenance(["python", "-m", "companions.vqa.run", options.kind, *given])
        if options.kind == "answer":
            run_answer(settings, about)
        elif options.kind == "questions":
            run_questions(settings, about)
        else:
            run_pretraining(options.kind, settings, about)
    except InputError as error:
        tqdm.write(str(error), file=sys.stderr)
        return 2
    return 0


def shown(settings: dict[type[Config], Any]) -> dict[str, Any]:
    """List the settings that differ from the defaults, for the command that makes a run again."""
    return {
        name: value
        for part, given in settings.items()
        for name, value in given.model_dump().items()
        if value != part.model_fields[name].default
    }


if __name__ == "__main__":
    sys.exit(main())
