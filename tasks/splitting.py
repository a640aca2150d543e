"""Stage split: exact duplicates out, then train / validation / test by a hash of the text.

The hash of a text alone decides its side, so a row never changes side when the data grows, and
the same text is never on two sides. Each label is divided by independent hashes, so that every
side has the label shares of the whole up to sampling error, which the manifest states.
"""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import PipelineConfig, Split, redact
from tasks.manifests import SplitManifest, ValidationReport
from tasks.steps import run_step

SIDES = ("train", "validation", "test")
Record = dict[str, Any]


def split_rows(config: PipelineConfig, report: ValidationReport) -> SplitManifest:
    """Return the manifest of the three sides, and of `left_out.parquet` with row and reason.

    Raises:
        DataError: if a side lacks a label, or if a text is found on two sides.
    """

    def produce(folder: Path) -> dict[str, Any]:
        return _split(config, report, folder)

    return run_step(
        "split",
        SplitManifest,
        section={
            "split": config.split.model_dump(mode="json"),
            "labels": config.data.label_names,
        },
        parents={"validation": report.digest},
        produce=produce,
    )


def _split(config: PipelineConfig, report: ValidationReport, folder: Path) -> dict[str, Any]:
    table = pq.read_table(report.path("valid.parquet"))
    kept, left_out = without_duplicates(table.to_pylist())
    if not kept:
        raise DataError(
            f"{redact(config.data.uri)}: every text stands under two labels, so none is left; mend "
            "the labels in the source"
        )
    kept, sampled_out = sample(kept, config.split)
    sides: dict[str, list[Record]] = {side: [] for side in SIDES}
    for record in kept:
        sides[side_of(record["text"], config.split)].append(record)
    _assert_apart(sides)
    _require_labels(sides, config)
    for side, records in sides.items():
        pq.write_table(pa.Table.from_pylist(records, table.schema), folder / f"{side}.parquet")
    _write_left_out(left_out, folder / "left_out.parquet")
    reasons = Counter(reason for _, reason in left_out)
    return {
        "rows": {side: len(records) for side, records in sides.items()},
        "label_counts": {
            side: dict(_counts(records, config.data.label_names)) for side, records in sides.items()
        },
        "duplicates_removed": reasons["duplicate"],
        "conflicts_quarantined": reasons["conflict"],
        "sampled_out": sampled_out,
    }


def without_duplicates(records: list[Record]) -> tuple[list[Record], list[tuple[int, str]]]:
    """Keep the first record of each text; drop all copies of a text that has two labels.

    Returns the kept records and (row, "duplicate" or "conflict") for each record left out.
    """
    by_text: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_text[record["text"]].append(record)
    kept, left_out = [], []
    for copies in by_text.values():
        if len({record["label"] for record in copies}) > 1:
            left_out += [(record["row"], "conflict") for record in copies]
        else:
            kept.append(copies[0])
            left_out += [(record["row"], "duplicate") for record in copies[1:]]
    return kept, sorted(left_out)


def sample(records: list[Record], split: Split) -> tuple[list[Record], int]:
    """Keep the `split.sample_rows` records of lowest content hash; return them and how many went."""
    if split.sample_rows is None or len(records) <= split.sample_rows:
        return records, 0
    ranked = sorted(records, key=lambda record: _unit_hash(f"sample:{record['text']}", split.salt))
    kept = {record["row"] for record in ranked[: split.sample_rows]}
    return [r for r in records if r["row"] in kept], len(records) - len(kept)


def side_of(text: str, split: Split) -> str:
    """Return the side of a text, by its hash alone."""
    at = _unit_hash(text, split.salt)
    if at < split.test_fraction:
        return "test"
    if at < split.test_fraction + split.validation_fraction:
        return "validation"
    return "train"


def _unit_hash(text: str, salt: str) -> float:
    """Return a number in [0, 1) that depends on the text and the salt alone (SHA-256, 53 bits)."""
    digest = hashlib.sha256(f"{salt}\x00{text}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _assert_apart(sides: dict[str, list[Record]]) -> None:
    seen: dict[str, str] = {}
    for side, records in sides.items():
        for record in records:
            other = seen.setdefault(record["text"], side)
            if other != side:
                raise DataError(
                    f"row {record['row']}: its text is in both {other} and {side}; this is a defect "
                    "of Ekiben, please report it"
                )


def _require_labels(sides: dict[str, list[Record]], config: PipelineConfig) -> None:
    problems = []
    for side, records in sides.items():
        for label, count in _counts(records, config.data.label_names).items():
            if count == 0:
                problems.append(
                    f"{redact(config.data.uri)}: no row of label {label!r} falls into the {side} "
                    "split; add rows of it, or raise the split's share"
                )
    if problems:
        raise DataError(problems)


def _counts(records: list[Record], labels: tuple[str, ...]) -> dict[str, int]:
    found = Counter(record["label"] for record in records)
    return {label: found[label] for label in labels}


def _write_left_out(left_out: list[tuple[int, str]], file: Path) -> None:
    rows, reasons = [row for row, _ in left_out], [reason for _, reason in left_out]
    schema = pa.schema([("row", pa.int64()), ("reason", pa.string())])
    pq.write_table(pa.table([rows, reasons], schema=schema), file)


split = task(name="split", task_run_name="split", cache_policy=NO_CACHE)(split_rows)
