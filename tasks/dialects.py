"""Tell the delimiter and quoting of a CSV file: the strict reader tries each on every row."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import DataError
from tasks.reading import MAX_FIELD_CHARACTERS

# The rarer in prose, the surer where every row has as many: a comma in each row may be chance.
_DELIMITERS = {"\t": "a tab", "|": "a |", ";": "a semicolon", ",": "a comma"}
_MOST_KINDS = 200
_KIND_CHARACTERS = 100


@dataclass(frozen=True)
class Layout:
    """How a source is written, in the words of the config's `data` section."""

    format: str
    encoding: str = "utf-8"
    delimiter: str = ","
    quoting: str = "minimal"


@dataclass
class _Shape:
    """What a delimiter and a quoting make of a file, up to the first row unlike the others."""

    delimiter: str
    quoting: str
    fields: int = 0
    rows: int = 0
    kinds: list[set[str]] = field(default_factory=list)
    """The first distinct values of each column, no more than 201."""
    wrapped: int = 0
    """Rows with a quote at both ends of a field, where quotes are letters."""
    bare: int = 0
    """Rows with a quote elsewhere in a field, where quotes are letters."""
    fault: str = ""

    @property
    def fits(self) -> bool:
        """Return whether every row has as many fields, and quotes are not letters against reason."""
        return self.fields > 1 and not self.fault and 2 * self.wrapped <= self.rows

    def add(self, record: list[str]) -> None:
        """Count one more row."""
        self.rows += 1
        for kinds, cell in zip(self.kinds, record, strict=True):
            if len(kinds) <= _MOST_KINDS:
                kinds.add(cell[:_KIND_CHARACTERS])
        if self.quoting == "none":
            self.wrapped += any(map(_is_wrapped, record))
            self.bare += any(map(_is_bare, record))


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


def dialect_of(path: Path, encoding: str) -> tuple[str, str]:
    """Return the delimiter and quoting under which every row has as many fields, at least two.

    Raises:
        DataError: if there is none, naming the row that is unlike the others.
    """
    tried = []
    for delimiter in _DELIMITERS:
        quoted, plain = (_shape(path, encoding, delimiter, way) for way in ("minimal", "none"))
        if plain.fits and (not quoted.fits or _are_letters(quoted, plain)):
            return delimiter, "none"
        if quoted.fits:
            return delimiter, "minimal"
        tried += [shape for shape in (quoted, plain) if shape.fault]
    raise DataError(f"{path}: {_why_unfit(tried)}")


def _are_letters(quoted: _Shape, plain: _Shape) -> bool:
    """Return whether quotes are letters, where both readings give every row as many fields.

    As quotes, two lone ones swallow the rows between them. As letters, a line end within quotes
    makes two rows of one, and the second brings a label that no other row has.
    """
    if quoted.fields != plain.fields or (plain.rows, plain.bare > 0) <= (quoted.rows, False):
        return False
    return all(
        2 * len(few) > quoted.rows or len(few) > _MOST_KINDS or found <= few
        for few, found in zip(quoted.kinds, plain.kinds, strict=True)
    )


def _why_unfit(tried: list[_Shape]) -> str:
    if not tried:
        return (
            "its first line is one field, whatever stands between: a tab, |, semicolon or comma; "
            "write a text and a label in each row"
        )
    nearest = max(tried, key=lambda shape: shape.rows)
    return (
        f"no delimiter gives every row as many fields; with {_DELIMITERS[nearest.delimiter]}, "
        f"record {nearest.rows + 1} is amiss: {nearest.fault}; mend the row"
    )


def _shape(path: Path, encoding: str, delimiter: str, quoting: str) -> _Shape:
    """Read until a row differs from the first."""
    shape = _Shape(delimiter, quoting)
    try:
        for record in read_records(path, Layout("csv", encoding, delimiter, quoting)):
            if shape.rows == 0:
                shape.fields, shape.kinds = len(record), [set() for _ in record]
            if shape.fields == 1:
                break
            if len(record) != shape.fields:
                shape.fault = f"{len(record)} fields where {shape.fields} were expected"
                break
            shape.add(record)
    except csv.Error as error:
        shape.fault = str(error)
    return shape


def _is_wrapped(cell: str) -> bool:
    return len(cell) > 1 and cell.startswith('"') and cell.endswith('"')


def _is_bare(cell: str) -> bool:
    return '"' in cell and not _is_wrapped(cell)
