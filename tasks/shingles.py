"""Shingles of texts, and the MinHash bands by which near-copies find one another."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from tasks.words import IDEOGRAPHS, letters

BANDS, ROWS_A_BAND = 5, 6
"""Two texts share a band with probability 1 - (1 - j^6)^5 at Jaccard index j: 0.977 at 0.9."""

_PERMUTATIONS = 32  # what the library is quickest with; two are left over
_SEED = 1
_MOST_CHARACTERS = 100_000  # at once, so that the windows stay in the processor's cache
_WIDTH, _WIDTH_HAN = 5, 2
_IDEOGRAPH = re.compile(f"[{letters(IDEOGRAPHS)}]")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def shingles(text: str) -> set[str]:
    """Return the text's shingles: runs of 5 characters, of 2 where it is mostly Han or Kana.

    Case is folded; the end is filled up, so that a text shorter than a run has shingles too.
    """
    folded = text.casefold()
    han = 0 if folded.isascii() else len(_IDEOGRAPH.findall(folded))
    width = _WIDTH_HAN if 2 * han > len(folded) else _WIDTH
    filled = folded + "\0" * (width - 1)
    return {filled[at : at + width] for at in range(len(folded))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of the shingles of either text that both have; 1 for two empty texts."""
    both = len(one & other)
    either = len(one) + len(other) - both
    return both / either if either else 1.0


def bands(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the MinHash bands [n_texts, BANDS] of the texts' shingles (Broder 1997).

    Texts that share a band are candidates for near-copies (Leskovec, Rajaraman, Ullman 2020, ch. 3).
    """
    return bands_and_marks(texts)[0]


def bands_and_marks(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the texts' MinHash bands [n_texts, BANDS] and marks [n_texts, 32].

    The marks are the last 8 bits of each MinHash: those of two texts agree about as often as the
    Jaccard index of their shingles says (Li, König 2010), which tells most texts apart unread.
    """
    found = [np.empty((0, BANDS), dtype=np.uint64)]
    marks = [np.empty((0, _PERMUTATIONS), dtype=np.uint8)]
    for part in filter(None, _parts([text.casefold() for text in texts])):
        hashes, offsets = _hashes(part)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets, _PERMUTATIONS, _SEED
        )
        signatures = np.array(matrix.to_rows(), dtype=np.uint64)
        found.append(_banded(signatures))
        marks.append(signatures.astype(np.uint8))
    return np.concatenate(found), np.concatenate(marks)


def _parts(texts: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    characters = 0
    for text in texts:
        if parts[-1] and characters + len(text) > _MOST_CHARACTERS:
            parts.append([])
            characters = 0
        parts[-1].append(text)
        characters += len(text)
    return parts


def _hashes(texts: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return a hash a shingle, text after text, and the offsets [n_texts + 1] of the texts."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    fill = "\0" * (_WIDTH - 1)  # what the last windows of each text reach into
    points = np.frombuffer(fill.join([*texts, ""]).encode("utf-32-le"), dtype=np.uint32)
    letters = points.astype(np.uint64)
    size = len(letters) - len(fill)
    windows = letters[:size] * _BASE + letters[1 : size + 1]
    narrow = windows
    for step in range(_WIDTH_HAN, _WIDTH):
        windows = windows * _BASE + letters[step : size + step]
    owner = np.repeat(np.arange(len(texts)), lengths + len(fill))[:size]
    starts = np.concatenate([[0], np.cumsum(lengths + len(fill))])
    inside = np.arange(size) - starts[owner] < lengths[owner]
    han = _mostly_han(points[:size], owner, lengths)
    if han.any():
        windows = np.where(han[owner], narrow, windows)
    windows = windows[inside]
    windows = (windows ^ (windows >> np.uint64(31))) * _MIX
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    return windows ^ (windows >> np.uint64(29)), offsets


def _mostly_han(
    points: NDArray[np.uint32], owner: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which texts [n_texts] have more Han and Kana than other letters."""
    if not len(points) or points.max() < IDEOGRAPHS[0][0]:
        return np.zeros(len(lengths), dtype=bool)
    han = np.zeros(len(points), dtype=bool)
    for low, high in IDEOGRAPHS:
        han |= (points >= low) & (points <= high)
    answer: NDArray[np.bool_] = 2 * np.bincount(owner[han], minlength=len(lengths)) > lengths
    return answer


def _banded(signatures: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Fold each band's rows of the signatures [n_texts, n_permutations] into one number."""
    folded = np.zeros((len(signatures), BANDS), dtype=np.uint64)
    for row in range(ROWS_A_BAND):
        folded = folded * _BASE + signatures[:, row : BANDS * ROWS_A_BAND : ROWS_A_BAND]
        folded ^= folded >> np.uint64(32)
    return folded
