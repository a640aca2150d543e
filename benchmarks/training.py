"""Compare the worker's training with transformers' Trainer: speed, memory, figures, arithmetic.

`python -m benchmarks.training` has three parts. `speed`: the Trainer as in transformers' own
text-classification example (padded to 128), the Trainer with dynamic padding and length grouping,
and the worker train by turns on the same rows, each in a process of its own. `equal`: final
validation figures of the latter two, over seeds. `devices`: speed on models of other sizes with
random weights. `--quick` does a little of each on a tiny model. It runs where only torch,
transformers, safetensors and numpy are, on given (`--rows`) or drawn rows; without accelerate, the
Trainer's arithmetic is done by a plain loop, and the result says so.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.arithmetic import measured_rates
from benchmarks.racing import equal_figures, race
from benchmarks.training_cases import (
    SHAPES,
    SHIPPED,
    Case,
    drawn_case,
    given_case,
    shipped_case,
)
from tasks.worker.devices import Device, choose_device

RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy", "safetensors")
PARTS = ("speed", "equal", "devices")
CONTENDERS = ("padded", "grouped", "ours")


def main(arguments: list[str]) -> None:
    """Measure the parts, print tables, and write `training.json` (or `training_cuda.json`)."""
    options = parsed(arguments)
    device = choose_device(options.device, "auto")
    kind = "_quick" if options.quick else "_cuda" if device.torch.type == "cuda" else ""
    file = RESULTS / f"training{kind}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    rates = measured_rates(device, quick=options.quick)
    around = {**surroundings(device, arguments), "rates": rates}
    for part in options.parts:
        with tempfile.TemporaryDirectory(prefix="ekiben-training-") as folder:
            found = measure(part, options, device, rates, Path(folder))
        told = {name: {**around, **figures} for name, figures in found.items()}
        # What is not measured now stays.
        known = {**known, **around, part: {**known.get(part, {}), **told}}
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        show(part, found)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options; `--quick` sets those that make it short."""
    parser = argparse.ArgumentParser("python -m benchmarks.training")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument("--data", nargs="+", choices=list(SHIPPED), default=list(SHIPPED))
    parser.add_argument("--rows", type=Path, help="folder of encoded rows, of one or of all data")
    parser.add_argument("--base-model", type=Path, help="folder of the base model for --rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--updates",
        nargs="*",
        default=["tweet_sentiment=100"],
        metavar="DATA=N",
        help="stop after so many updates of the schedule",
    )
    parser.add_argument("--batch", type=int, default=32, help="rows an update")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(arguments)
    if options.quick:
        options.data, options.shapes = ["sms_spam"], ["tiny"]
        options.seeds, options.epochs = 2, 1
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"
    options.parts = options.parts or (PARTS if options.quick else PARTS[:2])
    return options


def measure(
    part: str, options: argparse.Namespace, device: Device, rates: dict[str, float], folder: Path
) -> dict[str, Any]:
    """Return what a part found."""
    settings = {
        "num_train_epochs": options.epochs,
        "train_batch_size": options.batch,
        "device": device.torch.type,
    }
    if part == "devices":
        return over_shapes(options, settings, rates, folder)
    if part == "equal":
        case = case_of("sms_spam", options, folder / "sms_spam")
        return {"sms_spam": equal_figures(case, folder, settings, options.seeds)}
    bounds = dict(bound.split("=") for bound in options.updates)
    found = {}
    for name in options.data:
        case = case_of(name, options, folder / name)
        most = int(bounds[name]) if name in bounds else None
        turn, judged = (2, 4) if options.quick else (10, 50 if name == "tweet_sentiment" else 20)
        found[name] = race(
            case, folder, settings, rates, CONTENDERS, turn=turn, judged_every=judged, most=most
        )
    return found


def case_of(name: str, options: argparse.Namespace, folder: Path) -> Case:
    """Return given rows, or a shipped config's, or drawn ones where the project is not whole."""
    if options.quick:
        return drawn_case("tiny", folder, 8 * options.batch)
    if options.rows is not None:
        return given_case(name, options.rows, options.base_model, folder)
    if all(find_spec(library) for library in ("prefect", "great_expectations", "datasets")):
        return shipped_case(name, folder)
    return drawn_case("minilm", folder, 100 * options.batch)


def over_shapes(
    options: argparse.Namespace, settings: dict[str, Any], rates: dict[str, float], folder: Path
) -> dict[str, Any]:
    """Return the race of each shape, on rows of mixed lengths and on full ones."""
    cuda, batch = settings["device"] == "cuda", options.batch
    found: dict[str, Any] = {}
    for shape in options.shapes or (SHAPES[1:] if cuda else ("minilm",)):
        if shape == "llama-1b" and find_spec("peft") is None:
            found[shape] = {"left_out": "LoRA needs the package peft, which is not installed"}
            continue
        cases = {"mixed": drawn_case(shape, folder / shape, batch * (150 if cuda else 30))}
        if shape != "llama-1b" and not options.quick:
            cases["full 512"] = drawn_case(
                shape, folder / shape, batch * (60 if cuda else 3), full=512
            )
        for lengths, case in cases.items():
            full = lengths != "mixed"
            turn = (20 if full else 50) if cuda else (1 if full else 10)
            contenders = ("grouped", "ours") if full or options.quick else CONTENDERS
            found[f"{shape}, {lengths}"] = race(
                case, folder, {**settings, "num_train_epochs": 1}, rates, contenders,
                turn=turn, judged_every=10**6, most=None,
            )  # fmt: skip
    return found


def surroundings(device: Device, arguments: Sequence[str]) -> dict[str, Any]:
    """Return date, hardware and versions, which every result is read beside."""
    processor = platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        lines = listed.read_text(encoding="utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        processor = (names or [processor])[0]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": f"{torch.get_num_threads()} threads of {processor}; {device.name}",
        "precision": device.precision,
        "python": platform.python_version(),
        "versions": {library: _version(library) for library in LIBRARIES},
        "command": " ".join(["python", "-m", "benchmarks.training", *arguments]),
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def show(part: str, found: dict[str, Any]) -> None:
    """Print a part's figures: as tables where rich is installed, else as JSON."""
    if find_spec("rich") is None:
        print(json.dumps({part: found}, indent=2))
        return
    from rich.console import Console

    from benchmarks.training_tables import tables

    for table in tables(part, found):
        Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
