"""What holds of reading any table and any bytes; `EKIBEN_SLOW_EXAMPLES` sets how many are drawn."""

import csv
import json
import os
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import DataError
from configs.schema import Data
from tasks.reading import Row, read_rows

EXAMPLES = int(os.environ.get("EKIBEN_SLOW_EXAMPLES", "400"))
"""Cases in all; each of the four properties has a quarter."""
pytestmark = pytest.mark.timeout(900)
drawn = settings(
    max_examples=EXAMPLES // 4,
    deadline=None,  # machines may be busy
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each case writes its file anew
)

Table = list[tuple[str, str, str]]


def table_of(drawn: str) -> Table:
    """Cut a text into rows of three: a letter's code says how long the value after it is.

    One text is drawn in a tenth of the time that its values would take one by one.
    """
    values, at = [], 0
    while at < len(drawn):
        end = at + 1 + ord(drawn[at]) % 24
        values.append(drawn[at + 1 : end])
        at = end
    return list(zip(values[::3], values[1::3], values[2::3], strict=False))


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
# Of no rows or one, and of about three to eight.
TABLES = st.one_of(st.text(LETTERS, max_size=30), st.text(LETTERS, min_size=60)).map(table_of)
COLUMNS = ("text", "label", "by")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def written(table: Table, suffix: str) -> bytes:
    """Return a table as a file of the format that the suffix names."""
    if suffix == ".parquet":
        sink = BytesIO()
        columns = zip(*table, strict=True) if table else ([], [], [])
        arrays = [pa.array(column, pa.string()) for column in columns]
        pq.write_table(pa.table(arrays, names=COLUMNS), sink, write_page_checksum=True)
        return sink.getvalue()
    if suffix == ".jsonl":
        lines = (json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in table)
        return "".join(lines).encode()
    stream = StringIO(newline="")
    csv.writer(stream, delimiter="\t" if suffix == ".tsv" else ",").writerows([COLUMNS, *table])
    return stream.getvalue().encode()


def rows_of(table: Table) -> list[Row]:
    """Return the rows that a table must give."""
    return [Row(number, *row) for number, row in enumerate(table, start=1)]


def read(folder: Path, suffix: str, content: bytes, **fields: Any) -> tuple[list[Row], bool]:
    """Return the rows up to a refusal, if there is one, and whether there was."""
    file = folder / f"x{suffix}"
    file.write_bytes(content)
    section = {"uri": str(file), "labels": ["ham", "spam"], "group_column": "by", **fields}
    rows: list[Row] = []
    try:
        for row in read_rows(file, Data.model_validate(section)):
            rows.append(row)  # noqa: PERF402  (what came before a refusal counts)
    except DataError as error:
        (told,) = error.problems
    else:
        return rows, False
    assert told.startswith(str(file))
    assert told.isprintable()
    return rows, True


@drawn
@given(table=TABLES, suffix=st.sampled_from(SUFFIXES))
def test_any_table_comes_back_from_every_format_as_it_went_in(
    table: Table, suffix: str, tmp_path: Path
) -> None:
    assert read(tmp_path, suffix, written(table, suffix)) == (rows_of(table), False)


# Letters that mean something to a reader, so that random bytes come further than the first one.
BYTES_OF_MEANING = [
    b",", b"\t", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"}", b"[", b":",
    b'{"text": "a", "label": "b", "by": "c"}', b"text,label,by\n", b"a,b,c\n", b"PAR1",
    b"\\ud800", b"NaN", b"7", b"\xc3\xa9", "\u732b".encode("gb18030"),
]  # fmt: skip
BYTES = st.lists(st.one_of(st.sampled_from(BYTES_OF_MEANING), st.binary(max_size=20))).map(b"".join)
ENCODINGS = ("utf-8", "latin-1", "utf-16", "utf-16-le", "utf-32", "gb18030", "shift_jis", "utf-7")


@drawn
@given(content=BYTES, suffix=st.sampled_from(SUFFIXES), encoding=st.sampled_from(ENCODINGS))
def test_any_bytes_are_rows_or_are_refused_in_one_line(
    content: bytes, suffix: str, encoding: str, tmp_path: Path
) -> None:
    rows, _ = read(tmp_path, suffix, content, encoding=encoding)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    "".join(value or "" for row in rows for value in row[1:4]).encode()  # characters, all of them


@drawn
@given(table=TABLES, suffix=st.sampled_from(SUFFIXES), data=st.data())
def test_a_damaged_file_is_rows_or_is_refused_in_one_line(
    table: Table, suffix: str, data: st.DataObject, tmp_path: Path
) -> None:
    content = bytearray(written(table, suffix))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 8)))
        content[start:end] = data.draw(st.binary(max_size=8))
    rows, refused = read(tmp_path, suffix, bytes(content))
    if suffix == ".parquet":  # its checksums tell what was changed
        assert refused or rows == rows_of(table)


@drawn
@given(table=TABLES, more=TABLES, suffix=st.sampled_from(SUFFIXES[:3]), data=st.data())
def test_what_comes_later_in_a_file_changes_no_row_before_it(
    table: Table, more: Table, suffix: str, data: st.DataObject, tmp_path: Path
) -> None:
    whole, rows = written([*table, *more], suffix), rows_of([*table, *more])
    assert read(tmp_path, suffix, whole) == (rows, False)
    assert read(tmp_path, suffix, written(table, suffix)) == (rows[: len(table)], False)
    cut, _ = read(tmp_path, suffix, whole[: data.draw(st.integers(0, len(whole)))])
    before = cut[:-1]  # the last may be cut within its last field
    assert before == rows[: len(before)]
