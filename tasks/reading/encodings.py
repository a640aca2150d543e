"""Open a text file in its declared encoding, and tell where a file is not in it."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO

from configs.schema import Data
from tasks.reading.refusals import refuse

# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
    "\ufeff".encode("gb18030"): "gb18030",
}
_NO_CHARACTER = "\ud800"  # half of a surrogate pair, which no decoder gives by itself


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Stand in for what cannot be decoded, so that its line can be found."""
    assert isinstance(error, UnicodeDecodeError)
    return _NO_CHARACTER, error.end


codecs.register_error("ekiben-mark", _mark)


@contextmanager
def open_text(
    path: Path, data: Data, newline: str | None, errors: str = "strict"
) -> Iterator[TextIO]:
    """Open a text file behind its byte order mark, which is never the first letter of a column.

    Raises:
        DataError: if the mark is one of another encoding than declared, or lacks.
    """
    with path.open("rb") as file:
        start = file.read(4)
    declared = codecs.lookup(data.encoding).name
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if marked is None and start and declared in ("utf-16", "utf-32"):
        cure = f"set data.encoding to {declared}-le or {declared}-be"
        refuse(path, f"is not {data.encoding} (it starts with no byte order mark); {cure}")
    if marked is not None and _family(marked) != _family(declared):
        refuse(path, f"starts with the mark of {_family(marked)}; set data.encoding to that")
    encoding = marked or data.encoding
    with path.open(encoding=encoding, errors=errors, newline=newline) as stream:
        if marked is not None:
            stream.read(1)
        yield stream


def _family(encoding: str) -> str:
    """Return `utf-16` of `utf-16-le`: a mark tells the order of the bytes."""
    return "-".join(encoding.split("-")[:2])


def refuse_encoding(path: Path, data: Data, error: UnicodeError, newline: str | None) -> NoReturn:
    """Raise the DataError of a text file that is not in its declared encoding, naming the line."""
    found = str(error)
    if isinstance(error, UnicodeDecodeError):
        place = _place_of_error(path, data, newline)
        found = f"{place}byte 0x{error.object[error.start]:02x}: {error.reason}"
    refuse(
        path,
        f"is not {data.encoding} ({found}); set data.encoding to what it was written in, such as "
        "latin-1, gb18030 or utf-16-le",
    )


def _place_of_error(path: Path, data: Data, newline: str | None) -> str:
    line = 1
    try:
        with open_text(path, data, newline, errors="ekiben-mark") as stream:
            for piece in iter(partial(stream.readline, 1 << 16), ""):
                if _NO_CHARACTER in piece:
                    break
                line += piece.endswith(("\n", "\r"))
    except UnicodeError:  # some codecs know no other way than to stop
        return ""
    return f"line {line}, "
