"""Stage leakage: is any row of the test set in training? Counted on the files that were written."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import PipelineConfig
from tasks.duplicates import text_keys
from tasks.known_texts import KnownTexts
from tasks.manifests import LeakageReport, SplitManifest
from tasks.shards import count_shards, read_shard
from tasks.steps import require_whole, run_step


def count_leaks(config: PipelineConfig, split: SplitManifest) -> LeakageReport:
    """Return how many rows of train and validation have a text of the test split, or near it.

    Near-copies are looked for where the test set is frozen; else the split has kept them on one
    side.

    Raises:
        StepError: if the split was changed since it was made.
    """
    require_whole(split)
    frozen = config.split.frozen_test is not None
    near = config.duplicates.near_jaccard if frozen else None

    def produce(_: Path) -> dict[str, Any]:
        return _count(split, near) | {"frozen": frozen, "near_jaccard": near}

    return run_step(
        "leakage",
        LeakageReport,
        section={"frozen": frozen, "near_jaccard": near},
        parents={"split": split.digest},
        produce=produce,
    )


def _count(split: SplitManifest, near_jaccard: float | None) -> dict[str, Any]:
    test = pq.read_table(split.path("test.parquet"), columns=["text", "label"])
    known = KnownTexts(test["text"].to_pylist(), near_jaccard)
    exact = near = 0
    for side in ("train", "validation"):
        file = split.path(f"{side}.parquet")
        for shard in range(count_shards(file)):
            texts = read_shard(file, shard, ["text"])["text"]
            copies = known.copies(texts)
            exact += int(copies.sum())
            near += int((known.near_copies(texts, "leakage") & ~copies).sum())
    return {"test_set": digest_of(test), "rows": test.num_rows, "exact": exact, "near": near}


def digest_of(test: pa.Table) -> str:
    """Return the SHA-256 of a set of labelled texts; neither order nor row numbers matter."""
    digest = hashlib.sha256()
    for label in sorted(pc.unique(test["label"]).to_pylist()):
        texts = test.filter(pc.equal(test["label"], label))["text"].to_pylist()
        keys = text_keys(texts, label)
        digest.update(f"{len(texts)} {label}\0".encode())
        digest.update(keys[np.lexsort(keys.T)].tobytes())
    return digest.hexdigest()


look_for_leaks = task(name="leakage", task_run_name="leakage", cache_policy=NO_CACHE)(count_leaks)
