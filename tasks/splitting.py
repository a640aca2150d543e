"""Stage split: train / validation / test by a hash of the text.

The hash of a text alone decides its side, so a row never changes side when the data grows, and
the same text is never on two sides. Rows that are tied to one another (near-copies, groups) go
where the first of them goes. Each label is divided by independent hashes, so that every side has
the label shares of the whole up to sampling error, which the manifest states.

Where a frozen test set is pinned, its rows are the test split. A row of the data that is a copy or
near-copy of one, or of its group, is on no side; the others are divided among train and validation.
"""

from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import PipelineConfig, Split, redact
from tasks.fingerprints import fingerprints
from tasks.frozen import fetch_frozen, read_frozen
from tasks.ingest import SCHEMA
from tasks.known_texts import KnownTexts
from tasks.manifests import DatasetManifest, DuplicateReport, LabelReport, SplitManifest
from tasks.progress import report_progress
from tasks.shards import count_shards, parquet_writer, places_of, read_shard
from tasks.slices import require_few_slices
from tasks.steps import run_step

SIDES = ("train", "validation", "test")
_LEAKS = ("exact", "near", "group")


def split_rows(
    config: PipelineConfig,
    dataset: DatasetManifest,
    duplicates: DuplicateReport,
    labels: LabelReport,
) -> SplitManifest:
    """Return the manifest of the three sides; rows quarantined by the audit are on none.

    Raises:
        DataError: if a side lacks a label, if a text is found on two sides, or if the test rows fall
            into too many slices.
        SourceError, DataError: if the frozen test set is not what was pinned, or does not fit.
    """
    source = fetch_frozen(config)
    frozen = source and read_frozen(config, source)

    def produce(folder: Path) -> dict[str, Any]:
        kept = pq.read_table(
            duplicates.path("kept.parquet"),
            columns=["row", "label", "at"],
            read_dictionary=["label"],  # a number a row, not a name
        )
        if labels.quarantined:
            suspects = pq.read_table(labels.path("suspects.parquet"))["row"].combine_chunks()
            kept = kept.filter(pc.invert(pc.is_in(kept["row"], suspects)))
        return _split(config, dataset, kept, frozen, folder)

    manifest = run_step(
        "split",
        SplitManifest,
        section={
            "split": config.split.model_dump(mode="json", exclude={"frozen_test"}),
            "near_jaccard": config.duplicates.near_jaccard if source else None,
            "labels": config.data.label_names,
        },
        parents={
            "dataset": dataset.digest,
            "duplicates": duplicates.digest,
            "label_errors": labels.digest,
            **({"frozen_test": source.digest} if source else {}),
        },
        produce=produce,
    )
    require_few_slices(config, manifest)
    return manifest


def _split(
    config: PipelineConfig,
    dataset: DatasetManifest,
    kept: pa.Table,
    frozen: pa.Table | None,
    folder: Path,
) -> dict[str, Any]:
    leaked = {}
    if frozen is not None:
        leaks = _leaks(dataset.path("rows.parquet"), kept, frozen, config.duplicates.near_jaccard)
        leaked = {kind: int((leaks == n).sum()) for n, kind in enumerate(_LEAKS, start=1)}
        kept = kept.filter(pa.array(leaks == 0))
    sides = sides_of(kept["at"].to_numpy(), config.split)
    if frozen is not None:
        sides[sides == SIDES.index("test")] = SIDES.index("train")
    counts = {
        side: _counts(kept["label"].filter(pa.array(sides == number)), config.data.label_names)
        for number, side in enumerate(SIDES)
    }
    if frozen is not None:
        counts["test"] = _counts(frozen["label"], config.data.label_names)
    _require_labels(counts, config)
    hashes = _write_sides(dataset.path("rows.parquet"), kept, sides, frozen, folder)
    _assert_apart(hashes)
    return {
        "leaked": leaked,
        "rows": {side: sum(found.values()) for side, found in counts.items()},
        "label_counts": counts,
    }


