"""The strict readers: what a file says is what is read, and what it does not say is refused."""

import csv
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import DataError
from configs.schema import Data
from tasks.queries import read_query
from tasks.reading import MAX_FIELD_CHARACTERS, Row, read_rows

Pairs = list[tuple[str | None, str | None]]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
BOM = b"\xef\xbb\xbf"


def declared(file: Path, **fields: Any) -> Data:
    """Return the data section for a file, with two labels unless given others."""
    return Data.model_validate({"uri": str(file), "labels": ["ham", "spam"], **fields})


def pairs_in(file: Path, **fields: Any) -> Pairs:
    """Return (text, label) of every row; the rows must be numbered from 1."""
    rows = list(read_rows(file, declared(file, **fields)))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [(row.text, row.label) for row in rows]


def refusal_of(file: Path, **fields: Any) -> str:
    """Return the one problem that reading the file tells, without the file's name before it."""
    with pytest.raises(DataError) as caught:
        pairs_in(file, **fields)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}: ")
    assert "\n" not in problem
    return problem.removeprefix(f"{file}: ")


READ: dict[str, tuple[str, bytes, dict[str, Any], Pairs]] = {
    "what a guesser calls missing": (
        "x.csv",
        b"text,label\nNA,ham\nnull,spam\nNaN,ham\n,spam\n",
        {},
        [("NA", "ham"), ("null", "spam"), ("NaN", "ham"), ("", "spam")],
    ),
    "what a guesser calls a number, date or flag": (
        "x.csv",
        b"text,label\n007,1\n1e5,01\n2024-01-01,true\n1.50,TRUE\n",
        {},
        [("007", "1"), ("1e5", "01"), ("2024-01-01", "true"), ("1.50", "TRUE")],
    ),
    "white space around fields": (
        "x.csv", b"text,label\n a\t, ham \n", {}, [(" a\t", " ham ")],
    ),
    "a byte order mark": ("x.csv", BOM + b"text,label\na,ham\n", {}, [("a", "ham")]),
    "a byte order mark under another name of UTF-8": (
        "x.csv", BOM + b"a,ham\n", {"encoding": "U8", "header": False, "columns": ["text", "label"]},
        [("a", "ham")],
    ),
    "a byte order mark within": (
        "x.csv", b"text,label\n" + BOM + b"a,ham\n", {}, [("\ufeffa", "ham")],
    ),
    "Windows line ends": ("x.csv", b"text,label\r\na,ham\r\n", {}, [("a", "ham")]),
    "old Mac line ends": ("x.csv", b"text,label\ra,ham\r", {}, [("a", "ham")]),
    "no line end at the end": ("x.csv", b"text,label\na,ham", {}, [("a", "ham")]),
    "empty lines between": ("x.csv", b"\ntext,label\n\na,ham\n\n\n", {}, [("a", "ham")]),
    "a quoted field": (
        "x.csv",
        b'text,label\n"a,b",ham\n"line 1\nline 2\r\nline 3",spam\n"say ""a""",ham\n',
        {},
        [("a,b", "ham"), ("line 1\nline 2\r\nline 3", "spam"), ('say "a"', "ham")],
    ),
    "a quote as a letter": (
        "x.csv", b'text,label\n"a,ham\nb",spam\n', {"quoting": "none"},
        [('"a', "ham"), ('b"', "spam")],
    ),
    "columns in another order, and one that is not asked for": (
        "x.csv", b"id,label,body\n1,ham,a\n", {"text_column": "body"}, [("a", "ham")],
    ),
    "a header exactly as declared": (
        "x.csv", b"label,text\nham,a\n", {"columns": ["label", "text"]}, [("a", "ham")],
    ),
    "no header": (
        "x.csv", b"ham,a\n", {"header": False, "columns": ["label", "text"]}, [("a", "ham")],
    ),
    "another delimiter": ("x.csv", b"text;label\na,b;ham\n", {"delimiter": ";"}, [("a,b", "ham")]),
    "latin-1": (
        "x.csv", "text,label\ncaf\xe9,ham\n".encode("latin-1"), {"encoding": "latin-1"},
        [("caf\xe9", "ham")],
    ),
    "UTF-16": (
        "x.csv", "text,label\n\u732b,ham\n".encode("utf-16"), {"encoding": "utf-16"},
        [("\u732b", "ham")],
    ),
    "TSV by its suffix": ("x.TSV", b"text\tlabel\na,b\tham\n", {}, [("a,b", "ham")]),
    "TSV by declaration": ("x.csv", b"text\tlabel\na\tham\n", {"format": "tsv"}, [("a", "ham")]),
    "only a header": ("x.csv", b"text,label\n", {}, []),
    "JSON Lines": (
        "x.jsonl",
        b'{"text": "NA", "label": "ham"}\n\n{"label": 1, "text": null, "id": 0.5}\r\n',
        {},
        [("NA", "ham"), (None, "1")],
    ),
    "JSON Lines with a mark and a line separator in a string": (
        "x.ndjson", BOM + '{"text": "a\u2028b", "label": "ham"}'.encode(), {},
        [("a\u2028b", "ham")],
    ),
    "JSON escapes": (
        "x.jsonl", rb'{"text": "\ud83d\ude00\u0007", "label": "ham"}', {},
        [("\U0001f600\x07", "ham")],
    ),
    "JSON numbers, digit by digit": (
        "x.jsonl", b'{"text": -0, "label": ' + b"1" * 5000 + b"}", {}, [("-0", "1" * 5000)],
    ),
    "JSON keys exactly as declared": (
        "x.jsonl", b'{"label": "ham", "text": "a"}', {"columns": ["text", "label"]},
        [("a", "ham")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "fields", "pairs"), READ.values(), ids=READ)
def test_a_file_is_read_as_it_stands(
    tmp_path: Path, name: str, content: bytes, fields: dict[str, Any], pairs: Pairs
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert pairs_in(file, **fields) == pairs


TOO_LONG = "a" * (MAX_FIELD_CHARACTERS + 1)
REFUSED: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "nothing at all": ("x.csv", b"", {}, "is empty; expected a header line and rows"),
    "only line ends": ("x.csv", b"\n\r\n", {}, "is empty; expected a header line and rows"),
    "a field too many": (
        "x.csv",
        b"text,label\na,ham\nb,c,spam\n",
        {},
        "row 2 (line 3) has 3 fields where 2 were expected; mend the row, or set ",
    ),
    "a field too few": (
        "x.csv",
        b'text,label\n"a\nb",ham\nc\n',
        {},
        "row 2 (line 4) has 1 fields where 2 were expected; mend the row, or set ",
    ),
    "another delimiter than declared": (
        "x.csv", b"text;label\na;ham\n", {},
        "no column 'text' among ['text;label']; set data.text_column",
    ),
    "no such column": (
        "x.csv", b"body,label\na,ham\n", {},
        "no column 'text' among ['body', 'label']; set data.text_column",
    ),
    "no label column": (
        "x.csv", b"text,class\na,ham\n", {},
        "no column 'label' among ['text', 'class']; set data.label_column",
    ),
    "a doubled column": (
        "x.csv", b"text,label,text\na,ham,b\n", {}, "columns ['text'] appear twice; rename one of ",
    ),
    "another header than declared": (
        "x.csv", b"text,label\na,ham\n", {"columns": ["label", "text"]},
        "header is ['text', 'label'], expected data.columns ['label', 'text']; correct one of ",
    ),
    "no header where one is declared": (
        "x.csv", b"a,ham\nb,spam\n", {},
        "its first line is a row, not a header, since a field of it is a label; set ",
    ),
    "a quote left open": (
        "x.csv", b'text,label\n"a,ham\n', {},
        "line 2: unexpected end of data; mend it, or set data.quoting: none if quotes are plain ",
    ),
    "letters after a quote": (
        "x.csv", b'text,label\n"a"b,ham\n', {}, "line 2: ',' expected after '\"'; mend it, or set ",
    ),
    "an endless field": (
        "x.csv", f"text,label\n{TOO_LONG},ham\n".encode(), {},
        "line 2: field larger than field limit (1000000); mend it, or set ",
    ),
    "latin-1 read as UTF-8": (
        "x.csv", b"text,label\ncaf\xe9,ham\n", {},
        "is not utf-8 (line 2, byte 0xe9: invalid continuation byte); set data.encoding to what it ",
    ),
    "latin-1 in the header": (
        "x.csv", b"text,label,caf\xe9\n", {},
        "is not utf-8 (line 1, byte 0xe9: invalid continuation byte); set data.encoding to what it ",
    ),
    "UTF-16 read as UTF-8": (
        "x.csv", "text,label\n".encode("utf-16-le"), {"encoding": "utf-16"},
        "is not utf-16 (it starts with no byte order mark); set data.encoding to utf-16-le or ",
    ),
    "another format than declared": (
        "x.csv", b"\x89PNG", {"format": "parquet"}, "is not a readable Parquet file (",
    ),
    "a suffix that names no format": (
        "x.dat", b"text,label\n", {},
        "suffix '.dat' names no format; set data.format to csv, tsv, jsonl or parquet",
    ),
    "a file where a folder is declared": (
        "x.csv", b"text,label\n", {"format": "folder"}, "expected a folder with one folder a label; ",
    ),
    "more rows than allowed": (
        "x.csv", b"text,label\na,ham\nb,ham\nc,ham\n", {"max_rows": 2},
        "more than data.max_rows=2 rows; raise it if that is meant",
    ),
    "JSON that is cut off": (
        "x.jsonl", b'{"text": "a", "label": "ham"}\n{"text": ', {},
        "row 2 (line 2): is not a JSON object (Expecting value, character 10)",
    ),
    "JSON that is a list": (
        "x.jsonl", b'\n["a", "ham"]\n', {},
        "row 1 (line 2): is a JSON list, expected an object with keys",
    ),
    "NaN, which is not JSON": (
        "x.jsonl", b'{"text": "a", "label": "ham", "score": NaN}', {},
        "row 1 (line 1): is not a JSON object (NaN is not JSON); mend the line",
    ),
    "a key written twice": (
        "x.jsonl", b'{"text": "a", "label": "ham", "label": "spam"}', {},
        "row 1 (line 1): is not a JSON object (a key is written twice); mend the line",
    ),
    "a key that lacks": (
        "x.jsonl", b'{"text": "a"}', {},
        "row 1 (line 1): has no key 'label', only ['text']; set data.label_column to ",
    ),
    "keys other than declared": (
        "x.jsonl", b'{"text": "a", "label": "b", "c": 1}', {"columns": ["text", "label"]},
        "row 1 (line 1): keys are ['c', 'label', 'text'], expected data.columns ",
    ),
    "a flag for a text": (
        "x.jsonl", b'{"text": true, "label": "ham"}', {},
        "row 1 (line 1): 'text' is of type bool where text was expected; write it as ",
    ),
    "a fraction for a label": (
        "x.jsonl", b'{"text": "a", "label": 1.0}', {},
        "row 1 (line 1): 'label' is of type float where text was expected; write it as ",
    ),
    "a list for a text": (
        "x.jsonl", b'{"text": ["a"], "label": "ham"}', {},
        "row 1 (line 1): 'text' is of type list where text was expected; write it as ",
    ),
    "007 as a JSON number": (
        "x.jsonl", b'{"text": "a", "label": 007}', {}, "row 1 (line 1): is not a JSON object (",
    ),
    "endless nesting": (
        "x.jsonl", b"[" * 100_000, {}, "row 1 (line 1): is not a JSON object (maximum recursion ",
    ),
    "half of a surrogate pair": (
        "x.jsonl", rb'{"text": "\ud83d", "label": "ham"}', {},
        "row 1 holds half of a surrogate pair, which is no character; write the source again ",
    ),
    "half of a surrogate pair in a label": (
        "x.jsonl", rb'{"text": "a", "label": "\udc00"}', {},
        "row 1 holds half of a surrogate pair, which is no character; write the source again ",
    ),
    "a NUL character": (
        "x.csv", b"text,label\na\x00b,ham\n", {}, "row 1 holds a NUL character, which no text has; ",
    ),
    "UTF-16 without a mark, which reads as NUL characters": (
        "x.csv", "text,label\na,ham\n".encode("utf-16-le"), {},
        "its first line holds NUL characters; set data.encoding, perhaps to utf-16",
    ),
    "an endless JSON string": (
        "x.jsonl", json.dumps({"text": TOO_LONG, "label": "ham"}).encode(), {},
        "row 1 has a field of 1000001 characters, above 1000000; split or drop it",
    ),
    "JSON Lines in another encoding": (
        "x.jsonl", b'{"text": "caf\xe9", "label": "ham"}', {},
        "is not utf-8 (line 1, byte 0xe9: invalid continuation byte); set data.encoding to what it ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "fields", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_says_something_else_is_refused(
    tmp_path: Path, name: str, content: bytes, fields: dict[str, Any], problem: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert refusal_of(file, **fields).startswith(problem)


GROUPED = [
    ("x.csv", b"by,text,label\nann,a,ham\n,b,spam\n007,c,ham\n", ["ann", "", "007"]),
    ("x.tsv", b"text\tlabel\tby\na\tham\tann\nb\tspam\tbo\n", ["ann", "bo"]),
    (
        "x.jsonl",
        b'{"text": "a", "label": "ham", "by": 7}\n{"by": null, "text": "b", "label": "spam"}',
        ["7", None],
    ),
]


@pytest.mark.parametrize(("name", "content", "groups"), GROUPED, ids=["CSV", "TSV", "JSON Lines"])
def test_a_group_is_read_beside_text_and_label(
    tmp_path: Path, name: str, content: bytes, groups: list[str | None]
) -> None:
    (tmp_path / name).write_bytes(content)
    rows = read_rows(tmp_path / name, declared(tmp_path / name, group_column="by"))
    assert [row.group for row in rows] == groups


def test_a_group_is_read_from_parquet_and_from_a_query(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", ["a", "b"], ["ham", "spam"], by=["ann", None])
    rows = [Row(1, "a", "ham", "ann"), Row(2, "b", "spam", None)]
    assert list(read_rows(file, declared(file, group_column="by"))) == rows
    mail = database(tmp_path / "mail.db", "TEXT", [("a", "ham"), ("b", "spam")])
    sql = "SELECT body AS text, class AS label, rowid AS by FROM mail"
    assert [row.group for row in query(mail, sql, group_column="by")] == ["1", "2"]


@pytest.mark.parametrize(("name", "content", "groups"), GROUPED, ids=["CSV", "TSV", "JSON Lines"])
def test_values_to_slice_by_are_read_beside_text_and_label(
    tmp_path: Path, name: str, content: bytes, groups: list[str | None]
) -> None:
    (tmp_path / name).write_bytes(content)
    rows = read_rows(tmp_path / name, declared(tmp_path / name, slice_columns=["by"]))
    assert [(row.group, row.slices) for row in rows] == [(None, (value,)) for value in groups]


def test_values_to_slice_by_are_read_in_their_order_from_parquet_and_from_a_query(
    tmp_path: Path,
) -> None:
    file = write_parquet(
        tmp_path / "x.parquet", ["a", "b"], ["ham", "spam"], by=["ann", None], site=[1, 2]
    )
    fields: dict[str, Any] = {"slice_columns": ["site", "by"]}
    rows = [Row(1, "a", "ham", None, ("1", "ann")), Row(2, "b", "spam", None, ("2", None))]
    assert list(read_rows(file, declared(file, **fields))) == rows
    fields = {"slice_columns": ["site"], "group_column": "by"}
    rows = [Row(1, "a", "ham", "ann", ("1",)), Row(2, "b", "spam", None, ("2",))]
    assert list(read_rows(file, declared(file, **fields))) == rows
    mail = database(tmp_path / "mail.db", "TEXT", [("a", "ham"), ("b", "spam")])
    sql = "SELECT body AS text, class AS label, rowid AS by FROM mail"
    assert [row.slices for row in query(mail, sql, slice_columns=["by"])] == [("1",), ("2",)]


def test_a_value_to_slice_by_is_text_as_any_other(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"text,label,by\na,ham,b\0\n")
    with pytest.raises(DataError, match="row 1 holds a NUL character"):
        list(read_rows(file, declared(file, slice_columns=["by"])))


UNGROUPED = {
    "x.csv": (
        b"text,label\na,ham\n",
        "no column 'by' among ['text', 'label']; set data.group_column",
    ),
    "x.jsonl": (
        b'{"text": "a", "label": "ham"}',
        "row 1 (line 1): has no key 'by', only ['label', 'text']; set data.group_column to one ",
    ),
    "mail/ham/1.txt": (b"a", "a folder of texts has no columns; remove data.group_column"),
}


@pytest.mark.parametrize(("name", "told"), UNGROUPED.items(), ids=UNGROUPED)
def test_a_source_without_the_group_column_is_refused(
    tmp_path: Path, name: str, told: tuple[bytes, str]
) -> None:
    content, problem = told
    write_folder(tmp_path, {name: content})
    assert refusal_of(tmp_path / Path(name).parts[0], group_column="by").startswith(problem)


@pytest.mark.parametrize(("name", "told"), UNGROUPED.items(), ids=UNGROUPED)
def test_a_source_without_a_column_to_slice_by_is_refused(
    tmp_path: Path, name: str, told: tuple[bytes, str]
) -> None:
    content, problem = told
    write_folder(tmp_path, {name: content})
    refused = refusal_of(tmp_path / Path(name).parts[0], slice_columns=["by"])
    assert refused.startswith(problem.replace("group_column", "slice_columns"))


def test_a_group_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", ["a"], ["ham"], by=[0.5])
    assert refusal_of(file, group_column="by").startswith(
        "column 'by' is of type double where text "
    )


def test_as_many_rows_as_allowed_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("text,label\na,ham\nb,spam\n")
    assert pairs_in(file, max_rows=2) == [("a", "ham"), ("b", "spam")]


@settings(max_examples=30)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS)))
def test_any_text_comes_back_from_csv_jsonl_and_parquet_as_it_went_in(
    pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *pairs])
    lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
    (folder / "x.jsonl").write_text("\n".join(lines))
    write_parquet(folder / "x.parquet", [text for text, _ in pairs], [label for _, label in pairs])
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        assert pairs_in(folder / name) == pairs


