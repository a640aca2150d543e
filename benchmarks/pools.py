"""Train checkpoints of different length and size of data, and keep what they say of many real rows.

`python -m benchmarks.pools [SET...]` trains three small checkpoints and a baseline on SMS, tweets and
Reuters news, or on those named, and writes to `benchmarks/results/pools.json` which label each gives
to up to 3,000 rows that none was trained on: numbers, no text. `python -m benchmarks.gate` draws test
sets of any size from these rows, with replacement, so that the figures on all of them are the true
ones and what differs in a test set is chance alone. `--quick` trains one checkpoint on few SMS.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.line import RESULTS, surroundings
from benchmarks.texts import Labelled, reuters_r8, sample, shipped
from configs.schema import PipelineConfig
from tasks.baseline import fit_baseline
from tasks.calibrating import calibrate_candidate
from tasks.digests import file_digests, value_digest
from tasks.evaluation import evaluate_candidate
from tasks.finetuning import fine_tune
from tasks.ingest import SCHEMA
from tasks.manifests import CheckpointManifest, SplitManifest
from tasks.predictions import Predictions, read_predictions
from tasks.resampling import Ids
from tasks.steps import MANIFEST, home, write_json

FILE = RESULTS / "pools.json"
CHECKPOINTS = {"300 rows": (300, 3), "1,500 rows": (1500, 2), "1,500 rows, longer": (1500, 5)}
"""Training rows and epochs of each checkpoint, of which the later is meant to be the better."""
BASELINE, LAST = "baseline", "1,500 rows, longer"
POOL_ROWS, VALIDATION_ROWS = 3000, 200

Rows = list[tuple[str, str]]


class Pool(NamedTuple):
    """Rows that models have labelled: class ids [n_rows] by the data (`actual`) and each model.

    The rarest label is the last one. `confidence` [n_rows] is that of the last checkpoint,
    calibrated.
    """

    labels: tuple[str, ...]
    actual: Ids
    given: dict[str, Ids]
    confidence: np.ndarray[Any, np.dtype[np.float64]]


def read_pools(file: Path = FILE) -> dict[str, Pool]:
    """Return the pools as `python -m benchmarks.pools` wrote them."""
    found = json.loads(file.read_text(encoding="utf-8"))["pools"]
    return {
        name: Pool(
            tuple(pool["labels"]),
            np.array(list(pool["actual"]), dtype=np.int64),
            {model: np.array(list(said), dtype=np.int64) for model, said in pool["given"].items()},
            np.array(pool["confidence"].split(), dtype=np.float64) / 10_000,
        )
        for name, pool in found.items()
    }


def train(texts: Labelled, checkpoints: dict[str, tuple[int, int]], folder: Path) -> dict[str, Any]:
    """Return what each checkpoint, and a baseline beside the last one, says of the pool's rows."""
    rows = list(sample(texts, len(texts)).items())
    labels = tuple(label for label, _ in Counter(texts.values()).most_common())
    pool = rows[: min(POOL_ROWS, len(rows) // 2)]
    validation, rest = np.split(np.array(rows[len(pool) :], dtype=object), [VALIDATION_ROWS])
    said: dict[str, Predictions] = {}
    for name, (count, epochs) in checkpoints.items():
        sides = {"train": rest[:count].tolist(), "validation": validation.tolist(), "test": pool}
        split = _split(folder / name, labels, sides)
        config = _config(labels, epochs)
        baseline = fit_baseline(config, split)
        for model, made in ((name, fine_tune(config, split)), (BASELINE, baseline)):
            said[model] = _predictions(config, split, made, baseline)
    last = said[list(checkpoints)[-1]]
    return {
        "labels": labels,
        "train_rows": len(rest),
        "actual": _digits(last.actual),
        "given": {name: _digits(each.predicted) for name, each in said.items()},
        "confidence": " ".join(f"{10_000 * row.max():.0f}" for row in last.probabilities),
    }


def _digits(ids: Ids) -> str:
    return "".join(map(str, ids.tolist()))  # no set has more than ten labels


def _predictions(
    config: PipelineConfig,
    split: SplitManifest,
    model: CheckpointManifest,
    baseline: CheckpointManifest,
) -> Predictions:
    calibration = calibrate_candidate(config, split, model)
    return read_predictions(evaluate_candidate(config, split, model, calibration, baseline))


def _split(folder: Path, labels: tuple[str, ...], sides: dict[str, Rows]) -> SplitManifest:
    folder.mkdir(parents=True)
    for side, rows in sides.items():
        lines = [
            {"row": number, "text": text, "label": label, "group": None}
            for number, (text, label) in enumerate(rows, start=1)
        ]
        pq.write_table(pa.Table.from_pylist(lines, SCHEMA), folder / f"{side}.parquet")
    counted = {side: Counter(label for _, label in rows) for side, rows in sides.items()}
    files = file_digests(folder)
    manifest = SplitManifest(
        key=value_digest(files),
        parents={},
        folder=folder,
        files=files,
        rows={side: len(rows) for side, rows in sides.items()},
        label_counts={side: {label: of[label] for label in labels} for side, of in counted.items()},
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


@contextmanager
def _own_home() -> Iterator[Path]:
    """Keep the checkpoints out of the Ekiben home, of which only the sources are shared."""
    sources = home() / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("EKIBEN_HOME")
    with tempfile.TemporaryDirectory(prefix="ekiben-pools-") as folder:
        (Path(folder) / "sources").symlink_to(sources)
        os.environ["EKIBEN_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("EKIBEN_HOME")
            os.environ |= {"EKIBEN_HOME": before} if before else {}


def main(arguments: list[str]) -> None:
    """Train, and put the pools into `benchmarks/results/pools.json`."""
    quick = "--quick" in arguments
    file = RESULTS / "pools_quick.json" if quick else FILE
    sets: dict[str, Callable[[], Labelled]] = {
        "SMS": lambda: shipped("sms_spam"),
        "tweets": lambda: shipped("tweet_sentiment"),
        "Reuters R8": reuters_r8,
    }
    names = ["SMS"] if quick else [name for name in sets if name in arguments] or list(sets)
    checkpoints = {"300 rows": (300, 1)} if quick else CHECKPOINTS
    known = json.loads(file.read_text(encoding="utf-8"))["pools"] if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.pools", *arguments])
    with _own_home() as folder:
        for name in names:
            texts = sample(sets[name](), 1000) if quick else sets[name]()
            known[name] = train(texts, checkpoints, folder / name)
            found = {**surroundings(), "command": command, "pools": known}
            file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
