"""The frozen test set: a Parquet file of test rows that a config pins by its digest."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import DataError
from configs.schema import PipelineConfig, redact
from tasks.cleaning import clean
from tasks.ingest import SCHEMA
from tasks.privacy import mask
from tasks.sources import Source, fetch


def fetch_frozen(config: PipelineConfig) -> Source | None:
    """Return the file of the frozen test set, its digest checked, or None where none is set.

    Raises:
        SourceError: if it is not there, or not what was pinned.
    """
    return None if config.split.frozen_test is None else fetch(config.split.frozen_test)


def read_frozen(config: PipelineConfig, source: Source) -> pa.Table:
    """Return the rows of the frozen test set: row, text, label, group.

    Raises:
        DataError: if they are not such rows, or not of the config's labels and cleaning.
    """
    told = f"{redact(str(config.split.frozen_test))}: "
    anew = "freeze a test set anew with `ekiben freeze`"
    try:
        table = pq.ParquetFile(source.path).read()
    except (pa.ArrowException, OSError):
        raise DataError(f"{told}is not a Parquet file; {anew}") from None
    if not table.schema.equals(SCHEMA):
        columns = ", ".join(f"{field.name} {field.type}" for field in SCHEMA)
        raise DataError(f"{told}its columns are not {columns}; {anew}")
    if table["text"].null_count or table["label"].null_count:
        raise DataError(f"{told}holds a row without a text or a label; {anew}")
    unknown = set(pc.unique(table["label"]).to_pylist()) - set(config.data.label_names)
    if unknown:
        raise DataError(
            f"{told}holds the label {min(unknown)!r}, which is not one of data.labels; add it "
            f"there, or {anew}"
        )
    if changed := sum(_is_changed(text, config) for text in table["text"].to_pylist()):
        raise DataError(
            f"{told}{changed} of its texts are not as data.cleaning and data.privacy leave them, "
            f"so they are not what the service would see; {anew}"
        )
    return table


def _is_changed(text: str, config: PipelineConfig) -> bool:
    cleaned = clean(text, config.data.cleaning.model_dump())
    return text != mask(cleaned, config.data.privacy.model_dump())[0]