def _leaks(
    source: Path, kept: pa.Table, frozen: pa.Table, near_jaccard: float | None
) -> NDArray[np.int8]:
    """Return for each kept row [n_rows] 0, or the place in _LEAKS, from 1, of why it must go."""
    known = KnownTexts(frozen["text"].to_pylist(), near_jaccard)
    groups = pc.unique(frozen["group"]).drop_null()
    rows = kept["row"].to_numpy()
    leaks = np.zeros(len(rows), dtype=np.int8)
    for shard in range(count_shards(source)):
        table = read_shard(source, shard, SCHEMA.names)
        at = places_of(table["row"].to_numpy(), rows)
        table, at = table.filter(pa.array(at >= 0)), at[at >= 0]
        inside = pc.is_in(table["group"], groups).to_numpy()
        near = known.near_copies(table["text"], "split")
        leaks[at] = np.select([known.copies(table["text"]), near, inside], [1, 2, 3], 0)
    return leaks


def sides_of(at: NDArray[np.float64], split: Split) -> NDArray[np.int8]:
    """Return the index in SIDES [n_rows] for each place in [0, 1): test lies lowest, train highest."""
    validation = split.test_fraction + split.validation_fraction
    return np.where(at < split.test_fraction, 2, np.where(at < validation, 1, 0)).astype(np.int8)


def _write_sides(
    source: Path,
    kept: pa.Table,
    sides: NDArray[np.int8],
    frozen: pa.Table | None,
    folder: Path,
) -> dict[str, NDArray[np.uint64]]:
    """Write each side, shard by shard, and return 64-bit hashes of the texts that are on it.

    A frozen test set is written as it is.
    """
    hashes: dict[str, list[NDArray[np.uint64]]] = {side: [] for side in SIDES}
    rows = kept["row"].to_numpy()
    with ExitStack() as stack:
        writers = [
            stack.enter_context(parquet_writer(folder / f"{side}.parquet", SCHEMA))
            for side in SIDES
        ]
        shards = count_shards(source)
        for shard in range(shards):
            table = read_shard(source, shard, SCHEMA.names)
            at = places_of(table["row"].to_numpy(), rows)
            table, at = table.filter(pa.array(at >= 0)), at[at >= 0]
            names = kept["label"].take(pa.array(at)).cast(pa.string())
            table = table.set_column(2, "label", names)
            for number, side in enumerate(SIDES):
                part = table.filter(pa.array(sides[at] == number))
                writers[number].write_table(part)
                hashes[side].append(fingerprints(part["text"]))
            report_progress("split", shard + 1, shards, "shards")
        if frozen is not None:
            writers[SIDES.index("test")].write_table(frozen)
            hashes["test"].append(fingerprints(frozen["text"]))
    return {side: np.concatenate(found) for side, found in hashes.items()}


def _assert_apart(hashes: dict[str, NDArray[np.uint64]]) -> None:
    for one, other in combinations(hashes, 2):
        both = np.intersect1d(hashes[one], hashes[other])
        if len(both):
            raise DataError(
                f"{len(both)} texts are in both {one} and {other}; this is a defect of Ekiben, "
                "please report it"
            )


def _require_labels(counts: dict[str, dict[str, int]], config: PipelineConfig) -> None:
    frozen = config.split.frozen_test is not None
    cure = "freeze a larger test set" if frozen else "raise the split's share"
    problems = [
        f"{redact(config.data.uri)}: no row of label {label!r} falls into the {side} split; add "
        f"rows of it, or {cure}"
        for side, found in counts.items()
        for label, count in found.items()
        if count == 0
    ]
    if problems:
        raise DataError(problems)


def _counts(column: pa.ChunkedArray, labels: tuple[str, ...]) -> dict[str, int]:
    counted = pc.value_counts(column).to_pylist()
    found = {entry["values"]: int(entry["counts"]) for entry in counted}
    return {label: found.get(label, 0) for label in labels}


split = task(name="split", task_run_name="split", cache_policy=NO_CACHE)(split_rows)
