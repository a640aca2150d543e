"""Measure the first third of the line beside bare pandas with Great Expectations, and polars.

`python -m benchmarks.data [ROWS...]` measures 100,000, 1,000,000 and 10,000,000 rows made from the
real tweets, with controlled copies and faults; `--quick` measures 20,000. Each contender runs in a
process of its own, in turn; seconds and memory count from after its imports. Memory needs Linux.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, ROOT, surroundings
from configs.schema import PipelineConfig

SIZES = (100_000, 1_000_000, 10_000_000)
REPEATS = {100_000: 3, 1_000_000: 2}
COPIES, NEAR_COPIES, BLANK, WRONG_LABEL = 0.02, 0.02, 0.005, 0.005
LABELS = ("negative", "neutral", "positive")
RIVALS_MOST = (
    1_000_000  # above this the rivals, which hold all rows as objects, need too much memory
)


def write_rows(file: Path, rows: int) -> dict[str, int]:
    """Write a CSV of texts made of real tweets, and return what faults were put into it."""
    words = [text.split() for text in _tweets()]
    draw = random.Random(7)  # noqa: S311 - made data, not a secret
    made = {"copies": 0, "near_copies": 0, "blank": 0, "wrong_label": 0}
    with file.open("w", encoding="utf-8", newline="") as stream:
        import csv

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


def pandas_and_gx(file: Path) -> Iterator[tuple[str, Any]]:
    """Check the rows as Great Expectations' own pages do: one frame, one suite, one run."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    yield "ready", None
    frame = pd.read_csv(file, keep_default_na=False, dtype=str)
    yield "read", {"rows": len(frame)}
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all")
    checks = [
        gxe.ExpectColumnValuesToNotBeNull(column="text"),
        gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"\S"),
        gxe.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1, max_value=20_000),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(LABELS)),
        gxe.ExpectTableRowCountToBeBetween(min_value=100),
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="text", min_value=0.5),
    ]
    suite = context.suites.add(gx.ExpectationSuite(name="rows", expectations=checks))
    definition = gx.ValidationDefinition(name="rows", data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": frame},
        result_format="COMPLETE",  # which rows failed, as a quarantine needs
    )
    counts = {
        f"{item.expectation_config.type}.{item.expectation_config.kwargs.get('column')}": (
            item.result.get("unexpected_count")
        )
        for item in result.results
        if item.expectation_config is not None
    }
    yield "validate", {"failed": counts}


def polars_alone(file: Path) -> Iterator[tuple[str, Any]]:
    """Ask the same questions in one polars query: the floor."""
    import polars as pl

    yield "ready", None
    frame = pl.read_csv(file, infer_schema=False)
    yield "read", {"rows": frame.height}
    text, label = pl.col("text"), pl.col("label")
    answer = frame.lazy().select(
        text.is_null().sum().alias("null"),
        (~text.str.contains(r"\S")).sum().alias("blank"),
        (~text.str.strip_chars().str.len_chars().is_between(1, 20_000)).sum().alias("length"),
        label.is_null().sum().alias("no_label"),
        (~label.is_in(list(LABELS))).sum().alias("label"),
        pl.len(),
        text.n_unique().alias("distinct"),
    )
    row = answer.collect().row(0)
    yield "validate", {"failed": list(row[:5])}


def _config(file: Path) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "measured",
            "data": {"uri": str(file), "labels": list(LABELS), "max_rows": 100_000_000},
            "gate": {"accuracy": {"min": 0.5}},
            "label_errors": {"action": "none"},  # its cost is bounded: see benchmarks.labels
        }
    )


def validate_alone(file: Path) -> Iterator[tuple[str, Any]]:
    """Validate rows that another process has read in."""
    import great_expectations  # noqa: F401 - its import is not what is measured

    from tasks.ingest import read_dataset
    from tasks.validation import validate_dataset

    config = _config(file)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(read_dataset, config.data).result()
    dataset = read_dataset(config.data)  # as the other has left it
    yield "ready", None
    report = validate_dataset(config, dataset)
    yield "validate", {"quarantined": report.rows_quarantined}


def ekiben_stages(file: Path) -> Iterator[tuple[str, Any]]:
    """Run the first third of the line: every stage as `ekiben check` does."""
    import great_expectations  # noqa: F401 - its import is not what is measured
    import scipy.sparse.csgraph  # noqa: F401

    from tasks.auditing import find_label_errors
    from tasks.comparing import profile_dataset
    from tasks.duplicates import find_duplicates
    from tasks.ingest import read_dataset
    from tasks.splitting import split_rows
    from tasks.validation import validate_dataset

    config = _config(file)
    yield "ready", None
    dataset = read_dataset(config.data)
    yield "ingest", {"rows": dataset.rows}
    report = validate_dataset(config, dataset)
    counts = {f"{rule.rule}.{rule.column}": rule.rows_failed for rule in report.rules}
    yield "validate", {"failed": counts}
    found = find_duplicates(config, dataset, report)
    yield (
        "deduplicate",
        {"duplicates": found.duplicates, "near_rows": found.near_rows, "kept": found.rows_kept},
    )
    profile_dataset(dataset, found)
    yield "profile", {}
    suspects = find_label_errors(config, dataset, found)
    sides = split_rows(config, dataset, found, suspects)
    yield "split", {"sides": sides.rows}


def near_alone(file: Path) -> Iterator[tuple[str, Any]]:
    """Find near-copies as the line does, with every pair's true Jaccard index, on texts in memory."""
    import numpy as np
    import pandas as pd

    from tasks.near_duplicates import candidates, clusters, further_candidates, near_copies
    from tasks.shingles import BANDS, bands

    texts = pd.read_csv(file, keep_default_na=False, dtype=str)["text"].tolist()
    yield "ready", None
    keys, rows = bands(texts), np.arange(len(texts))

    def texts_of(indices: Any) -> list[str]:
        return [texts[index] for index in indices.tolist()]

    found = [candidates(keys[:, band], rows) for band in range(BANDS)]
    pairs, _ = near_copies(found, texts_of, 0.9)
    cluster = clusters(len(texts), [pairs])
    found = [further_candidates(keys[:, band], rows, cluster) for band in range(BANDS)]
    more, _ = near_copies(found, texts_of, 0.9)
    yield "near_copies", {"flagged": len(np.unique(np.concatenate([pairs, more])))}


def rensa_alone(file: Path) -> Iterator[tuple[str, Any]]:
    """Find near-copies with the fastest library alone, on words as its own pages do."""
    import pandas as pd
    from rensa import RMinHash, RMinHashLSH

    texts = pd.read_csv(file, keep_default_na=False, dtype=str)["text"].tolist()
    yield "ready", None
    matrix = RMinHash.digest_matrix_from_token_sets([text.split() for text in texts], 128, 42)
    index = RMinHashLSH(threshold=0.8, num_perm=128, num_bands=16)
    flags = index.query_duplicate_flags_matrix_one_shot(matrix)
    yield "near_copies", {"flagged": sum(flags)}


CONTENDERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "pandas_and_gx": pandas_and_gx,
    "polars": polars_alone,
    "ekiben": ekiben_stages,
    "ekiben_validate": validate_alone,
    "ekiben_near": near_alone,
    "rensa": rensa_alone,
}


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds,
        "memory_mb": memory,
        "answers": answers,
        "peak_mb": round(peak / 1e6),
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
    if arguments[:1] == ["--contender"]:
        print(json.dumps(measure_here(arguments[1], Path(arguments[2]))))
        return
    quick = "--quick" in arguments
    sizes = [20_000] if quick else [int(a) for a in arguments if a.isdigit()] or list(SIZES)
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
