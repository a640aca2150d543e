"""The split: duplicates out, each text on one side for ever, shares as asked, labels everywhere."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import DataError
from configs.schema import PipelineConfig, Split
from tasks.ingest import SCHEMA
from tasks.manifests import SplitManifest, ValidationReport
from tasks.splitting import (
    SIDES,
    Record,
    _assert_apart,
    sample,
    side_of,
    split_rows,
    without_duplicates,
)

TABLES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["ham", "spam"])))


def records_of(pairs: list[tuple[str, str]]) -> list[Record]:
    """Return records of (text, label), numbered from 1."""
    return [
        {"row": number, "text": text, "label": label}
        for number, (text, label) in enumerate(pairs, start=1)
    ]


def many(rows: int, spam_every: int = 5) -> list[Record]:
    """Return records with distinct texts, every so manieth of them spam."""
    return records_of([(f"text {n}", "ham" if n % spam_every else "spam") for n in range(rows)])


def config_of(**split: Any) -> PipelineConfig:
    """Return a config of two labels with that split section."""
    return PipelineConfig.model_validate(
        {
            "name": "sms",
            "data": {"uri": "db://ann:opensesame@host/sms", "labels": ["ham", "spam"]},
            "gate": {"accuracy": {"min": 0.9}},
            "split": split,
        }
    )


def validated(folder: Path, records: list[Record]) -> ValidationReport:
    """Write records as the stage before leaves them."""
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(records, SCHEMA), folder / "valid.parquet")
    return ValidationReport(
        key=folder.name,
        parents={},
        folder=folder,
        files={},
        passed=True,
        problems=(),
        rows=len(records),
        rows_quarantined=0,
        rows_valid=len(records),
        rules=(),
        label_counts=dict(Counter(record["label"] for record in records)),
        length_histogram={},
    )


def side_by_row(manifest: SplitManifest) -> dict[int, str]:
    """Return the side of every row that is on one."""
    return {
        row: side
        for side in SIDES
        for row in pq.read_table(manifest.path(f"{side}.parquet"))["row"].to_pylist()
    }


@pytest.mark.parametrize(
    ("pairs", "kept", "left_out"),
    [
        ([], [], []),
        ([("a", "ham"), ("b", "ham")], [1, 2], []),
        ([("a", "ham"), ("b", "ham"), ("a", "ham")], [1, 2], [(3, "duplicate")]),
        ([("a", "ham"), ("a", "spam")], [], [(1, "conflict"), (2, "conflict")]),
        (
            [("a", "ham"), ("b", "spam"), ("a", "ham"), ("a", "spam"), ("b", "spam")],
            [2],
            [(1, "conflict"), (3, "conflict"), (4, "conflict"), (5, "duplicate")],
        ),
        ([("a", "ham"), ("A", "ham"), ("a ", "spam")], [1, 2, 3], []),
    ],
)
def test_the_first_copy_is_kept_and_a_text_with_two_labels_is_not(
    pairs: list[tuple[str, str]], kept: list[int], left_out: list[tuple[int, str]]
) -> None:
    records = records_of(pairs)
    assert without_duplicates(records) == ([records[row - 1] for row in kept], left_out)


@given(TABLES)
def test_every_row_is_kept_or_left_out_and_no_text_is_kept_twice(
    pairs: list[tuple[str, str]],
) -> None:
    records = records_of(pairs)
    kept, left_out = without_duplicates(records)
    assert sorted([r["row"] for r in kept] + [row for row, _ in left_out]) == [
        r["row"] for r in records
    ]
    assert len({r["text"] for r in kept}) == len(kept)


@given(TABLES, TABLES)
def test_a_row_never_changes_side_when_data_grows(
    first: list[tuple[str, str]], added: list[tuple[str, str]]
) -> None:
    def sides(pairs: list[tuple[str, str]]) -> dict[int, str]:
        kept, _ = without_duplicates(records_of(pairs))
        return {record["row"]: side_of(record["text"], Split()) for record in kept}

    before, after = sides(first), sides(first + added)
    still_there = before.keys() & after.keys()
    assert {row: before[row] for row in still_there} == {row: after[row] for row in still_there}
    gone = before.keys() - after.keys()  # only a second label, come later, takes a row away
    labels = {text: {label for other, label in first + added if other == text} for text, _ in first}
    assert all(len(labels[first[row - 1][0]]) == 2 for row in gone)


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
    records = many(20_000)
    shares = {"test": test, "validation": validation, "train": 1 - test - validation}
    for label, rows in (("ham", 16_000), ("spam", 4_000)):
        found = Counter(side_of(r["text"], split) for r in records if r["label"] == label)
        for side, share in shares.items():
            spread = (share * (1 - share) / rows) ** 0.5  # of a binomial share
            assert abs(found[side] / rows - share) < 4 * spread


def test_another_salt_draws_another_split() -> None:
    texts = [f"text {number}" for number in range(1000)]
    first = [side_of(text, Split()) for text in texts]
    assert first == [side_of(text, Split(salt="ekiben")) for text in texts]
    assert first != [side_of(text, Split(salt="again")) for text in texts]


@pytest.mark.parametrize(("asked", "kept"), [(None, 50), (49, 49), (50, 50), (51, 50), (10, 10)])
def test_a_sample_keeps_as_many_rows_as_asked_in_their_order(asked: int | None, kept: int) -> None:
    records = many(50)
    sampled, left_out = sample(records, Split(sample_rows=asked))
    assert (len(sampled), left_out) == (kept, 50 - kept)
    assert [r["row"] for r in sampled] == sorted(r["row"] for r in sampled)


def test_a_sample_is_by_content_and_not_by_place() -> None:
    split, records = Split(sample_rows=10), many(200)
    texts = {r["text"] for r in sample(records, split)[0]}
    assert {r["text"] for r in sample(records[::-1], split)[0]} == texts
    grown = {r["text"] for r in sample(many(400), split)[0]}
    assert grown & {r["text"] for r in records} <= texts


def test_a_sample_has_the_shares_of_the_whole() -> None:
    split = Split(sample_rows=4000)
    sampled, _ = sample(many(20_000), split)
    found = Counter(side_of(r["text"], split) for r in sampled)
    assert abs(found["test"] / 4000 - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5
    spam = sum(r["label"] == "spam" for r in sampled)
    assert abs(spam / 4000 - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5


def test_the_stage_writes_three_sides_that_share_no_text(homes: Path) -> None:
    records = many(300)
    copies = [{**record, "row": record["row"] + 300} for record in records[:20]]
    contrary = [{**record, "row": record["row"] + 400, "label": "spam"} for record in records[1:3]]
    report = validated(homes / "before", records + copies + contrary)
    manifest = split_rows(config_of(), report)
    sides = {side: pq.read_table(manifest.path(f"{side}.parquet")) for side in SIDES}
    texts = [text for table in sides.values() for text in table["text"].to_pylist()]
    assert len(texts) == len(set(texts)) == 298
    assert manifest.rows == {side: table.num_rows for side, table in sides.items()}
    assert all(table.schema.equals(SCHEMA) for table in sides.values())
    assert manifest.label_counts == {
        side: {label: table["label"].to_pylist().count(label) for label in ("ham", "spam")}
        for side, table in sides.items()
    }
    left_out = pq.read_table(manifest.path("left_out.parquet")).to_pylist()
    conflicts = [line["row"] for line in left_out if line["reason"] == "conflict"]
    assert conflicts == [2, 3, 302, 303, 402, 403]
    assert manifest.conflicts_quarantined == len(conflicts)
    assert manifest.duplicates_removed == len(left_out) - len(conflicts) == 18
    assert manifest.sampled_out == 0
    assert manifest.parents == {"validation": report.digest}


def test_the_stage_keeps_every_row_on_its_side_when_data_grows(homes: Path) -> None:
    before = side_by_row(split_rows(config_of(), validated(homes / "before", many(300))))
    after = side_by_row(split_rows(config_of(), validated(homes / "after", many(600))))
    assert after.items() >= before.items()
    assert set(before.values()) == set(SIDES)


def test_the_stage_counts_what_the_sample_leaves_out(homes: Path) -> None:
    manifest = split_rows(config_of(sample_rows=250), validated(homes / "before", many(300)))
    assert sum(manifest.rows.values()) == 250
    assert manifest.sampled_out == 50


def test_a_side_without_a_label_is_an_error_in_words(homes: Path) -> None:
    report = validated(homes / "before", many(300, spam_every=300))
    with pytest.raises(DataError) as caught:
        split_rows(config_of(), report)
    assert len(caught.value.problems) == 2
    for problem in caught.value.problems:
        assert problem.startswith("db://ann:***@host/sms: no row of label 'spam' falls into the ")
    assert [path.name for path in (homes / "ekiben_home/steps/split").iterdir()] == [
        path.name for path in (homes / "ekiben_home/steps/split").glob(".*.lock")
    ]


def test_a_text_on_two_sides_would_be_noticed() -> None:
    same = records_of([("a", "ham"), ("a", "ham")])
    _assert_apart({"train": same, "test": records_of([("b", "ham")])})
    with pytest.raises(DataError, match="row 2: its text is in both train and test"):
        _assert_apart({"train": same[:1], "test": same[1:]})
