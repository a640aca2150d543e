"""Stage validate: a Great Expectations suite built from the config; unfit rows are quarantined.

Each shard is surveyed by itself. An expectation on single rows takes the rows that fail it into
`quarantine.parquet`; one on the whole table (row count, label balance, distinct texts) is judged on
what all shards show together, and fails the run.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pyarrow import feather

from configs.errors import DataError
from configs.schema import Expectation, PipelineConfig
from tasks.expectations import check, takes_rows
from tasks.manifests import DatasetManifest, RuleOutcome, ValidationReport
from tasks.row_rules import (
    COLUMNS,
    QUARANTINE,
    Rule,
    cases_of,
    own_rules,
    quarantine_shard,
    row_suite,
    rules_of,
    survey_shard,
)
from tasks.shards import count_shards, join_shards, side_by_side
from tasks.steps import run_step, write_text
from tasks.suites import build_expectation, export_suite, with_suite
from tasks.table_rules import check_table, frame_for, outcome_of, table_suite

Failures = dict[Rule, NDArray[np.int64]]
_LENGTH_BINS = (0, 20, 40, 80, 160, 320, 640, 1280, 1_000_000_000)


def validate_dataset(config: PipelineConfig, dataset: DatasetManifest) -> ValidationReport:
    """Return what the expectations found; the caller decides with `require_valid`.

    `quarantine.parquet` has one line for each row and rule it failed: row, rule, column, text,
    label. All other rows of the dataset go on. `suite.json` holds the expectations as Great
    Expectations writes them, for use there.

    Raises:
        ConfigError: if an expectation of the config does not exist or refuses its arguments.
    """
    validation = with_suite(config.validation)
    config = config.model_copy(update={"validation": validation})

    def produce(folder: Path) -> dict[str, Any]:
        return _validate(config, dataset, folder)

    return run_step(
        "validate",
        ValidationReport,
        section={
            "validation": validation.model_dump(mode="json"),
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


def quarantined_rows(report: ValidationReport) -> NDArray[np.int64]:
    """Return the numbers [n_quarantined] of the rows that do not go on, in ascending order."""
    column = pq.read_table(report.path("quarantine.parquet"), columns=["row"])["row"]
    return np.unique(column.to_numpy())


def _validate(config: PipelineConfig, dataset: DatasetManifest, folder: Path) -> dict[str, Any]:
    source = dataset.path("rows.parquet")
    calls = [
        {"config": config, "source": source, "shard": shard, "folder": folder}
        for shard in range(count_shards(source))
    ]
    surveyed = side_by_side(survey_shard, calls, "validate")
    slim = [
        pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in _files(folder, "slim")
    ]
    outcomes, failures = _check_cases(config, folder, slim)
    own = own_rules(config, by_row=True)
    for place, item in enumerate(own):
        outcomes.append(_merged(item, [shard.own[place] for shard in surveyed]))
    for shard, file in enumerate(sorted(folder.glob("*.own.npz"))):
        with np.load(file) as failed:
            for (place, *rule), rows in zip(rules_of(own), failed.values(), strict=True):
                failures[shard][(len(row_suite(config)) + place, rule[0], rule[1])] = rows
        file.unlink()
    outcomes += _check_table_by_row(config, source, slim, failures)
    taken = _quarantine(source, slim, failures, folder)
    valid = pa.concat_tables([t.filter(pa.array(~out)) for t, out in zip(slim, taken, strict=True)])
    counts = _label_counts(config, valid)
    outcomes += check_table(config, source, valid, counts)
    rows = sum(table.num_rows for table in slim)
    histogram = _length_histogram(valid["characters"].to_numpy())
    for file in (*_files(folder, "slim"), *_files(folder, "cases")):
        file.unlink()
    suite = row_suite(config) + table_suite(config) + config.validation.expectations
    write_text(folder / "suite.json", export_suite(config.name, map(build_expectation, suite)))
    problems = _problems(config, dataset, rows, rows - valid.num_rows, outcomes)
    return {
        "passed": not problems,
        "problems": problems,
        "rows": rows,
        "rows_quarantined": rows - valid.num_rows,
        "rows_valid": valid.num_rows,
        "rules": tuple(outcomes),
        "label_counts": counts,
        "length_histogram": histogram,
    }


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"*.{kind}.arrow"))


def _check_cases(
    config: PipelineConfig, folder: Path, slim: list[pa.Table]
) -> tuple[list[RuleOutcome], list[Failures]]:
    """Check a first row of each case of each shard; what is said of it holds for the whole case."""
    tables = [feather.read_table(file) for file in _files(folder, "cases")]
    cases, suite = pa.concat_tables(tables), row_suite(config)
    alike, first, _ = cases_of(cases)  # shards share most of their cases
    sizes = cases["rows"].to_numpy()
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    outcomes = []
    failures: list[Failures] = [{} for _ in tables]
    checked = check(cases.select(COLUMNS).take(pa.array(first)).to_pandas(), suite)
    for rule, item, found in zip(rules_of(suite), suite, checked, strict=True):
        fails = np.isin(alike, found.failed)
        considered = sizes[~pc.is_null(cases[item.kwargs["column"]]).to_numpy()].sum()
        outcomes.append(_merged(item, [(int(sizes[fails].sum()), int(considered))]))
        for shard, part in enumerate(np.split(fails, ends)):
            if part.any():
                failures[shard][rule] = np.flatnonzero(part[slim[shard]["case"].to_numpy()])
    return outcomes, failures


def _merged(item: Expectation, shards: list[tuple[int, int]]) -> RuleOutcome:
    """Return the outcome of a rule on single rows over all shards; `mostly` as the library reads it."""
    failed = sum(failed for failed, _ in shards)
    considered = sum(considered for _, considered in shards)
    right = (considered - failed) / considered if considered else 1.0
    return outcome_of(item, passed=right >= item.kwargs.get("mostly", 1.0), rows_failed=failed)


def _check_table_by_row(
    config: PipelineConfig, source: Path, slim: list[pa.Table], failures: list[Failures]
) -> list[RuleOutcome]:
    """Run the user's rules that take rows but need all of them; add the rows they take."""
    suite = tuple(e for e in own_rules(config, by_row=False) if takes_rows(e))
    outcomes = []
    ends = np.cumsum([table.num_rows for table in slim])
    for (place, *rule), item in zip(rules_of(suite), suite, strict=True):
        (found,) = check(frame_for(item, source, pa.concat_tables(slim)), (item,))
        outcomes.append(outcome_of(item, passed=found.passed, rows_failed=len(found.failed)))
        failed = np.sort(found.failed)
        parts = np.split(failed, np.searchsorted(failed, ends[:-1]))
        for shard, (part, end) in enumerate(zip(parts, ends, strict=True)):
            if len(part):
                start = end - slim[shard].num_rows
                failures[shard][(-1 - place, rule[0], rule[1])] = part - start
    return outcomes


