"""Stage validate: a Great Expectations suite built from the config; unfit rows are quarantined.

An expectation on single rows takes the rows that fail it into `quarantine.parquet`; one on the
whole table (row count, label balance, distinct texts) fails the run.
"""

import difflib
import logging
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import ConfigError, DataError
from configs.schema import Expectation, PipelineConfig
from tasks.manifests import DatasetManifest, RuleOutcome, ValidationReport
from tasks.progress import report_progress
from tasks.steps import run_step

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation as GxExpectation

QUARANTINE = pa.schema(
    [
        ("row", pa.int64()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
    ]
)
_LENGTH_BINS = (0, 20, 40, 80, 160, 320, 640, 1280, 1_000_000_000)


def validate_dataset(config: PipelineConfig, dataset: DatasetManifest) -> ValidationReport:
    """Return what the expectations found; the caller decides with `require_valid`.

    `valid.parquet` has the columns of the dataset, `quarantine.parquet` one line for each row and
    rule it failed: row, rule, column, text, label.

    Raises:
        ConfigError: if an expectation of the config does not exist or refuses its arguments.
    """
    own = [_expectation(item) for item in config.validation.expectations]

    def produce(folder: Path) -> dict[str, Any]:
        return _validate(config, dataset, own, folder)

    return run_step(
        "validate",
        ValidationReport,
        section={
            "validation": config.validation.model_dump(mode="json"),
            "labels": config.data.label_names,
        },
        parents={"dataset": dataset.digest},
        produce=produce,
    )


def require_valid(report: ValidationReport) -> None:
    """Let a valid dataset pass.

    Raises:
        DataError: with every table rule that failed, one a line.
    """
    if not report.passed:
        raise DataError(report.problems)


def _validate(
    config: PipelineConfig, dataset: DatasetManifest, own: "list[GxExpectation]", folder: Path
) -> dict[str, Any]:
    frame = pq.read_table(dataset.path("rows.parquet")).to_pandas()
    report_progress("validate", 0, len(frame), "rows checked")
    row_rules = _row_rules(config) + [rule for rule in own if _takes_rows(rule)]
    outcomes, failures = _run(frame, row_rules)
    taken = sorted({row for rows in failures.values() for row in rows})
    valid = frame[~frame["row"].isin(taken)]
    table_rules = _table_rules(config) + [rule for rule in own if not _takes_rows(rule)]
    outcomes += _run(valid, table_rules)[0]
    outcomes += _run(_label_table(config, valid), _label_rules(config))[0]
    problems = _problems(config, dataset, len(frame), len(taken), outcomes)
    _write_quarantine(frame, failures, folder / "quarantine.parquet")
    schema = pq.read_schema(dataset.path("rows.parquet"))
    pq.write_table(
        pa.Table.from_pandas(valid, schema=schema, preserve_index=False), folder / "valid.parquet"
    )
    report_progress("validate", len(frame), len(frame), "rows checked")
    return {
        "passed": not problems,
        "problems": problems,
        "rows": len(frame),
        "rows_quarantined": len(taken),
        "rows_valid": len(valid),
        "rules": tuple(outcomes),
        "label_counts": {
            name: int((valid["label"] == name).sum()) for name in config.data.label_names
        },
        "length_histogram": _length_histogram(valid["text"]),
    }


def _row_rules(config: PipelineConfig) -> "list[GxExpectation]":
    from great_expectations import expectations as gxe

    limits = config.validation
    return [
        gxe.ExpectColumnValuesToNotBeNull(column="text"),
        gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"\S"),
        gxe.ExpectColumnValueLengthsToBeBetween(
            column="text", min_value=limits.min_characters, max_value=limits.max_characters
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(config.data.label_names)),
    ]


