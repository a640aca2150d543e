"""The door to Great Expectations: a suite of expectations, run on a frame of rows."""

import logging
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from configs.errors import ConfigError
from configs.schema import Expectation
from tasks.suites import build_expectation

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition

_TAKES_ROWS_BY_THE_TABLE = (
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing",
    "expect_column_value_z_scores_to_be_less_than",
)
_PLACE = "ekiben_place"
_one_at_a_time = threading.Lock()
"""Great Expectations keeps one context a process, which two threads must not change at once."""


@dataclass(frozen=True)
class Checked:
    """What one expectation said of a frame.

    `failed` holds the positions [n_failed] of the rows that failed it; `considered` counts the rows
    that it looked at, which leaves out those with nothing in its column.
    """

    passed: bool
    failed: NDArray[np.int64]
    considered: int
    observed: str


def takes_rows(item: Expectation) -> bool:
    """Return whether the expectation judges each row, so that those which fail can be taken out."""
    from great_expectations.expectations import expectation as base

    by_row = (
        base.ColumnMapExpectation,
        base.ColumnPairMapExpectation,
        base.MulticolumnMapExpectation,
    )
    return isinstance(build_expectation(item), by_row)


def sees_the_table(item: Expectation) -> bool:
    """Return whether the expectation can only be judged with all rows at hand."""
    return not takes_rows(item) or item.type in _TAKES_ROWS_BY_THE_TABLE


def check(frame: pd.DataFrame, suite: tuple[Expectation, ...]) -> list[Checked]:
    """Return what each expectation of the suite says of the frame, in the suite's order.

    Raises:
        ConfigError: if an expectation cannot be evaluated.
    """
    if not suite:
        return []
    import great_expectations as gx

    expectations = [build_expectation(item) for item in suite]
    for place, expectation in enumerate(expectations):
        expectation.meta = {**(expectation.meta or {}), _PLACE: place}
    with _one_at_a_time:
        batch = _frames().get_batch({"dataframe": frame.reset_index(drop=True)})
        result: Any = batch.validate(
            gx.ExpectationSuite(name="ekiben", expectations=expectations),
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
    # The library groups its results by column, so each expectation carries its place in the suite.
    answers: list[Any] = sorted(result.results, key=_place)
    return [_checked(item, len(frame)) for item in answers]


def _place(item: Any) -> int:
    return int(item.expectation_config.meta[_PLACE])


@cache
def _frames() -> "BatchDefinition[Any]":
    """Return what makes a batch of a frame, in a context that is kept in memory alone."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.config.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("all")


def _checked(item: Any, rows: int) -> Checked:
    """Return one result without any value of the rows."""
    if item.exception_info and (raised := _raised(item.exception_info)):
        raise ConfigError(
            f"validation.expectations: {item.expectation_config.type}: cannot be evaluated "
            f"({raised}); correct its kwargs"
        )
    observed = item.result.get("observed_value")
    return Checked(
        passed=bool(item.success),
        failed=np.array(item.result.get("unexpected_index_list") or [], dtype=np.int64),
        considered=rows - int(item.result.get("missing_count") or 0),
        observed=f"{observed:.6g}" if isinstance(observed, int | float) else "",
    )


def _raised(information: dict[str, Any]) -> str:
    """Return the message of an expectation that raised instead of answering, else nothing."""
    entries = [information] if "raised_exception" in information else information.values()
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "unknown").splitlines()[0]
    return ""
