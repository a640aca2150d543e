"""Parquet files that are odd, damaged, or no Parquet at all."""

import gzip
import random
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq

from odd_files import SECRET, TEXT, OddFile, csv_of, parquet_of, read, refused

ROWS = [(f"{SECRET} {number}", ("ham", "spam")[number % 2]) for number in range(60)]
TEXTS = pa.array([text for text, _ in ROWS])
LABELS = pa.array([label for _, label in ROWS])
NOT_PARQUET = "is not a readable Parquet file ("
DAMAGES = 60
"""Damaged files of each kind."""


def types() -> Iterator[OddFile]:
    """Yield columns of many types: strings and whole numbers are read, in whatever form."""
    a, b = ("a", "ham"), (None, "spam")
    labels = pa.array(["ham", "spam"])
    for id_, texts in {
        "strings": pa.array(["a", None]),
        "large strings": pa.array(["a", None], "large_string"),
        "string views": pa.array(["a", None], "string_view"),
        "a dictionary": pa.array(["a", None]).dictionary_encode(),
        "a dictionary of large strings": pa.array(["a", None], "large_string").dictionary_encode(),
    }.items():
        content = parquet_of(texts, labels)
        yield read(f"Parquet of {id_}", "x.parquet", content, a, b)
    content = parquet_of(["a", None], labels, store_schema=False, use_dictionary=False)
    yield read("Parquet of strings, plain", "x.parquet", content, a, b)
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        content = parquet_of(pa.array([7, None], kind), labels)
        yield read(f"Parquet of {kind}", "x.parquet", content, ("7", "ham"), b)
    content = parquet_of(pa.nulls(2), labels)
    yield read("Parquet of nulls", "x.parquet", content, (None, "ham"), b)
    for id_, values in {
        "float": pa.array([0.5]), "half": pa.array([0.5], "float16"), "flag": pa.array([True]),
        "bytes": pa.array([TEXT.encode()]), "bytes of a length": pa.array([b"abc"], pa.binary(3)),
        "a date": pa.array([0], "date32"), "a time": pa.array([0], pa.time64("us")),
        "a moment": pa.array([0], pa.timestamp("us")),
        "a moment in a zone": pa.array([0], pa.timestamp("us", "Asia/Tokyo")),
        "a duration": pa.array([0], pa.duration("s")),
        "a decimal": pa.array([1], pa.decimal128(9, 2)),
        "a list": pa.array([[TEXT]]), "a list of lists": pa.array([[[TEXT]]]),
        "a struct": pa.array([{"text": TEXT}]),
        "a map": pa.array([[("a", TEXT)]], pa.map_(pa.string(), pa.string())),
        "a dictionary of fractions": pa.array([0.5]).dictionary_encode(),
    }.items():  # fmt: skip
        told = "column 'text' is of type ", "write it as strings"
        content = parquet_of(values, ["ham"])
        yield refused(f"Parquet, {id_} for a text", "x.parquet", content, *told)
    for id_, values in {"a float": [0.5], "a flag": [True], "bytes": [b"ham"]}.items():
        content = parquet_of([TEXT], values)
        yield refused(f"Parquet, {id_} for a label", "x.parquet", content, "column 'label' is of ")
    nested = {"author": pa.array([{"text": "b", "label": "c"}]), "score": [0.5], "raw": [b"\xff"]}
    yield read("Parquet, nested columns beside", "x.parquet", parquet_of(["a"], ["ham"], nested), a)
    dotted = {"text.long": ["b"]}
    yield read("Parquet, a column with a point in its name", "x.parquet",
        parquet_of(["c"], ["ham"], dotted), ("b", "ham"), text_column="text.long")  # fmt: skip


