"""Texts that are known, such as a test set's: which others are copies or near-copies of them?"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.fingerprints import fingerprints
from tasks.near_duplicates import candidates_across, near_copies
from tasks.shingles import BANDS, bands

Flags = NDArray[np.bool_]


class KnownTexts:
    """A set of texts, held in memory with their fingerprints and MinHash bands."""

    def __init__(self, texts: Sequence[str], near_jaccard: float | None) -> None:
        self._texts = texts
        self._near_jaccard = near_jaccard
        self._fingerprints = fingerprints(texts)
        self._bands = bands(texts if near_jaccard is not None else ())

    def copies(self, texts: pa.ChunkedArray) -> Flags:
        """Return which texts [n_texts] are known."""
        answer: Flags = np.isin(fingerprints(texts), self._fingerprints)
        return answer

    def near_copies(self, column: pa.ChunkedArray, stage: str) -> Flags:
        """Return which texts [n_texts] have a Jaccard index of `near_jaccard` with a known one.

        It is the search that ties near-copies within the data; `stage` is whose progress is told.
        """
        flags = np.zeros(len(column), dtype=bool)
        if self._near_jaccard is None:
            return flags
        texts = column.to_pylist()
        own = bands(texts)
        pairs = [candidates_across(self._bands[:, band], own[:, band]) for band in range(BANDS)]
        both = [*self._texts, *texts]
        near, _ = near_copies(
            pairs, lambda rows: [both[row] for row in rows], self._near_jaccard, stage
        )
        flags[near[:, 1] - len(self._texts)] = True
        return flags
