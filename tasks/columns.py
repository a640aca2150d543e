"""Tell which column holds the text and which the label, from the first rows of a source."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from configs.schema import Data
from tasks.dialects import Layout, read_records, without_mark
from tasks.reading import refuse

T = TypeVar("T")
MOST_LABELS = 200
LONGEST_LABEL = 100
LONGEST_NAME = 60
MAX_MEGABYTES: int = Data.model_fields["max_megabytes"].default
_PART_ROWS = 100_000
_PART_CHARACTERS = 32_000_000
_PARQUET_BATCH_ROWS = 128
_LABEL_NAMES = {"label", "labels", "class", "category", "target", "sentiment", "intent", "topic"}
_LABEL_NAMES |= {"标签", "类别", "分类", "情感"}
_TEXT_NAMES = {"text", "文本"}


@dataclass(frozen=True)
class Column:
    """One column of the part that was read, by its name."""

    name: str
    values: list[Any]
    is_part: bool
    """Whether the source goes on after the part."""

    def is_text(self) -> bool:
        """Return whether all values are strings or missing, and one at least is there."""
        return all(value is None or isinstance(value, str) for value in self.values) and any(
            self.values
        )

    def mean_characters(self) -> float:
        """Return the mean length, in characters, of a column of strings."""
        return sum(len(value or "") for value in self.values) / max(len(self.values), 1)

    def few_values(self) -> set[str]:
        """Return the distinct values if they are few, short and repeated, as labels are."""
        if not all(value is None or type(value) in (str, int) for value in self.values):
            return set()
        there = [
            text for value in self.values if value is not None and (text := str(value).strip())
        ]
        found = set(there)
        if not 1 <= len(found) <= MOST_LABELS or 2 * len(found) > len(there):
            return set()
        if max(map(len, found)) > LONGEST_LABEL or all(map(_is_fraction, found)):
            return set()
        return found

    def looks_like_a_label(self) -> bool:
        """Return whether the values tell rows apart; a part sorted by label may hold one alone."""
        found = self.few_values()
        return len(found) > 1 or (self.is_part and len(found) == 1)


@dataclass(frozen=True)
class Table:
    """The columns of the part that was read, and whether the source names them itself."""

    columns: list[Column]
    has_header: bool = True

    @property
    def names(self) -> list[str]:
        """Return the names of the columns in order."""
        return [column.name for column in self.columns]

    def label_columns(self) -> list[str]:
        """Return the columns that look like a label; one alone if its name says so as well."""
        found = [column.name for column in self.columns if column.looks_like_a_label()]
        named = [name for name in found if name.lower() in _LABEL_NAMES]
        return named if len(named) == 1 else found

    def text_columns(self) -> list[str]:
        """Return the columns that look like a text, the likeliest first."""
        found = [c for c in self.columns if c.is_text() and not c.looks_like_a_label()]
        found.sort(key=lambda c: (c.name.lower() not in _TEXT_NAMES, -c.mean_characters()))
        return [column.name for column in found]


def read_table(path: Path, layout: Layout) -> Table:
    """Return the columns of the first rows of a file, at most 100,000 rows or 32 M characters.

    Raises:
        DataError: if a line is not JSON or the Parquet file not readable.
    """
    if layout.format == "parquet":
        return _of_objects(path, *_parquet_objects(path))
    if layout.format == "jsonl":
        return _of_objects(path, *_json_objects(path, layout))
    rows = read_records(path, layout)
    records, is_part = _first(rows, lambda record: sum(map(len, record)))
    has_header = _is_header(records[0], records[1:], is_part)
    if has_header:
        names, *records = records
        if doubled := {name for name in names if names.count(name) > 1}:
            refuse(path, f"column {min(doubled)!r} stands twice in its header; rename one")
    else:
        names = [f"column_{place}" for place in range(1, len(records[0]) + 1)]
    if not records:
        refuse(path, "holds a header and no rows; add labelled texts")
    cells = [list(values) for values in zip(*records, strict=True)]
    columns = [Column(name, values, is_part) for name, values in zip(names, cells, strict=True)]
    return Table(columns, has_header)


def _is_fraction(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return not value.isdigit()


def _first(rows: Iterator[T], size: Callable[[T], int]) -> tuple[list[T], bool]:
    """Return the first rows, and whether more follow."""
    taken: list[T] = []
    characters = 0
    for row in rows:
        taken.append(row)
        characters += size(row)
        if len(taken) >= _PART_ROWS or characters >= _PART_CHARACTERS:
            return taken, any(True for _ in rows)
    return taken, False


def _is_header(first: list[str], rest: list[list[str]], is_part: bool) -> bool:
    """Return whether the first record names columns: no cell of it is a label of the others."""
    if any(not cell.strip() or len(cell) > LONGEST_NAME for cell in first):
        return False
    columns = [
        Column(name, list(values), is_part) for name, *values in zip(first, *rest, strict=True)
    ]
    return not any(column.name.strip() in column.few_values() for column in columns)


def _json_objects(path: Path, layout: Layout) -> tuple[list[dict[str, Any]], bool]:
    with path.open(encoding=without_mark(layout.encoding), newline="\n") as stream:
        lines = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
        taken, is_part = _first(lines, lambda line: len(line[1]))
    objects = []
    for number, line in taken:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            refuse(path, f"line {number} is not a JSON object; mend the line")
        objects.append(record)
    return objects, is_part


def _parquet_objects(path: Path) -> tuple[list[dict[str, Any]], bool]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _refuse_large(path, file.metadata)
            batches = file.iter_batches(batch_size=_PARQUET_BATCH_ROWS)
            records = (record for batch in batches for record in batch.to_pylist())
            return _first(records, lambda record: sum(map(len, map(str, record.values()))))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        refuse(path, f"is not a readable Parquet file ({reason}); write it again")


def _refuse_large(path: Path, metadata: Any) -> None:
    """Refuse by what the file says of itself, before any of it is unpacked."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    megabytes = sum(group.total_byte_size for group in groups) // 1_000_000
    if megabytes > MAX_MEGABYTES:
        refuse(path, f"unpacks to {megabytes} MB, above {MAX_MEGABYTES}; write its config by hand")


def _of_objects(path: Path, objects: list[dict[str, Any]], is_part: bool) -> Table:
    if not objects:
        refuse(path, "holds no rows; add labelled texts")
    names = list(dict.fromkeys(name for record in objects for name in record))
    return Table([Column(name, [r.get(name) for r in objects], is_part) for name in names])