def _quarantine(
    source: Path, slim: list[pa.Table], failures: list[Failures], folder: Path
) -> list[NDArray[np.bool_]]:
    """Write `quarantine.parquet`, and return for each shard which rows [n_rows] are in it."""
    taken = [np.zeros(table.num_rows, dtype=bool) for table in slim]
    for out, failed in zip(taken, failures, strict=True):
        for positions in failed.values():
            out[positions] = True
    calls = [
        {"source": source, "shard": shard, "failures": failed, "folder": folder}
        for shard, failed in enumerate(failures)
        if failed
    ]
    side_by_side(quarantine_shard, calls, "quarantine")
    parts = sorted(folder.glob("*.quarantine.parquet"))
    join_shards(folder / "quarantine.parquet", QUARANTINE, parts)
    return taken


def _label_counts(config: PipelineConfig, valid: pa.Table) -> dict[str, int]:
    counted = pc.value_counts(valid["label"]).to_pylist()
    found = {entry["values"]: int(entry["counts"]) for entry in counted}
    return {name: found.get(name, 0) for name in config.data.label_names}


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


def _length_histogram(lengths: NDArray[np.int32]) -> dict[str, int]:
    """Count the texts by length in characters, in doubling bins from 0 to 19 upwards."""
    counts, _ = np.histogram(lengths, bins=_LENGTH_BINS)
    names = [
        f"{low}-{high - 1}" if high < _LENGTH_BINS[-1] else f"{low}+"
        for low, high in pairwise(_LENGTH_BINS)
    ]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


validate = task(name="validate", task_run_name="validate", cache_policy=NO_CACHE)(validate_dataset)
