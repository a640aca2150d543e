"""Read CSV and TSV: every record as long as the header, every quote closed."""

import csv
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from configs.schema import Data
from tasks.reading.columns import positions, require_declared
from tasks.reading.encodings import open_text, refuse_encoding
from tasks.reading.refusals import refuse
from tasks.reading.rows import MAX_FIELD_CHARACTERS, MAX_RECORD_CHARACTERS, Row, row_maker


def read_delimited(path: Path, data: Data) -> Iterator[Row]:
    """Yield the rows of a CSV or TSV file; a line with nothing at all on it is none."""
    tabbed = data.format == "tsv" or (data.format == "auto" and path.suffix.lower() == ".tsv")
    delimiter = data.delimiter or ("\t" if tabbed else ",")
    first, number = 1, 0
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    try:
        with open_text(path, data, newline="") as stream:
            lines = _Lines(stream)
            records = csv.reader(
                lines,
                delimiter=delimiter,
                quoting=csv.QUOTE_NONE if data.quoting == "none" else csv.QUOTE_MINIMAL,
                strict=True,
            )
            columns = _columns(path, records, data)
            width = len(columns)
            cure = ", or data.delimiter if they are not split" if width == 1 else ""
            values = itemgetter(*positions(path, columns, data, cure))
            make = row_maker(data)
            first, lines.held = records.line_num + 1, 0
            for record in records:
                if len(record) == width:
                    number += 1
                    yield make(number, values(record))
                elif record:
                    refuse(
                        path,
                        f"row {number + 1} (line {first}) has {len(record)} fields where {width} "
                        "were expected; mend the row, or set data.delimiter and data.quoting",
                    )
                first = records.line_num + 1
                lines.held = 0
    except UnicodeError as error:
        refuse_encoding(path, data, error, newline="")
    except csv.Error as error:
        last = records.line_num
        place = f"lines {first} to {last}" if last > first else f"line {first}"
        refuse(
            path,
            f"{place}: {error}; mend it, or set data.quoting: none if quotes are plain letters "
            "there",
        )


class _Lines:
    """The lines of a stream, as long as a record does not hold too much: an open quote spans many."""

    __slots__ = ("_lines", "held")

    def __init__(self, stream: TextIO) -> None:
        self.held = 0
        """Characters of the record that is being read."""
        self._lines = iter(partial(stream.readline, MAX_RECORD_CHARACTERS + 1), "")

    def __iter__(self) -> Iterator[str]:
        most = MAX_RECORD_CHARACTERS
        for line in self._lines:
            self.held = held = self.held + len(line)
            if held > most:
                raise csv.Error(f"a record of more than {most} characters")
            yield line


def _columns(path: Path, records: Iterator[list[str]], data: Data) -> list[str]:
    if not data.header:
        return list(data.columns or ())
    header = next((record for record in records if record), None)
    if header is None:
        refuse(path, "is empty; expected a header line and rows")
    if any("\0" in name for name in header):
        refuse(path, "its first line holds NUL characters; set data.encoding, perhaps to utf-16-le")
    is_header = data.text_column in header and data.label_column in header
    if not is_header and any(name.strip() in data.labels for name in header):
        refuse(
            path,
            "its first line is a row, not a header, since a field of it is a label; set "
            "data.header: false and list data.columns",
        )
    require_declared(path, "header is", header, data)
    return header
