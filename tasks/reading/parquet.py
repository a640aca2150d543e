"""Read Parquet: sizes checked before anything is unpacked, text columns alone, page checksums."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.schema import Data
from tasks.reading.columns import positions, require_declared
from tasks.reading.refusals import refuse
from tasks.reading.rows import Row

_BATCH_ROWS = 256
_BATCH_BYTES = 64_000_000
_BUFFER_BYTES = 1_000_000
_SHOWN_CHARACTERS = 80


def read_parquet(path: Path, data: Data) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    import pyarrow as pa

    try:
        with _open(path) as file:
            _require_fit(path, file, data)
            wanted = list(data.read_columns)
            number = unpacked = 0
            for batch in _batches(path, file, wanted):
                # The metadata counts a repeated text once; its copies are counted here.
                unpacked += batch.nbytes
                _require_small(path, unpacked, data)
                columns = [_texts(batch.column(name)) for name in wanted]
                yield from map(Row, range(number + 1, number + batch.num_rows + 1), *columns)
                number += batch.num_rows
            if number != file.metadata.num_rows:
                raise pa.ArrowInvalid(f"{number} rows of {file.metadata.num_rows}")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:_SHOWN_CHARACTERS]
        refuse(path, f"is not a readable Parquet file ({reason}); write it again")


def _open(path: Path, **more: Any) -> Any:
    import pyarrow.parquet as pq

    # Without the buffer a row group is held packed as a whole.
    return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, page_checksum_verification=True, **more)


def _require_fit(path: Path, file: Any, data: Data) -> None:
    """Refuse by the metadata alone what is too large, or not as declared."""
    metadata = file.metadata
    _require_small(
        path,
        sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)),
        data,
    )
    columns = file.schema_arrow.names
    positions(path, columns, data)
    require_declared(path, "columns are", columns, data)
    for name in data.read_columns:
        kind = file.schema_arrow.field(name).type
        if not _is_text(kind):
            refuse(
                path,
                f"column {name!r} is of type {str(kind)[:_SHOWN_CHARACTERS]} where text was "
                "expected; write it as strings in the source",
            )


def _is_text(kind: Any) -> bool:
    """Return whether strings or whole numbers are in a column, or nothing but gaps."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    known = (types.is_string, types.is_large_string, types.is_integer, types.is_null)
    return any(is_of(kind) for is_of in known)


def _require_small(path: Path, unpacked: int, data: Data) -> None:
    if unpacked > data.max_megabytes * 1_000_000:
        refuse(
            path,
            f"unpacks to {unpacked // 1_000_000} MB or more, above data.max_megabytes="
            f"{data.max_megabytes}; raise the limit if that is meant",
        )


def _batches(path: Path, file: Any, wanted: list[str]) -> Iterator[Any]:
    """Yield the row groups in batches, of fewer rows where one long text may stand in every row."""
    for group in range(file.num_row_groups):
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // _longest_repeated(path, group, wanted)))
        yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=wanted)


def _longest_repeated(path: Path, group: int, wanted: list[str]) -> int:
    """Return the bytes of the longest text that the dictionaries of a row group hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with _open(path, read_dictionary=wanted) as file:
        batch = next(file.iter_batches(batch_size=1, row_groups=[group], columns=wanted), None)
    columns = () if batch is None else batch.columns
    lengths = [
        pc.max(pc.binary_length(column.dictionary)).as_py() or 1
        for column in columns
        if pa.types.is_dictionary(column.type) and not pa.types.is_integer(column.type.value_type)
    ]
    return max(lengths, default=1)


def _texts(column: Any) -> list[str | None]:
    """Return the values of a column as text, as `as_text` does for one value."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    values: list[str | None] = column.to_pylist()
    return values
