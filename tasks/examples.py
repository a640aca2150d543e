"""The first rows that a rule or a reason took, by number in the source and without their text."""

from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.manifests import DuplicateReport, ValidationReport

_MOST_SHOWN = 5


def quarantined_by_rule(report: ValidationReport) -> dict[tuple[str, str], str]:
    """Return the first rows that each rule took, by the rule and its column."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for line in _first_lines(report.path("quarantine.parquet"), ["rule", "column"], ["row"]):
        found[line["rule"], line["column"]].append(str(line["row"]))
    return {key: _listed(rows) for key, rows in found.items()}


def left_out_by_reason(report: DuplicateReport | None) -> dict[str, str]:
    """Return the first rows left out for each reason, each with the row that it is a copy of."""
    if report is None:
        return {}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in _first_lines(report.path("left_out.parquet"), ["reason"], ["row", "of"]):
        of = "" if line["of"] is None else f" (of {line['of']})"
        found[line["reason"]].append(f"{line['row']}{of}")
    found.pop("sample", None)  # drawn by content: nothing is amiss with them
    return {reason.replace("_", " "): _listed(rows) for reason, rows in found.items()}


def _listed(rows: list[str]) -> str:
    return ", ".join(rows[:_MOST_SHOWN]) + " …" * (len(rows) > _MOST_SHOWN)


def _first_lines(file: Path, keys: list[str], others: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the first lines of each key, no fewer than one more than are shown.

    A batch is in memory at a time, and few of its lines as objects, since there may be millions.
    """
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(columns=[*keys, *others]):
            table = pa.Table.from_batches([batch])
            for key in table.group_by(keys, use_threads=False).aggregate([]).to_pylist():
                masks = [pc.equal(table[name], value) for name, value in key.items()]
                lines = table.filter(reduce(pc.and_, masks))
                yield from lines.slice(0, _MOST_SHOWN + 1).to_pylist()
