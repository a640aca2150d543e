"""Look at a source and tell how it is written: its format, and the encoding of all its bytes."""

import codecs
import json
from pathlib import Path

from tasks.dialects import Layout, dialect_of, without_mark
from tasks.reading import refuse

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
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
    delimiter, quoting = dialect_of(path, told)
    return Layout("tsv" if delimiter == "\t" else "csv", told, delimiter, quoting)


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
