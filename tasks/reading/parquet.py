"""Read Parquet: sizes checked before anything is unpacked, text columns alone, page checksums."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.schema import Data
from tasks.reading.columns import positions, require_declared
from tasks.reading.refusals import refuse
from tasks.reading.rows import MAX_FIELD_CHARACTERS, Row, row_maker

_BATCH_ROWS = 256
_BATCH_BYTES = 64_000_000
_MAX_BYTES = 4 * MAX_FIELD_CHARACTERS
_BUFFER_BYTES = 1_000_000
_SHOWN_CHARACTERS = 80


def read_parquet(path: Path, data: Data) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    import pyarrow as pa

    make = row_maker(data)
    try:
        with _open(path) as file:
            _require_fit(path, file, data)
            number = unpacked = 0
            for columns in _batches(path, file, list(data.read_columns)):
                # The metadata counts a repeated text once; its copies are counted here.
                unpacked += sum(column.nbytes for column in columns)
                _require_small(path, unpacked, data)
                for column in columns:
                    _require_short(path, number, column)
                rows = len(columns[0])
                values = zip(*(column.to_pylist() for column in columns), strict=True)
                yield from map(make, range(number + 1, number + rows + 1), values)
                number += rows
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
    known = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_integer,
        types.is_null,
    )
    return any(is_of(kind) for is_of in known)


def _require_small(path: Path, unpacked: int, data: Data) -> None:
    if unpacked > data.max_megabytes * 1_000_000:
        refuse(
            path,
            f"unpacks to {unpacked // 1_000_000} MB or more, above data.max_megabytes="
            f"{data.max_megabytes}; raise the limit if that is meant",
        )


def _require_short(path: Path, before: int, column: Any) -> None:
    """Refuse a text that has too many bytes in any letters, before it is made a string."""
    import pyarrow.compute as pc

    lengths = pc.binary_length(column)
    longest = pc.max(lengths).as_py() or 0
    if longest > _MAX_BYTES:
        number = before + 1 + pc.index(lengths, longest).as_py()
        refuse(path, f"row {number} has a field of {longest} bytes; split or drop it")


def _batches(path: Path, file: Any, wanted: list[str]) -> Iterator[list[Any]]:
    """Yield the columns in batches of rows, once no text that stands in many rows is too long."""
    with _open(path, read_dictionary=wanted) as repeats:
        for group in range(file.num_row_groups):
            longest = max(_longest_repeated(repeats, group, name) for name in wanted)
            if longest > _MAX_BYTES:
                refuse(
                    path, f"row group {group + 1} has a field of {longest} bytes; split or drop it"
                )
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // longest))
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=wanted):
                yield [_strings(batch.column(name)) for name in wanted]


def _longest_repeated(repeats: Any, group: int, name: str) -> int:
    """Return the bytes of the longest text in the dictionary of a column, or 1 without one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        batch = next(repeats.iter_batches(batch_size=1, row_groups=[group], columns=[name]))
    except (StopIteration, pa.ArrowException, OSError):  # no rows, no repeats, or not readable
        return 1
    column = batch.column(name)
    if not pa.types.is_dictionary(column.type) or pa.types.is_integer(column.type.value_type):
        return 1
    return pc.max(pc.binary_length(column.dictionary)).as_py() or 1


def _strings(column: Any) -> Any:
    """Return the values of a column as strings, as `as_text` does for one value."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_string = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column if is_string else column.cast(pa.string())