def write_parquet(file: Path, texts: Any, labels: Any, **others: Any) -> Path:
    """Write a Parquet file with the columns text, label and others."""
    columns = {"text": texts, "label": labels, **others}
    typed = {
        name: pa.array(values, pa.string()) if values == [] else values
        for name, values in columns.items()
    }
    pq.write_table(pa.table(typed), file)
    return file


def test_parquet_is_read_in_order_with_its_gaps_and_whole_numbers(tmp_path: Path) -> None:
    numbers = list(range(300))
    file = write_parquet(
        tmp_path / "x.parquet",
        pa.array([None, *map(str, numbers[1:])]).dictionary_encode(),
        numbers,
        score=[0.5] * 300,
    )
    assert pairs_in(file) == [
        (None if number == 0 else str(number), str(number)) for number in numbers
    ]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([0.5], "double"),
        ([True], "bool"),
        ([b"a"], "binary"),
        ([["a"]], "list<"),
        ([{"a": 1}], "struct<"),
        (pa.array([0], pa.timestamp("s")), "timestamp["),
    ],
)
def test_a_parquet_column_that_is_not_text_is_refused(
    tmp_path: Path, texts: Any, kind: str
) -> None:
    file = write_parquet(tmp_path / "x.parquet", texts, ["ham"])
    assert refusal_of(file).startswith(f"column 'text' is of type {kind}")


