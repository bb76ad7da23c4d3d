"""Put trained weights into the package and describe them in its manifest.

    python -m study.ship_weights NAME WEIGHTS.safetensors RECORD.json [ALIAS ...]

Every figure in the manifest is read from the record of the run; nothing is typed in by hand.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lddr.cli.options import sentence_on_mistake
from lddr.errors import InputError
from lddr.files import atomic_write
from lddr.models import WEIGHTS, load_model
from lddr.record import Record, read_record, write_json
from study.records import PROJECT


def ship(name: str, weights: Path, record_file: Path, aliases: Sequence[str]) -> None:
    """Copy the file of weights, write its entry and those of its aliases.

    Raises:
        InputError: files that are not what they should be.
    """
    _, config, about = load_model(weights)
    record, place = read_record(record_file), record_file.resolve()
    if not isinstance(record, Record) or record.weight_count is None:
        raise InputError(f"{record_file}: expected the record of a training run.")
    if not place.is_relative_to(PROJECT):
        raise InputError(f"{record_file}: expected a record within {PROJECT}, where a reader finds it too.")
    data = weights.read_bytes()
    with atomic_write(WEIGHTS / f"{name}.safetensors") as part:
        part.write_bytes(data)
    entry = {
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "dataset": about["dataset"],
        "network": config.network,
        "cascades": config.cascades,
        "objective": about["objective"],
        "recipe": record.method.recipe,
        "seed": record.method.seed,
        "size": config.size,
        "spacing": about["spacing"],
        "parameters": record.weight_count,
        "dice_mean": record.test.dice_mean,
        "dice_initial": record.test.dice_initial,
        "folding_percent": record.test.folding_percent,
        "licence": about["licence"],
        "record": place.relative_to(PROJECT).as_posix(),
    }
    manifest_file = WEIGHTS / "manifest.json"
    manifest = json.loads(manifest_file.read_text(encoding="utf-8")) | {name: entry}
    manifest |= {alias: entry | {"alias_of": name} for alias in aliases}
    write_json(manifest_file, dict(sorted(manifest.items())))


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, and ship."""
    parser = argparse.ArgumentParser("python -m study.ship_weights", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="what users will call the model")
    parser.add_argument("weights", type=Path, help=".safetensors file of a training run")
    parser.add_argument("record", type=Path, help="JSON file of the same run")
    parser.add_argument("aliases", nargs="*", help="other names for it")
    options = parser.parse_args(words)
    with sentence_on_mistake():
        ship(options.name, options.weights, options.record, options.aliases)


if __name__ == "__main__":
    main()