def shapes() -> Iterator[OddFile]:
    """Yield files of odd row groups, versions, columns and packing."""
    for packing in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        content = parquet_of(TEXTS, LABELS, compression=packing)
        yield read(f"Parquet packed by {packing}", "x.parquet", content, *ROWS)
    hows: dict[str, dict[str, Any]] = {
        "a row group a row": {"row_group_size": 1},
        "pages of a row": {"data_page_size": 1, "write_batch_size": 1},
        "version 1.0": {"version": "1.0"}, "pages of version 2": {"data_page_version": "2.0"},
        "checksums": {"write_page_checksum": True}, "no statistics": {"write_statistics": False},
        "deltas": {"column_encoding": "DELTA_BYTE_ARRAY", "use_dictionary": False},
        "lengths": {"column_encoding": "DELTA_LENGTH_BYTE_ARRAY", "use_dictionary": False},
    }  # fmt: skip
    for id_, how in hows.items():
        content = parquet_of(TEXTS, LABELS, **how)
        yield read(f"Parquet with {id_}", "x.parquet", content, *ROWS)
    strings = pa.array([], "string")
    yield refused("Parquet of no rows", "x.parquet", parquet_of(strings, strings), "holds no rows")
    sink = BytesIO()
    pq.ParquetWriter(sink, pa.schema([("text", "string"), ("label", "string")])).close()
    yield refused("Parquet of no row groups", "x.parquet", sink.getvalue(), "holds no rows")
    sink = BytesIO()
    pq.write_table(pa.table({}), sink)
    yield refused(
        "Parquet of no columns", "x.parquet", sink.getvalue(), "no column 'text' among []"
    )
    twice = pa.Table.from_arrays([TEXTS, LABELS, TEXTS], names=["text", "label", "text"])
    sink = BytesIO()
    pq.write_table(twice, sink)
    yield refused("Parquet, a column twice", "x.parquet", sink.getvalue(), "['text'] appear twice")
    other = pa.table({"body": TEXTS, "label": LABELS})
    sink = BytesIO()
    pq.write_table(other, sink)
    yield refused("Parquet, another column", "x.parquet", sink.getvalue(), "no column 'text' among ",
        "set data.text_column")  # fmt: skip
    yield refused("Parquet, a column too many", "x.parquet",
        parquet_of(TEXTS, LABELS, {"id": list(range(60))}), "columns are ['text', 'label', 'id']",
        columns=["text", "label"])  # fmt: skip
    yield refused("Parquet, more rows than allowed", "x.parquet", parquet_of(TEXTS, LABELS),
        "data.max_rows=59", max_rows=59)  # fmt: skip
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    yield refused("Parquet, bytes that are no UTF-8", "x.parquet", parquet_of(broken, ["ham"]),
        NOT_PARQUET, "utf-8", "write it again")  # fmt: skip
    surrogate = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"\xed\xa0\x80")]
    )
    yield refused("Parquet, half of a surrogate pair", "x.parquet", parquet_of(surrogate, ["ham"]),
        NOT_PARQUET, "utf-8")  # fmt: skip


def bombs() -> Iterator[OddFile]:
    """Yield small files that unpack to hundreds of megabytes; the limit is set to 20 MB."""
    told = "unpacks to ", "data.max_megabytes=20", "raise the limit"
    for packing in ("zstd", "gzip", "brotli"):
        texts = pa.array([SECRET * 100_000 + str(n) for n in range(40)])
        content = parquet_of(texts, ["ham"] * 40, compression=packing, use_dictionary=False)
        assert len(content) < 1_000_000
        yield refused(f"a bomb by {packing}", "x.parquet", content, *told, max_megabytes=20)
    beside = {"x": pa.array(["a" * 30_000_000])}
    content = parquet_of([TEXT], ["ham"], beside, compression="zstd")
    yield refused("a bomb in a column beside", "x.parquet", content, *told, max_megabytes=20)
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 3000), [SECRET * 10_000])
    for id_, stored in {"as Arrow knows": True, "unknown to Arrow": False}.items():
        content = parquet_of(one, ["ham"] * 3000, store_schema=stored)
        assert len(content) < 20_000
        yield refused(f"one text 3000 times, {id_}", "x.parquet", content, *told, max_megabytes=20)


