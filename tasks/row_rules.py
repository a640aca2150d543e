"""The rules on single rows: what one shard shows of its rows, and those that it must give up."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import feather

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
Rule = tuple[int, str, str]
"""An expectation's place in its suite, its name, and the column that it is about."""


class Surveyed(Record):
    """What the user's rules found in a shard: for each, the rows that failed and those looked at."""

    own: tuple[tuple[int, int], ...]


def row_suite(config: PipelineConfig) -> tuple[Expectation, ...]:
    """Return the expectations on single rows that every dataset must meet.

    They see no more of a row than whether it has a text and of what length, whether that is blank,
    and its label: `cases_of` relies on it.
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


def rules_of(suite: tuple[Expectation, ...]) -> list[Rule]:
    """Return the suite's rules as quarantine names them."""
    return [
        (place, item.type, str(item.kwargs.get("column", "table")))
        for place, item in enumerate(suite)
    ]


def survey_shard(config: PipelineConfig, source: Path, shard: int, folder: Path) -> Surveyed:
    """Write what the other rules need of the shard's rows, and run the user's rules on them.

    `NNNNN.slim.arrow` has for each row its number, its text's fingerprint, its label, its length
    in characters and its case; `NNNNN.cases.arrow` a first row and the count of each case;
    `NNNNN.own.npz` the positions that failed each of the user's rules.
    """
    cases, slim, known = [], [], 0
    for part in read_parts(source, shard, [*COLUMNS, "fingerprint"], _ROWS_AT_ONCE):
        case, first, sizes = cases_of(part)
        found = part.select(COLUMNS).take(pa.array(first))
        cases.append(found.append_column("rows", pa.array(sizes)))
        slim.append(_slim(part, case + known))
        known += len(first)
    for tables, kind in ((cases, "cases"), (slim, "slim")):
        file = folder / f"{shard:05d}.{kind}.arrow"
        feather.write_feather(pa.concat_tables(tables), file, "uncompressed")
    own = own_rules(config, by_row=True)
    checked = check(read_shard(source, shard, COLUMNS).to_pandas(), own) if own else []
    np.savez(folder / f"{shard:05d}.own.npz", *(each.failed for each in checked))
    return Surveyed(own=tuple((len(each.failed), each.considered) for each in checked))


def cases_of(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's case [n_rows], and a first row and the size of each case [n_cases].

    Rows of one case have the same label and a text of the same length, or none; a blank text is a
    case of its own, because which characters are blank is for the expectation to say.
    """
    text = table["text"].combine_chunks()
    kind = _codes(pc.utf8_length(text))
    blank = np.flatnonzero(pc.fill_null(pc.utf8_is_space(text), False))
    kind[blank] = kind.max(initial=0) + 1 + _codes(text.take(pa.array(blank)))
    code = _codes(table["label"].combine_chunks()) * (kind.max(initial=0) + 1) + kind
    _, first, case, sizes = np.unique(
        code, return_index=True, return_inverse=True, return_counts=True
    )
    return case, first, sizes


def _codes(column: pa.Array) -> NDArray[np.int64]:
    """Return a number [n_rows] for each row's value, the same for the same; nothing is a value."""
    codes = column.dictionary_encode(null_encoding="encode").indices
    return np.array(codes.to_numpy(), dtype=np.int64)


def _slim(table: pa.Table, case: NDArray[np.int64]) -> pa.Table:
    return pa.table(
        {
            "row": table["row"],
            "text": table["fingerprint"],
            "label": table["label"],
            "characters": pc.utf8_length(table["text"]),
            "case": pa.array(case.astype(np.int32)),
        }
    )


def quarantine_shard(
    source: Path, shard: int, failures: dict[Rule, NDArray[np.int64]], folder: Path
) -> int:
    """Write the quarantine's lines of a shard, and return how many there are."""
    lines, start = [QUARANTINE.empty_table()], 0
    for part in read_parts(source, shard, COLUMNS, _ROWS_AT_ONCE):
        here = {
            rule: rows[(rows >= start) & (rows < start + part.num_rows)] - start
            for rule, rows in failures.items()
        }
        lines.append(quarantine_lines(part, here))
        start += part.num_rows
    table = pa.concat_tables(lines)
    pq.write_table(table, folder / f"{shard:05d}.quarantine.parquet")
    return int(table.num_rows)


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
