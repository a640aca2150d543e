"""The rules on single rows: one shard checked by Great Expectations, and what it leaves behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from configs.schema import Expectation, PipelineConfig
from tasks.expectations import Checked, check, sees_the_table
from tasks.manifests import Record
from tasks.shards import read_shard

QUARANTINE = pa.schema(
    [
        ("row", pa.int64()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
    ]
)
SLIM = pa.schema(
    [
        ("row", pa.int64()),
        ("text", pa.int64()),
        ("label", pa.string()),
        ("characters", pa.int32()),
        ("taken", pa.bool_()),
    ]
)
"""What the table rules need of each row; `text` is a 64-bit hash, as good as it for equality."""


class ShardOutcome(Record):
    """What a shard's row rules found: for each, the rows that failed and those it looked at."""

    rules: tuple[tuple[int, int], ...]


def row_suite(config: PipelineConfig) -> tuple[Expectation, ...]:
    """Return the expectations on single rows that every dataset must meet.

    They see no more of a row than whether it has a text and of what length, whether that is blank,
    and its label: `_cases` relies on it.
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


def check_shard(config: PipelineConfig, source: Path, shard: int, folder: Path) -> ShardOutcome:
    """Run the rules on single rows; write the shard's quarantine and what the table rules need."""
    table = read_shard(source, shard, ["row", "text", "label"])
    suite = row_suite(config)
    own = own_rules(config, by_row=True)
    checked = _check_cases(table, suite) + (check(table.to_pandas(), own) if own else [])
    failures = {
        (number, item.type, item.kwargs.get("column", "table")): outcome.failed
        for number, (item, outcome) in enumerate(zip(suite + own, checked, strict=True))
    }
    taken = np.zeros(table.num_rows, dtype=bool)
    for positions in failures.values():
        taken[positions] = True
    pq.write_table(_slim(table, taken), folder / f"{shard:05d}.slim.parquet")
    pq.write_table(quarantine_lines(table, failures), folder / f"{shard:05d}.quarantine.parquet")
    return ShardOutcome(rules=tuple((len(each.failed), each.considered) for each in checked))


def _check_cases(table: pa.Table, suite: tuple[Expectation, ...]) -> list[Checked]:
    """Check one row of each case, and extend what is said of it to all the rows of that case."""
    case, first, sizes = _cases(table)
    found: list[Checked] = []
    for outcome in check(table.take(pa.array(first)).to_pandas(), suite):
        fails = np.zeros(len(first), dtype=bool)
        fails[outcome.failed] = True
        column = suite[len(found)].kwargs["column"]
        missing = pc.is_null(table[column].take(pa.array(first))).to_numpy(zero_copy_only=False)
        found.append(
            Checked(
                passed=outcome.passed,
                failed=np.flatnonzero(fails[case]),
                considered=int(sizes[~missing].sum()),
                observed="",
            )
        )
    return found


def _cases(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's case [n_rows], and a first row and the size of each case [n_cases].

    Rows of one case have the same label and a text of the same length, or none; a blank text is a
    case of its own, because which characters are blank is for the expectation to say.
    """
    text = table["text"].combine_chunks()
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0)
    columns = (
        pc.fill_null(pc.utf8_length(text), -1),
        pc.if_else(pc.fill_null(blank, False), text, None),
        table["label"].combine_chunks(),
    )
    code = np.zeros(table.num_rows, dtype=np.int64)
    for column in columns:
        codes = column.dictionary_encode(null_encoding="encode").indices.to_numpy()
        code = code * (int(codes.max(initial=0)) + 1) + codes
    _, first, case, sizes = np.unique(
        code, return_index=True, return_inverse=True, return_counts=True
    )
    return case, first, sizes


def _slim(table: pa.Table, taken: NDArray[np.bool_]) -> pa.Table:
    text = table["text"].combine_chunks()
    hashes = pd.util.hash_array(text.to_numpy(zero_copy_only=False)).view(np.int64)
    return pa.table(
        {
            "row": table["row"],
            "text": pc.if_else(pc.is_null(text), None, pa.array(hashes)),
            "label": table["label"],
            "characters": pc.cast(pc.utf8_length(text), pa.int32()),
            "taken": pa.array(taken),
        },
        schema=SLIM,
    )


def quarantine_lines(
    table: pa.Table, failures: dict[tuple[int, str, str], NDArray[np.int64]]
) -> pa.Table:
    """Return the quarantine's lines of a table, sorted by row and rule."""
    parts = [
        table.take(pa.array(positions))
        .append_column("rule", pa.array([rule] * len(positions), pa.string()))
        .append_column("column", pa.array([column] * len(positions), pa.string()))
        .select(QUARANTINE.names)
        for (_, rule, column), positions in failures.items()
        if len(positions)
    ]
    lines = pa.concat_tables([QUARANTINE.empty_table(), *parts])
    return lines.sort_by([("row", "ascending"), ("rule", "ascending")])
