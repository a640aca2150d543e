"""Measure the first third of the line beside bare pandas with Great Expectations, and polars.

`python -m benchmarks.data` measures 100,000, 1,000,000 and 10,000,000 rows made from the real tweets,
with controlled copies and faults, or as many as are asked for (`python -m benchmarks.data 100_000
1_000_000`); `--quick` measures 20,000. Each contender runs in a
process of its own, in turn; seconds and memory count from after its imports. Memory needs Linux.
"""

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS, LABELS
from benchmarks.line import RESULTS, ROOT, surroundings

SIZES = (100_000, 1_000_000, 10_000_000)
REPEATS = {100_000: 3, 1_000_000: 2}
COPIES, NEAR_COPIES, BLANK, WRONG_LABEL = 0.02, 0.02, 0.005, 0.005
RIVALS_MOST = 1_000_000  # above this those that hold all rows as objects need too much memory


def write_rows(file: Path, rows: int) -> dict[str, int]:
    """Write a CSV of texts made of real tweets, and return what faults were put into it."""
    words = [text.split() for text in _tweets()]
    draw = random.Random(7)  # noqa: S311 - made data, not a secret
    made = {"copies": 0, "near_copies": 0, "blank": 0, "wrong_label": 0}
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        before = ("", LABELS[0])
        for number in range(rows):
            text, label = _mixed(words, draw), draw.choice(LABELS)
            dice = draw.random()
            if dice < COPIES and number:
                (text, label), kind = before, "copies"
            elif dice < COPIES + NEAR_COPIES and number:
                (text, label), kind = (before[0] + "!", before[1]), "near_copies"
            elif dice < COPIES + NEAR_COPIES + BLANK:
                text, kind = " ", "blank"
            elif dice < COPIES + NEAR_COPIES + BLANK + WRONG_LABEL:
                label, kind = "unsure", "wrong_label"
            else:
                kind, before = "", (text, label)
            if kind:
                made[kind] += 1
            writer.writerow([text, label])
    return made


def _mixed(words: list[list[str]], draw: random.Random) -> str:
    """Return runs of words out of four tweets, so that no two texts have much in common."""
    parts = []
    for _ in range(4):
        tweet = words[int(draw.random() * len(words))]
        start = int(draw.random() * len(tweet))
        parts += tweet[start : start + 5]
    return " ".join(parts)


def _tweets() -> list[str]:
    from configs.loading import load_config
    from tasks.cleaning import clean
    from tasks.reading import read_rows
    from tasks.sources import fetch

    data = load_config(ROOT / "configs" / "tweet_sentiment.yaml").data
    source = fetch(data.uri, hf_split=data.hf_split, max_megabytes=data.max_megabytes)
    switches = data.cleaning.model_dump()
    return [clean(row.text or "", switches) for row in read_rows(source.path, data)]


def measure_here(name: str, file: Path) -> dict[str, Any]:
    """Run one contender in this process; return seconds and most memory added, in MB, by stage."""
    stages = CONTENDERS[name](file)
    next(stages)
    before = psutil.Process().memory_info().rss
    seconds: dict[str, float] = {}
    memory: dict[str, int] = {}
    answers: dict[str, Any] = {}
    _forget_peak()
    started = time.perf_counter()
    for stage, answer in stages:
        seconds[stage] = round(time.perf_counter() - started, 3)
        memory[stage] = round(max(0, _peak() - before) / 1e6)
        answers |= answer
        _forget_peak()
        started = time.perf_counter()
    return {
        "seconds": seconds,
        "memory_mb": memory,
        "answers": answers,
        "peak_mb": round(before / 1e6) + max(memory.values()),
    }


