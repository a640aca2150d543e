"""Say in one line why a source is not read: where, what was found, and the cure."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from configs.errors import DataError
from configs.schema import Data

_SHOWN_COLUMNS = 8
_SHOWN_CHARACTERS = 30


def refuse(path: Path | str, problem: str) -> NoReturn:
    """Raise the DataError that tells a problem of a source."""
    letters = f"{path}: {problem}"
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in letters)
    raise DataError(line) from None


def refuse_more(path: Path | str, data: Data) -> NoReturn:
    """Raise the DataError of a source with too many rows."""
    refuse(path, f"more than data.max_rows={data.max_rows} rows; raise it if that is meant")


def shown(names: Sequence[str]) -> str:
    """Return the first names for a message; a long one may be a text, and is told by its length."""
    named = [
        repr(name) if len(name) <= _SHOWN_CHARACTERS else f"({len(name)} characters)"
        for name in names[:_SHOWN_COLUMNS]
    ]
    more = len(names) - len(named)
    return f"[{', '.join(named)}]" + (f" and {more} more" if more else "")
