"""Look at a source and tell how it is written: format, encoding, delimiter and quoting.

Every decision is on all bytes or rows, read as a stream, and by the strict readers' own rules.
"""

import codecs
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError
from tasks.reading import MAX_FIELD_CHARACTERS, refuse

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
# The rarer in prose, the surer where every row has as many: a comma in each row may be chance.
_DELIMITERS = {"\t": "a tab", "|": "a |", ";": "a semicolon", ",": "a comma"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, with whose mark it begins
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DOUBLE_BYTE = ("gb18030", "big5", "shift_jis", "euc_kr")
_SINGLE_BYTE = ("cp1251", "cp1252", "latin_1")  # the last decodes anything
_BLOCK = 1 << 20
_SAMPLE_BYTES = 1 << 18


@dataclass(frozen=True)
class Layout:
    """How a source is written, in the words of the config's `data` section."""

    format: str
    encoding: str = "utf-8"
    delimiter: str = ","
    quoting: str = "minimal"


@dataclass(frozen=True)
class _Shape:
    """What a delimiter and quoting make of a file: fields in its first row, rows alike, the fault.

    `bare_quotes`: taken as letters, a quote stands in a field that is not wrapped in quotes.
    """

    delimiter: str
    quoting: str
    fields: int
    rows: int
    bare_quotes: bool
    fault: str


def inspect_layout(path: Path, encoding: str | None = None) -> Layout:
    """Return how a file, or a folder of `.txt` files, is written; `encoding` is taken if given.

    Raises:
        DataError: if it is of no format that is read, or its encoding or delimiter cannot be told.
    """
    if path.is_dir():
        files = sorted(path.glob("*/*.txt"))
        if not files:
            refuse(path, "holds no texts; expected one folder a label, with .txt files in each")
        return Layout("folder", _encoding(path, files, encoding))
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
    if not head.strip():
        refuse(path, "is empty; expected rows with a text and a label")
    if head.startswith(b"PAR1"):
        return Layout("parquet")
    _refuse_archives(path, head)
    told = _encoding(path, [path], encoding)
    if FORMATS.get(path.suffix.lower()) == "jsonl" or _is_json_object(path, told):
        return Layout("jsonl", told)
    delimiter, quoting = _dialect(path, told)
    return Layout("tsv" if delimiter == "\t" else "csv", told, delimiter, quoting)


def read_records(path: Path, layout: Layout) -> Iterator[list[str]]:
    """Yield the records of a CSV or TSV file, a header among them, without empty lines."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with path.open(encoding=without_mark(layout.encoding), newline="") as stream:
        records = csv.reader(
            stream,
            delimiter=layout.delimiter,
            quoting=csv.QUOTE_NONE if layout.quoting == "none" else csv.QUOTE_MINIMAL,
            strict=True,
        )
        yield from (record for record in records if record)


def without_mark(encoding: str) -> str:
    """Return the codec that reads a UTF-8 byte order mark as a mark."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _refuse_archives(path: Path, head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        refuse(path, "is a zip archive or a spreadsheet; unpack it, or save it as CSV in UTF-8")
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        refuse(path, "is compressed; unpack it first")


def _encoding(path: Path, files: list[Path], given: str | None) -> str:
    """Return the encoding under which all the bytes are text: UTF-8 if they are, else the likeliest."""
    if given is not None:
        if not all(_decodes(file, given) for file in files):
            refuse(
                path, f"is not {given}; give another --encoding, or leave it out to have it told"
            )
        return given
    with files[0].open("rb") as stream:
        head = stream.read(_BLOCK)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark) and all(_decodes(file, encoding) for file in files):
            return encoding
    if b"\0" in head:
        refuse(
            path,
            "holds NUL bytes, so it is no text; save it as CSV or JSONL in UTF-8, or give "
            "--encoding if it is text in UTF-16",
        )
    if all(_decodes(file, "utf-8") for file in files):
        return "utf-8"
    return _likeliest(files)