def test_parquet_columns_other_than_declared_are_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", ["a"], ["ham"], id=[1])
    assert refusal_of(file, columns=["text", "label"]).startswith(
        "columns are ['text', 'label', 'id'], expected data.columns ['text', 'label']"
    )
    assert refusal_of(file, text_column="body").startswith(
        "no column 'body' among ['text', 'label', 'id']; set data.text_column"
    )


def test_parquet_that_is_not_utf_8_within_is_refused(tmp_path: Path) -> None:
    offsets, letters = pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, letters])
    file = write_parquet(tmp_path / "x.parquet", text, ["ham"])
    assert refusal_of(file).startswith("is not a readable Parquet file ('utf-8' codec can't ")


def test_parquet_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", ["a"] * 100, ["ham"] * 100)
    file.write_bytes(file.read_bytes()[:-10])
    assert refusal_of(file).startswith("is not a readable Parquet file (")


def test_parquet_that_unpacks_to_too_much_is_refused_by_its_metadata(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "x.parquet", ["a" * 900_000 + str(n) for n in "123"], ["ham"] * 3
    )
    assert file.stat().st_size < 1_000_000
    assert refusal_of(file, max_megabytes=2).startswith(
        "unpacks to 2 MB or more, above data.max_megabytes=2; raise the limit"
    )
    assert len(pairs_in(file, max_megabytes=3)) == 3


