"""Convert the records of schema version 1, plain dictionaries, to version 2; every number stays as it is.

    python book/tools/convert_records.py

Version 1 named a method by its file name, so this script, and nothing after it, reads meaning out of names.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from lddr.data.registry import DATASETS
from lddr.models import ModelConfig
from lddr.record import CostRecord, FigureRecord, Method, Provenance, Record, write_record

RECORDS = Path(__file__).resolve().parent.parent / "records"
SCRIPTS = {"baselines": "classical", "cost": "cost", "figure2": "figure2"}
RECIPES = {
    r"beyond_\dcas_.*|adapted_[13]cas|seen_beyond_.*": "best",
    r"teacher_3cas_fine|seen_teacher_3cas_fine": "softer",
    r"ablation_.*": "ablation",
    r"tuned_.*": "tuned",
    r"schedule_.*": "schedule",
    r"curve_.*": "learning curve",
    r"plain": "not augmented",
    r"student_1cas_none|student_1cas_3min|seen_student_1cas_none": "chapter 06",
}


def recipe(stem: str) -> str:
    """The word for how a run was trained."""
    return next((word for pattern, word in RECIPES.items() if re.fullmatch(pattern, stem)), "plain")


def command(old: str, word: str) -> str:
    """The command under the names that scripts have now; those of a chapter name the parameters it uses."""
    words = shlex.split(old.replace("$LDDR_DATA", "@LDDR_DATA"))
    if words[0] == "python" and words[1].startswith("book/"):
        words[1:2] = ["-m", f"study.{SCRIPTS[Path(words[1]).stem]}"]
    if words[0] == "papermill" and "-y" in words:
        values = json.loads(words[-1])
        words[-1] = json.dumps({name: values[name] for name in CHAPTER_06 if name in values}, ensure_ascii=False)
    if words[:2] == ["lddr", "train"] and word != "plain":  # so that who runs it again gets the same method
        words.append(f"recipe={word}")
    return shlex.join(words).replace("@LDDR_DATA", "$LDDR_DATA")


CHAPTER_06 = (
    "dataset size subjects cascades steps batch learning_rate smoothness augmentation mirror validate_every seed "
    "folder record weights"
).split()  # the parameters that chapter 06 uses


def convert(path: Path) -> Provenance:
    """One record."""
    old: dict[str, Any] = json.loads(path.read_text())
    dataset = path.parent.name
    word = recipe(re.sub(r"_fold\d$", "", path.stem))
    known = {k: old[k] for k in ("commit", "machine", "date")} | {"command": command(old["command"], word)}
    if dataset == "cost":
        return CostRecord(
            **known, **{k: old[k] for k in ("device", "threads", "size", "networks", "tools") if k in old}
        )
    if path.stem == "figure2":
        same: tuple[str, ...] = (
            "dataset",
            "split",
            "fold",
            "size",
            "drawn_on",
            "labels",
            "plane",
            "licence",
            "models",
            "figures",
        )
        same += ("rule", "shown", "slices", "rows")
        return FigureRecord(**known, **{k: old[k] for k in same if k in old}, pair_list=old["pairs"])
    fold = re.search(r"_fold(\d)$", path.stem)
    stem = path.stem.removesuffix(fold[0]) if fold else path.stem
    new = known | {k: old[k] for k in ("licence", "dataset", "split", "labels", "rows")}
    new["fold"] = int(fold[1]) if fold else None
    assert bool(fold) == bool(DATASETS[dataset].folds), path
    if "method" in old:  # a classical tool
        new |= {"method": Method(tool=old["method"], size=old.get("size")), "pair_list": old["pairs"]}
        new |= {"test": old["test"], "settings": old["settings"], "threads": old["threads"]}
    elif "parameters" in old:  # a training run
        p = old["parameters"]
        config = ModelConfig.check({k: p[k] for k in ModelConfig.model_fields if k in p})
        about = {"objective": p.get("objective", "none"), "seed": old["seed"], "recipe": recipe(stem)}
        new |= {"method": Method.of_network(config, **about), "pair_list": old["pairs"], "parameters": p}
        new |= {"weight_count": old["weights"], "training_seconds": old["training_seconds"], "log": old["log"]}
        new |= {"test": old["test"], "notebook": old["notebook"], "measured_on": p.get("fine_size")}
    else:  # an evaluation
        names: tuple[str, ...] = (
            "pairs",
            "dice_mean",
            "dice_std",
            "dice_per_label",
            "jaccard_mean",
            "dice_initial",
            "folding_percent",
        )
        names += ("jacobian_std", "seconds_per_pair", "hd95_mean")
        new |= {"test": {k: old[k] for k in names if k in old}, "pair_list": old["pair_list"], "model": old["model"]}
        words = shlex.split(old["command"])
        given = dict(zip(words, words[1:], strict=False))
        trained = json.loads(trained_record(path, old["model"], new["fold"]).read_text())
        p = trained.get("parameters") or {}
        config = ModelConfig.check({k: p[k] for k in ModelConfig.model_fields if k in p})
        about = {"objective": p.get("objective", "none"), "seed": p["seed"], "recipe": recipe(stem)}
        if "teacher_3cas" in stem and "fine" not in stem:
            about["recipe"] = "plain"
        adapted, repeats = int(given.get("--adapt", 0)), int(given.get("--repeats", 1))
        new["method"] = Method.of_network(config, **about, adapted=adapted, repeats=repeats)
        new |= {"weights_sha256": old["weights_sha256"]}
        new["measured_on"] = [int(given["--fine"])] * 3 if "--fine" in given else None
    return Record(**new)


def trained_record(path: Path, model: str, fold: int | None) -> Path:
    """The record of the training run behind the model of an evaluation."""
    shipped = path.parent / f"{model}.json"
    return shipped if shipped.exists() else path.parent / f"{Path(model).parent.name}.json"


def main() -> None:
    """Convert all that are of version 1."""
    todo = [p for p in sorted(RECORDS.glob("*/*.json")) if "schema_version" not in json.loads(p.read_text())]
    for path, record in [(path, convert(path)) for path in todo]:
        write_record(path, record)
    print(f"{len(todo)} records converted")


if __name__ == "__main__":
    main()
