"""The rules on the table as a whole, judged on the narrow columns of all shards together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from configs.errors import ConfigError
from configs.schema import Expectation, PipelineConfig
from tasks.expectations import check, takes_rows
from tasks.manifests import RuleOutcome
from tasks.row_rules import COLUMNS, own_rules
from tasks.shards import read_shard, shard_ends

_EQUALITY_ALONE = (
    "expect_column_proportion_of_unique_values_to_be_between",
    "expect_column_unique_value_count_to_be_between",
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
    "expect_table_",
)
_MOST_ROWS_WITH_TEXT = 2_000_000


def table_suite(config: PipelineConfig) -> tuple[Expectation, ...]:
    """Return the expectations on the table as a whole that every dataset must meet."""
    limits = config.validation
    distinct = round(1.0 - limits.max_duplicate_fraction, 12)  # 1 - 0.7 is above 0.3
    return (
        Expectation(
            type="expect_table_columns_to_match_set",
            kwargs={"column_set": ["row", "text", "label"], "exact_match": True},
        ),
        Expectation(
            type="expect_table_row_count_to_be_between", kwargs={"min_value": limits.min_rows}
        ),
        Expectation(
            type="expect_column_proportion_of_unique_values_to_be_between",
            kwargs={"column": "text", "min_value": distinct},
        ),
    )


def _label_suite(config: PipelineConfig) -> tuple[Expectation, ...]:
    smallest = max(config.validation.min_label_fraction, 1e-9)
    kwargs = {"column": "label_share", "min_value": smallest}
    return (Expectation(type="expect_column_min_to_be_between", kwargs=kwargs),)


def outcome_of(
    item: Expectation, *, passed: bool, rows_failed: int = 0, observed: str = ""
) -> RuleOutcome:
    """Return what the report tells of an expectation."""
    kwargs = {key: value for key, value in item.kwargs.items() if key != "column"}
    return RuleOutcome(
        rule=item.type,
        column=str(item.kwargs.get("column", "table")),
        asked=", ".join(f"{key}={value!r}" for key, value in kwargs.items()),
        passed=passed,
        rows_failed=rows_failed,
        observed=observed,
        takes_rows=takes_rows(item),
    )


def check_table(
    config: PipelineConfig, source: Path, fit: NDArray[np.bool_], counts: dict[str, int]
) -> list[RuleOutcome]:
    """Return the outcomes of the rules on the whole table of the rows that are fit [n_rows]."""
    own = tuple(e for e in own_rules(config, by_row=False) if not takes_rows(e))
    columns, *others = table_suite(config)
    none = pd.DataFrame(columns=COLUMNS)
    found = list(zip((columns,), check(none, (columns,)), strict=True))
    slim_suite = (*others, *(e for e in own if not _needs_texts(e)))
    frame = _slim_frame(source, fit, COLUMNS if own else ["text"])
    found += zip(slim_suite, check(frame, slim_suite), strict=True)
    for item in own:
        if _needs_texts(item):
            found += zip((item,), check(frame_for(item, source, fit), (item,)), strict=True)
    total = max(int(fit.sum()), 1)
    shares = pd.DataFrame({"label_share": [count / total for count in counts.values()]})
    found += zip(_label_suite(config), check(shares, _label_suite(config)), strict=True)
    return [outcome_of(item, passed=each.passed, observed=each.observed) for item, each in found]


def _needs_texts(item: Expectation) -> bool:
    columns = {item.kwargs.get(key) for key in ("column", "column_A", "column_B")}
    return "text" in columns and not item.type.startswith(_EQUALITY_ALONE)


def _slim_frame(source: Path, fit: NDArray[np.bool_], columns: list[str] = COLUMNS) -> pd.DataFrame:
    """Return the rows with fingerprints for texts, which are as good where equality counts."""
    stored = ["fingerprint" if name == "text" else name for name in columns]
    slim = _fit_rows(source, fit, stored).rename_columns(columns)
    types = {pa.uint64(): pd.UInt64Dtype()} if slim["text"].null_count else {}
    return pd.DataFrame(slim.to_pandas(types_mapper=types.get))


def _fit_rows(source: Path, fit: NDArray[np.bool_], columns: list[str]) -> pa.Table:
    parts = np.split(fit, shard_ends(source)[:-1])
    return pa.concat_tables(
        read_shard(source, shard, columns).select(columns).filter(pa.array(part))
        for shard, part in enumerate(parts)
    )


def frame_for(item: Expectation, source: Path, fit: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the frame that a rule on the whole table is judged on, with texts only if it must."""
    if not _needs_texts(item):
        return _slim_frame(source, fit)
    rows = int(fit.sum())
    if rows > _MOST_ROWS_WITH_TEXT:
        raise ConfigError(
            f"validation.expectations: {item.type}: needs all {rows:,} texts in memory at once, "
            f"above the {_MOST_ROWS_WITH_TEXT:,} that are allowed; use one on single rows"
        )
    return pd.DataFrame(_fit_rows(source, fit, COLUMNS).to_pandas())