def _decodes(file: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with file.open("rb") as stream:
        try:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeError:
            return False
    return True


def _likeliest(files: list[Path]) -> str:
    """Return the encoding whose letters make most sense, of those that decode every byte."""
    from charset_normalizer import from_bytes

    possible = [
        name
        for name in (*_DOUBLE_BYTE, *_SINGLE_BYTE)
        if all(_decodes(file, name) for file in files)
    ]
    # Any bytes are letters of a single-byte encoding; they must be words of a language as well.
    likely = [
        match.encoding
        for match in from_bytes(_foreign_lines(files), cp_isolation=possible)
        if match.encoding in _DOUBLE_BYTE or match.coherence > 0
    ]
    western = [name for name in _SINGLE_BYTE if name in possible and name != "cp1251"]
    return (likely or western)[0].replace("_", "-")


def _foreign_lines(files: list[Path]) -> bytes:
    """Return the first lines with anything but ASCII on them."""
    lines: list[bytes] = []
    room = _SAMPLE_BYTES
    for file in files:
        with file.open("rb") as stream:
            while room > 0 and (line := stream.readline(_SAMPLE_BYTES)):
                if not line.isascii():
                    lines.append(line)
                    room -= len(line)
    return b"".join(lines)


def _is_json_object(path: Path, encoding: str) -> bool:
    with path.open(encoding=without_mark(encoding)) as stream:
        first = next((line for line in stream if line.strip()), "")
    if first.lstrip().startswith("["):
        refuse(path, "begins as a JSON list; write it as JSONL, one object a line")
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        if first.strip() == "{":
            refuse(path, "is one JSON object over many lines; write it as JSONL, one object a line")
        return False


def _dialect(path: Path, encoding: str) -> tuple[str, str]:
    """Return the delimiter and quoting under which every row has as many fields, at least two."""
    tried = []
    for delimiter in _DELIMITERS:
        shapes = [_shape(path, encoding, delimiter, way) for way in ("minimal", "none")]
        if fit := [shape for shape in shapes if shape.fields > 1 and not shape.fault]:
            # Where quotes are plain letters, two lone ones may swallow all the rows between them,
            # and one may stand within a field that nothing quotes.
            best = max(fit, key=lambda shape: (shape.rows, shape.bare_quotes))
            return best.delimiter, best.quoting
        tried += [shape for shape in shapes if shape.fields > 1]
    raise DataError(f"{path}: {_why_unfit(tried)}")


def _why_unfit(tried: list[_Shape]) -> str:
    if not tried:
        return (
            "its first line is one field, whatever stands between: a tab, |, semicolon or comma; "
            "write a text and a label in each row"
        )
    nearest = max(tried, key=lambda shape: shape.rows)
    return (
        f"no delimiter gives every row as many fields; with {_DELIMITERS[nearest.delimiter]}, "
        f"{nearest.fault}; mend the row"
    )


def _shape(path: Path, encoding: str, delimiter: str, quoting: str) -> _Shape:
    """Read until a row differs from the first."""
    layout = Layout("csv", encoding, delimiter, quoting)
    fields = rows = wrapped = bare = 0
    fault = ""
    try:
        for record in read_records(path, layout):
            fields = fields or len(record)
            if fields == 1:
                break
            if len(record) != fields:
                fault = f"record {rows + 1} has {len(record)} fields where {fields} were expected"
                break
            rows += 1
            if quoting == "none":
                wrapped += any(map(_is_wrapped, record))
                bare += any(map(_is_bare, record))
    except csv.Error as error:
        fault = f"record {rows + 1} cannot be read ({error})"
    if 2 * wrapped > rows:  # the quotes are quotes, and one of them is amiss
        fields = 0
    return _Shape(delimiter, quoting, fields, rows, bare > 0, fault)


def _is_wrapped(field: str) -> bool:
    return len(field) > 1 and field.startswith('"') and field.endswith('"')


def _is_bare(field: str) -> bool:
    return '"' in field and not _is_wrapped(field)