def test_parquet_that_repeats_one_long_text_is_refused_before_it_fills_the_memory(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000), ["a" * 100_000])  # 2 GB unpacked
    schema = pa.schema([("text", texts.type), ("label", pa.string())])
    with pq.ParquetWriter(file, schema, store_schema=False) as writer:
        writer.write_table(pa.table([texts, ["ham"] * 20_000], schema=schema))
    assert file.stat().st_size < 10_000
    assert refusal_of(file, max_megabytes=50).startswith("unpacks to ")


def write_folder(folder: Path, texts: dict[str, bytes]) -> Path:
    """Write files by their path within the folder."""
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_is_read_as_one_folder_a_label_in_order(tmp_path: Path) -> None:
    texts = {"spam/1.txt": b"c", "ham/2.txt": b"b\r\n", "ham/1.txt": BOM + b"a", "ham/x.md": b"no"}
    folder = write_folder(tmp_path / "mail", {**texts, "read_me.txt": b"no"})
    assert pairs_in(folder) == [("a", "ham"), ("b\n", "ham"), ("c", "spam")]


@pytest.mark.parametrize(
    ("texts", "fields", "problem"),
    [
        ({"a.txt": b"a"}, {}, ": holds no folders; expected one folder a label, with .txt files "),
        ({"ham/1.txt": b"a"}, {"format": "csv"}, ": expected a csv file; correct data.uri or "),
        (
            {"ham/1.txt": b"\xe9"},
            {},
            "/ham/1.txt: is not utf-8 (line 1, byte 0xe9: unexpected end of data)",
        ),
        ({"ham/1.txt": b"a" * 4_000_001}, {}, "/ham/1.txt: is larger than 4000000 bytes; "),
        ({"ham/1.txt": TOO_LONG.encode()}, {}, ": row 1 has a field of 1000001 characters, above "),
        ({"h/1.txt": b"a", "h/2.txt": b"b"}, {"max_rows": 1}, ": more than data.max_rows=1 rows; "),
    ],
)
def test_a_folder_that_says_something_else_is_refused(
    tmp_path: Path, texts: dict[str, bytes], fields: dict[str, Any], problem: str
) -> None:
    folder = write_folder(tmp_path / "mail", texts)
    with pytest.raises(DataError) as caught:
        pairs_in(folder, **fields)
    (told,) = caught.value.problems
    assert told.startswith(f"{folder}{problem}")


