"""Put trained weights into the package and describe them in its manifest.

    python book/ship_weights.py NAME WEIGHTS.safetensors RECORD.json [ALIAS ...]

Every figure in the manifest is read from the record of the run; nothing is typed in by hand.
"""

import hashlib
import json
import sys
from pathlib import Path

from lddr.models import WEIGHTS, load_model
from lddr.records import write_record


def main() -> None:
    """Copy the file, write the entry and its aliases."""
    name, weights, record_path, *aliases = sys.argv[1:]
    _, config, about = load_model(weights)
    record = json.loads(Path(record_path).read_text())
    data = Path(weights).read_bytes()
    (WEIGHTS / f"{name}.safetensors").write_bytes(data)
    test = record["test"]
    entry = {
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "dataset": about["dataset"],
        "network": config.network,
        "cascades": config.cascades,
        "objective": about["objective"],
        "size": config.size,
        "spacing": about["spacing"],
        "parameters": record["weights"],
        "dice_mean": test["dice_mean"],
        "dice_initial": test["dice_initial"],
        "folding_percent": test["folding_percent"],
        "licence": about["licence"],
        "record": record_path,
    }
    manifest_path = WEIGHTS / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) | {name: entry}
    manifest |= {alias: entry | {"alias_of": name} for alias in aliases}
    write_record(manifest_path, dict(sorted(manifest.items())))


if __name__ == "__main__":
    main()
