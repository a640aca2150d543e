"""Stage audit: the rows whose label a model of the other rows confidently denies."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import PipelineConfig
from tasks.label_errors import audit_labels
from tasks.manifests import DatasetManifest, DuplicateReport, LabelReport
from tasks.progress import report_progress
from tasks.shards import texts_of
from tasks.steps import run_step

SUSPECTS = pa.schema(
    [
        ("row", pa.int64()),
        ("label", pa.string()),
        ("proposed", pa.string()),
        ("score", pa.float64()),
    ]
)


def find_label_errors(
    config: PipelineConfig, dataset: DatasetManifest, duplicates: DuplicateReport
) -> LabelReport:
    """Return the manifest of `suspects.parquet`: row, label, proposed, score, worst first.

    At most `label_errors.max_rows` rows are judged, a sample by content hash.
    """

    def produce(folder: Path) -> dict[str, Any]:
        return _audit(config, dataset, duplicates, folder)

    return run_step(
        "audit",
        LabelReport,
        section={
            "label_errors": config.label_errors.model_dump(mode="json"),
            "labels": config.data.label_names,
            "seed": config.training.seed,
        },
        parents={"dataset": dataset.digest, "duplicates": duplicates.digest},
        produce=produce,
    )


def _audit(
    config: PipelineConfig, dataset: DatasetManifest, duplicates: DuplicateReport, folder: Path
) -> dict[str, Any]:
    settings, names = config.label_errors, config.data.label_names
    kept = pq.read_table(duplicates.path("kept.parquet"), columns=["row", "label", "draw"])
    rows, found = kept.num_rows, None
    if settings.action != "none":
        report_progress("audit", 0, None, "fitting a model of the other rows, fold by fold")
        lowest = np.argsort(kept["draw"].to_numpy(), kind="stable")[: settings.max_rows]
        kept = kept.take(pa.array(np.sort(lowest)))
        texts = texts_of(dataset.path("rows.parquet"), kept["row"].to_numpy())
        numbers = {name: number for number, name in enumerate(names)}
        labels = [numbers[label] for label in kept["label"].to_pylist()]
        found = audit_labels(texts, labels, len(names), settings, config.training.seed)
    suspects = found.suspects if found else ()
    at = pa.array([suspect.index for suspect in suspects], pa.int64())
    columns = {
        "row": kept["row"].take(at),
        "label": [names[suspect.given] for suspect in suspects],
        "proposed": [names[suspect.proposed] for suspect in suspects],
        "score": [suspect.score for suspect in suspects],
    }
    table = pa.table(columns, schema=SUSPECTS)
    pq.write_table(table, folder / "suspects.parquet")
    return {
        "rows": rows,
        "rows_judged": found.rows_judged if found else 0,
        "found": found.found if found else 0,
        "listed": len(suspects),
        "quarantined": len(suspects) if settings.action == "quarantine" else 0,
    }


audit = task(name="audit", task_run_name="audit", cache_policy=NO_CACHE)(find_label_errors)