def _peak() -> int:
    """Return the most memory that this process has held since `_forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure(name: str, file: Path) -> dict[str, Any]:
    """Run one contender in a process and an Ekiben home of its own."""
    with tempfile.TemporaryDirectory(prefix="ekiben-data-", dir=file.parent) as home:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.data", "--contender", name, str(file)],
            env={**os.environ, "EKIBEN_HOME": home},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(rows: int, folder: Path) -> dict[str, Any]:
    """Measure every contender on one file of so many rows, in turn, as often as is stated."""
    file = folder / "rows.csv"
    made = write_rows(file, rows)
    names = [name for name in CONTENDERS if name == "ekiben" or rows <= RIVALS_MOST]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(REPEATS.get(rows, 1)):
        for name in names:
            runs[name].append(measure(name, file))
            Console(stderr=True).print(rows, name, runs[name][-1])
    return {"rows": rows, "made": made, "runs": runs, "ratios": _ratios(runs)}


def _ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return ratios of what was measured in the same turn, as [lowest, middle, highest]."""

    def of(one: str, stage: str, other: str, of_other: str, what: str = "seconds") -> list[float]:
        found = sorted(
            a[what][stage] / max(b[what][of_other], 1e-9)
            for a, b in zip(runs[one], runs[other], strict=True)
        )
        return [round(value, 2) for value in (found[0], found[len(found) // 2], found[-1])]

    if "rensa" not in runs:
        return {}
    return {
        "gx validate / ekiben validate": of(
            "pandas_and_gx", "validate", "ekiben_validate", "validate"
        ),
        "ekiben validate memory / gx validate memory": of(
            "ekiben_validate", "validate", "pandas_and_gx", "validate", "memory_mb"
        ),
        "ekiben validate / polars validate": of(
            "ekiben_validate", "validate", "polars", "validate"
        ),
        "ekiben near-copies / rensa": of("ekiben_near", "near_copies", "rensa", "near_copies"),
    }


def _growth(sizes: dict[str, Any]) -> dict[str, float]:
    """Return how much dearer a row is at each size than at the size before, in all stages."""
    costs = {
        int(rows): min(sum(run["seconds"].values()) for run in size["runs"]["ekiben"]) / int(rows)
        for rows, size in sizes.items()
    }
    return {
        f"seconds a row at {more:,} / at {fewer:,}": round(costs[more] / costs[fewer], 2)
        for fewer, more in pairwise(costs)
    }


def main(arguments: list[str]) -> None:
    """Measure, print a table, and write `benchmarks/results/data.json`."""
    parser = ArgumentParser(prog="python -m benchmarks.data")
    parser.add_argument("rows", nargs="*", type=int, help="sizes to measure, as 1_000_000")
    parser.add_argument("--quick", action="store_true", help="measure 20,000 rows alone")
    parser.add_argument("--contender", nargs=2, metavar=("NAME", "FILE"), help="measure one, here")
    asked = parser.parse_args(arguments)
    if asked.contender:
        print(json.dumps(measure_here(asked.contender[0], Path(asked.contender[1]))))
        return
    quick = asked.quick
    sizes = [20_000] if quick else sorted(set(asked.rows)) or list(SIZES)
    file = RESULTS / ("data_quick.json" if quick else "data.json")
    results: dict[str, Any] = {**surroundings(), "sizes": {}}
    results["command"] = " ".join(["python", "-m", "benchmarks.data", *arguments])
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="ekiben-data-") as folder:
            results["sizes"][str(rows)] = compare(rows, Path(folder))
        results["growth"] = _growth(results["sizes"])
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(results["sizes"])


def _print(sizes: dict[str, Any]) -> None:
    table = Table("rows", "contender", "seconds a stage", "memory added, MB", "peak, MB")
    for rows, size in sizes.items():
        for name, runs in size["runs"].items():
            first = runs[0]
            stages = ", ".join(
                f"{stage} {seconds:.2f}" for stage, seconds in first["seconds"].items()
            )
            memory = max(first["memory_mb"].values())
            table.add_row(rows, name, stages, str(memory), str(first["peak_mb"]))
        for ratio, values in size["ratios"].items():
            table.add_row(rows, ratio, " / ".join(map(str, values)), "", "")
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
