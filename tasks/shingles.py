"""Shingles of texts, and the MinHash bands by which near-copies find one another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

BANDS, ROWS_A_BAND = 6, 5
"""Two texts share a band with probability 1 - (1 - j^5)^6 at Jaccard index j: 0.995 at 0.9."""

_PERMUTATIONS = 32  # what the library is quickest with; two are left over
_SEED = 1
_MOST_CHARACTERS = 2_000_000  # at once, which bounds the memory of the windows
_WIDTH, _WIDTH_HAN = 5, 2
_HAN = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def shingles(text: str) -> set[str]:
    """Return the text's shingles: runs of 5 characters, of 2 where it is mostly Han or Kana.

    Case is folded; the end is filled up, so that a text shorter than a run has shingles too.
    """
    folded = text.casefold()
    han = sum(any(low <= ord(letter) <= high for low, high in _HAN) for letter in folded)
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
    found = [np.empty((0, BANDS), dtype=np.uint64)]
    for part in filter(None, _parts([text.casefold() for text in texts])):
        hashes, offsets = _hashes(part)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets, _PERMUTATIONS, _SEED
        )
        found.append(_banded(np.array(matrix.to_rows(), dtype=np.uint64)))
    return np.concatenate(found)


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
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    fill = _WIDTH - 1
    letters = np.zeros(int(offsets[-1]) + fill * len(texts), dtype=np.uint64)
    # Each text is followed by as many zeros as its last window needs.
    place = np.arange(offsets[-1]) + fill * np.repeat(np.arange(len(texts)), lengths)
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    letters[place] = points
    wide = np.repeat(~_mostly_han(points, lengths, offsets), lengths)
    windows = letters[place]
    for step in range(1, _WIDTH):
        grown = windows * _BASE + letters[place + step]
        windows = grown if step < _WIDTH_HAN else np.where(wide, grown, windows)
    windows = (windows ^ (windows >> np.uint64(31))) * _MIX
    return windows ^ (windows >> np.uint64(29)), offsets.astype(np.uint64)


def _mostly_han(
    points: NDArray[np.uint32], lengths: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    han = np.zeros(len(points), dtype=bool)
    for low, high in _HAN:
        han |= (points >= low) & (points <= high)
    running = np.concatenate([[0], np.cumsum(han)])
    answer: NDArray[np.bool_] = 2 * (running[offsets[1:]] - running[offsets[:-1]]) > lengths
    return answer


def _banded(signatures: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Fold each band's rows of the signatures [n_texts, n_permutations] into one number."""
    folded = np.zeros((len(signatures), BANDS), dtype=np.uint64)
    for row in range(ROWS_A_BAND):
        folded = folded * _BASE + signatures[:, row : BANDS * ROWS_A_BAND : ROWS_A_BAND]
        folded ^= folded >> np.uint64(32)
    return folded
