"""Suites as Great Expectations itself reads and writes them: out, in, and refused in words."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
import pytest
from great_expectations import expectations as gxe
from great_expectations.data_context.types.base import ProgressBarsConfig

from configs.errors import ConfigError
from configs.loading import load_config
from configs.schema import Expectation, PipelineConfig, Validation
from tasks.ingest import read_dataset
from tasks.manifests import ValidationReport
from tasks.suites import build_expectation, export_suite, load_suite, with_suite
from tasks.validation import validate_dataset

ROWS = [
    ("a plain text, number one", "ham"),
    ("see http://example.org", "spam"),
    ("", "ham"),
    ("short", "spam"),
    ("SEE HTTP://EXAMPLE.ORG", "spam"),
    ("a text with an unknown label", "eggs"),
] * 4
DECLARED = [
    Expectation(
        type="expect_column_values_to_not_match_regex",
        kwargs={"column": "text", "regex": "(?i)http"},
    ),
    Expectation(
        type="expect_column_value_lengths_to_be_between", kwargs={"column": "text", "min_value": 6}
    ),
    Expectation(
        type="expect_column_values_to_be_in_set",
        kwargs={"column": "label", "value_set": ["ham", "spam"]},
    ),
]
NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "text"}}
OLD_FORM = {
    "data_asset_type": None,
    "expectation_suite_name": "mail",
    "ge_cloud_id": None,
    "expectations": [
        {
            "expectation_type": item.type,
            "kwargs": {**item.kwargs, "result_format": "BASIC", "include_config": True},
            "meta": {"profiler_details": {}},
        }
        for item in DECLARED
    ],
    "meta": {"great_expectations_version": "0.18.19"},
}


def failing_rows(suite: gx.ExpectationSuite, frame: pd.DataFrame) -> dict[str, list[int]]:
    """Return the numbers of the rows that fail each expectation, in a context of their own."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("theirs").add_dataframe_asset("theirs")
    definition = gx.ValidationDefinition(
        name="theirs",
        data=asset.add_batch_definition_whole_dataframe("all"),
        suite=context.suites.add(suite),
    )
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": frame},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["row"]},
    )
    return {
        item.expectation_config.type: [
            entry["row"] for entry in item.result["unexpected_index_list"] or []
        ]
        for item in result.results
        if item.expectation_config is not None
    }


def built(items: Iterable[Expectation]) -> list[gxe.Expectation]:
    return [build_expectation(item) for item in items]


def written(folder: Path, content: Any) -> Path:
    file = folder / "suite.json"
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(text)
    return file


def quarantined_by_ekiben(folder: Path, items: list[Expectation]) -> ValidationReport:
    """Return Ekiben's own report on the same rows under the same expectations."""
    records = [json.dumps({"text": text, "label": label}) for text, label in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(records), encoding="utf-8")
    config = PipelineConfig.model_validate(
        {
            "name": "tried",
            "data": {"uri": str(folder / "rows.jsonl"), "labels": ["ham", "spam", "eggs"]},
            "validation": {
                "expectations": [item.model_dump() for item in items],
                "min_rows": 2,
                "max_quarantine_fraction": 1.0,
            },
            "gate": {"accuracy": {"min": 0.5}},
        }
    )
    return validate_dataset(config, read_dataset(config.data))


def test_an_exported_suite_takes_the_same_rows_in_great_expectations_as_in_ekiben(
    homes: Path,
) -> None:
    import pyarrow.parquet as pq

    report = quarantined_by_ekiben(homes, DECLARED)
    lines = pq.read_table(report.path("quarantine.parquet")).to_pylist()
    suite = gx.ExpectationSuite(**json.loads(export_suite("mail", built(DECLARED))))
    numbers = range(1, len(ROWS) + 1)
    frame = pd.DataFrame(ROWS, columns=["text", "label"]).assign(row=numbers)
    theirs = failing_rows(suite, frame)
    assert set(theirs) == {item.type for item in DECLARED}
    for rule, rows in theirs.items():
        limits = [name for name in ("text", "label") if rule != DECLARED[1].type or name == "text"]
        ours = {line["row"] for line in lines if line["rule"] == rule and line["column"] in limits}
        assert set(rows) == ours
        assert rows


def test_the_same_expectations_are_exported_as_the_same_text() -> None:
    expectations = built(DECLARED)
    context = gx.get_context(mode="ephemeral")
    taken_in = context.suites.add(gx.ExpectationSuite(name="mail", expectations=built(DECLARED)))
    assert export_suite("mail", expectations) == export_suite("mail", taken_in.expectations)


def test_an_export_equals_what_great_expectations_writes_but_for_its_ids() -> None:
    theirs = gx.ExpectationSuite(name="mail", expectations=built(DECLARED)).to_json_dict()
    assert json.loads(export_suite("mail", built(DECLARED))) == theirs


def test_what_was_exported_is_read_back(tmp_path: Path) -> None:
    file = written(tmp_path, export_suite("mail", built(DECLARED)).encode())
    assert load_suite(file) == tuple(DECLARED)


