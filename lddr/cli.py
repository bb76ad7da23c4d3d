"""The command line: `lddr register`, `lddr evaluate`, `lddr train`, `lddr models`."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lddr.errors import InputError
from lddr.files import require_writable

OUTPUTS = ("warped.nii.gz", "warped_labels.nii.gz", "displacement.nii.gz", "displacement.npz")  # of `lddr register`


def main(arguments: list[str] | None = None) -> int:
    """Run one command; None takes the words of the real command line.

    Returns:
        The exit code, 0, or 2 after a sentence on what the user should change.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        print(f"lddr: {error}", file=sys.stderr)
        return 2
    return 0


def at_least(least: int, most: int | None = None) -> Callable[[str], int]:
    """What reads a whole number within limits, for an option of a command line; chapter 11."""
    limits = f"a whole number from {least} {'up' if most is None else f'to {most}'}"

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"found '{text}', expected {limits}")
        return int(text)

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lddr", description="Light-weight deformable registration of 3-D scans.")
    commands = parser.add_subparsers(required=True, metavar="command")

    register = commands.add_parser("register", help="bring one NIfTI scan onto another")
    register.set_defaults(run=_register)
    register.add_argument("--fixed", required=True, metavar="FILE", help="the scan that stays")
    register.add_argument("--moving", required=True, metavar="FILE", help="the scan that is warped")
    register.add_argument("--moving-labels", metavar="FILE", help="labels of the moving scan, warped along")
    register.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    formats = "of the displacement: voxels of the fixed grid (nifti), for ITK and ANTs (itk), the challenge's npz"
    register.add_argument("--format", choices=("nifti", "itk", "learn2reg"), default="nifti", help=formats)

    evaluate = commands.add_parser("evaluate", help="measure a model on the pairs of a data set")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("--dataset", required=True, help="see the book's page Datasets")
    evaluate.add_argument("--root", metavar="DIR", help="folder that holds the scans (default: LDDR_DATA)")
    evaluate.add_argument("--split", default="test", help="train, validation or test (default)")
    evaluate.add_argument("--pairs", choices=("ring", "all", "couples"), default="ring")
    evaluate.add_argument("--subjects", type=at_least(2), metavar="N", help="only the first N of the split")
    evaluate.add_argument("--fold", type=at_least(0, 3), metavar="K", help="of the liver sets (default: the model's)")
    evaluate.add_argument("--fine", type=at_least(16), metavar="N", help="measure on cubes of N a side (paper: 128)")
    evaluate.add_argument("--adapt", type=at_least(1), metavar="STEPS", help="first go on training on each pair itself")
    evaluate.add_argument("--smoothness", type=float, metavar="W", help="weight of roughness in --adapt (default: 1)")
    evaluate.add_argument("--labels", choices=("linear", "nearest"), default="linear", help="how labels are warped")
    evaluate.add_argument("--surfaces", action="store_true", help="also measure HD95")
    evaluate.add_argument("--json", required=True, metavar="FILE", help="where the figures go")

    for command in (register, evaluate):
        command.add_argument("--model", required=True, metavar="NAME_OR_PATH", help="see lddr models")
        command.add_argument("--repeats", type=at_least(1), default=1, metavar="R", help="apply dense networks R times")
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")

    train = commands.add_parser("train", help="train a model, measure it and record the run")
    train.set_defaults(run=_train)
    train.add_argument("words", nargs="*", metavar="FILE.yaml or name=value", help="parameters; later words win")

    models = commands.add_parser("models", help="list the shipped weights")
    models.set_defaults(run=_models)
    models.add_argument("--json", action="store_true", help="everything that is known, as JSON")
    return parser


