"""What a dataset looks like, in some KB without any text: counts that merge across its shards.

A profile is made batch by batch and shard by shard, in any order, and compared with another
revision's by `tasks.change`.
"""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.fingerprints import fingerprints
from tasks.manifests import Record
from tasks.words import IDEOGRAPHS

LENGTH_BINS = 81
WORD_BUCKETS = 1 << 12  # as many as the top 12 bits of a hash tell apart
SKETCH_SIZE = 4096
LANGUAGE_TEXTS = 1024

_BINS_PER_DOUBLING = 4
_LANGUAGE_CHARACTERS = 400  # enough to tell a language; the time grows with them
_PART_CHARACTERS = 1 << 15  # small enough for the processor's cache
_BASE = 0x9E3779B97F4A7C15  # odd, its bits as if at random: 2**64 over the golden ratio
_GAP, _LETTER, _IDEOGRAPH = 0, 1, 2
_LAST_LETTER = 0x33480
Counts = NDArray[np.int64]


class Profile(Record):
    """Counts of a dataset's rows, and a sketch of its distinct texts.

    `lengths` counts rows by characters, in bins a quarter of a doubling wide. `words` counts rows by
    the words they hold, hashed into buckets; Chinese and Japanese count by character. `sketch` is
    the smallest fingerprints of the texts, sorted, base64 of 8 bytes each, and `languages` the
    languages of the first of these, which makes them a random sample of the distinct texts.
    """

    rows: int = 0
    label_counts: dict[str, int] = Field(default_factory=dict)
    lengths: tuple[int, ...] = (0,) * LENGTH_BINS
    words: tuple[int, ...] = (0,) * WORD_BUCKETS
    sketch: str = ""
    languages: tuple[str, ...] = ()

    @property
    def smallest(self) -> NDArray[np.uint64]:
        """Return the fingerprints of the sketch, ascending."""
        return np.frombuffer(b64decode(self.sketch), dtype="<u8").astype(np.uint64)

    @property
    def whole(self) -> bool:
        """Return whether the sketch holds every distinct text."""
        return len(self.smallest) < SKETCH_SIZE


NO_ROWS = Profile()


def profile_of(texts: Sequence[str], labels: Sequence[str], earlier: Profile = NO_ROWS) -> Profile:
    """Return the profile of the rows that `earlier` stands for and of these.

    Batches that are handed on this way are faster than profiles merged, since languages are told
    only for texts that enter the sample.
    """
    prints, first = np.unique(fingerprints(texts), return_index=True)
    sampled = earlier.smallest[:LANGUAGE_TEXTS]
    enter = prints <= sampled[-1] if len(sampled) == LANGUAGE_TEXTS else slice(None)
    batch = Profile(
        rows=len(texts),
        label_counts=Counter(labels),
        lengths=_length_counts(texts),
        words=_word_counts(texts),
        sketch=_packed(prints[:SKETCH_SIZE]),
        languages=tuple(language_of(texts[row]) for row in first[enter][:LANGUAGE_TEXTS]),
    )
    return merge(earlier, batch)


def merge(a: Profile, b: Profile) -> Profile:
    """Return the profile of the rows of both, which may be merged in any order and grouping."""
    smallest = np.union1d(a.smallest, b.smallest)[:SKETCH_SIZE]
    known: dict[int, str] = {}
    for profile in (a, b):
        known.update(zip(profile.smallest.tolist(), profile.languages, strict=False))
    return Profile(
        rows=a.rows + b.rows,
        label_counts=dict(sorted((Counter(a.label_counts) + Counter(b.label_counts)).items())),
        lengths=_sum(a.lengths, b.lengths),
        words=_sum(a.words, b.words),
        sketch=_packed(smallest),
        languages=tuple(known[text] for text in smallest[:LANGUAGE_TEXTS].tolist()),
    )


