"""Read labelled rows strictly: exact columns, every value a string, nothing guessed.

A reader that guesses turns "NA" into a gap, "007" into 7 and an extra comma into a shifted column
without a word. These readers refuse instead, naming file, row and cure.
"""

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from configs.errors import DataError
from configs.schema import Data

MAX_FIELD_CHARACTERS = 1_000_000
_PARQUET_BATCH_ROWS = 128
_SHOWN_COLUMNS = 8
_SHOWN_CHARACTERS = 30


class Row(NamedTuple):
    """One labelled text as it stands in the source; `number` counts records from 1."""

    number: int
    text: str | None
    label: str | None
    group: str | None = None


def read_rows(path: Path, data: Data) -> Iterator[Row]:
    """Yield the rows of a file or of a folder with one folder of `.txt` files a label.

    Raises:
        DataError: at the first record that is not exactly as `data` declares, naming it.
    """
    kind = data.format if data.format != "auto" else _format_of(path)
    readers = {
        "csv": _read_delimited,
        "tsv": _read_delimited,
        "jsonl": _read_jsonl,
        "parquet": _read_parquet,
        "folder": _read_folder,
    }
    if path.is_dir() != (kind == "folder"):
        expected = "a folder with one folder a label" if kind == "folder" else f"a {kind} file"
        refuse(path, f"expected {expected}; correct data.uri or data.format")
    for row in readers[kind](path, data):
        if row.number > data.max_rows:
            refuse_more(path, data)
        check_characters(path, row)
        yield row


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "folder"
    known = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    kind = {**known, ".parquet": "parquet"}.get(path.suffix.lower())
    if kind is None:
        refuse(
            path,
            f"suffix {path.suffix!r} names no format; set data.format to csv, tsv, jsonl "
            "or parquet",
        )
    return kind


def _read_delimited(path: Path, data: Data) -> Iterator[Row]:
    tabbed = data.format == "tsv" or (data.format == "auto" and path.suffix.lower() == ".tsv")
    delimiter = data.delimiter or ("\t" if tabbed else ",")
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with path.open(encoding=_without_mark(data.encoding), newline="") as stream:
        records = csv.reader(
            stream,
            delimiter=delimiter,
            quoting=csv.QUOTE_NONE if data.quoting == "none" else csv.QUOTE_MINIMAL,
            strict=True,
        )
        try:
            columns = _columns(path, records, data)
            cure = ", or data.delimiter if they are not split" if len(columns) == 1 else ""
            values = itemgetter(*positions(path, columns, data, cure))
            for number, record in enumerate(_not_empty(records), start=1):
                if len(record) != len(columns):
                    refuse(
                        path,
                        f"row {number} (line {records.line_num}) has {len(record)} fields "
                        f"where {len(columns)} were expected; mend the row, or set "
                        "data.delimiter and data.quoting",
                    )
                yield Row(number, *values(record))
        except UnicodeError as error:
            _refuse_encoding(path, data, error)
        except csv.Error as error:
            refuse(
                path,
                f"line {records.line_num}: {error}; mend it, or set data.quoting: none "
                "if quotes are plain letters there",
            )


def _not_empty(records: Iterator[list[str]]) -> Iterator[list[str]]:
    """Skip lines with nothing at all on them, as the csv module itself defines them."""
    return (record for record in records if record)


def _columns(path: Path, records: Iterator[list[str]], data: Data) -> list[str]:
    if not data.header:
        return list(data.columns or ())
    header = next(_not_empty(records), None)
    if header is None:
        refuse(path, "is empty; expected a header line and rows")
    if any("\0" in name for name in header):
        refuse(path, "its first line holds NUL characters; set data.encoding, perhaps to utf-16")
    is_header = data.text_column in header and data.label_column in header
    if not is_header and any(name.strip() in data.labels for name in header):
        refuse(
            path,
            "its first line is a row, not a header, since a field of it is a label; set "
            "data.header: false and list data.columns",
        )
    if data.columns is not None and tuple(header) != data.columns:
        refuse(
            path,
            f"header is {_shown(header)}, expected data.columns {_shown(data.columns)}; correct "
            "one of them",
        )
    return header


def _shown(names: Sequence[str]) -> str:
    """Return the first names for a message; a long one may be a text, and is told by its length."""
    named = [
        repr(name) if len(name) <= _SHOWN_CHARACTERS else f"({len(name)} characters)"
        for name in names[:_SHOWN_COLUMNS]
    ]
    more = len(names) - len(named)
    return f"[{', '.join(named)}]" + (f" and {more} more" if more else "")


def positions(path: Path | str, columns: list[str], data: Data, cure: str = "") -> list[int]:
    """Return where each of `data.read_columns` stands among the columns.

    Raises:
        DataError: if one of them is not there, or a name stands twice.
    """
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        refuse(path, f"columns {_shown(doubled)} appear twice; rename one of each")
    for name, key in data.read_columns.items():
        if name not in columns:
            refuse(
                path,
                f"no column {name!r} among {_shown(columns)}; set data.{key} to one of them{cure}",
            )
    return [columns.index(name) for name in data.read_columns]


