"""The cases of rows: rows alike in all that the row rules see, which one row of each stands for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.shards import count_shards, read_shard


@dataclass(frozen=True)
class RowCases:
    """The rows of a file by case: `of` [n_rows] is the case of each.

    `first` has the text and the label of the first row of each case [n_cases].
    """

    of: NDArray[np.int32]
    first: pa.Table


def cases_of(text: pa.Array, label: pa.Array) -> NDArray[np.int32]:
    """Return the case of each row [n_rows], numbered in the order in which they first appear.

    Rows of one case have the same label and a text of the same length, or none; a blank text is a
    case of its own, because which characters are blank is for the expectation to say.
    """
    kind = _codes(pc.utf8_length(text))
    blank = np.flatnonzero(pc.fill_null(pc.utf8_is_space(text), False))
    kind[blank] = kind.max(initial=0) + 1 + _codes(text.take(pa.array(blank)))
    code = _codes(label) * (kind.max(initial=0) + 1) + kind
    return _codes(pa.array(code)).astype(np.int32)


def _codes(column: pa.Array) -> NDArray[np.int64]:
    """Return a number [n_rows] for each row's value, the same for the same; nothing is a value."""
    codes = column.dictionary_encode(null_encoding="encode").indices
    return np.array(codes.to_numpy(), dtype=np.int64)


def first_rows(case: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the first row of each case [n_cases], the cases being numbered as by `cases_of`."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(case), prepend=-1))


def read_cases(source: Path) -> RowCases:
    """Return the cases of the rows that ingest has written, without reading the texts of all."""
    case, first, known = [], [], 0
    for shard in range(count_shards(source)):
        table = read_shard(source, shard, ["case_text", "label", "case"])
        here = table["case"].to_numpy()
        first.append(table.take(pa.array(first_rows(here))))
        case.append(here + np.int32(known))
        known += first[-1].num_rows
    found = pa.concat_tables(first).select(["case_text", "label"])
    found = found.rename_columns(["text", "label"])
    alike = cases_of(found["text"].combine_chunks(), found["label"].combine_chunks())
    return RowCases(alike[np.concatenate(case)], found.take(pa.array(first_rows(alike))))