def database(file: Path, kind: str, records: Sequence[tuple[object, object]]) -> Path:
    """Write a SQLite database with a table `mail` of a body and a class."""
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE mail (body {kind}, class)")
        connection.executemany("INSERT INTO mail VALUES (?, ?)", records)
    connection.close()
    return file


def query(file: Path, sql: str | None, **fields: Any) -> list[Row]:
    """Return the rows of a query."""
    return list(read_query(declared(Path(f"sqlite:///{file}"), uri=f"sqlite:///{file}", query=sql,
                                    **fields)))  # fmt: skip


def test_a_query_is_read_as_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = database(tmp_path / "mail.db", "TEXT", [("NA", "ham"), ("007", 1), (None, None)])
    rows = [Row(1, "NA", "ham"), Row(2, "007", "1"), Row(3, None, None)]
    sql = "SELECT class AS label, body AS text FROM mail"
    assert query(file, sql) == rows
    monkeypatch.setenv("MAIL", str(file))
    assert query(Path("${MAIL}"), sql) == rows


@pytest.mark.parametrize(
    ("sql", "fields", "problem"),
    [
        (None, {}, "a SQL source needs data.query, such as SELECT "),
        ("SELECT body AS text FROM mail", {}, "no column 'label' among ['text']; set "),
        (
            "SELECT body AS text, class AS label, 1 AS text FROM mail",
            {},
            "columns ['text'] appear twice",
        ),
        (
            "SELECT * FROM post",
            {},
            "query failed ((sqlite3.OperationalError) no such table: post);",
        ),
        ("DROP", {}, "query failed ((sqlite3.OperationalError) incomplete input); check "),
        ("SELECT 0.5 AS text, class AS label FROM mail", {}, "row 1: 'text' is of type float"),
        ("SELECT x'00' AS text, class AS label FROM mail", {}, "row 1: 'text' is of type bytes"),
        (
            "SELECT body AS text, class AS label FROM mail",
            {"max_rows": 1},
            "more than data.max_rows=1 rows",
        ),
    ],
)
def test_a_query_that_answers_something_else_is_refused(
    tmp_path: Path, sql: str | None, fields: dict[str, Any], problem: str
) -> None:
    file = database(tmp_path / "mail.db", "TEXT", [("a", "ham"), ("b", "spam")])
    with pytest.raises(DataError) as caught:
        query(file, sql, **fields)
    (told,) = caught.value.problems
    assert told.startswith(f"sqlite:///{file}: {problem}")