def _table_rules(config: PipelineConfig) -> "list[GxExpectation]":
    from great_expectations import expectations as gxe

    limits = config.validation
    return [
        gxe.ExpectTableColumnsToMatchSet(column_set=["row", "text", "label"], exact_match=True),
        gxe.ExpectTableRowCountToBeBetween(min_value=limits.min_rows),
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
            column="text",
            min_value=round(1.0 - limits.max_duplicate_fraction, 12),  # 1 - 0.7 is above 0.3
        ),
    ]


def _label_table(config: PipelineConfig, valid: pd.DataFrame) -> pd.DataFrame:
    """Return one line a declared label with its share of the valid rows."""
    names = list(config.data.label_names)
    counts = valid["label"].value_counts().reindex(names, fill_value=0)
    return pd.DataFrame({"label": names, "label_share": counts.to_numpy() / max(len(valid), 1)})


def _label_rules(config: PipelineConfig) -> "list[GxExpectation]":
    from great_expectations import expectations as gxe

    smallest = max(config.validation.min_label_fraction, 1e-9)
    return [gxe.ExpectColumnMinToBeBetween(column="label_share", min_value=smallest)]


def _expectation(item: Expectation) -> "GxExpectation":
    """Return the Great Expectations object that a line of the config names."""
    from great_expectations import expectations as gxe

    known = {_snake(name): getattr(gxe, name) for name in dir(gxe) if name.startswith("Expect")}
    where = f"validation.expectations: {item.type}"
    if item.type not in known:
        near = difflib.get_close_matches(item.type, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "take a name from its gallery"
        raise ConfigError(f"{where}: Great Expectations has none of this name; {hint}")
    for key in ("column", "column_A", "column_B"):
        column = item.kwargs.get(key, "text")
        if column not in ("row", "text", "label"):
            raise ConfigError(
                f"{where}: {key} {column!r} is not one of row, text, label, which every dataset "
                "has after ingest; name one of them"
            )
    try:
        expectation: GxExpectation = known[item.type](**item.kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {_one_line(error)}; correct its kwargs") from None
    return expectation


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _one_line(error: Exception) -> str:
    listed = getattr(error, "errors", None)
    if listed is None:
        return str(error).splitlines()[0]
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in listed())


def _takes_rows(expectation: "GxExpectation") -> bool:
    from great_expectations.expectations import expectation as base

    by_row = (
        base.ColumnMapExpectation,
        base.ColumnPairMapExpectation,
        base.MulticolumnMapExpectation,
    )
    return isinstance(expectation, by_row)


def _run(
    frame: pd.DataFrame, expectations: "list[GxExpectation]"
) -> tuple[list[RuleOutcome], dict[tuple[str, str], list[int]]]:
    """Return the outcome of each expectation, and the failed row numbers by (rule, column)."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="ekiben", expectations=expectations))
    definition = gx.ValidationDefinition(name="ekiben", data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": frame},
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["row"] if "row" in frame else [],
            "return_unexpected_index_query": False,
        },
    )
    outcomes = []
    failures: dict[tuple[str, str], list[int]] = {}
    for item in result.results:
        outcome, rows = _outcome(item)
        outcomes.append(outcome)
        if rows:
            failures.setdefault((outcome.rule, outcome.column), []).extend(rows)
    return outcomes, failures


def _outcome(item: Any) -> tuple[RuleOutcome, list[int]]:
    """Return one result as an outcome without any value of the data, and the rows that failed."""
    rule = item.expectation_config.type
    kwargs = {k: v for k, v in item.expectation_config.kwargs.items() if k != "batch_id"}
    column = kwargs.pop("column", None) or "table"
    failed = item.result.get("unexpected_index_list") or []
    if item.exception_info and (raised := _raised(item.exception_info)):
        raise ConfigError(
            f"validation.expectations: {rule}: cannot be evaluated ({raised}); correct its kwargs"
        )
    observed = item.result.get("observed_value")
    return RuleOutcome(
        rule=rule,
        column=str(column),
        asked=", ".join(f"{key}={value!r}" for key, value in kwargs.items()),
        passed=bool(item.success),
        rows_failed=int(item.result.get("unexpected_count") or 0),
        observed=f"{observed:.6g}" if isinstance(observed, int | float) else "",
        takes_rows="unexpected_index_list" in item.result,
    ), [int(entry["row"]) for entry in failed]


def _raised(information: dict[str, Any]) -> str:
    """Return the message of an expectation that raised instead of answering, else nothing."""
    entries = [information] if "raised_exception" in information else information.values()
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "unknown").splitlines()[0]
    return ""


def _problems(
    config: PipelineConfig,
    dataset: DatasetManifest,
    rows: int,
    taken: int,
    outcomes: list[RuleOutcome],
) -> tuple[str, ...]:
    """Say every reason for which the table as a whole is not fit to train on."""
    where, limits = dataset.source, config.validation
    if taken == rows:
        cure = "check data.text_column, data.labels and validation against quarantine.parquet"
        return (f"{where}: none of its {rows} rows is valid; {cure}",)
    problems = []
    if taken / rows > limits.max_quarantine_fraction:  # 0.29 * 100 would be below 29
        worst = max((o for o in outcomes if o.takes_rows), key=lambda o: o.rows_failed)
        problems.append(
            f"{where}: {taken} of {rows} rows ({taken / rows:.1%}) are quarantined, above "
            f"validation.max_quarantine_fraction={limits.max_quarantine_fraction}; most by "
            f"{worst.rule} on {worst.column} ({worst.rows_failed} rows): mend the rows or the config"
        )
    problems += [
        f"{where}: {_in_words(outcome, config)}"
        for outcome in outcomes
        if not outcome.passed and not outcome.takes_rows
    ]
    return tuple(problems)


def _in_words(outcome: RuleOutcome, config: PipelineConfig) -> str:
    limits = config.validation
    rows_rule = ("expect_table_row_count_to_be_between", f"min_value={limits.min_rows}")
    if (outcome.rule, outcome.asked) == rows_rule:
        return (
            f"{outcome.observed or 0} valid rows, expected at least validation.min_rows="
            f"{limits.min_rows}; add rows or lower it"
        )
    if outcome.column == "label_share":
        return (
            f"the rarest label has a share of {outcome.observed or 0} of the valid rows, expected "
            f"at least validation.min_label_fraction={limits.min_label_fraction} for each of "
            f"{list(config.data.label_names)}; add rows of it or drop the label"
        )
    if outcome.rule == "expect_column_proportion_of_unique_values_to_be_between":
        return (
            f"the share of distinct texts is {outcome.observed or 0}, so more than validation."
            f"max_duplicate_fraction={limits.max_duplicate_fraction} are copies; raise it if meant"
        )
    return (
        f"{outcome.rule} on {outcome.column} ({outcome.asked}) failed, observed "
        f"{outcome.observed or 'no value'}; mend the data or the expectation"
    )


def _write_quarantine(
    frame: pd.DataFrame, failures: dict[tuple[str, str], list[int]], file: Path
) -> None:
    by_row = frame.set_index("row")
    lines = [
        {
            "row": row,
            "rule": rule,
            "column": column,
            "text": _or_none(by_row.at[row, "text"]),
            "label": _or_none(by_row.at[row, "label"]),
        }
        for (rule, column), rows in failures.items()
        for row in rows
    ]
    lines.sort(key=lambda line: (line["row"], line["rule"]))
    pq.write_table(pa.Table.from_pylist(lines, schema=QUARANTINE), file)


def _or_none(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _length_histogram(texts: "pd.Series[str]") -> dict[str, int]:
    """Count the texts by length in characters, in doubling bins from 0 to 19 upwards."""
    lengths = texts.str.len()
    bins = pairwise(_LENGTH_BINS)
    return {
        (f"{low}-{high - 1}" if high < _LENGTH_BINS[-1] else f"{low}+"): int(
            ((lengths >= low) & (lengths < high)).sum()
        )
        for low, high in bins
    }


validate = task(name="validate", task_run_name="validate", cache_policy=NO_CACHE)(validate_dataset)
