"""The split: each text on one side for ever, shares as asked, labels everywhere."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import Row, config_of, deduplicated, many, side_by_row, split_of

from configs.errors import DataError
from configs.schema import Split
from tasks.duplicates import place, text_keys
from tasks.ingest import SCHEMA
from tasks.shards import places_of
from tasks.splitting import SIDES, _assert_apart, sides_of


def side_of(text: str, split: Split) -> str:
    """Return the side that a text falls on by itself."""
    (number,) = sides_of(place(text_keys([text], split.salt)[:, 0]), split)
    return SIDES[number]


@pytest.mark.parametrize(
    ("text", "side"),
    # Beside each, the SHA-256 of "ekiben", a zero byte and the text, as a number from 0 to 1.
    [
        ("WINNER!", "test"),  # 0.034
        ("Are we still on for lunch?", "test"),  # 0.075
        ("text 3", "validation"),  # 0.285
        ("\u732b", "train"),  # 0.426
        ("", "train"),  # 0.877
    ],
)
def test_the_side_of_a_text_is_fixed_for_ever(text: str, side: str) -> None:
    assert side_of(text, Split()) == side


@given(st.text(), st.lists(st.floats(0.01, 0.5), min_size=2, max_size=2))
def test_a_larger_test_share_takes_texts_in_and_lets_none_out(
    text: str, shares: list[float]
) -> None:
    small, large = (Split(test_fraction=share) for share in sorted(shares))
    if side_of(text, small) == "test":
        assert side_of(text, large) == "test"


@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.1), (0.5, 0.3), (0.01, 0.4)])
def test_each_side_has_about_its_share_of_every_label(test: float, validation: float) -> None:
    split = Split(test_fraction=test, validation_fraction=validation)
    rows = many(20_000)
    shares = {"test": test, "validation": validation, "train": 1 - test - validation}
    for label, count in (("ham", 16_000), ("spam", 4_000)):
        texts = [row["text"] for row in rows if row["label"] == label]
        sides = sides_of(place(text_keys(texts, split.salt)[:, 0]), split)
        for number, side in enumerate(SIDES):
            share = shares[side]
            spread = (share * (1 - share) / count) ** 0.5  # of a binomial share
            assert abs((sides == number).mean() - share) < 4 * spread


def test_another_salt_draws_another_split() -> None:
    texts = [f"text {number}" for number in range(1000)]
    first = [side_of(text, Split()) for text in texts]
    assert first == [side_of(text, Split(salt="ekiben")) for text in texts]
    assert first != [side_of(text, Split(salt="again")) for text in texts]


@pytest.mark.parametrize(("asked", "kept"), [(None, 300), (299, 299), (300, 300), (301, 300)])
def test_a_sample_keeps_as_many_rows_as_asked(homes: Path, asked: int | None, kept: int) -> None:
    _, found = deduplicated(homes / "before", many(300), config_of(sample_rows=asked))
    assert (found.rows_kept, found.sampled_out) == (kept, 300 - kept)


def test_a_sample_is_by_content_and_not_by_place(homes: Path) -> None:
    config, rows = config_of(sample_rows=50), many(200)

    def texts(folder: str, given: list[Row]) -> set[str]:
        numbered = [{**row, "row": number} for number, row in enumerate(given, start=1)]
        _, found = deduplicated(homes / folder, numbered, config)
        kept = pq.read_table(found.path("kept.parquet"))["row"].to_pylist()
        return {numbered[row - 1]["text"] for row in kept}

    sampled = texts("before", rows)
    assert texts("turned", rows[::-1]) == sampled
    assert texts("grown", many(400)) & {row["text"] for row in rows} <= sampled


def test_a_sample_has_the_shares_of_the_whole(homes: Path) -> None:
    config = config_of({"near_jaccard": None}, sample_rows=4000)
    manifest = split_of(homes / "before", many(20_000), config)
    assert abs(manifest.rows["test"] / 4000 - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5
    spam = sum(counts["spam"] for counts in manifest.label_counts.values())
    assert abs(spam / 4000 - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5


@pytest.mark.parametrize("shards", [1, 7])
def test_the_stage_writes_three_sides_that_share_no_text(homes: Path, shards: int) -> None:
    rows = many(300)
    copies = [{**row, "row": row["row"] + 300} for row in rows[:20]]
    manifest = split_of(homes / "before", rows + copies, config_of(), shards)
    sides = {side: pq.read_table(manifest.path(f"{side}.parquet")) for side in SIDES}
    texts = [text for table in sides.values() for text in table["text"].to_pylist()]
    assert len(texts) == len(set(texts)) == 300
    assert manifest.rows == {side: table.num_rows for side, table in sides.items()}
    assert all(table.schema.equals(SCHEMA) for table in sides.values())
    assert manifest.label_counts == {
        side: {label: table["label"].to_pylist().count(label) for label in ("ham", "spam")}
        for side, table in sides.items()
    }
    by_row = {row["row"]: (row["text"], row["label"]) for row in rows}
    for table in sides.values():
        for row in table.to_pylist():
            assert by_row[row["row"]] == (row["text"], row["label"])
            assert side_of(row["text"], Split()) in SIDES


def test_a_text_that_nothing_is_tied_to_falls_where_its_own_hash_says(homes: Path) -> None:
    rows = many(300)
    sides = side_by_row(split_of(homes / "before", rows, config_of({"near_jaccard": None})))
    assert sides == {row["row"]: side_of(row["text"], Split()) for row in rows}


def test_the_stage_keeps_every_row_on_its_side_when_data_grows(homes: Path) -> None:
    before = side_by_row(split_of(homes / "before", many(300), config_of()))
    after = side_by_row(split_of(homes / "after", many(600), config_of(), shards=3))
    assert after.items() >= before.items()
    assert set(before.values()) == set(SIDES)


def test_a_side_without_a_label_is_an_error_in_words(homes: Path) -> None:
    with pytest.raises(DataError) as caught:
        split_of(homes / "before", many(300, spam_every=300), config_of())
    assert len(caught.value.problems) == 2
    for problem in caught.value.problems:
        assert problem.startswith("db://ann:***@host/sms: no row of label 'spam' falls into the ")
    assert [path.name for path in (homes / "ekiben_home/steps/split").iterdir()] == [
        path.name for path in (homes / "ekiben_home/steps/split").glob(".*.lock")
    ]


def test_a_text_on_two_sides_would_be_noticed() -> None:
    one, two = np.array([1, 2], dtype=np.uint64), np.array([3], dtype=np.uint64)
    _assert_apart({"train": one, "test": two})
    with pytest.raises(DataError, match="1 texts are in both train and test"):
        _assert_apart({"train": one, "validation": two, "test": one[:1]})


def test_numbers_are_found_among_ascending_ones() -> None:
    among = np.array([2, 3, 5, 9])
    assert places_of(np.array([1, 2, 4, 9, 10, 5]), among).tolist() == [-1, 0, -1, 3, -1, 2]
    assert places_of(np.array([1, 2]), among[:0]).tolist() == [-1, -1]
