"""Read a folder with one text file a label, `LABEL.txt`, and one text a line in it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from configs.schema import Data
from tasks.reading.encodings import open_text, refuse_encoding
from tasks.reading.refusals import refuse
from tasks.reading.rows import MAX_FIELD_CHARACTERS, Row


def read_lines(path: Path, data: Data) -> Iterator[Row]:
    """Yield a row a line of the file of each raw label, in the order of `data.labels`.

    Rows are numbered through all files; files that no label names are left out.
    """
    for key in ("group_column", "slice_columns"):
        if getattr(data, key):
            refuse(path, f"a folder of lines has no columns; remove data.{key}")
    number = 0
    for label in data.labels:
        file = path / f"{label}.txt"
        if file.parent != path or file.is_symlink() or not file.is_file():
            refuse(
                path,
                f"holds no plain file {file.name!r}; put the texts of label {label!r} there, one a "
                "line, or correct data.labels",
            )
        for line_number, line in enumerate(_lines(file, data), start=1):
            if len(line) > MAX_FIELD_CHARACTERS:
                refuse(
                    file,
                    f"line {line_number} is longer than {MAX_FIELD_CHARACTERS} characters; split or "
                    "drop it",
                )
            number += 1
            yield Row(number, line, label)


def _lines(file: Path, data: Data) -> Iterator[str]:
    """Yield the lines without their ends; a carriage return alone ends none."""
    try:
        with open_text(file, data, newline="\n") as stream:
            for line in iter(partial(stream.readline, MAX_FIELD_CHARACTERS + 3), ""):
                yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeError as error:
        refuse_encoding(file, data, error, newline="\n")
