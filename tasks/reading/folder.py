"""Read a folder with one folder of `.txt` files a label."""

from collections.abc import Iterator
from pathlib import Path

from configs.schema import Data
from tasks.reading.encodings import open_text, refuse_encoding
from tasks.reading.refusals import refuse
from tasks.reading.rows import MAX_FIELD_CHARACTERS, Row

_MAX_BYTES = 4 * MAX_FIELD_CHARACTERS


def read_folder(path: Path, data: Data) -> Iterator[Row]:
    """Yield a row a text file, in the order of labels and file names; other files are left out."""
    for key in ("group_column", "slice_columns"):
        if getattr(data, key):
            refuse(path, f"a folder of texts has no columns; remove data.{key}")
    entries = sorted(path.rglob("*"))
    if not any(entry.is_dir() and entry.parent == path for entry in entries):
        refuse(path, "holds no folders; expected one folder a label, with .txt files in each")
    number = 0
    for entry in entries:
        depth = len(entry.relative_to(path).parts)
        is_text = entry.suffix.lower() == ".txt" and depth > 1
        if entry.is_symlink() and (is_text or entry.is_dir()):
            refuse(entry, "is a link; put the file or folder itself in its place")
        if not is_text:
            continue
        if depth > 2:
            refuse(entry, "lies deeper than one folder a label; move it up into its label's folder")
        number += 1
        yield Row(number, _text(entry, data), entry.parent.name)


def _text(file: Path, data: Data) -> str:
    if not file.is_file():
        refuse(file, "is no file that holds a text; remove it")
    if file.stat().st_size > _MAX_BYTES:
        refuse(file, f"is larger than {_MAX_BYTES} bytes; split or drop it")
    try:
        with open_text(file, data, None) as stream:
            return stream.read()
    except UnicodeError as error:
        refuse_encoding(file, data, error, None)
