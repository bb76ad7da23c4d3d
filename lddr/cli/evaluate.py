"""`lddr evaluate`: measure a model on the pairs of a data set."""

import argparse
from typing import Any

from lddr.cli.options import add_model, at_least, load
from lddr.errors import InputError
from lddr.files import require_not_input, require_writable

HELP = "measure a model on the pairs of a data set"
ABOUT = "Register the pairs of a data set, measure how well their labels agree, and keep the figures."
EXAMPLES = [
    "lddr evaluate --dataset simulated_brains --model simulated_brains --subjects 4 --json brains.json",
    "lddr evaluate --dataset simulated_brains --model simulated_brains --subjects 2 --adapt 5 --json adapted.json",
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--dataset", required=True, help="see the book's page Datasets")
    parser.add_argument("--root", metavar="DIR", help="folder that holds the scans (default: LDDR_DATA)")
    parser.add_argument("--split", default="test", help="train, validation or test (default)")
    parser.add_argument("--pairs", choices=("ring", "all", "couples"), default="ring")
    parser.add_argument("--subjects", type=at_least(2), metavar="N", help="only the first N of the split")
    parser.add_argument("--fold", type=at_least(0, 3), metavar="K", help="of the liver sets (default: the model's)")
    parser.add_argument("--fine", type=at_least(16), metavar="N", help="measure on cubes of N a side (paper: 128)")
    parser.add_argument("--adapt", type=at_least(1), metavar="STEPS", help="first go on training on each pair itself")
    parser.add_argument("--smoothness", type=float, metavar="W", help="weight of roughness in --adapt (default: 1)")
    parser.add_argument("--labels", choices=("linear", "nearest"), default="linear", help="how labels are warped")
    parser.add_argument("--surfaces", action="store_true", help="also measure HD95")
    parser.add_argument("--json", required=True, metavar="FILE", help="where the record goes")
    add_model(parser)


def run(options: argparse.Namespace) -> None:
    """Register the pairs, print the figures, write the record."""
    from lddr.data.cohort import evaluation_pairs
    from lddr.data.registry import fold_of, load_cohort
    from lddr.infer.adapt import by_adapted_network
    from lddr.infer.evaluate import by_network, evaluate, summarise
    from lddr.models import weights_hash
    from lddr.objective import LossWeights
    from lddr.record import Method, Record, commit, provenance, rounded, write_record
    from lddr.train.run import require_fold

    commit()  # remembered from here on: the record names the code this process began with
    if options.smoothness is not None and not options.adapt:
        raise InputError("--smoothness is the weight of roughness in --adapt: give --adapt too, or neither.")
    given = {} if options.smoothness is None else {"smoothness": options.smoothness}
    loss_weights = LossWeights.check(given)
    require_writable(options.json)
    require_not_input(options.json, [options.model])
    model, config, about = load(options)
    fold = fold_of(options.dataset, options.fold, about.get("fold", 0))
    if fold is not None:
        require_fold(options.model, about, options.dataset, fold)
    sizes = [config.size, [options.fine] * 3] if options.fine else [config.size]
    which = (options.dataset, options.split, options.root)
    cohort, *fine = (load_cohort(*which, size, options.subjects, fold=fold or 0) for size in sizes)
    for subject, labels in zip(cohort.ids, cohort.labels, strict=True):
        if not labels.any():
            raise InputError(f"{options.dataset}: {subject} has no labels to measure with; choose another split.")
    pairs = evaluation_pairs(len(cohort), options.pairs)
    register = by_network(model, options.repeats)
    if options.adapt:
        register = by_adapted_network(model, options.adapt, loss_weights=loss_weights, repeats=options.repeats)
    rows = evaluate(
        register,
        cohort,
        pairs,
        fine=fine[0] if fine else None,
        label_mode=options.labels,
        surfaces=options.surfaces,
        progress=True,
    )
    summary = summarise(rows, cohort.label_names)
    how: dict[str, Any] = {name: about[name] for name in ("objective", "recipe", "seed") if name in about}
    record = Record(
        **provenance(command(options)),
        licence=cohort.licence,
        method=Method.of_network(config, **how, adapted=options.adapt or 0, repeats=options.repeats),
        dataset=options.dataset,
        split={options.split: len(cohort)},
        fold=fold,
        pair_list=options.pairs,
        measured_on=[options.fine] * 3 if options.fine else None,
        labels=options.labels,
        model=options.model,
        weights_sha256=weights_hash(model),
        test=summary,
        rows=rounded(rows),
    )
    write_record(options.json, record)
    print(
        f"{summary.pairs} pairs: Dice {summary.dice_initial:.3f} before, {summary.dice_mean:.3f} after "
        f"(sd {summary.dice_std:.3f}, labels warped {options.labels}); Jaccard {summary.jaccard_mean:.3f}; "
        f"{summary.folding_percent:.2f} % folded; {summary.seconds_per_pair:.3f} s a pair."
    )
    print(f"Next: {options.json} holds every pair and where the figures come from.")


def command(options: argparse.Namespace) -> list[str]:
    """Give the words that were typed, but for the folder of the scans: each reader sets LDDR_DATA to their own."""
    words: list[str] = []
    rest = iter(options.words)
    for word in rest:
        if word == "--root":
            next(rest)
        elif not word.startswith("--root="):
            words.append(word)
    return words
