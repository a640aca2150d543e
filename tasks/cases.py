"""The user's own cases: texts and the labels that they must be given, from a CSV file."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError
from configs.schema import Data, PipelineConfig
from tasks.cleaning import clean
from tasks.digests import file_digest
from tasks.privacy import mask
from tasks.reading import read_rows, refuse
from tasks.reading.encodings import open_text
from tasks.reading.refusals import shown

MOST_CASES = 10_000
MOST_MEGABYTES = 16
LONGEST_NAME = 100
_HEADERS = (["text", "label"], ["text", "label", "name"])
# What the reader says of the keys of `data`, which do not rule how cases are written.
_CURE_IN_DATA = re.compile(r"(?:, or|;) set data\..*")


@dataclass(frozen=True)
class Case:
    """One case by its row in the file, counted from 1; `text` is cleaned as the service would."""

    row: int
    text: str
    label: str
    name: str


@dataclass(frozen=True)
class Cases:
    """All cases of a file and its SHA-256."""

    cases: tuple[Case, ...]
    digest: str


def read_cases(config: PipelineConfig) -> Cases | None:
    """Return the cases of `robustness.cases`, or None if it is not set.

    Raises:
        DataError: if the file cannot be read or is not as expected, naming it and the row.
    """
    if config.robustness.cases is None:
        return None
    path = Path(config.robustness.cases)
    try:
        _require_file(path)
        digest = file_digest(path)
        cases = tuple(_cases(path, config.data))
    except OSError as error:
        raise DataError(
            f"robustness.cases: {path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except DataError as error:
        problem = _CURE_IN_DATA.sub("; write it as CSV in UTF-8", str(error))
        raise DataError(f"robustness.cases: {problem}") from None
    return Cases(cases, digest)


def served(text: str, data: Data) -> str:
    """Return the text as the model gets it in the service: cleaned, then masked."""
    return mask(clean(text, data.cleaning.model_dump()), data.privacy.model_dump())[0]


def _require_file(path: Path) -> None:
    if not path.is_file():  # a pipe or device is never opened: it may have no end
        there = "is no plain file" if path.exists() else "does not exist"
        refuse(path, f"{there}; name a CSV file")
    if path.stat().st_size > MOST_MEGABYTES * 1_000_000:
        refuse(path, f"is above {MOST_MEGABYTES} MB; cases are few, so drop some")


def _cases(path: Path, data: Data) -> Iterator[Case]:
    named = _header(path, data) == _HEADERS[1]
    layout = Data(
        uri=str(path),
        labels=data.labels,
        format="csv",
        group_column="name" if named else None,
        max_rows=MOST_CASES + 1,
    )
    row = None
    for row in read_rows(path, layout):
        if row.number > MOST_CASES:
            refuse(path, f"more than {MOST_CASES} cases; drop some")
        raw, name = (row.label or "").strip(), (row.group or "").strip()
        label = data.labels.get(raw, raw)
        if label not in data.label_names:
            refuse(path, f"row {row.number} has the label {shown([raw])}, not one of data.labels")
        text = served(row.text or "", data)
        if not text.strip():
            refuse(path, f"row {row.number} has a text that is blank once cleaned; write one")
        if len(name) > LONGEST_NAME:
            refuse(path, f"row {row.number} has a name above {LONGEST_NAME} characters; shorten it")
        yield Case(row.number, text, label, name)
    if row is None:
        refuse(path, "holds no case; add rows of text and label")


def _header(path: Path, data: Data) -> list[str]:
    """Return the names of the columns, of which only two sets are known."""
    plain = Data(uri=str(path), labels=data.labels)
    try:
        with open_text(path, plain, newline="") as stream:
            header = next(csv.reader([stream.readline(1000)]), [])
    except UnicodeError:
        refuse(path, "is not UTF-8; save it as UTF-8")
    if header not in _HEADERS:
        refuse(path, f"its first line is {shown(header)}, expected text,label or text,label,name")
    return header
