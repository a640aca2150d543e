"""Stage deduplicate: copies out, contradictions out, and near-copies and groups tied together.

Rows that are tied go to one side of the split, so that no test row is all but known from training.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import PipelineConfig, redact
from tasks.manifests import DatasetManifest, DuplicateReport, NearPair, ValidationReport
from tasks.near_duplicates import (
    candidates,
    clusters,
    distinct,
    further_candidates,
    likely,
    near_copies,
)
from tasks.shards import count_shards, joined_arrays, read_shard, side_by_side, texts_of
from tasks.shingles import BANDS, bands_and_marks
from tasks.steps import run_step
from tasks.validation import quarantined_rows

KEPT = pa.schema(
    [
        ("row", pa.int64()),
        ("label", pa.string()),
        ("cluster", pa.int64()),
        ("at", pa.float64()),
        ("draw", pa.float64()),
    ]
)
LEFT_OUT = pa.schema([("row", pa.int64()), ("reason", pa.string()), ("of", pa.int64())])
NEAR = pa.schema([("row", pa.int64()), ("near", pa.int64()), ("jaccard", pa.float64())])
_SHOWN_PAIRS = 10
_ROWS_A_GROUP = 100_000
Indices = NDArray[np.int64]


def find_duplicates(
    config: PipelineConfig, dataset: DatasetManifest, report: ValidationReport
) -> DuplicateReport:
    """Return the manifest of what is kept, left out, and tied together.

    `kept.parquet` has a line a row that goes on: row, label, cluster (the first row it is tied to),
    at (where in [0, 1) the cluster falls, which decides its side) and draw (another such number,
    by the row's own text, to sample by). `left_out.parquet` tells row,
    reason (duplicate, conflict, near_conflict, outvoted, sample) and the row it is a copy of.
    `near.parquet` holds each pair of near-copies found: row, near, jaccard.

    Raises:
        DataError: if nothing is left.
    """
    split = config.split

    def produce(folder: Path) -> dict[str, Any]:
        return _find(config, dataset, report, folder)

    return run_step(
        "deduplicate",
        DuplicateReport,
        section={
            "duplicates": config.duplicates.model_dump(mode="json"),
            "salt": split.salt,
            "sample_rows": split.sample_rows,
        },
        parents={"dataset": dataset.digest, "validation": report.digest},
        produce=produce,
    )


def fingerprint_shard(
    source: Path, shard: int, unfit: Path, salt: str, near: bool, folder: Path
) -> int:
    """Write what tells the shard's rows apart, and return how many rows were written.

    `NNNNN.*`: row, label, text key (the first 128 bits of the salted SHA-256), group key, and
    MinHash bands and marks of every row that is not quarantined.
    """
    table = read_shard(source, shard, ["row", "text", "label", "group"])
    table = table.filter(pc.invert(pc.is_in(table["row"], pa.array(np.load(unfit)))))
    texts = table["text"].to_pylist()
    groups = table["group"].fill_null("").to_numpy()
    pq.write_table(table.select(["row", "label"]), folder / f"{shard:05d}.rows.parquet")
    np.save(folder / f"{shard:05d}.keys.npy", text_keys(texts, salt))
    np.save(folder / f"{shard:05d}.groups.npy", pd.util.hash_array(groups) * (groups != ""))
    if near:  # band by band, since one is read at a time
        bands, marks = bands_and_marks(texts)
        np.save(folder / f"{shard:05d}.bands.npy", np.ascontiguousarray(bands.T))
        np.save(folder / f"{shard:05d}.marks.npy", marks)
    return len(texts)


def text_keys(texts: Sequence[str], salt: str) -> NDArray[np.uint64]:
    """Return 128 bits [n_texts, 2] that depend on the text and the salt alone (SHA-256)."""
    prefix = f"{salt}\0".encode()
    digests = b"".join(hashlib.sha256(prefix + text.encode()).digest()[:16] for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def place(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each key, from its first 53 bits."""
    answer: NDArray[np.float64] = (keys >> np.uint64(11)) / 2.0**53
    return answer


@dataclass
class _Rows:
    """All fit rows, by index: their numbers, labels, text keys and groups."""

    number: Indices
    label: NDArray[np.int32]
    labels: list[str]
    key: NDArray[np.uint64]
    group: NDArray[np.uint64]


@dataclass
class _Verdict:
    """What is found of each row, by index: the first row with its text, its label, its reason."""

    first: Indices
    label: NDArray[np.int32]
    reason: NDArray[np.int8]


_REASONS = ("", "duplicate", "conflict", "near_conflict", "outvoted", "sample")
_DUPLICATE, _CONFLICT, _NEAR_CONFLICT, _OUTVOTED, _SAMPLE = range(1, 6)


def _find(
    config: PipelineConfig, dataset: DatasetManifest, report: ValidationReport, folder: Path
) -> dict[str, Any]:
    source, unfit = dataset.path("rows.parquet"), folder / "unfit.npy"
    near = config.duplicates.near_jaccard
    np.save(unfit, quarantined_rows(report))
    calls = [
        {"source": source, "shard": shard, "unfit": unfit, "salt": config.split.salt,
         "near": near is not None, "folder": folder}
        for shard in range(count_shards(source))
    ]  # fmt: skip
    sizes = side_by_side(fingerprint_shard, calls, "deduplicate")
    unfit.unlink()
    rows = _read_rows(folder, sizes)
    verdict = _exact(rows, config.duplicates.conflicts)

    def texts(indices: Indices) -> Sequence[str]:
        return texts_of(source, rows.number[indices])

    pairs, index = np.empty((0, 2), dtype=np.int64), np.empty(0)
    if near is not None:
        pairs, index = _near(folder, sum(sizes), verdict, texts, near)
    if config.duplicates.near_conflicts != "keep":
        _judge_near(rows, verdict, pairs, config.duplicates.near_conflicts)
    copies = np.flatnonzero(verdict.first != np.arange(len(rows.number)))
    ties = [np.stack([verdict.first[copies], copies], axis=1), pairs, _groups(rows.group)]
    cluster = clusters(len(rows.number), ties)
    _sample(rows, verdict, config.split.sample_rows)
    if not (verdict.reason == 0).any():
        raise DataError(
            f"{redact(config.data.uri)}: every text stands under two labels, so none is left; mend "
            "the labels in the source"
        )
    _write(rows, verdict, cluster, folder)
    _write_pairs(rows, pairs, index, folder / "near.parquet")
    return _figures(rows, verdict, pairs, index)


def _read_rows(folder: Path, sizes: Sequence[int]) -> _Rows:
    def arrays(name: str) -> Any:
        return joined_arrays(sorted(folder.glob(f"*.{name}.npy")), sum(sizes), unlink=True)

    files = sorted(folder.glob("*.rows.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    for file in files:
        file.unlink()
    labels = table["label"].combine_chunks().dictionary_encode()
    return _Rows(
        number=table["row"].to_numpy(),
        label=labels.indices.to_numpy(),
        labels=labels.dictionary.to_pylist(),
        key=arrays("keys"),
        group=arrays("groups"),
    )


def _exact(rows: _Rows, action: str) -> _Verdict:
    """Find the copies of each text, and what is to be done where their labels differ."""
    order = np.lexsort((rows.key[:, 1], rows.key[:, 0]))  # stable: the first of equals stays first
    ordered = rows.key[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])[: len(order)]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(order) else order
    reason = np.where(first != np.arange(len(first)), _DUPLICATE, 0).astype(np.int8)
    verdict = _Verdict(first, rows.label.copy(), reason)
    _judge(rows, verdict, first, action, _CONFLICT)
    return verdict


def _judge(rows: _Rows, verdict: _Verdict, cluster: Indices, action: str, conflict: int) -> None:
    """Quarantine the clusters in which labels differ, or give them the label of the majority."""
    differs = np.unique(cluster[rows.label != rows.label[cluster]])
    if not len(differs):
        return
    members = np.flatnonzero(np.isin(cluster, differs))
    for rows_of in np.split(
        members[np.argsort(cluster[members], kind="stable")],
        np.cumsum(np.unique(cluster[members], return_counts=True)[1])[:-1],
    ):
        counts = np.bincount(rows.label[rows_of])
        winner = int(counts.argmax())
        if action == "majority" and 2 * counts[winner] > len(rows_of):
            outvoted = rows_of[rows.label[rows_of] != winner]
            verdict.label[outvoted] = winner
            verdict.reason[outvoted[verdict.reason[outvoted] != 0]] = _OUTVOTED
        else:
            verdict.reason[rows_of] = conflict


def _judge_near(rows: _Rows, verdict: _Verdict, pairs: Indices, action: str) -> None:
    """Judge the labels of near-copies; rows that are left out already have no say."""
    own = np.arange(len(rows.number))
    kept = verdict.reason == 0
    near = clusters(len(own), [pairs[kept[pairs].all(axis=1)]])
    decided = _Rows(rows.number, verdict.label.copy(), rows.labels, rows.key, rows.group)
    _judge(decided, verdict, np.where(kept, near, own), action, _NEAR_CONFLICT)


def _near(
    folder: Path,
    rows: int,
    verdict: _Verdict,
    texts: Callable[[Indices], Sequence[str]],
    least: float,
) -> tuple[Indices, NDArray[np.float64]]:
    """Return the pairs [n_pairs, 2] of near-copies among distinct texts, and their Jaccard index."""
    own = np.flatnonzero(verdict.first == np.arange(rows))

    def keys(band: int) -> NDArray[np.uint64]:
        files = sorted(folder.glob("*.bands.npy"))
        return np.concatenate([np.load(file, mmap_mode="r")[band] for file in files])[own]

    def compare(found: list[Indices]) -> tuple[Indices, NDArray[np.float64]]:
        files = sorted(folder.glob("*.marks.npy"))  # 32 bytes a row, let go before texts are read
        pairs = likely(distinct(np.concatenate(found)), joined_arrays(files, rows), least)
        return near_copies([pairs], texts, least)

    pairs, index = compare([candidates(keys(band), own) for band in range(BANDS)])
    cluster = clusters(rows, [pairs])[own]
    more, more_index = compare(
        [further_candidates(keys(band), own, cluster) for band in range(BANDS)]
    )
    for file in (*folder.glob("*.bands.npy"), *folder.glob("*.marks.npy")):
        file.unlink()
    return np.concatenate([pairs, more]), np.concatenate([index, more_index])


def _groups(group: NDArray[np.uint64]) -> Indices:
    """Return pairs that connect the rows of each group; rows without a group have the key 0."""
    inside = np.flatnonzero(group)
    order = inside[np.argsort(group[inside], kind="stable")]
    same = group[order[1:]] == group[order[:-1]]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _sample(rows: _Rows, verdict: _Verdict, most: int | None) -> None:
    """Keep the `most` rows whose keys are lowest in their second half, so by content alone."""
    kept = np.flatnonzero(verdict.reason == 0)
    if most is not None and len(kept) > most:
        order = kept[np.argsort(rows.key[kept, 1], kind="stable")]
        verdict.reason[order[most:]] = _SAMPLE


def _write(rows: _Rows, verdict: _Verdict, cluster: Indices, folder: Path) -> None:
    kept = verdict.reason == 0
    names = pa.array(rows.labels, pa.string())
    columns = {
        "row": rows.number[kept],
        "label": names.take(pa.array(verdict.label[kept])),
        "cluster": rows.number[cluster[kept]],
        "at": place(rows.key[cluster[kept], 0]),
        "draw": place(rows.key[kept, 1]),
    }
    table = pa.table(columns, schema=KEPT)
    # Small row groups, since later stages read the rows of a shard alone.
    pq.write_table(table, folder / "kept.parquet", row_group_size=_ROWS_A_GROUP)
    out = np.flatnonzero(~kept)
    first = rows.number[verdict.first[out]]
    columns = {
        "row": rows.number[out],
        "reason": pa.array(_REASONS).take(pa.array(verdict.reason[out])),
        "of": pa.array(first, mask=first == rows.number[out]),
    }
    pq.write_table(pa.table(columns, schema=LEFT_OUT), folder / "left_out.parquet")


def _write_pairs(rows: _Rows, pairs: Indices, index: NDArray[np.float64], file: Path) -> None:
    columns = [rows.number[pairs[:, 0]], rows.number[pairs[:, 1]], index]
    pq.write_table(pa.table(columns, schema=NEAR), file)


def _figures(
    rows: _Rows, verdict: _Verdict, pairs: Indices, index: NDArray[np.float64]
) -> dict[str, Any]:
    counts = np.bincount(verdict.reason, minlength=len(_REASONS)).tolist()
    near = clusters(len(rows.number), [pairs])
    tied = np.unique(pairs)
    shown = np.argsort(-index, kind="stable")[:_SHOWN_PAIRS].tolist()
    return {
        "rows_kept": counts[0],
        "duplicates": counts[_DUPLICATE],
        "conflicts": counts[_CONFLICT],
        "conflicting_texts": len(np.unique(verdict.first[rows.label != rows.label[verdict.first]])),
        "near_conflicts": counts[_NEAR_CONFLICT],
        "outvoted": counts[_OUTVOTED],
        "relabelled": int(((verdict.label != rows.label) & (verdict.reason == 0)).sum()),
        "sampled_out": counts[_SAMPLE],
        "near_rows": len(tied),
        "near_clusters": len(np.unique(near[tied])),
        "groups": len(np.unique(rows.group[rows.group != 0])),
        "examples": tuple(
            NearPair(
                row=int(rows.number[pairs[at, 0]]),
                near=int(rows.number[pairs[at, 1]]),
                jaccard=float(index[at]),
            )
            for at in shown
        ),
    }


deduplicate = task(name="deduplicate", task_run_name="deduplicate", cache_policy=NO_CACHE)(
    find_duplicates
)