def language_of(text: str) -> str:
    """Return the ISO 639 code of the language a text is probably in."""
    code: str = _identifier().classify(text[:_LANGUAGE_CHARACTERS])[0]
    return code


def length_of_bin(position: float) -> float:
    """Return the length in characters at which a bin of `lengths` begins."""
    return float(2 ** (position / _BINS_PER_DOUBLING))


@cache
def _identifier() -> Any:
    """Return langid's model, which takes a second to load."""
    from py3langid import langid

    return langid


def _length_counts(texts: Sequence[str]) -> tuple[int, ...]:
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    bins = (np.log2(np.maximum(lengths, 1)) * _BINS_PER_DOUBLING).astype(np.int64)
    return _tuple(np.bincount(np.minimum(bins, LENGTH_BINS - 1), minlength=LENGTH_BINS))


def _word_counts(texts: Sequence[str]) -> tuple[int, ...]:
    """Return in how many texts each bucket's words stand; a word repeated in a text counts once.

    Counting texts keeps rows the unit of chance: one text that says a word fifty times is one text.
    """
    totals = np.zeros(WORD_BUCKETS, dtype=np.int64)
    ends = np.cumsum([len(text) for text in texts]) // _PART_CHARACTERS
    cuts = np.flatnonzero(np.diff(ends)) + 1
    for start, end in pairwise([0, *cuts.tolist(), len(texts)]):
        rows, buckets = _words([text.lower() for text in texts[start:end]])
        held = np.sort(rows * WORD_BUCKETS + buckets)
        once = held[np.diff(held, prepend=-1) > 0]  # np.unique takes ten times as long
        totals += np.bincount(once % WORD_BUCKETS, minlength=WORD_BUCKETS)
    return _tuple(totals)


def _words(texts: list[str]) -> tuple[Counts, Counts]:
    """Return for each word in the texts its row and its bucket, both [n_words].

    All letters are hashed at once, since a loop over words would take ten times as long: a word's
    hash is the polynomial in an odd base, modulo 2**64, of its code points, cut out of a running sum.
    """
    codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le"), dtype="<u4")
    kinds = _kinds().take(codes)
    goes_on = (kinds == _LETTER) & (np.roll(kinds, 1) == _LETTER)
    starts = np.flatnonzero((kinds > _GAP) & ~goes_on)
    ends = np.cumsum([len(text) + 1 for text in texts])
    powers, inverses = _powers(1 << len(codes).bit_length())
    terms = np.where(kinds > _GAP, codes, 0) * powers[: len(codes)]
    hashes = np.add.reduceat(terms, starts) * inverses[starts]
    hashes ^= hashes >> np.uint64(32)
    buckets = (hashes * _BASE) >> np.uint64(64 - 12)
    return np.searchsorted(ends, starts, side="right"), buckets.astype(np.int64)


@cache
def _kinds() -> NDArray[np.uint8]:
    """Return the kind of every code point: no part of a word, part of one, or a word by itself."""
    kinds = np.full(0x110000, _GAP, dtype=np.uint8)
    for code in range(_LAST_LETTER):
        if category(chr(code))[0] in "LMN":
            kinds[code] = _LETTER
    for first, last in IDEOGRAPHS:
        kinds[first : last + 1] = np.where(kinds[first : last + 1] == _LETTER, _IDEOGRAPH, _GAP)
    return kinds


@cache
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the first powers of the base, and of its inverse, modulo 2**64."""
    inverse = pow(_BASE, -1, 1 << 64)
    bases = np.array([[_BASE], [inverse]], dtype=np.uint64)
    powers = np.cumprod(np.repeat(bases, count, axis=1), axis=1, dtype=np.uint64)
    return powers[0], powers[1]


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return _tuple(np.add(a, b))


def _tuple(counts: Counts) -> tuple[int, ...]:
    return tuple(counts.tolist())


def _packed(prints: NDArray[np.uint64]) -> str:
    return b64encode(prints.astype("<u8").tobytes()).decode()
