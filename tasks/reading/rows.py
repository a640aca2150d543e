"""A labelled row, and what may stand in one: text as it was written, in characters, not too long."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.schema import Data
from tasks.reading.refusals import refuse

MAX_FIELD_CHARACTERS = 1_000_000
MAX_RECORD_CHARACTERS = 8 * MAX_FIELD_CHARACTERS
"""Longest record of a text file, with the columns that are not read: it is held in memory whole."""
TEXT_TYPES = frozenset({str, type(None)})


class Row(NamedTuple):
    """One labelled text as it stands in the source; `number` counts records from 1.

    `slices` has the values of `data.slice_columns`, in their order.
    """

    number: int
    text: str | None
    label: str | None
    group: str | None = None
    slices: tuple[str | None, ...] = ()


def row_maker(data: Data) -> Callable[[int, Sequence[str | None]], Row]:
    """Return what makes a row of its number and its values of `data.read_columns`, in their order."""
    if data.group_column is None:
        return lambda number, values: Row(number, values[0], values[1], None, tuple(values[2:]))
    return lambda number, values: Row(number, values[0], values[1], values[2], tuple(values[3:]))


def as_text(where: str, name: str, value: Any) -> str | None:
    """Return a string or whole number as text; a float or flag would have to be guessed at."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        kind = type(value).__name__
        refuse(
            where,
            f"{name!r} is of type {kind} where text was expected; write it as a string in the "
            "source",
        )
    return str(value)


def check_characters(path: Path | str, row: Row) -> None:
    """Refuse a row with a value too long, or with what is no character."""
    for value in (*row[1:4], *row.slices):
        if value is None:
            continue
        if len(value) > MAX_FIELD_CHARACTERS:
            refuse(
                path,
                f"row {row.number} has a field of {len(value)} characters, above "
                f"{MAX_FIELD_CHARACTERS}; split or drop it",
            )
        if "\0" in value:
            refuse(
                path,
                f"row {row.number} holds a NUL character, which no text has; mend the row, or set "
                "data.encoding",
            )
        if value.isascii():
            continue
        try:
            value.encode()
        except UnicodeEncodeError:
            refuse(
                path,
                f"row {row.number} holds half of a surrogate pair, which is no character; "
                "write the source again as UTF-8",
            )
