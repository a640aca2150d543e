"""What real checkpoints said of many real rows, from which test sets of any size can be drawn.

The figures on the whole pool are then the true ones, and what differs in a test set drawn from it
with replacement is chance alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.texts import Labelled, reuters_r8, sample, shipped
from configs.schema import PipelineConfig
from tasks.baseline import fit_baseline
from tasks.calibrating import calibrate_candidate
from tasks.digests import file_digests, value_digest
from tasks.evaluation import evaluate_candidate
from tasks.finetuning import fine_tune
from tasks.ingest import SCHEMA
from tasks.manifests import SplitManifest
from tasks.resampling import Ids
from tasks.steps import MANIFEST, write_json

CHECKPOINTS = {"300 rows": (300, 2), "1,500 rows": (1500, 1), "1,500 rows, longer": (1500, 4)}
"""Training rows and epochs of each checkpoint, of which the later is meant to be the better."""
POOL_ROWS, VALIDATION_ROWS = 3000, 200


class Pool(NamedTuple):
    """Labels, and class ids [n_rows] by the data (`actual`) and by each checkpoint (`given`)."""

    labels: tuple[str, ...]
    actual: Ids
    given: dict[str, Ids]


def pools(folder: Path, *, quick: bool = False) -> dict[str, Pool]:
    """Return a pool of SMS, one of tweets and one of Reuters news; only the first if `quick`."""
    sets: dict[str, Callable[[], Labelled]] = {"SMS": lambda: shipped("sms_spam")}
    if not quick:
        sets |= {"tweets": lambda: shipped("tweet_sentiment"), "Reuters R8": reuters_r8}
    chosen = dict(list(CHECKPOINTS.items())[: 1 if quick else None])
    return {name: _pool(folder / name, texts(), chosen) for name, texts in sets.items()}


def _pool(folder: Path, texts: Labelled, checkpoints: dict[str, tuple[int, int]]) -> Pool:
    rows = list(sample(texts, len(texts)).items())
    labels = tuple(sorted(set(texts.values())))
    test = rows[: min(POOL_ROWS, len(rows) // 2)]
    validation = rows[len(test) : len(test) + VALIDATION_ROWS]
    train = rows[len(test) + len(validation) :]
    given = {}
    for name, (count, epochs) in checkpoints.items():
        sides = {"train": train[:count], "validation": validation, "test": test}
        split = _split(folder / name, labels, sides)
        config = _config(labels, epochs)
        checkpoint = fine_tune(config, split)
        calibration = calibrate_candidate(config, split, checkpoint)
        baseline = fit_baseline(config, split)
        report = evaluate_candidate(config, split, checkpoint, calibration, baseline)
        said = pq.read_table(report.path("predictions.parquet"))["predicted"].to_pylist()
        given[name] = _ids(said, labels)
    return Pool(labels, _ids([label for _, label in test], labels), given)


def _ids(names: Sequence[str], labels: tuple[str, ...]) -> Ids:
    return np.array([labels.index(name) for name in names], dtype=np.int64)


def _split(
    folder: Path, labels: tuple[str, ...], sides: dict[str, list[tuple[str, str]]]
) -> SplitManifest:
    folder.mkdir(parents=True)
    for side, rows in sides.items():
        lines = [
            {"row": number, "text": text, "label": label, "group": None}
            for number, (text, label) in enumerate(rows, start=1)
        ]
        pq.write_table(pa.Table.from_pylist(lines, SCHEMA), folder / f"{side}.parquet")
    files = file_digests(folder)
    manifest = SplitManifest(
        key=value_digest(files),
        parents={},
        folder=folder,
        files=files,
        rows={side: len(rows) for side, rows in sides.items()},
        label_counts={
            side: {label: sum(own == label for _, own in rows) for label in labels}
            for side, rows in sides.items()
        },
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _config(labels: tuple[str, ...], epochs: int) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "pool",
            "data": {"uri": "pool", "labels": {label: label for label in labels}},
            "training": {
                "num_hidden_layers": 2,
                "max_length": 48,
                "learning_rate": 2e-4,
                "num_train_epochs": epochs,
                "early_stopping_patience": epochs,
            },
            "gate": {"accuracy": {"min": 0.5}},
        }
    )
