"""Profiles merge in any order, stay small, keep no text, and count what they say they count."""

import re
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.fingerprints import fingerprints
from tasks.profiles import (
    LANGUAGE_TEXTS,
    LENGTH_BINS,
    NO_ROWS,
    SKETCH_SIZE,
    WORD_BUCKETS,
    Profile,
    language_of,
    length_of_bin,
    merge,
    profile_of,
)


def numbered(count: int, first: int = 0) -> tuple[list[str], list[str]]:
    """Return distinct short texts and their labels."""
    texts = [f"text number {number}" for number in range(first, first + count)]
    return texts, ["even" if number % 2 == 0 else "odd" for number in range(count)]


def buckets_of(*texts: str) -> set[int]:
    """Return the buckets that the texts' words fall into."""
    return set(np.flatnonzero(profile_of(texts, ["a"] * len(texts)).words).tolist())


def test_shards_merge_to_the_same_profile_in_any_order_and_grouping() -> None:
    texts, labels = numbered(9000)
    texts[100:400] = texts[:300]
    whole = profile_of(texts, labels)
    a, b, c = (profile_of(texts[at : at + 3000], labels[at : at + 3000]) for at in (0, 3000, 6000))
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(c, merge(a, b)) == whole
    assert len(whole.smallest) == SKETCH_SIZE
    assert len(whole.languages) == LANGUAGE_TEXTS


def test_batches_handed_on_come_to_the_same_profile_as_one() -> None:
    texts, labels = numbered(5000)
    batches = [(texts[at : at + 700], labels[at : at + 700]) for at in range(0, 5000, 700)]
    handed_on = reduce(
        lambda earlier, batch: profile_of(batch[0], batch[1], earlier), batches, NO_ROWS
    )
    assert handed_on == profile_of(texts, labels)


@given(
    st.lists(st.tuples(st.text(max_size=20), st.sampled_from("abc")), max_size=12),
    st.lists(st.tuples(st.text(max_size=20), st.sampled_from("abc")), max_size=12),
)
def test_two_shards_of_any_texts_merge_to_the_whole(
    left: list[tuple[str, str]], right: list[tuple[str, str]]
) -> None:
    def profile(rows: list[tuple[str, str]]) -> Profile:
        return profile_of([text for text, _ in rows], [label for _, label in rows])

    assert merge(profile(left), profile(right)) == profile(left + right)


def test_no_rows_change_nothing() -> None:
    texts, labels = numbered(50)
    profile = profile_of(texts, labels)
    assert profile_of([], []) == NO_ROWS
    assert merge(NO_ROWS, profile) == merge(profile, NO_ROWS) == profile


def test_rows_and_labels_are_counted_and_copies_sketched_once() -> None:
    profile = profile_of(["hello there"] * 3 + ["bye"], ["b", "a", "b", "b"])
    assert profile.rows == 4
    assert profile.label_counts == {"a": 1, "b": 3}
    assert profile.smallest.tolist() == sorted(set(fingerprints(["hello there", "bye"]).tolist()))
    assert profile.whole


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100, 20_000, 999_999, 3_000_000])
def test_a_length_falls_into_its_bin(length: int) -> None:
    counts = profile_of(["x" * length], ["a"]).lengths
    at = counts.index(1)
    assert sum(counts) == 1
    assert length_of_bin(at) <= length + 1e-9
    assert length < length_of_bin(at + 1) or at == LENGTH_BINS - 1


def test_a_text_counts_once_for_a_word_however_often_it_says_it() -> None:
    profile = profile_of(["Train train TRAIN", "a train, late", "none"], ["a"] * 3)
    (train,) = buckets_of("train")
    assert profile.words[train] == 2
    assert sum(profile.words) == 1 + 3 + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Free cash!", ["free", "cash"]),
        ("win\nbig", ["win", "big"]),
        ("naïve café", ["naïve", "café"]),
        ("我正在写书", ["我", "正", "在", "写", "书"]),
        ("用Python写", ["用", "python", "写"]),
        ("カタカナ", ["カ", "タ", "ナ"]),
        ("हिन्दी", ["हिन्दी"]),
        ("\U00020000x", ["\U00020000", "x"]),
        ("😀 :-)", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_and_ideographs_stand_alone(text: str, words: list[str]) -> None:
    assert buckets_of(text) == buckets_of(*words)
    assert len(buckets_of(text)) == len(words)


def test_words_spread_evenly_over_the_buckets() -> None:
    words = [f"{stem}{number}" for stem in ("a", "word", "Wort") for number in range(20_000)]
    counts = np.array(profile_of(words, ["a"] * len(words)).words)
    expected = len(words) / WORD_BUCKETS
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_squared - WORD_BUCKETS) < 6 * np.sqrt(2 * WORD_BUCKETS)


def test_a_words_bucket_does_not_depend_on_what_stands_around_it() -> None:
    rows = [f"{'x ' * number}needle" for number in range(3000)]
    (needle,) = buckets_of("needle")
    assert profile_of(rows, ["a"] * 3000).words[needle] == 3000


@pytest.mark.parametrize(("word", "bucket"), [("train", 3207), ("free", 679), ("我", 3044)])
def test_buckets_are_the_same_on_every_machine(word: str, bucket: int) -> None:
    base = 0x9E3779B97F4A7C15
    polynomial = sum(ord(letter) * base**power for power, letter in enumerate(word))
    mixed = polynomial % 2**64 ^ polynomial % 2**64 >> 32
    assert buckets_of(word) == {bucket} == {mixed * base % 2**64 >> 52}


def test_a_profile_is_small_and_holds_no_text() -> None:
    texts, labels = numbered(20_000)
    texts = [f"{text} secretword{number}" for number, text in enumerate(texts)]
    written = profile_of(texts, labels).model_dump_json()
    assert len(written) < 200_000
    assert Profile.model_validate_json(written) == profile_of(texts, labels)
    assert not re.search(r"secret|text|number", written)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The train to the north leaves at nine, so please do not be late.", "en"),
        ("Der Zug nach Norden fährt um neun, bitte kommen Sie nicht zu spät.", "de"),
        ("这本书写得很好。我非常喜欢。", "zh"),
    ],
)
def test_the_language_of_a_sentence_is_told(text: str, language: str) -> None:
    assert language_of(text) == language