def test_a_suite_of_an_older_release_is_read_without_its_reporting_arguments(
    tmp_path: Path,
) -> None:
    items = load_suite(written(tmp_path, OLD_FORM))
    assert items == tuple(DECLARED)
    assert [item.expectation_type for item in built(items)] == [item.type for item in DECLARED]


def test_every_expectation_of_the_gallery_is_known_by_the_name_that_its_own_json_has() -> None:
    kl = Expectation(
        type="expect_column_kl_divergence_to_be_less_than",
        kwargs={"column": "label", "partition_object": {"values": [], "weights": []}},
    )
    (exported,) = json.loads(export_suite("kl", built([kl])))["expectations"]
    assert exported["type"] == kl.type


def test_the_suite_of_a_config_lies_beside_it_and_follows_its_own_expectations(
    tmp_path: Path,
) -> None:
    written(tmp_path, {"expectations": [NOT_NULL]})
    (tmp_path / "mail.yaml").write_text(
        "name: mail\ndata: {uri: x.csv, labels: [a, b]}\ngate: {accuracy: {min: 0.9}}\n"
        "validation:\n  suite: suite.json\n"
        "  expectations: [{type: expect_column_to_exist, kwargs: {column: text}}]\n"
    )
    validation = load_config(tmp_path / "mail.yaml").validation
    assert validation.suite == str(tmp_path / "suite.json")
    resolved = with_suite(validation)
    assert resolved.suite is None
    assert resolved.expectations == (
        *validation.expectations,
        Expectation.model_validate(NOT_NULL),
    )
    assert with_suite(Validation()) == Validation()


BAD_FILES: dict[str, tuple[Any, str]] = {
    "not JSON": (b"expectations: []", "is not JSON"),
    "not text": (b"\xff\xfe\x00{", "is not JSON"),
    "nested without end": (b"[" * 200_000, "is not JSON"),
    "a list": ([NOT_NULL], "has no list `expectations`"),
    "no list": ({"expectations": "many"}, "has no list `expectations`"),
    "empty": ({"name": "mail", "expectations": []}, "holds no expectations"),
    "too many": ({"expectations": [NOT_NULL] * 201}, "holds 201 expectations, above 200"),
    "too large": (b" " * 1_000_001, "is larger than 1000 kB"),
    "a bare name": ({"expectations": [NOT_NULL["type"]]}, "expectation 1: is a str, not an object"),
    "no type": ({"expectations": [NOT_NULL, {"kwargs": {}}]}, "expectation 2: type: "),
    "no name": ({"expectations": [{"type": "No Name"}]}, "expectation 1: type: "),
    "a list of kwargs": (
        {"expectations": [{"type": "expect_x", "kwargs": [1]}]},
        "expectation 1: kwargs: ",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_suite_is_refused_by_its_name(tmp_path: Path, case: str) -> None:
    content, words = BAD_FILES[case]
    file = written(tmp_path, content)
    with pytest.raises(ConfigError) as told:
        load_suite(file)
    (problem,) = told.value.problems
    assert problem.startswith(f"{file}: ")
    assert words in problem
    assert "\n" not in problem


def test_a_suite_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.json: cannot be read \(No such file"):
        load_suite(tmp_path / "none.json")


BAD_EXPECTATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a name mistyped": (
        "expect_column_values_to_not_be_nul",
        {"column": "text"},
        "did you mean 'expect_column_values_to_not_be_null'?",
    ),
    "a name of nothing": ("expect_zzz", {}, "Great Expectations has none of this name"),
    "a column that is not there": (
        "expect_column_values_to_not_be_null",
        {"column": "confidence"},
        "column 'confidence' is not one of row, text, label",
    ),
    "a column that is no name": (
        "expect_column_values_to_not_be_null",
        {"column": ["text"]},
        "column ['text'] is not one of",
    ),
    "one of several columns": (
        "expect_compound_columns_to_be_unique",
        {"column_list": ["text", "gone"]},
        "column_list 'gone' is not one of",
    ),
    "no column": ("expect_column_values_to_not_be_null", {}, "column: field required"),
    "an argument unknown": (
        "expect_column_values_to_not_be_null",
        {"column": "text", "colour": "red"},
        "colour: extra fields not permitted",
    ),
    "an argument of another type": (
        "expect_column_values_to_match_regex",
        {"column": "text", "regex": [1]},
        "regex: ",
    ),
    "a parameter without a value": (
        "expect_column_value_lengths_to_be_between",
        {"column": "text", "max_value": {"$PARAMETER": "longest"}},
        "a $PARAMETER has no value here",
    ),
}


@pytest.mark.parametrize("case", BAD_EXPECTATIONS)
def test_an_expectation_that_cannot_be_used_names_itself_and_its_file(
    tmp_path: Path, case: str
) -> None:
    kind, kwargs, words = BAD_EXPECTATIONS[case]
    file = written(tmp_path, {"expectations": [{"type": kind, "kwargs": kwargs}]})
    validation = Validation(suite=str(file))
    with pytest.raises(ConfigError) as told:
        with_suite(validation)
    (problem,) = told.value.problems
    assert problem.startswith(f"{file}: {kind}: ")
    assert words in problem
