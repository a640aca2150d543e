"""Stage ingest: fetch the source, read it strictly, clean each text, write Parquet."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import Data, redact
from tasks.cleaning import apply, steps_of
from tasks.digests import value_digest
from tasks.fingerprints import fingerprints
from tasks.manifests import DatasetManifest
from tasks.privacy import mask
from tasks.progress import report_progress
from tasks.queries import read_query
from tasks.reading import Row, read_rows
from tasks.row_cases import cases_of, first_rows
from tasks.shards import write_shards
from tasks.sources import check_pin, fetch, is_sql
from tasks.steps import run_step

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("slices", pa.list_(pa.string())),
    ]
)
_FOR_VALIDATION = [("fingerprint", pa.uint64()), ("case", pa.int32()), ("case_text", pa.string())]
ROWS = pa.schema([*SCHEMA, *_FOR_VALIDATION])
_MOST_CHARACTERS = 32_000_000


def read_dataset(data: Data) -> DatasetManifest:
    """Return the manifest of the cleaned rows, `rows.parquet`, with the columns of ROWS.

    `label` holds the label's name, or the raw value where `data.labels` does not know it, which
    validation then quarantines. `fingerprint` is 64 bits of the text, for stages that ask only
    which texts are equal. `case` numbers the rows of a shard that are one case to validation, and
    `case_text` has the text of the first row of each, so that it need not read the others. `slices`
    holds the values of `data.slice_columns`, masked as the texts are.

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
    """Clean, mask and write the rows shard by shard, so that memory stays as the source grows."""
    labels: Counter[str] = Counter()
    masked: Counter[str] = Counter()
    changed_by: Counter[str] = Counter()
    changed = 0

    def shards() -> Iterator[pa.Table]:
        nonlocal changed
        for batch in _batches(rows, data.shard_rows):
            texts = _clean(batch, data, changed_by)
            changed += sum(text != row.text for text, row in zip(texts, batch, strict=True))
            names = [None if row.label is None else _name(row.label, data) for row in batch]
            labels.update("(none)" if name is None else name for name in names)
            report_progress("ingest", batch[-1].number, None, "rows read")
            numbers, groups = [row.number for row in batch], [row.group for row in batch]
            stored = pa.array(_mask(texts, data, masked), pa.string())
            prints = pc.if_else(stored.is_null(), None, pa.array(fingerprints(stored)))
            slices = _slices(batch, data, masked)
            case = cases_of(stored, pa.array(names, pa.string()))
            first = np.isin(np.arange(len(case)), first_rows(case))
            shown = pc.if_else(pa.array(first), stored, None)
            columns = [numbers, stored, names, groups, slices, prints, case, shown]
            yield pa.table(columns, schema=ROWS)

    count = write_shards(file, ROWS, shards())
    if count == 0:
        raise DataError(
            f"{redact(data.uri)}: holds no rows; add labelled texts, or correct data.uri"
        )
    known = {name: labels[name] for name in data.label_names}
    return {
        "rows": count,
        "changed_by_cleaning": changed,
        "changed_by": {name: changed_by[name] for name, _ in steps_of(data.cleaning.model_dump())},
        "masked": dict(masked),
        "label_counts": known,
    }


def _batches(rows: Iterator[Row], most_rows: int) -> Iterator[list[Row]]:
    """Yield the rows in lists that are full by count, or by the memory that their texts take."""
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.text or "")
        if len(batch) == most_rows or characters >= _MOST_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _clean(batch: list[Row], data: Data, changed_by: Counter[str]) -> list[str | None]:
    """Return the cleaned texts, and add how many texts each switch changed to the counts."""
    steps = steps_of(data.cleaning.model_dump())
    return [None if row.text is None else apply(steps, row.text, changed_by) for row in batch]


def _mask(texts: list[str | None], data: Data, masked: Counter[str]) -> list[str | None]:
    """Return the texts masked as declared, and add how many values were masked to the counts."""
    if not data.privacy.mask:
        return texts
    privacy = data.privacy.model_dump()
    answers: list[str | None] = []
    for text in texts:
        answer, found = (None, None) if text is None else mask(text, privacy)
        answers.append(answer)
        masked.update(found or {})
    return answers


def _slices(
    batch: list[Row], data: Data, masked: Counter[str]
) -> Sequence[Sequence[str | None] | None]:
    """Return each row's values of the slice columns, masked, or None where there are no such."""
    if not data.slice_columns:
        return [None] * len(batch)
    columns = zip(*(row.slices for row in batch), strict=True)
    return list(zip(*(_mask(list(column), data, masked) for column in columns), strict=True))


def _name(raw: str, data: Data) -> str:
    return data.labels.get(raw.strip(), raw.strip())


ingest = task(name="ingest", task_run_name="ingest", cache_policy=NO_CACHE)(read_dataset)