def _read_jsonl(path: Path, data: Data) -> Iterator[Row]:
    with path.open(encoding=_without_mark(data.encoding), newline="\n") as stream:
        number = 0
        roles = data.read_columns.items()
        try:
            for line_number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                number += 1
                where = f"{path}: row {number} (line {line_number})"
                record = _json_object(where, line)
                if data.columns is not None and set(record) != set(data.columns):
                    raise DataError(
                        f"{where}: keys are {_shown(sorted(record))}, expected data.columns "
                        f"{_shown(sorted(data.columns))}; mend the row"
                    )
                yield Row(number, *(_member(where, record, *role) for role in roles))
        except UnicodeError as error:
            _refuse_encoding(path, data, error)


def _json_object(where: str, line: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key is written twice")
        return dict(pairs)

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        record = json.loads(line, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg}, character {error.colno}"
        raise DataError(f"{where}: is not a JSON object ({reason}); mend the line") from None
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise DataError(f"{where}: is a JSON {kind}, expected an object with keys; mend the line")
    return record


def _member(where: str, record: dict[str, Any], name: str, key: str) -> str | None:
    if name not in record:
        raise DataError(
            f"{where}: has no key {name!r}, only {_shown(sorted(record))}; set data.{key} to one of "
            "them, or mend the row"
        )
    return as_text(where, name, record[name])


def as_text(where: str, name: str, value: Any) -> str | None:
    """Return a string or whole number as text; a float or flag would have to be guessed at."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(
        f"{where}: {name!r} is of type {type(value).__name__} where text was expected; write it "
        "as a string in the source"
    )


def _read_parquet(path: Path, data: Data) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            unpacked = sum(
                file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)
            )
            _refuse_unpacked(path, unpacked, data)
            columns = file.schema_arrow.names
            positions(path, columns, data)
            if data.columns is not None and tuple(columns) != data.columns:
                refuse(
                    path,
                    f"columns are {_shown(columns)}, expected data.columns {_shown(data.columns)}; "
                    "correct one of them",
                )
            before = unpacked = 0
            wanted = list(data.read_columns)
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=wanted):
                # The metadata counts a repeated text once; its copies are counted here.
                unpacked += batch.nbytes
                _refuse_unpacked(path, unpacked, data)
                records = zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)
                for number, record in enumerate(records, start=before + 1):
                    where = f"{path}: row {number}"
                    yield Row(number, *map(partial(as_text, where), wanted, record))
                before += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        refuse(path, f"is not a readable Parquet file ({reason}); write it again")


def _refuse_unpacked(path: Path, unpacked: int, data: Data) -> None:
    if unpacked > data.max_megabytes * 1_000_000:
        refuse(
            path,
            f"unpacks to {unpacked // 1_000_000} MB or more, above data.max_megabytes="
            f"{data.max_megabytes}; raise the limit if that is meant",
        )


def _read_folder(path: Path, data: Data) -> Iterator[Row]:
    if data.group_column is not None:
        refuse(path, "a folder of texts has no columns; remove data.group_column")
    folders = sorted(child for child in path.iterdir() if child.is_dir())
    if not folders:
        refuse(path, "holds no folders; expected one folder a label, with .txt files in each")
    files = [file for folder in folders for file in sorted(folder.glob("*.txt"))]
    for number, file in enumerate(files, start=1):
        if not file.is_file():
            refuse(file, "is no file that holds a text; remove it, or mend the link")
        if file.stat().st_size > 4 * MAX_FIELD_CHARACTERS:
            refuse(file, f"is larger than {4 * MAX_FIELD_CHARACTERS} bytes; split or drop it")
        try:
            text = file.read_text(encoding=_without_mark(data.encoding))
        except UnicodeError as error:
            _refuse_encoding(file, data, error)
        yield Row(number, text, file.parent.name)


def _without_mark(encoding: str) -> str:
    """Read a UTF-8 byte order mark as a mark, never as the first letter of the first column."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def check_characters(path: Path | str, row: Row) -> None:
    """Refuse a row with a value too long, or with what is no character."""
    for value in row[1:]:
        if value is None:
            continue
        if "\0" in value:
            refuse(
                path,
                f"row {row.number} holds a NUL character, which no text has; mend the row, or set "
                "data.encoding",
            )
        if len(value) > MAX_FIELD_CHARACTERS:
            refuse(
                path,
                f"row {row.number} has a field of {len(value)} characters, above "
                f"{MAX_FIELD_CHARACTERS}; split or drop it",
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            refuse(
                path,
                f"row {row.number} holds half of a surrogate pair, which is no character; "
                "write the source again as UTF-8",
            )


def refuse_more(path: Path | str, data: Data) -> NoReturn:
    """Raise the DataError of a source with too many rows."""
    refuse(path, f"more than data.max_rows={data.max_rows} rows; raise it if that is meant")


def _refuse_encoding(path: Path, data: Data, error: UnicodeError) -> NoReturn:
    found = str(error)
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{error.object[error.start]:02x}: {error.reason}"
    refuse(
        path,
        f"is not {data.encoding} ({found}); set data.encoding to what it was written in, such as "
        "latin-1 or gb18030",
    )


def refuse(path: Path | str, problem: str) -> NoReturn:
    """Raise the DataError that tells a problem of a source."""
    raise DataError(f"{path}: {problem}") from None
