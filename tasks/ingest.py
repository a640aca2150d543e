"""Stage ingest: fetch the source, read it strictly, clean each text, write Parquet."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import Data, redact
from tasks.cleaning import clean
from tasks.digests import value_digest
from tasks.manifests import DatasetManifest
from tasks.progress import report_progress
from tasks.queries import read_query
from tasks.reading import Row, read_rows
from tasks.sources import check_pin, fetch, is_sql
from tasks.steps import run_step

SCHEMA = pa.schema([("row", pa.int64()), ("text", pa.string()), ("label", pa.string())])
_BATCH_ROWS = 4096


def read_dataset(data: Data) -> DatasetManifest:
    """Return the manifest of the cleaned rows, `rows.parquet` with columns row, text, label.

    `label` holds the label's name, or the raw value where `data.labels` does not know it, which
    validation then quarantines.

    Raises:
        SourceError, DataError: if the source cannot be fetched or is not as declared.
    """
    if is_sql(data.uri) or data.query is not None:
        records = list(read_query(data))
        rows, digest = iter(records), value_digest(records)
        check_pin(data.uri, digest)
    else:
        source = fetch(data.uri, hf_split=data.hf_split, max_megabytes=data.max_megabytes)
        rows, digest = read_rows(source.path, data), source.digest

    def produce(folder: Path) -> dict[str, Any]:
        figures = _write(rows, data, folder / "rows.parquet")
        return {"source": redact(data.uri), "source_digest": digest, **figures}

    return run_step(
        "ingest",
        DatasetManifest,
        section=data.model_dump(mode="json"),
        parents={"source": digest},
        produce=produce,
    )


def _write(rows: Iterator[Row], data: Data, file: Path) -> dict[str, Any]:
    """Clean and write the rows in batches, so that memory does not grow with the source."""
    switches = data.cleaning.model_dump()
    labels: Counter[str] = Counter()
    count = changed = 0
    with pq.ParquetWriter(file, SCHEMA) as writer:
        while batch := list(islice(rows, _BATCH_ROWS)):
            texts = [None if row.text is None else clean(row.text, switches) for row in batch]
            names = [None if row.label is None else _name(row.label, data) for row in batch]
            numbers = [row.number for row in batch]
            writer.write_batch(pa.record_batch([numbers, texts, names], schema=SCHEMA))
            count += len(batch)
            changed += sum(a != row.text for a, row in zip(texts, batch, strict=True))
            labels.update("(none)" if name is None else name for name in names)
            report_progress("ingest", count, None, "rows read")
    if count == 0:
        raise DataError(
            f"{redact(data.uri)}: holds no rows; add labelled texts, or correct data.uri"
        )
    known = {name: labels[name] for name in data.label_names}
    return {"rows": count, "changed_by_cleaning": changed, "label_counts": known}


def _name(raw: str, data: Data) -> str:
    return data.labels.get(raw.strip(), raw.strip())


ingest = task(name="ingest", task_run_name="ingest", cache_policy=NO_CACHE)(read_dataset)
