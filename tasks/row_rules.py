"""The rules on single rows: what one shard shows of its rows, and those that it must give up."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from configs.schema import Expectation, PipelineConfig
from tasks.expectations import check, sees_the_table
from tasks.manifests import Record
from tasks.shards import read_parts, read_shard

COLUMNS = ["row", "text", "label"]
QUARANTINE = pa.schema(
    [
        ("row", pa.int64()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
    ]
)
_ROWS_AT_ONCE = 50_000  # what is made of them takes several times their memory
Failure = tuple[str, str, NDArray[np.int64]]
"""An expectation's name, the column that it is about, and the ascending positions that fail it."""


class Judged(Record):
    """What the user's rules found in a shard: for each, the rows that failed and those looked at."""

    own: tuple[tuple[int, int], ...]


def row_suite(config: PipelineConfig) -> tuple[Expectation, ...]:
    """Return the expectations on single rows that every dataset must meet.

    They see no more of a row than whether it has a text and of what length, whether that is blank,
    and its label: `tasks.row_cases` relies on it.
    """
    limits = config.validation
    lengths = {"min_value": limits.min_characters, "max_value": limits.max_characters}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("expect_column_values_to_not_be_null", "text", {}),
        ("expect_column_values_to_match_regex", "text", {"regex": r"\S"}),
        ("expect_column_value_lengths_to_be_between", "text", lengths),
        ("expect_column_values_to_not_be_null", "label", {}),
        ("expect_column_values_to_be_in_set", "label", {"value_set": [*config.data.label_names]}),
    ]
    return tuple(Expectation(type=rule, kwargs={"column": at, **more}) for rule, at, more in asked)


def own_rules(config: PipelineConfig, *, by_row: bool) -> tuple[Expectation, ...]:
    """Return the user's expectations that a shard can be judged by, or those that it cannot."""
    return tuple(e for e in config.validation.expectations if sees_the_table(e) is not by_row)


def failure_of(item: Expectation, positions: NDArray[np.int64]) -> Failure:
    """Return the rows that failed an expectation as quarantine names them."""
    return item.type, str(item.kwargs.get("column", "table")), positions


def judge_shard(config: PipelineConfig, source: Path, shard: int, folder: Path) -> Judged:
    """Run the user's rules on the shard's rows.

    `NNNNN.own.npz` has the positions that failed each of them.
    """
    frame = read_shard(source, shard, COLUMNS).to_pandas()
    checked = check(frame, own_rules(config, by_row=True))
    np.savez(folder / f"{shard:05d}.own.npz", *(each.failed for each in checked))
    return Judged(own=tuple((len(each.failed), each.considered) for each in checked))


def quarantine_shard(source: Path, shard: int, failures: list[Failure], folder: Path) -> int:
    """Write the quarantine's lines of a shard, and return how many there are."""
    lines, start = [QUARANTINE.empty_table()], 0
    for part in read_parts(source, shard, COLUMNS, _ROWS_AT_ONCE):
        here = [
            (rule, column, within(rows, start, start + part.num_rows))
            for rule, column, rows in failures
        ]
        lines.append(quarantine_lines(part, here))
        start += part.num_rows
    table = pa.concat_tables(lines)
    pq.write_table(table, folder / f"{shard:05d}.quarantine.parquet")
    return int(table.num_rows)


def within(rows: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    """Return the ascending positions that are within a part of a table, counted from its start."""
    low, high = np.searchsorted(rows, [start, end])
    return rows[low:high] - start


def quarantine_lines(table: pa.Table, failures: list[Failure]) -> pa.Table:
    """Return the quarantine's lines of a table, sorted by row and rule."""
    parts = [
        table.take(pa.array(positions))
        .append_column("rule", pa.array([rule] * len(positions), pa.string()))
        .append_column("column", pa.array([column] * len(positions), pa.string()))
        .select(QUARANTINE.names)
        for rule, column, positions in failures
        if len(positions)
    ]
    lines = pa.concat_tables([QUARANTINE.empty_table(), *parts])
    return lines.sort_by([("row", "ascending"), ("rule", "ascending")])
