"""Stage split: train / validation / test by a hash of the text.

The hash of a text alone decides its side, so a row never changes side when the data grows, and
the same text is never on two sides. Rows that are tied to one another (near-copies, groups) go
where the first of them goes. Each label is divided by independent hashes, so that every side has
the label shares of the whole up to sampling error, which the manifest states.
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
from tasks.ingest import SCHEMA
from tasks.manifests import DatasetManifest, DuplicateReport, LabelReport, SplitManifest
from tasks.progress import report_progress
from tasks.shards import count_shards, parquet_writer, places_of, read_shard
from tasks.slices import require_few_slices
from tasks.steps import run_step

SIDES = ("train", "validation", "test")


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
    """

    def produce(folder: Path) -> dict[str, Any]:
        kept = pq.read_table(
            duplicates.path("kept.parquet"),
            columns=["row", "label", "at"],
            read_dictionary=["label"],  # a number a row, not a name
        )
        if labels.quarantined:
            suspects = pq.read_table(labels.path("suspects.parquet"))["row"].combine_chunks()
            kept = kept.filter(pc.invert(pc.is_in(kept["row"], suspects)))
        return _split(config, dataset, kept, folder)

    manifest = run_step(
        "split",
        SplitManifest,
        section={
            "split": config.split.model_dump(mode="json"),
            "labels": config.data.label_names,
        },
        parents={
            "dataset": dataset.digest,
            "duplicates": duplicates.digest,
            "label_errors": labels.digest,
        },
        produce=produce,
    )
    require_few_slices(config, manifest)
    return manifest


def _split(
    config: PipelineConfig, dataset: DatasetManifest, kept: pa.Table, folder: Path
) -> dict[str, Any]:
    sides = sides_of(kept["at"].to_numpy(), config.split)
    counts = {
        side: _counts(kept["label"].filter(pa.array(sides == number)), config.data.label_names)
        for number, side in enumerate(SIDES)
    }
    _require_labels(counts, config)
    hashes = _write_sides(dataset.path("rows.parquet"), kept, sides, folder)
    _assert_apart(hashes)
    return {
        "rows": {side: sum(found.values()) for side, found in counts.items()},
        "label_counts": counts,
    }


def sides_of(at: NDArray[np.float64], split: Split) -> NDArray[np.int8]:
    """Return the index in SIDES [n_rows] for each place in [0, 1): test lies lowest, train highest."""
    validation = split.test_fraction + split.validation_fraction
    return np.where(at < split.test_fraction, 2, np.where(at < validation, 1, 0)).astype(np.int8)


def _write_sides(
    source: Path, kept: pa.Table, sides: NDArray[np.int8], folder: Path
) -> dict[str, NDArray[np.uint64]]:
    """Write each side, shard by shard, and return 64-bit hashes of the texts that are on it."""
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
    problems = [
        f"{redact(config.data.uri)}: no row of label {label!r} falls into the {side} split; add "
        "rows of it, or raise the split's share"
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