def test_a_database_that_is_not_there_is_refused_without_its_password() -> None:
    uri = "nosuchdriver://ann:opensesame@db/mail"
    data = Data(uri=uri, labels={"a": "a", "b": "b"}, query="SELECT 1")
    with pytest.raises(DataError, match="query failed") as caught:
        list(read_query(data))
    assert "opensesame" not in str(caught.value)


LINED = {"ham.txt": b"a\r\n\n b\rc\n", "spam.txt": BOM + "\uff01\n".encode(), "other.txt": b"\xff"}


def test_a_folder_of_lines_is_read_as_one_file_a_label_in_the_order_of_the_labels(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path / "mail", LINED)
    expected = [("\uff01", "spam"), ("a", "ham"), ("", "ham"), (" b\rc", "ham")]
    assert pairs_in(folder, format="lines", labels=["spam", "ham"]) == expected
    (folder / "ham.txt").write_bytes(b"")
    assert pairs_in(folder, format="lines") == expected[:1]


@pytest.mark.parametrize(
    ("texts", "fields", "told"),
    [
        ({}, {}, ": holds no plain file 'spam.txt'; put the texts of label 'spam' there"),
        (
            {},
            {"group_column": "by"},
            ": a folder of lines has no columns; remove data.group_column",
        ),
        (
            {"spam.txt": b"a\n\xff\n"},
            {},
            "/spam.txt: is not utf-8 (line 2, byte 0xff: invalid start byte); set data.encoding",
        ),
        (
            {"spam.txt": b"a\n" + b"b" * (MAX_FIELD_CHARACTERS + 1)},
            {},
            f"/spam.txt: line 2 is longer than {MAX_FIELD_CHARACTERS} characters; split or drop it",
        ),
        ({"spam.txt": b"a\0b\n"}, {}, ": row 2 holds a NUL character"),
        ({}, {"labels": ["ham", "../ham"]}, ": holds no plain file 'ham.txt'; put the texts of"),
    ],
)
def test_a_folder_of_lines_that_says_something_else_is_refused(
    texts: dict[str, bytes], fields: dict[str, Any], told: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "mail", {"ham.txt": b"a\n", **texts})
    with pytest.raises(DataError) as caught:
        pairs_in(folder, format="lines", **fields)
    assert str(caught.value).startswith(f"{folder}{told}")


def test_a_link_is_no_file_of_lines(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mail", {"ham.txt": b"a\n", "x.txt": b"b\n"})
    (folder / "spam.txt").symlink_to("x.txt")
    with pytest.raises(DataError, match=r"holds no plain file 'spam.txt'"):
        pairs_in(folder, format="lines")
    with pytest.raises(DataError, match=r"expected a folder with one file a label; correct"):
        pairs_in(folder / "x.txt", format="lines")
