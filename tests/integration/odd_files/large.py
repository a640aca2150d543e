"""Files that are large to read, or would be if they were read: each in a process of its own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from odd_files import TEXT, OddFile, csv_of, json_of, refused

SIZE = 100_000_000
START = csv_of(f"{TEXT},ham").encode()
LONGER = "a record of more than 8000000 characters"


def filled(start: bytes, filling: bytes, end: bytes = b"") -> Callable[[Path], None]:
    """Return what writes a file of 100 MB: a start, a filling over and over, and an end."""

    def make(path: Path) -> None:
        block = filling * (1_000_000 // len(filling))
        with path.open("wb") as stream:
            stream.write(start)
            for _ in range(SIZE // len(block)):
                stream.write(block)
            stream.write(end)

    return make


def parquet_bomb(path: Path) -> None:
    """Write 2 GB of zeros as a Parquet file of some kilobytes, with honest metadata."""
    texts = pa.array(["0" * 10_000_000])
    with pq.ParquetWriter(path, pa.schema([("text", "string"), ("label", "string")]),
                          compression="zstd", use_dictionary=False) as writer:  # fmt: skip
        for _ in range(200):
            writer.write_table(pa.table({"text": texts, "label": ["ham"]}))
    assert path.stat().st_size < 1_000_000


def repeated_text(path: Path) -> None:
    """Write one text of 50 MB that stands in each of 1000 rows: 50 GB, said to be 50 MB."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1000), ["0" * 50_000_000])
    table = pa.table({"text": texts, "label": ["ham"] * 1000})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 100_000


def long_text(path: Path) -> None:
    """Write one text of 100 MB."""
    pq.write_table(pa.table({"text": ["0" * SIZE], "label": ["ham"]}), path)


def large() -> Iterator[OddFile]:
    """Yield the large files; all are refused before they fill the memory."""
    limit = "field larger than field limit (1000000)"
    for id_, make, *told in (
        ("a field of 100 MB", filled(START, b"a", b",ham\n"), LONGER, "line 3"),
        ("a field of 100 MB in Chinese", filled(START, "\u732b".encode()), LONGER, "line 3"),
        ("a field of 100 MB in emoji", filled(START, "\U0001f600".encode()), LONGER, "line 3"),
        ("a quoted field of 100 MB", filled(START + b'"', b"a", b'",ham\n'), LONGER, "line 3"),
        ("a quote left open over 100 MB", filled(START + b'"', b"a b c\n"), limit, "lines 3 to "),
        ("a quote left open over empty lines", filled(START + b'"', b"\n"), limit, "lines 3 to "),
        ("100 million commas", filled(START, b","), LONGER, "line 3"),
        ("fields that are line ends", filled(START, b'"\n",'), LONGER, "lines 3 to "),
        ("a header of 100 MB", filled(b"text,label,", b"a"), LONGER, "line 1"),
        ("a header of millions of columns", filled(b"text,label", b",a"), LONGER, "line 1"),
        ("10 million empty lines", lambda path: path.write_bytes(b"\n" * 10_000_000), LONGER),
        ("100 MB of zeros", filled(b"", b"\0"), LONGER, "line 1"),
        ("100 MB of letters that are no UTF-8", filled(START, b"a", b"\xff"), LONGER, "line 3"),
    ):
        yield refused(id_, "x.csv", make, *told)
    start, longer = json_of(TEXT).encode(), "row 2 (line 2): is longer than 8000000 characters"
    for id_, make, problem in (
        ("a string of 100 MB", filled(start + b'{"text": "', b"a", b'", "label": "ham"}\n'), longer),
        ("an array of 100 MB", filled(start + b'{"x": [0', b",0", b"]}\n"), longer),
        ("brackets of 100 MB", filled(start, b"["), longer),
        ("spaces of 100 MB", filled(start, b" "), longer),
        ("8 MB of objects", lambda path: path.write_bytes(
            start + b'{"x":[' + b'{"":{}},' * 990_000 + b"0]}\n"), "has no key 'text'"),
        ("8 MB of brackets", lambda path: path.write_bytes(
            start + b'{"x":[' + b"[]," * 2_600_000 + b"0]}\n"), "has no key 'text'"),
        ("8 MB of keys", lambda path: path.write_text(
            json_of(TEXT) + json.dumps({str(n): 0 for n in range(600_000)})), "and 599992 more"),
    ):  # fmt: skip
        yield refused(f"JSON, {id_}", "x.jsonl", make, problem)
    bomb = "unpacks to 2000 MB or more", "data.max_megabytes=1000", "raise the limit"
    yield refused("a bomb of 2 GB", "x.parquet", parquet_bomb, *bomb, max_megabytes=1000)
    yield refused("a text of 50 MB in every row", "x.parquet", repeated_text,
        "row group 1 has a field of 50000000 bytes", "split or drop it")  # fmt: skip
    yield refused("a Parquet text of 100 MB", "x.parquet", long_text, "has a field of ",
        "100000000 bytes", "split or drop it")  # fmt: skip
    yield refused("a folder with a text of 100 MB", "mail/ham/1.txt", filled(b"", b"a"),
        "is larger than 4000000 bytes", place="mail/ham/1.txt")  # fmt: skip
    yield refused("endless zeros declared as CSV", "x.csv", lambda path: path.symlink_to("/dev/zero"),
        "expected a csv file", format="csv")  # fmt: skip
