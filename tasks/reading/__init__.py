"""Read labelled rows strictly: exact columns, every value a string, nothing guessed.

A reader that guesses turns "NA" into a gap, "007" into 7 and an extra comma into a shifted column
without a word. These readers refuse instead, naming file, row and cure.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from configs.schema import Data
from tasks.reading.columns import positions
from tasks.reading.delimited import read_delimited
from tasks.reading.folder import read_folder
from tasks.reading.jsonl import read_jsonl
from tasks.reading.lines import read_lines
from tasks.reading.parquet import read_parquet
from tasks.reading.refusals import refuse, refuse_more
from tasks.reading.rows import MAX_FIELD_CHARACTERS, Row, as_text, check_characters, row_maker

__all__ = [
    "MAX_FIELD_CHARACTERS",
    "Row",
    "as_text",
    "check_characters",
    "positions",
    "read_rows",
    "refuse",
    "refuse_more",
    "row_maker",
]

_READERS = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "folder": read_folder,
    "lines": read_lines,
}
_FOLDERS = {"folder": "a folder with one folder a label", "lines": "a folder with one file a label"}
_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def read_rows(path: Path, data: Data) -> Iterator[Row]:
    """Yield the rows of a file, or of a folder with one folder or one file of texts a label.

    Raises:
        DataError: at the first record that is not exactly as `data` declares, naming it.
    """
    try:
        kind = data.format if data.format != "auto" else _format_of(path)
        is_there = path.is_dir() if kind in _FOLDERS else path.is_file()
        if not is_there:  # a pipe or device is never opened: it may have no end
            expected = _FOLDERS.get(kind, f"a {kind} file")
            refuse(path, f"expected {expected}; correct data.uri or data.format")
        rows = _READERS[kind](path, data)
        for row in islice(rows, data.max_rows):
            check_characters(path, row)
            yield row
        if next(rows, None) is not None:
            refuse_more(path, data)
    except OSError as error:
        refuse(path, f"cannot be read ({error.strerror}); check its permissions and the disk")


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "folder"
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        refuse(
            path,
            f"suffix {path.suffix!r} names no format; set data.format to csv, tsv, jsonl "
            "or parquet",
        )
    return kind