def _load(options: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    import torch

    from lddr.models import load_model

    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but no CUDA device is there; use cpu.")
    device = "cpu" if options.device == "cpu" or not torch.cuda.is_available() else "cuda"
    model, config, about = load_model(options.model)
    return model.to(device), config, about


def _register(options: argparse.Namespace) -> None:
    import numpy as np

    from lddr.data.liver import IN_FOLDS
    from lddr.data.nifti import read_image, read_labels, write_nifti
    from lddr.fields import for_itk, for_learn2reg, in_voxels
    from lddr.register import register

    require_writable(options.out, folder=True)
    fixed, moving = read_image(options.fixed), read_image(options.moving)
    labels = read_labels(options.moving_labels, moving) if options.moving_labels else None
    model, config, about = _load(options)
    if about.get("dataset") in IN_FOLDS:
        print(
            "lddr: warning: this model learnt from scans cut and windowed (chapter 09), not whole ones.",
            file=sys.stderr,
        )
    mapping = register(fixed, moving, model, config.size, about["spacing"], options.repeats)
    files: dict[str, Callable[[Path], Any]] = {}
    files["warped.nii.gz"] = lambda path: write_nifti(path, mapping.warp(moving), mapping.affine)
    if labels is not None:
        files["warped_labels.nii.gz"] = lambda path: write_nifti(path, mapping.warp(labels, True), mapping.affine)
    if options.format == "learn2reg":
        files["displacement.npz"] = lambda path: np.savez_compressed(path, for_learn2reg(mapping))
    elif options.format == "itk":
        files["displacement.nii.gz"] = lambda path: write_nifti(path, for_itk(mapping), mapping.affine, "vector")
    else:
        files["displacement.nii.gz"] = lambda path: write_nifti(path, in_voxels(mapping), mapping.affine)
    _write_together(Path(options.out).resolve(), files)
    length = np.linalg.norm(mapping.points - mapping.world, axis=-1)
    print(f"{options.out}: {', '.join(files)}. Arrows: {length.mean():.1f} mm on average, {length.max():.1f} at most.")
    print(f"Next: open {options.out}/warped.nii.gz over {options.fixed} in a viewer and look before you trust it.")


def _write_together(folder: Path, files: dict[str, Callable[[Path], Any]]) -> None:
    """Write all files or none: into a folder within the wanted one first. What an earlier run left goes."""
    part = folder / ".part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            write(part / name)
        for name in files:
            (part / name).replace(folder / name)
        for name in set(OUTPUTS) - set(files):  # they would belong to another registration
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: results cannot be written here ({error.strerror}).") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _evaluate(options: argparse.Namespace) -> None:
    from lddr.data import evaluation_pairs, load_cohort
    from lddr.data.liver import IN_FOLDS
    from lddr.evaluate import evaluate, summarise
    from lddr.models import weights_hash
    from lddr.records import provenance, write_record
    from lddr.runs import require_fold
    from lddr.training import FitConfig

    if options.smoothness is not None and not options.adapt:
        raise InputError("--smoothness is the weight of roughness in --adapt: give --adapt too, or neither.")
    adapt = {"steps": options.adapt, "smoothness": options.smoothness}
    adapt_with = FitConfig.check({k: v for k, v in adapt.items() if v is not None}) if options.adapt else None
    require_writable(options.json)
    model, config, about = _load(options)
    if options.dataset in IN_FOLDS:
        options.fold = about.get("fold", 0) if options.fold is None else options.fold
        require_fold(options.model, about, options.dataset, options.fold)
    elif options.fold is not None:
        raise InputError(f"--fold is {options.fold}, but {options.dataset} is not tested in folds; leave it out.")
    sizes = [config.size, [options.fine] * 3] if options.fine else [config.size]
    which = (options.dataset, options.split, options.root)
    cohort, *fine = (load_cohort(*which, size, options.subjects, fold=options.fold or 0) for size in sizes)
    pairs = evaluation_pairs(len(cohort), options.pairs)
    how = (options.repeats, options.labels, options.surfaces, True, fine[0] if fine else None)
    rows = evaluate(model, cohort, pairs, *how, adapt_with)
    summary = summarise(rows, cohort.label_names)
    given = vars(options) | {"root": options.root and "$LDDR_DATA", "smoothness": adapt_with and adapt_with.smoothness}
    left_out = ("run", "device", "surfaces")
    words = [f"--{name} {value}" for name, value in given.items() if value is not None and name not in left_out]
    command = " ".join(["lddr evaluate", *words, *["--surfaces"] * options.surfaces])
    details = {"dataset": options.dataset, "split": {options.split: len(cohort)}, "pair_list": options.pairs}
    details |= {
        "labels": options.labels,
        "model": options.model,
        "weights_sha256": weights_hash(model),
        "fold": options.fold,
    }
    write_record(options.json, summary | provenance(command, **details, licence=cohort.licence) | {"rows": rows})
    print(
        f"{summary['pairs']} pairs: Dice {summary['dice_initial']:.3f} before, {summary['dice_mean']:.3f} after "
        f"(sd {summary['dice_std']:.3f}, labels warped {options.labels}); Jaccard {summary['jaccard_mean']:.3f}; "
        f"{summary['folding_percent']:.2f} % folded; {summary['seconds_per_pair']:.3f} s a pair."
    )
    print(f"Next: {options.json} holds every pair and where the figures come from.")


def _value(text: str) -> Any:
    """A number, list, true, false or null as JSON has it (YAML takes 1e-4 for a word), else what YAML makes of it."""
    import yaml

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return yaml.safe_load(text)


def read_parameters(words: Sequence[str]) -> dict[str, Any]:
    """What YAML files and name=value give, later words winning; `InputError` if unreadable; chapter 06."""
    import yaml

    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found = {name: _value(value)} if equals else yaml.safe_load(Path(word).read_text())
        except OSError as error:
            raise InputError(f"{word}: cannot be read ({error.strerror}).") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise InputError(f"{word}: this is not YAML.") from None
        if not isinstance(found, dict):
            raise InputError(f"{word}: expected lines of the form 'name: value'.")
        values |= found
    return values


def _train(options: argparse.Namespace) -> None:
    from lddr.runs import train_run
    from lddr.settings import Settings

    settings = Settings.check(read_parameters(options.words))
    summary = train_run(settings)
    print(
        f"Test: Dice {summary['dice_initial']:.3f} before, {summary['dice_mean']:.3f} after, "
        f"{summary['folding_percent']:.2f} % folded."
    )
    kept = " and ".join(name for name in (settings.record, settings.weights) if name)
    print(f"Next: see {kept}." if kept else "Next: add record=FILE.json weights=FILE.safetensors to keep it.")


def _models(options: argparse.Namespace) -> None:
    from lddr.models import shipped_models

    models = shipped_models()
    if options.json:
        print(json.dumps(models, indent=1))
        return
    for name, about in models.items():
        print(
            f"{name:<20}{about['dataset']}, {about['cascades']} cascade(s), objective {about['objective']}, "
            f"{about['bytes'] / 1e6:.1f} MB, Dice {about['dice_mean']:.3f} (from {about['dice_initial']:.3f}), "
            f"licence: {about['licence'].split(';')[0]}"
        )
    print("Next: lddr register --fixed F.nii.gz --moving M.nii.gz --model NAME --out DIR")


if __name__ == "__main__":
    sys.exit(main())
