"""Stage validate: a Great Expectations suite built from the config; unfit rows are quarantined.

An expectation on single rows takes the rows that fail it into `quarantine.parquet`; one on the whole
table (row count, label balance, distinct texts) is judged on all shards together, and fails the run.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import Expectation, PipelineConfig
from tasks.expectations import check, takes_rows
from tasks.manifests import DatasetManifest, RuleOutcome, ValidationReport
from tasks.row_cases import RowCases, read_cases
from tasks.row_rules import (
    QUARANTINE,
    Failure,
    failure_of,
    judge_shard,
    own_rules,
    quarantine_shard,
    row_suite,
    within,
)
from tasks.shards import join_shards, shard_ends, side_by_side
from tasks.steps import run_step, write_text
from tasks.suites import build_expectation, export_suite, with_suite
from tasks.table_rules import check_table, frame_for, outcome_of, table_suite

Failures = list[Failure]
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
    cases = read_cases(source)
    outcomes, failures = _check_cases(config, cases)
    for more_outcomes, more_failures in (
        _judge_shards(config, source, folder),
        _check_table_by_row(config, source),
    ):
        outcomes += more_outcomes
        failures += more_failures
    fit = _quarantine(source, failures, folder)
    valid = int(fit.sum())
    sizes = np.bincount(cases.of[fit], minlength=cases.first.num_rows)
    counts = _label_counts(config, cases, sizes)
    outcomes += check_table(config, source, fit, counts)
    suite = row_suite(config) + table_suite(config) + config.validation.expectations
    write_text(folder / "suite.json", export_suite(config.name, map(build_expectation, suite)))
    problems = _problems(config, dataset, len(fit), len(fit) - valid, outcomes)
    return {
        "passed": not problems,
        "problems": problems,
        "rows": len(fit),
        "rows_quarantined": len(fit) - valid,
        "rows_valid": valid,
        "rules": tuple(outcomes),
        "label_counts": counts,
        "length_histogram": _length_histogram(cases, sizes),
    }


def _check_cases(config: PipelineConfig, cases: RowCases) -> tuple[list[RuleOutcome], Failures]:
    """Check the first row of each case; what is said of it holds for the whole case."""
    suite, sizes = row_suite(config), np.bincount(cases.of)
    outcomes, failures = [], []
    for item, found in zip(suite, check(cases.first.to_pandas(), suite), strict=True):
        considered = sizes[cases.first[item.kwargs["column"]].is_valid()].sum()
        outcomes.append(_merged(item, [(int(sizes[found.failed].sum()), int(considered))]))
        if len(found.failed):
            fails = np.isin(np.arange(len(sizes)), found.failed)
            failures.append(failure_of(item, np.flatnonzero(fails[cases.of])))
    return outcomes, failures


def _judge_shards(
    config: PipelineConfig, source: Path, folder: Path
) -> tuple[list[RuleOutcome], Failures]:
    """Run the user's rules that a shard can be judged by on each of them."""
    own = own_rules(config, by_row=True)
    if not own:
        return [], []
    ends = shard_ends(source)
    calls = [
        {"config": config, "source": source, "shard": shard, "folder": folder}
        for shard in range(len(ends))
    ]
    judged = side_by_side(judge_shard, calls, "validate")
    failed: list[list[NDArray[np.int64]]] = [[] for _ in own]
    for file, start in zip(sorted(folder.glob("*.own.npz")), [0, *ends[:-1]], strict=True):
        with np.load(file) as found:
            for place, rows in enumerate(found.values()):
                failed[place].append(start + np.sort(rows))
        file.unlink()
    outcomes = [
        _merged(item, [shard.own[place] for shard in judged]) for place, item in enumerate(own)
    ]
    rules = zip(own, map(np.concatenate, failed), strict=True)
    return outcomes, [failure_of(item, rows) for item, rows in rules]


def _merged(item: Expectation, shards: list[tuple[int, int]]) -> RuleOutcome:
    """Return the outcome of a rule on single rows over all shards; `mostly` as the library reads it."""
    failed = sum(failed for failed, _ in shards)
    considered = sum(considered for _, considered in shards)
    right = (considered - failed) / considered if considered else 1.0
    return outcome_of(item, passed=right >= item.kwargs.get("mostly", 1.0), rows_failed=failed)


def _check_table_by_row(config: PipelineConfig, source: Path) -> tuple[list[RuleOutcome], Failures]:
    """Run the user's rules that take rows but need all of them."""
    outcomes, failures = [], []
    for item in own_rules(config, by_row=False):
        if takes_rows(item):
            every = np.ones(shard_ends(source)[-1], dtype=bool)
            (found,) = check(frame_for(item, source, every), (item,))
            rows = np.sort(found.failed)
            outcomes.append(outcome_of(item, passed=found.passed, rows_failed=len(rows)))
            failures.append(failure_of(item, rows))
    return outcomes, failures


def _quarantine(source: Path, failures: Failures, folder: Path) -> NDArray[np.bool_]:
    """Write `quarantine.parquet`, and return which rows [n_rows] are not in it."""
    ends = shard_ends(source)
    fit = np.ones(ends[-1], dtype=bool)
    for _, _, positions in failures:
        fit[positions] = False
    calls = []
    for shard, (start, end) in enumerate(pairwise([0, *ends])):
        here = [(rule, column, within(rows, start, end)) for rule, column, rows in failures]
        if not fit[start:end].all():
            calls.append({"source": source, "shard": shard, "failures": here, "folder": folder})
    side_by_side(quarantine_shard, calls, "quarantine")
    parts = sorted(folder.glob("*.quarantine.parquet"))
    join_shards(folder / "quarantine.parquet", QUARANTINE, parts)
    return fit


def _label_counts(
    config: PipelineConfig, cases: RowCases, sizes: NDArray[np.int64]
) -> dict[str, int]:
    labels = np.array(cases.first["label"].to_pylist(), dtype=object)
    return {name: int(sizes[labels == name].sum()) for name in config.data.label_names}


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


def _length_histogram(cases: RowCases, sizes: NDArray[np.int64]) -> dict[str, int]:
    """Count the texts by length in characters, in doubling bins from 0 to 19 upwards."""
    lengths = pc.fill_null(pc.utf8_length(cases.first["text"]), 0).to_numpy()
    counts, _ = np.histogram(lengths, bins=_LENGTH_BINS, weights=sizes)
    names = [
        f"{low}-{high - 1}" if high < _LENGTH_BINS[-1] else f"{low}+"
        for low, high in pairwise(_LENGTH_BINS)
    ]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


validate = task(name="validate", task_run_name="validate", cache_policy=NO_CACHE)(validate_dataset)
