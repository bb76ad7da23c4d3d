"""Measure what each network costs on one pair: parameters, operations, bytes, memory, seconds; one record.

    python -m study.cost --threads 1 --tools    the classical tools as well, which take minutes and one thread
    python -m study.cost --threads 2

Run it on an idle machine. Each run writes `cost_cpu_1.json`, named after its threads, and, where there is a GPU, also
`cost_gpu.json`. All but the seconds is counted from shapes and is the same everywhere. Source: chapter 11.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lddr.cli.options import at_least, sentence_on_mistake
from lddr.data.registry import load_cohort
from lddr.deploy.bench import network_cost
from lddr.errors import InputError
from lddr.files import require_writable
from lddr.infer.classical import TOOLS
from lddr.infer.evaluate import evaluate
from lddr.models import ModelConfig
from lddr.record import CostRecord, commit, provenance, write_record
from study.methods import in_words
from study.records import RECORDS

FOLDER = RECORDS / "cost"
# The paper's RCN has VTN stems for everything; our teacher on small grids has a light affine stem and four halvings.
SHAPES: dict[str, dict[str, Any]] = {
    "LDR": {"network": "ldr", "cascades": (1, 2, 3)},
    "LDR of the released code": {"network": "ldr_released", "cascades": (1,)},
    "VTN": {"network": "vtn", "affine": "vtn", "cascades": (1, 2, 3)},
    "VTN of our teacher": {"network": "vtn", "levels": 4, "cascades": (1, 2, 3)},
    "VoxelMorph": {"network": "voxelmorph", "cascades": (1, 3)},
}


def models(side: int) -> dict[str, ModelConfig]:
    """List what is measured, on volumes of `side` voxels a side: name, such as "LDR, 2 cascades" -> how it is built."""
    configs = {}
    for name, shape in SHAPES.items():
        for n in shape["cascades"]:
            configs[f"{name}, {in_words(n)}"] = ModelConfig.check(shape | {"cascades": n, "size": [side] * 3})
    return configs


def tool_costs(side: int) -> dict[str, dict[str, Any]]:
    """Time the classical tools on one pair of simulated brains, once each and on one thread.

    They run from two images in memory to the displacement, so the seconds hold more than the registration itself:
    loading the tool's library, and reading its map as one displacement vector a voxel.

    Raises:
        InputError: a tool is not installed.
    """
    pair = load_cohort("simulated_brains", "test", size=[side] * 3, subjects=2)
    costs = {}
    for name, register in TOOLS.items():
        try:
            (row,) = evaluate(register, pair, [(0, 1)])
        except ModuleNotFoundError as error:
            raise InputError(f"--tools: {error.name} is not installed; the extra 'baselines' brings it.") from None
        took = row["seconds"]
        costs[name] = {"seconds": took, "quartiles": [took, took], "runs": 1, "threads": 1}
        print(f"{name}: {took:.1f} s")
    return costs


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser("python -m study.cost", description=(__doc__ or "").partition("\n")[0])
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=at_least(1, cores), default=1, help="of PyTorch; not more than cores")
    parser.add_argument("--size", type=at_least(32), default=128, help="voxels a side")
    parser.add_argument("--runs", type=at_least(7), default=7, help="timed registrations; at least 7")
    parser.add_argument("--tools", action="store_true", help="the classical tools too")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the records; give one for another size")
    options = parser.parse_args(words)
    if options.out == FOLDER and options.size != 128:
        parser.error(f"--size is {options.size}, but the book's own records are of 128 voxels a side: give --out too")
    return options


def make(options: argparse.Namespace) -> None:
    """Measure every network on every device there is; one record each.

    Raises:
        InputError: a tool that is not installed, or a folder that cannot be written to.
    """
    commit()  # remembered from here on: the record names the code this process began with
    require_writable(options.out, folder=True)
    torch.set_num_threads(options.threads)
    given = ["--threads", options.threads, "--size", options.size, "--runs", options.runs]
    command = ["python", "-m", "study.cost", *map(str, given), *["--tools"] * options.tools]
    tools = tool_costs(options.size) if options.tools else {}
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        networks = {}
        for name, config in models(options.size).items():
            networks[name] = network_cost(config, options.runs, device)
            print(f"{name}: {networks[name]['seconds']:.3f} s on the {device}", flush=True)
        record = CostRecord(
            **provenance(command),
            device=device,
            threads=options.threads,
            size=[options.size] * 3,
            networks=networks,
            tools=tools if device == "cpu" else {},
        )
        write_record(options.out / (f"cost_cpu_{options.threads}.json" if device == "cpu" else "cost_gpu.json"), record)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write the records."""
    with sentence_on_mistake():
        make(parse(words))


if __name__ == "__main__":
    main()