def damaged() -> Iterator[OddFile]:
    """Yield truncated and bit-flipped files with page checksums: refused, or read as they were."""
    draw = random.Random(20_240_229)
    kinds: dict[str, dict[str, Any]] = {
        "snappy": {}, "plain": {"compression": "none", "use_dictionary": False},
        "zstd": {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 20},
    }  # fmt: skip
    for id_, how in kinds.items():
        content = parquet_of(TEXTS, LABELS, write_page_checksum=True, **how)
        for length in sorted(draw.sample(range(len(content)), DAMAGES // 4)):
            yield refused(f"Parquet, {id_}, cut off after {length} bytes", "x.parquet",
                content[:length], NOT_PARQUET, "write it again")  # fmt: skip
        for at in sorted(draw.sample(range(len(content)), DAMAGES)):
            flipped = bytearray(content)
            flipped[at] ^= 1 << draw.randrange(8)
            yield OddFile(f"Parquet, {id_}, a bit flipped in byte {at}", "x.parquet",
                bytes(flipped), rows=ROWS, told=("x.parquet: ",))  # fmt: skip
        middle = len(content) // 2
        for name, fault in {
            "zeros in the middle": content[: middle - 50] + bytes(100) + content[middle + 50 :],
            "a hole": content[: middle - 50] + content[middle + 50 :],
            "twice": content[:-8] + content,
            "a line end put in": content[:middle] + b"\r" + content[middle:],
            "without its first byte": content[1:],
        }.items():
            yield OddFile(f"Parquet, {id_}, {name}", "x.parquet", fault, rows=ROWS,
                told=("x.parquet: ",))  # fmt: skip


def foreign() -> Iterator[OddFile]:
    """Yield files of other formats under the name of one that is read."""
    table = pa.table({"text": [TEXT], "label": ["ham"]})
    arrow, feather, orc, archive = BytesIO(), BytesIO(), BytesIO(), BytesIO()
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    pa.feather.write_feather(table, feather)
    pa.orc.write_table(table, orc)
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("x.csv", csv_of(f"{TEXT},ham"))
    contents = {
        "Arrow": arrow.getvalue(), "Feather": feather.getvalue(), "ORC": orc.getvalue(),
        "ZIP": archive.getvalue(), "gzip": gzip.compress(csv_of(f"{TEXT},ham").encode(), mtime=0),
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PNG": b"\x89PNG\r\n\x1a\n", "ELF": b"\x7fELF\x02",
        "SQLite": b"SQLite format 3\0" + bytes(84), "a pickle": b"\x80\x04\x95\x10\0\0\0",
        "HTML": b"<!doctype html>\n<title>404</title>\n", "nothing": b"",
        "encrypted Parquet": b"PARE" + bytes(40) + b"PARE", "four letters": b"PAR1",
        "only the letters of Parquet": b"PAR1" * 3, "a huge footer": b"PAR1\xff\xff\xff\x7fPAR1",
    }  # fmt: skip
    for id_, content in contents.items():
        yield refused(
            f"{id_} named as Parquet", "x.parquet", content, NOT_PARQUET, "write it again"
        )
    for id_ in ("Arrow", "ORC", "ZIP", "gzip", "PDF", "PNG", "ELF", "SQLite", "a pickle", "HTML"):
        yield refused(f"{id_} named as CSV", "x.csv", contents[id_], "x.csv: ", "set data.")
        yield refused(f"{id_} named as JSON", "x.jsonl", contents[id_], "x.jsonl: ")
    content = parquet_of([TEXT], ["ham"])
    yield refused("Parquet named as CSV", "x.csv", content, "x.csv: ", "set data.")
    yield refused("Parquet named as JSON", "x.jsonl", content, "x.jsonl: ", "set data.")
    yield read("Parquet under another suffix", "x.dat", parquet_of(["a"], ["ham"]), ("a", "ham"),
        format="parquet")  # fmt: skip
    for suffix in (".txt", ".xlsx", ".csv.gz", ".json", ""):
        yield refused(f"a suffix {suffix!r}", f"x{suffix}", csv_of(f"{TEXT},ham").encode(),
            "names no format", "set data.format")  # fmt: skip
