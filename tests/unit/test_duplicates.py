"""Copies, contradictions, near-copies and groups: what is kept, left out, and tied together."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import Row, config_of, deduplicated, many, rows_of, side_by_row, split_of

from configs.errors import DataError
from tasks.manifests import DuplicateReport
from tasks.near_duplicates import candidates, clusters, likely
from tasks.shingles import BANDS, bands, bands_and_marks, jaccard, shingles
from tasks.splitting import SIDES

Pairs = list[tuple[str, str]]
WORDS = ["train", "station", "lunch", "box", "rice", "salmon", "egg", "ginger", "seal", "open"]


def outcome(found: DuplicateReport) -> tuple[dict[int, str], dict[int, tuple[str, int | None]]]:
    """Return the label of each row that is kept, and (reason, of) of each that is left out."""
    kept = pq.read_table(found.path("kept.parquet")).to_pylist()
    left_out = pq.read_table(found.path("left_out.parquet")).to_pylist()
    return (
        {line["row"]: line["label"] for line in kept},
        {line["row"]: (line["reason"], line["of"]) for line in left_out},
    )


CASES: dict[str, tuple[Pairs, dict[int, str], dict[int, tuple[str, int | None]]]] = {
    "all differ": ([("a", "ham"), ("b", "ham")], {1: "ham", 2: "ham"}, {}),
    "the first copy is kept": (
        [("a", "ham"), ("b", "spam"), ("a", "ham")],
        {1: "ham", 2: "spam"},
        {3: ("duplicate", 1)},
    ),
    "a text with two labels is not": (
        [("a", "ham"), ("b", "spam"), ("a", "ham"), ("a", "spam"), ("b", "spam")],
        {2: "spam"},
        {1: ("conflict", None), 3: ("conflict", 1), 4: ("conflict", 1), 5: ("duplicate", 2)},
    ),
    "case and space make another text": (
        [("a", "ham"), ("A", "ham"), ("a ", "spam")],
        {1: "ham", 2: "ham", 3: "spam"},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shards", [1, 2])
def test_copies_are_left_out_and_contradictions_quarantined(
    homes: Path, case: str, shards: int
) -> None:
    pairs, kept, left_out = CASES[case]
    config = config_of({"near_jaccard": None})
    _, found = deduplicated(homes / "before", rows_of(pairs), config, shards=shards)
    assert outcome(found) == (kept, left_out)
    reasons = Counter(reason for reason, _ in left_out.values())
    assert (found.duplicates, found.conflicts) == (reasons["duplicate"], reasons["conflict"])
    assert found.rows_kept == len(kept)


MAJORITY: dict[str, tuple[Pairs, dict[int, str], dict[int, tuple[str, int | None]]]] = {
    "two of three win": (
        [("a", "spam"), ("a", "ham"), ("a", "ham")],
        {1: "ham"},
        {2: ("duplicate", 1), 3: ("duplicate", 1)},
    ),
    "the outvoted go": (
        [("a", "ham"), ("a", "spam"), ("a", "ham")],
        {1: "ham"},
        {2: ("outvoted", 1), 3: ("duplicate", 1)},
    ),
    "a tie is nobody's": (
        [("a", "ham"), ("a", "spam"), ("b", "ham")],
        {3: "ham"},
        {1: ("conflict", None), 2: ("conflict", 1)},
    ),
}


@pytest.mark.parametrize("case", MAJORITY)
def test_a_majority_decides_where_that_is_declared(homes: Path, case: str) -> None:
    pairs, kept, left_out = MAJORITY[case]
    config = config_of({"conflicts": "majority"})
    _, found = deduplicated(homes / "before", rows_of(pairs), config)
    assert outcome(found) == (kept, left_out)
    assert found.relabelled == sum(kept[row] != pairs[row - 1][1] for row in kept)


def test_every_row_is_kept_or_left_out_and_no_text_is_kept_twice(homes: Path) -> None:
    draw = random.Random(3)
    for number in range(20):
        pairs = [(draw.choice("abcdefgh"), draw.choice(["ham", "spam"])) for _ in range(12)]
        pairs.append(("only once", "ham"))
        action = draw.choice(["quarantine", "majority"])
        _, found = deduplicated(
            homes / f"try{number}", rows_of(pairs), config_of({"conflicts": action}), shards=3
        )
        kept, left_out = outcome(found)
        assert sorted([*kept, *left_out]) == list(range(1, len(pairs) + 1))
        texts = [pairs[row - 1][0] for row in kept]
        assert len(set(texts)) == len(texts)
        for row, label in kept.items():
            labels = Counter(label for text, label in pairs if text == pairs[row - 1][0])
            assert labels[label] > sum(labels.values()) / 2


def test_nothing_but_contradictions_is_an_error_in_words(homes: Path) -> None:
    with pytest.raises(DataError, match="every text stands under two labels, so none is left"):
        deduplicated(homes / "before", rows_of([("a", "ham"), ("a", "spam")]), config_of())


def test_rows_in_quarantine_are_not_looked_at(homes: Path) -> None:
    pairs = [("a", "spam"), ("a", "ham"), ("b", "spam")]
    _, found = deduplicated(homes / "before", rows_of(pairs), config_of(), unfit=1)
    assert outcome(found) == ({2: "ham", 3: "spam"}, {})


def sentence(draw: random.Random, words: int = 24) -> list[str]:
    return [draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words)]


def with_leaks(rows: int, leaks: int) -> tuple[list[Row], list[tuple[int, int]]]:
    """Return rows, and pairs of rows of which one is the other with a word or letter changed."""
    draw = random.Random(11)
    texts = [sentence(draw) for _ in range(rows)]
    pairs = []
    for number in range(leaks):
        words = texts[number][:]
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(words)
        pairs.append((number + 1, len(texts)))
    return rows_of([(" ".join(t), ("ham", "spam")[len(t[0]) % 2]) for t in texts]), pairs


@pytest.mark.parametrize("share", [0.005, 0.05])
def test_injected_near_copies_are_found_and_little_else(homes: Path, share: float) -> None:
    rows, pairs = with_leaks(2000, int(2000 * share))
    texts = {row["row"]: shingles(row["text"]) for row in rows}
    alike = {(a, b) for a, b in pairs if jaccard(texts[a], texts[b]) >= 0.9}
    assert len(alike) > 0.3 * len(pairs)
    config = config_of({"near_jaccard": 0.9})
    _, found = deduplicated(homes / "before", rows, config, shards=4)
    lines = pq.read_table(found.path("near.parquet")).to_pylist()
    told = {(line["row"], line["near"]) for line in lines}
    assert len(told & alike) >= 0.95 * len(alike)
    assert len(told - set(pairs)) <= 0.01 * len(rows)
    for line in lines:
        true = jaccard(texts[line["row"]], texts[line["near"]])
        assert line["jaccard"] == pytest.approx(true)
        assert true >= 0.9
    assert found.near_rows == len({row for pair in told for row in pair})
    assert [pair.jaccard for pair in found.examples] == sorted(
        (pair.jaccard for pair in found.examples), reverse=True
    )


@pytest.mark.parametrize("share", [0.005, 0.05])
def test_exact_and_near_copies_injected_into_chinese_are_found(homes: Path, share: float) -> None:
    draw = random.Random(12)
    letters = [chr(0x4E00 + number) for number in range(2000)]
    texts = ["".join(draw.choices(letters, k=60)) for _ in range(2000)]
    leaks = int(2000 * share)
    near = [f"{text[: at % 60]}飯{text[at % 60 + 1 :]}" for at, text in enumerate(texts[:leaks])]
    exact = texts[leaks : 2 * leaks]
    config = config_of({"near_jaccard": 0.9})
    _, found = deduplicated(
        homes / "before", rows_of([(t, "ham") for t in texts + near + exact]), config
    )
    pairs = {(number, 2000 + number) for number in range(1, leaks + 1)}
    alike = {
        (one, other)
        for one, other in pairs
        if jaccard(shingles(texts[one - 1]), shingles(near[other - 2001])) >= 0.9
    }
    told = {(p["row"], p["near"]) for p in pq.read_table(found.path("near.parquet")).to_pylist()}
    assert len(alike) > 0.9 * leaks
    assert len(told & alike) >= 0.95 * len(alike)
    assert len(told - pairs) <= 0.01 * len(texts)
    assert found.duplicates == leaks


def test_near_copies_are_on_one_side_of_the_split(homes: Path) -> None:
    rows, _ = with_leaks(600, 60)
    config = config_of({"near_jaccard": 0.8})
    dataset, found = deduplicated(homes / "before", rows, config)
    sides = side_by_row(split_of(homes / "again", rows, config))
    lines = pq.read_table(found.path("near.parquet")).to_pylist()
    assert len(lines) > 30
    assert set(sides.values()) == set(SIDES)
    assert all(sides[line["row"]] == sides[line["near"]] for line in lines)
    assert dataset.rows == len(sides)
    apart = side_by_row(split_of(homes / "apart", rows, config_of({"near_jaccard": None})))
    assert any(apart[line["row"]] != apart[line["near"]] for line in lines)


def test_a_group_is_on_one_side_also_through_copies_and_near_copies(homes: Path) -> None:
    rows = many(400)
    for row in rows:
        row["group"] = f"author {row['row'] // 4}" if row["row"] <= 200 else None
    copy = {**rows[0], "row": 401, "group": "author 40"}  # ties author 0 and author 40
    manifest = split_of(homes / "before", [*rows, copy], config_of())
    sides = side_by_row(manifest)
    by_group: dict[str, set[str]] = {}
    for row in rows:
        if row["group"] is not None:
            by_group.setdefault(row["group"], set()).add(sides[row["row"]])
    assert all(len(found) == 1 for found in by_group.values())
    assert by_group["author 0"] == by_group["author 40"]
    assert len({next(iter(found)) for found in by_group.values()}) > 1


LUNCH = "the lunch box on the train to the sea was warm and full of rice and salmon, number"
NEAR = (f"{LUNCH} one", f"{LUNCH} two", f"{LUNCH} ten")


@pytest.mark.parametrize(
    ("action", "kept", "reasons"),
    [
        ("keep", {1: "ham", 2: "spam", 3: "ham", 4: "spam"}, {}),
        ("quarantine", {4: "spam"}, {1: "near_conflict", 2: "near_conflict", 3: "near_conflict"}),
        ("majority", {1: "ham", 2: "ham", 3: "ham", 4: "spam"}, {}),
    ],
)
def test_near_copies_under_other_labels_are_treated_as_declared(
    homes: Path, action: str, kept: dict[int, str], reasons: dict[int, str]
) -> None:
    pairs = [(NEAR[0], "ham"), (NEAR[1], "spam"), (NEAR[2], "ham"), ("an egg", "spam")]
    config = config_of({"near_jaccard": 0.8, "near_conflicts": action})
    _, found = deduplicated(homes / "before", rows_of(pairs), config)
    kept_rows, left_out = outcome(found)
    assert kept_rows == kept
    assert {row: reason for row, (reason, _) in left_out.items()} == reasons
    assert found.near_conflicts == len(reasons)
    assert found.near_clusters == 1


def test_shards_change_nothing(homes: Path) -> None:
    rows, _ = with_leaks(500, 40)
    found = [
        deduplicated(homes / f"in{shards}", rows, config_of(), shards=shards)[1]
        for shards in (1, 3, 10)
    ]
    for name in ("kept", "left_out", "near"):
        tables = [pq.read_table(each.path(f"{name}.parquet")) for each in found]
        assert tables[0].equals(tables[1])
        assert tables[0].equals(tables[2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("ab", {"ab\0\0\0", "b\0\0\0\0"}),
        ("ABCDEF", {"abcde", "bcdef", "cdef\0", "def\0\0", "ef\0\0\0", "f\0\0\0\0"}),
        ("\u99c5\u5f01\u5f53", {"\u99c5\u5f01", "\u5f01\u5f53", "\u5f53\0"}),
    ],
)
def test_shingles_are_runs_of_characters(text: str, expected: set[str]) -> None:
    assert shingles(text) == expected


@given(st.lists(st.text(max_size=40), max_size=12))
def test_bands_depend_on_each_text_alone(texts: list[str]) -> None:
    together = bands(texts)
    assert together.shape == (len(texts), BANDS)
    for text, row in zip(texts, together, strict=True):
        assert np.array_equal(bands([text])[0], row)
        assert np.array_equal(bands([text.upper()])[0], row) or text.upper().casefold() != (
            text.casefold()
        )


def test_texts_share_a_band_as_often_as_the_formula_says() -> None:
    draw = random.Random(5)
    found: dict[int, list[tuple[float, bool]]] = {}
    ones = [" ".join(sentence(draw, 12)) for _ in range(1500)]
    others = []
    for text in ones:
        letters = list(text)
        for _ in range(draw.randint(1, 6)):
            letters[draw.randrange(len(letters))] = draw.choice("xyz")
        others.append("".join(letters))
    shared = (bands(ones) == bands(others)).any(axis=1)
    for one, other, hit in zip(ones, others, shared, strict=True):
        index = jaccard(shingles(one), shingles(other))
        found.setdefault(int(index * 10), []).append((index, bool(hit)))
    for pairs in found.values():
        expected = [1 - (1 - index**6) ** 5 for index, _ in pairs]
        spread = (sum(p * (1 - p) for p in expected) or 1.0) ** 0.5
        assert abs(sum(hit for _, hit in pairs) - sum(expected)) < 4 * spread + 1


def test_marks_tell_near_copies_from_texts_that_share_phrases() -> None:
    draw = random.Random(6)
    ones = [" ".join(sentence(draw, 25)) for _ in range(2000)]
    others = []
    for text in ones:
        letters = list(text)
        for _ in range(draw.choice([1, 2, 40])):
            letters[draw.randrange(len(letters))] = draw.choice("xyz")
        others.append("".join(letters))
    _, marks = bands_and_marks([*ones, *others])
    pairs = np.arange(2 * len(ones)).reshape(2, -1).T
    kept = set(likely(pairs, marks, 0.9)[:, 0].tolist())
    indices = [
        jaccard(shingles(one), shingles(other)) for one, other in zip(ones, others, strict=True)
    ]
    near = {row for row, index in enumerate(indices) if index >= 0.9}
    unlike = {row for row, index in enumerate(indices) if index < 0.5}
    assert len(near) > 600 < len(unlike)
    assert near <= kept
    assert len(kept & unlike) <= len(unlike) // 1000
    assert likely(pairs[:0], marks, 0.9).shape == (0, 2)


def test_candidates_connect_every_run_of_equal_keys() -> None:
    keys = np.array([5, 7, 5, 9, 7, 5, 5], dtype=np.uint64)
    pairs = candidates(keys, np.arange(10, 17))
    assert pairs.tolist() == [[10, 12], [10, 15], [10, 16], [11, 14], [12, 15], [15, 16]]
    assert candidates(keys[:2], np.arange(2)).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=15))
def test_clusters_are_named_by_their_first_row(edges: list[tuple[int, int]]) -> None:
    named = clusters(20, [np.array(edges, dtype=np.int64).reshape(-1, 2)])
    assert all(named[a] == named[b] for a, b in edges)
    assert all(named[named[row]] == named[row] <= row for row in range(20))
    alone = set(range(20)) - {row for edge in edges for row in edge}
    assert all(named[row] == row for row in alone)


def test_a_value_that_is_no_index_is_refused() -> None:
    for value in (0.1, 1.5, "high"):
        with pytest.raises(ValueError, match="near_jaccard"):
            config_of({"near_jaccard": value})
    _: Any = config_of({"near_jaccard": None})
