"""Validation by the real Great Expectations: which rows go, which stay, and what fails the run."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import ConfigError, DataError
from configs.schema import PipelineConfig
from tasks import table_rules
from tasks.expectations import check
from tasks.ingest import read_dataset
from tasks.manifests import ValidationReport
from tasks.row_rules import QUARANTINE, row_suite
from tasks.validation import quarantined_rows, require_valid, validate_dataset

Pairs = list[tuple[str | None, str | None]]
Validate = Callable[..., ValidationReport]
COLUMNS = pa.schema([("text", pa.string()), ("label", pa.string())])
GOOD: Pairs = [(f"a plain text, number {i}", ("ham", "spam")[i % 2]) for i in range(20)]


@pytest.fixture
def validate(homes: Path) -> Validate:
    """Return a function that validates (text, label) pairs under a `validation` section."""

    def run(pairs: Pairs, data: dict[str, Any] | None = None, **section: Any) -> ValidationReport:
        source = homes / "rows.parquet"
        records = [{"text": text, "label": label} for text, label in pairs]
        pq.write_table(pa.Table.from_pylist(records, schema=COLUMNS), source)
        config = PipelineConfig.model_validate(
            {
                "name": "tried",
                "data": {"uri": str(source), "labels": ["ham", "spam"], **(data or {})},
                "validation": {"min_rows": 2, **section},
                "gate": {"accuracy": {"min": 0.5}},
            }
        )
        return validate_dataset(config, read_dataset(config.data))

    return run


def expectation(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": name, "kwargs": kwargs}


def quarantined(report: ValidationReport) -> list[tuple[int, str, str]]:
    """Return (row, rule without its common prefix, column) of every line of the quarantine."""
    table = pq.read_table(report.path("quarantine.parquet"))
    assert table.schema == QUARANTINE
    return [
        (line["row"], line["rule"].removeprefix("expect_column_"), line["column"])
        for line in table.to_pylist()
    ]


NULL, BLANK = "values_to_not_be_null", "values_to_match_regex"
LENGTH, LABELS = "value_lengths_to_be_between", "values_to_be_in_set"
ROW_CASES: dict[str, tuple[str | None, str | None, list[tuple[str, str]]]] = {
    "no text": (None, "ham", [(NULL, "text")]),
    "no label": ("a text without a label", None, [(NULL, "label")]),
    "neither": (None, None, [(NULL, "label"), (NULL, "text")]),
    "blank": (" \t ", "ham", [(LENGTH, "text"), (BLANK, "text")]),
    "too short": ("abc", "ham", [(LENGTH, "text")]),
    "too long": ("x" * 41, "ham", [(LENGTH, "text")]),
    "unknown label": ("a text of another kind", "eggs", [(LABELS, "label")]),
    "short and unknown": ("abc", "eggs", [(LENGTH, "text"), (LABELS, "label")]),
    "shortest allowed": ("abcd", "ham", []),
    "longest allowed": ("x" * 40, "spam", []),
}


def test_each_unfit_row_is_quarantined_once_for_each_rule_it_fails(validate: Validate) -> None:
    odd: Pairs = [(text, label) for text, label, _ in ROW_CASES.values()]
    report = validate(GOOD + odd, min_characters=4, max_characters=40, max_quarantine_fraction=0.5)
    expected = [
        (row, rule, column)
        for row, (_, _, failed) in enumerate(ROW_CASES.values(), start=len(GOOD) + 1)
        for rule, column in failed
    ]
    assert sorted(quarantined(report)) == sorted(expected)
    table = pq.read_table(report.path("quarantine.parquet")).to_pylist()
    for line in table:
        text, label = odd[line["row"] - len(GOOD) - 1]
        cleaned = None if text is None else text.strip()
        assert (line["text"], line["label"]) == (cleaned, label)
    assert report.rows_quarantined == len({row for row, _, _ in expected})


def test_the_rows_that_are_fit_go_on(validate: Validate) -> None:
    report = validate([(None, "ham"), *GOOD, ("abc", "eggs")], max_quarantine_fraction=0.5)
    assert quarantined_rows(report).tolist() == [1, len(GOOD) + 2]
    assert (report.rows, report.rows_valid) == (len(GOOD) + 2, len(GOOD))
    assert report.passed
    require_valid(report)


def test_counts_equal_those_of_pandas(validate: Validate) -> None:
    draw = np.random.default_rng(7)
    texts = ["", "ab", "word", "some longer text", "x" * 50, None]
    labels = ["ham", "spam", "eggs", None]
    pairs: Pairs = [
        (
            None if (text := texts[draw.integers(6)]) is None else f"{text}{draw.integers(3)}"[1:],
            labels[draw.choice(4, p=[0.5, 0.4, 0.05, 0.05])],
        )
        for _ in range(400)
    ]
    report = validate(
        pairs, min_characters=2, max_characters=30, max_quarantine_fraction=1.0,
        max_duplicate_fraction=1.0,
    )  # fmt: skip
    frame = pd.DataFrame(pairs, columns=["text", "label"])
    lengths = frame["text"].str.len()
    text_known, label_known = frame["text"].notna(), frame["label"].notna()
    failing = {
        (NULL, "text"): ~text_known,
        (BLANK, "text"): text_known & (lengths == 0),
        (LENGTH, "text"): text_known & ~lengths.between(2, 30),
        (NULL, "label"): ~label_known,
        (LABELS, "label"): label_known & ~frame["label"].isin(["ham", "spam"]),
    }
    told = {
        (rule.rule.removeprefix("expect_column_"), rule.column): rule.rows_failed
        for rule in report.rules
        if rule.takes_rows
    }
    assert told == {key: int(rows.sum()) for key, rows in failing.items()}
    assert min(told.values()) > 0
    unfit = pd.concat(failing, axis=1).any(axis=1)
    assert (report.rows, report.rows_quarantined, report.rows_valid) == (
        len(frame), int(unfit.sum()), int((~unfit).sum())
    )  # fmt: skip
    assert report.label_counts == {
        name: int((frame.loc[~unfit, "label"] == name).sum()) for name in ("ham", "spam")
    }
    lines = {(row, rule, column) for row, rule, column in quarantined(report)}
    assert lines == {
        (int(i) + 1, *key) for key, rows in failing.items() for i in frame.index[rows]
    }  # fmt: skip
    assert report.length_histogram["0-19"] == int((lengths[~unfit] < 20).sum())
    assert sum(report.length_histogram.values()) == report.rows_valid


@pytest.mark.parametrize("limit", [0.05, 0.29])
@pytest.mark.parametrize(("over", "passes"), [(-1, True), (0, True), (1, False)])
def test_only_above_max_quarantine_fraction_does_the_run_fail(
    validate: Validate, limit: float, over: int, passes: bool
) -> None:
    unfit = round(limit * 100) + over
    pairs: Pairs = [(f"text {i}", ("ham", "spam")[i % 2]) for i in range(100 - unfit)]
    report = validate(pairs + [(None, "ham")] * unfit, max_quarantine_fraction=limit)
    assert report.rows_quarantined == unfit
    assert report.passed is passes
    if not passes:
        with pytest.raises(
            DataError, match=f"{unfit} of 100 rows .* are quarantined, above"
        ) as told:
            require_valid(report)
        assert f"max_quarantine_fraction={limit}" in str(told.value)
        assert f"expect_column_values_to_not_be_null on text ({unfit} rows)" in str(told.value)


@pytest.mark.parametrize(("rare", "passes"), [(21, True), (20, True), (19, False)])
def test_the_rarest_label_must_have_its_share(validate: Validate, rare: int, passes: bool) -> None:
    pairs: Pairs = [(f"text {i}", "spam" if i < rare else "ham") for i in range(200)]
    report = validate(pairs, min_label_fraction=0.1)
    assert report.passed is passes
    if not passes:
        (problem,) = report.problems
        assert "the rarest label has a share of 0.095 of the valid rows" in problem
        assert "validation.min_label_fraction=0.1" in problem


@pytest.mark.parametrize("limit", [0.5, 0.7])
@pytest.mark.parametrize(("over", "passes"), [(-1, True), (0, True), (1, False)])
def test_copies_up_to_max_duplicate_fraction_pass(
    validate: Validate, limit: float, over: int, passes: bool
) -> None:
    copies = round(limit * 20) + over
    distinct = GOOD[: 20 - copies]
    repeated = [distinct[i % 2] for i in range(copies)]
    report = validate(distinct + repeated, max_duplicate_fraction=limit)
    assert report.rows_valid == 20
    assert report.passed is passes
    if not passes:
        (problem,) = report.problems
        assert f"validation.max_duplicate_fraction={limit} are copies" in problem


def test_too_few_rows_are_told_in_words(validate: Validate) -> None:
    report = validate(GOOD, min_rows=21)
    (problem,) = report.problems
    assert "20 valid rows, expected at least validation.min_rows=21" in problem


BAD_TABLES: dict[str, tuple[Pairs, str]] = {
    "empty": ([], "holds no rows; add labelled texts"),
    "all null": ([(None, None)] * 30, "none of its 30 rows is valid"),
    "all blank": ([("  ", "ham"), ("", "spam")] * 15, "none of its 30 rows is valid"),
    "no known label": ([(f"text {i}", "eggs") for i in range(30)], "none of its 30 rows is valid"),
    "one label": (
        [(f"text {i}", "ham") for i in range(30)],
        r"the rarest label has a share of 0 .* for each of \['ham', 'spam'\]",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_cannot_be_trained_on_is_an_error_in_words(
    validate: Validate, case: str
) -> None:
    pairs, words = BAD_TABLES[case]
    with pytest.raises(DataError, match=words) as told:
        require_valid(validate(pairs, min_label_fraction=0.0, max_quarantine_fraction=1.0))
    assert all("rows.parquet: " in problem for problem in told.value.problems)


def test_an_expectation_of_ones_own_on_rows_quarantines_them(validate: Validate) -> None:
    pairs: Pairs = [*GOOD, ("see http://example.org", "ham"), ("see HTTP in a book", "spam")]
    own = [
        expectation("expect_column_values_to_not_match_regex", column="text", regex="http"),
        expectation("expect_column_value_lengths_to_be_between", column="label", max_value=3),
    ]
    report = validate(pairs, expectations=own, max_quarantine_fraction=1.0, min_label_fraction=0.0)
    by_rule = quarantined(report)
    assert (21, "values_to_not_match_regex", "text") in by_rule
    spam_rows = [row for row, (_, label) in enumerate(pairs, start=1) if label == "spam"]
    assert [row for row, rule, _ in by_rule if rule == LENGTH] == spam_rows
    assert report.rows_quarantined == 1 + len(spam_rows)


def test_an_expectation_of_ones_own_on_pairs_of_columns_quarantines_rows(
    validate: Validate,
) -> None:
    own = [expectation("expect_column_pair_values_to_be_equal", column_A="text", column_B="label")]
    pairs: Pairs = [("ham", "ham"), ("spam", "spam"), ("ham", "spam")]
    report = validate(
        pairs, expectations=own, max_quarantine_fraction=1.0, max_duplicate_fraction=1.0
    )
    assert [row for row, _, _ in quarantined(report)] == [3]


TABLE_EXPECTATIONS = [
    (expectation("expect_table_row_count_to_equal", value=20), True, ""),
    (
        expectation("expect_table_row_count_to_equal", value=7),
        False,
        r"value=7\) failed, observed 20",
    ),
    (
        expectation("expect_column_median_to_be_between", column="row", max_value=3),
        False,
        "on row .* observed 10.5",
    ),
    (  # asked with the same number as min_rows, and still told apart from it
        expectation("expect_column_unique_value_count_to_be_between", column="label", min_value=20),
        False,
        r"expect_column_unique_value_count_to_be_between on label \(min_value=20.*\) failed",
    ),
    (
        expectation(
            "expect_column_distinct_values_to_be_in_set", column="label", value_set=["ham"]
        ),
        False,
        "on label .* failed",
    ),
]


@pytest.mark.parametrize(("own", "passes", "words"), TABLE_EXPECTATIONS)
def test_an_expectation_of_ones_own_on_the_table_passes_or_fails_the_run(
    validate: Validate, own: dict[str, Any], passes: bool, words: str
) -> None:
    report = validate(GOOD, min_rows=20, expectations=[own])
    assert report.passed is passes
    assert report.rows_quarantined == 0
    if not passes:
        with pytest.raises(DataError, match=words):
            require_valid(report)


REFUSED = [
    (
        expectation("expect_column_values_to_not_match_regx", column="text", regex="a"),
        "did you mean 'expect_column_values_to_not_match_regex'",
    ),
    (
        expectation("expect_column_values_to_not_be_null", column="confidence"),
        "column 'confidence' is not one of row, text, label",
    ),
    (
        expectation("expect_column_values_to_match_regex", column="text", regex=[1]),
        "regex: .*; correct its kwargs",
    ),
    (
        expectation("expect_column_values_to_match_regex", column="text", regex="("),
        r"cannot be evaluated \(Invalid regular expression",
    ),
    (
        expectation("expect_column_pair_values_to_be_equal", column_A="text", column_B="gone"),
        "column_B 'gone' is not one of row, text, label",
    ),
    (expectation("expect_column_mean_to_be_between", column="text", max_value=1), "cannot be eval"),
]


@pytest.mark.parametrize(("own", "words"), REFUSED)
def test_an_expectation_that_cannot_be_used_is_a_config_error_that_names_it(
    validate: Validate, homes: Path, own: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as told:
        validate(GOOD, expectations=[own])
    assert own["type"] in str(told.value)
    assert "plain text, number" not in str(told.value)
    assert not list(homes.rglob("quarantine.parquet"))


def test_no_text_of_a_row_leaves_the_parquet_files(
    validate: Validate,
    homes: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    marker = "xyzzy"
    own = [
        expectation("expect_column_values_to_not_match_regex", column="text", regex="http"),
        expectation("expect_column_values_to_be_unique", column="text"),
        expectation("expect_column_most_common_value_to_be_in_set", column="text", value_set=["a"]),
        expectation("expect_column_distinct_values_to_be_in_set", column="text", value_set=["a"]),
    ]
    pairs: Pairs = [(f"{marker} {i}", ("ham", "spam")[i % 2]) for i in range(20)]
    odd: Pairs = [(f"{marker} http", "ham"), (f"{marker} 1", "ham"), (marker, f"{marker} label")]
    report = validate(pairs + odd, expectations=own, max_quarantine_fraction=1.0)
    assert report.rows_quarantined == 4
    with pytest.raises(DataError) as told:
        require_valid(report)
    printed = capfd.readouterr()
    assert "great_expectations" in caplog.text
    for place in (
        report.model_dump_json(), str(told.value), repr(told.value), caplog.text, printed.out,
        printed.err,
    ):  # fmt: skip
        assert marker not in place
    holding = {
        file.name for file in homes.rglob("*") if file.is_file() and marker in _content(file)
    }
    assert holding == {"rows.parquet", "quarantine.parquet"}


def _content(file: Path) -> str:
    if file.suffix == ".parquet":
        return str(pq.read_table(file).to_pylist())
    return file.read_text(encoding="utf-8")


def test_verdicts_and_counts_are_those_of_one_run_over_every_row(validate: Validate) -> None:
    draw = np.random.default_rng(3)
    texts = ["", " ", "\u3000", "\x85", "\t\n", "ab", "abc", "a b", "x" * 30, "\U0001f371", None]
    labels = ["ham", "spam", "eggs", "", None]
    pairs: Pairs = [
        (texts[draw.integers(len(texts))], labels[draw.choice(5, p=[0.4, 0.4, 0.1, 0.05, 0.05])])
        for _ in range(2500)
    ]
    own = [expectation("expect_column_values_to_not_match_regex", column="text", regex="b$")]
    section = {
        "min_characters": 2, "max_characters": 20, "expectations": own,
        "max_quarantine_fraction": 1.0, "max_duplicate_fraction": 1.0,
    }  # fmt: skip
    cleaning = {"collapse_whitespace": False, "remove_control_characters": False}
    report = validate(pairs, data={"shard_rows": 1000, "cleaning": cleaning}, **section)
    config = PipelineConfig.model_validate(
        {
            "name": "tried", "data": {"uri": "x", "labels": ["ham", "spam"]},
            "gate": {"accuracy": {"min": 0.5}}, "validation": section,
        }
    )  # fmt: skip
    frame = pd.DataFrame(pairs, columns=["text", "label"]).assign(row=range(1, 2501))
    suite = row_suite(config) + config.validation.expectations
    expected = check(frame, suite)
    assert [(rule.rule, rule.rows_failed, rule.passed) for rule in report.rules[: len(suite)]] == [
        (item.type, len(found.failed), found.passed)
        for item, found in zip(suite, expected, strict=True)
    ]
    lines = pq.read_table(report.path("quarantine.parquet"))
    told = {(line["rule"], line["column"], line["row"]) for line in lines.to_pylist()}
    assert told == {
        (item.type, item.kwargs["column"], int(position) + 1)
        for item, found in zip(suite, expected, strict=True)
        for position in found.failed
    }


def test_an_expectation_that_needs_too_many_texts_at_once_is_refused(
    validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [
        expectation("expect_column_distinct_values_to_be_in_set", column="text", value_set=["a"])
    ]
    monkeypatch.setattr(table_rules, "_MOST_ROWS_WITH_TEXT", 19)
    with pytest.raises(ConfigError, match="needs all 20 texts in memory at once, above the 19"):
        validate(GOOD, expectations=own)
