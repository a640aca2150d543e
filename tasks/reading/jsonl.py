"""Read JSON Lines: one object a line, no key twice, whole numbers as they are written."""

import json
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from configs.schema import Data
from tasks.reading.encodings import open_text, refuse_encoding
from tasks.reading.refusals import refuse, shown
from tasks.reading.rows import MAX_RECORD_CHARACTERS, TEXT_TYPES, Row, as_text, row_maker


def read_jsonl(path: Path, data: Data) -> Iterator[Row]:
    """Yield the rows of a JSON Lines file; a blank line is none."""
    roles = data.read_columns
    members = itemgetter(*roles)
    make = row_maker(data)
    number = 0
    try:
        with open_text(path, data, newline="\n") as stream:
            lines = iter(partial(stream.readline, MAX_RECORD_CHARACTERS + 1), "")
            for line_number, line in enumerate(lines, start=1):
                if line.isspace() and len(line) <= MAX_RECORD_CHARACTERS:
                    continue
                number += 1
                try:
                    values = members(_object(line, roles, data))
                except ValueError as problem:
                    refuse(f"{path}: row {number} (line {line_number})", str(problem))
                if not TEXT_TYPES.issuperset(map(type, values)):
                    where = f"{path}: row {number} (line {line_number})"
                    values = tuple(map(partial(as_text, where), roles, values))
                yield make(number, values)
    except UnicodeError as error:
        refuse_encoding(path, data, error, newline="\n")


def _object(line: str, roles: dict[str, str], data: Data) -> dict[str, Any]:
    """Return the object on a line; what is wrong with the line is a ValueError."""
    if len(line) > MAX_RECORD_CHARACTERS:
        raise ValueError(f"is longer than {MAX_RECORD_CHARACTERS} characters; split or drop it")
    try:
        record = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg}, character {error.colno}"
        raise ValueError(f"is not a JSON object ({reason}); mend the line") from None
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise ValueError(f"is a JSON {kind}, expected an object with keys; mend the line")
    if data.columns is not None and record.keys() != set(data.columns):
        raise ValueError(
            f"keys are {shown(sorted(record))}, expected data.columns "
            f"{shown(sorted(data.columns))}; mend the row"
        )
    for name, key in roles.items():
        if name not in record:
            raise ValueError(
                f"has no key {name!r}, only {shown(sorted(record))}; set data.{key} to one "
                "of them, or mend the row"
            )
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is written twice")
    return record


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# A whole number stays as its digits: -0 is not 0, and one of thousands of digits is not computed.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=str
)
