"""`lddr models`: list the shipped weights."""

import argparse
import json

HELP = "list the shipped weights"
ABOUT = "List the models that come with the package, what they were trained on, and their licences."
EXAMPLES = [
    "lddr models",
    "lddr models --json",
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--json", action="store_true", help="everything that is known, as JSON")


def run(options: argparse.Namespace) -> None:
    """Print one line for each model, or all that is known."""
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
