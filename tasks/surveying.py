"""Count what a config must allow for, over all rows: labels, lengths, copies, rows without a text."""

import re
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.schema import Cleaning, Data
from tasks.cleaning import clean
from tasks.columns import LONGEST_LABEL, MOST_LABELS
from tasks.progress import report_progress
from tasks.reading import Row, read_rows, refuse

MOST_TOKENS = 512
_CHARACTERS_A_TOKEN = 3  # English SMS and tweets measured 3.1 with the tokenizer of MiniLM
_FOREIGN = re.compile("[^\x00-\u024f]")  # not Latin: about a token each
_ROWS_A_REPORT = 10_000
_HASH_BITS = 2**64 - 1


@dataclass(frozen=True)
class Survey:
    """What all the rows of a source hold, texts being counted as cleaned."""

    rows: int
    labels: dict[str, int]
    """Rows of each label that have a text, by label in alphabetical order."""
    texts: dict[str, int]
    """Distinct texts of each label; a text under two labels counts for its first."""
    shortest: int
    longest: int
    tokens: int
    """Estimated tokens of the 99th percentile text, no more than 512."""
    foreign: float
    """Share of the characters that are not Latin."""

    @property
    def labelled(self) -> int:
        """Return the number of rows with a text and a label."""
        return sum(self.labels.values())


def survey_rows(path: Path, data: Data) -> Survey:
    """Return the survey of all rows, read as `data` declares, whatever labels it lists.

    Memory: 10 bytes a row, beside the labels.

    Raises:
        DataError: if a row is not as declared, or there are no rows, or more than 200 labels.
    """
    counter = _Counter(path)
    for row in read_rows(path, data):
        counter.add(row)
    if not counter.labels:
        refuse(path, "holds no row with both a text and a label; add labelled texts")
    return counter.survey()


class _Counter:
    """Counts in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.switches = Cleaning().model_dump()
        self.rows = self.characters = self.foreign = self.longest = 0
        self.shortest = 2**31
        self.labels: Counter[str] = Counter()
        self.tokens: Counter[int] = Counter()
        self.hashes = array("Q")
        self.numbers = array("H")
        self.number_of: dict[str, int] = {}

    def add(self, row: Row) -> None:
        """Count one row."""
        self.rows += 1
        if self.rows % _ROWS_A_REPORT == 0:
            report_progress("look", self.rows, None, "rows")
        text = clean(row.text or "", self.switches)
        label = (row.label or "").strip()
        if not text or not label:
            return
        self._check(label, row.number)
        self.labels[label] += 1
        self.hashes.append(hash(text) & _HASH_BITS)
        self.numbers.append(self.number_of.setdefault(label, len(self.number_of)))
        foreign = len(_FOREIGN.findall(text))
        tokens = 2 + foreign + -(-(len(text) - foreign) // _CHARACTERS_A_TOKEN)
        self.tokens[min(tokens, MOST_TOKENS)] += 1
        self.characters += len(text)
        self.foreign += foreign
        self.shortest = min(self.shortest, len(text))
        self.longest = max(self.longest, len(text))

    def _check(self, label: str, number: int) -> None:
        if len(label) > LONGEST_LABEL:
            refuse(
                self.path,
                f"row {number} has a label of {len(label)} characters, above {LONGEST_LABEL}; name "
                "the column of the labels by --label-column",
            )
        if len(self.labels) == MOST_LABELS and label not in self.labels:
            refuse(
                self.path,
                f"has more than {MOST_LABELS} labels up to row {number}; name the column of the "
                "labels by --label-column",
            )

    def survey(self) -> Survey:
        """Return the counts."""
        _, first = np.unique(np.frombuffer(self.hashes, dtype=np.uint64), return_index=True)
        numbers = np.frombuffer(self.numbers, dtype=np.uint16)[first]
        texts = np.bincount(numbers, minlength=len(self.number_of))
        names = sorted(self.labels)
        return Survey(
            rows=self.rows,
            labels={name: self.labels[name] for name in names},
            texts={name: int(texts[self.number_of[name]]) for name in names},
            shortest=self.shortest,
            longest=self.longest,
            tokens=_percentile(self.tokens, 0.99),
            foreign=self.foreign / self.characters,
        )


def _percentile(counts: Counter[int], share: float) -> int:
    """Return the least value that `share` of all do not exceed."""
    reached = np.cumsum([counts[value] for value in sorted(counts)])
    return sorted(counts)[int(np.searchsorted(reached, share * counts.total()))]
