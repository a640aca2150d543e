"""Files as odd as people and programs make them, each with what must come of reading it.

A case is one file (or what stands in the place of one). It is either read, and then its cleaned
texts and labels are stated exactly, or refused, and then the fragments of the one line that says
so are stated. What is random is drawn with a fixed seed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SECRET = "quagmire"
"""A word in the texts of what is refused; no message may hold it."""
TEXT = f"a {SECRET}"

Pair = tuple[str | None, str | None]
Content = bytes | Callable[[Path], object]


@dataclass(frozen=True)
class OddFile:
    """One odd file: `rows` if it is read, `told` if it is refused, both if either is right."""

    id: str
    name: str
    content: Content
    rows: Sequence[Pair] | None = None
    told: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    """Values of the data section; by default the labels are ham and spam."""
    place: str = ""
    """What the line about it begins with, within the folder, where that is not the file."""


def read(id_: str, name: str, content: Content, *rows: Pair, **fields: Any) -> OddFile:
    """Return a case that is accepted, with the rows it must give."""
    return OddFile(id_, name, content, rows=rows, fields=fields)


def refused(
    id_: str, name: str, content: Content, *told: str, place: str = "", **fields: Any
) -> OddFile:
    """Return a case that is refused, with what the line about it must hold."""
    return OddFile(id_, name, content, told=told, fields=fields, place=place)


def csv_of(*lines: str, header: str = "text,label", end: str = "\n") -> str:
    """Return a CSV file of a header and lines."""
    return "".join(line + end for line in [header, *lines])


def json_of(text: object, label: object = "ham") -> str:
    """Return a line of JSON Lines."""
    return json.dumps({"text": text, "label": label}) + "\n"


def parquet_of(texts: Any, labels: Any, others: dict[str, Any] | None = None, **how: Any) -> bytes:
    """Return a Parquet file with the columns text, label and others."""
    sink = BytesIO()
    pq.write_table(pa.table({"text": texts, "label": labels, **(others or {})}), sink, **how)
    return sink.getvalue()
