"""The first rows that were taken are told by number for every rule and every reason."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import examples
from tasks.examples import left_out_by_reason, quarantined_by_rule
from tasks.manifests import DuplicateReport, ValidationReport


def at(folder: Path, manifest: type[Any]) -> Any:
    """Return a manifest of which only the folder counts."""
    return manifest.model_construct(folder=folder)


def test_a_rule_that_took_many_rows_hides_no_other(tmp_path: Path) -> None:
    rules = ["blank"] * 200_000 + ["blank", "label"]
    rows = [*range(1, 200_001), 200_001, 200_001]
    columns = ["text"] * 200_001 + ["label"]
    table = pa.table({"row": rows, "rule": rules, "column": columns})
    pq.write_table(table, tmp_path / "quarantine.parquet")

    assert quarantined_by_rule(at(tmp_path, ValidationReport)) == {
        ("blank", "text"): "1, 2, 3, 4, 5 …",
        ("label", "label"): "200001",
    }


def test_a_row_left_out_is_told_with_what_it_is_a_copy_of(tmp_path: Path) -> None:
    table = pa.table(
        {
            "row": [3, 4, 7, 8, 9],
            "reason": ["duplicate", "near_conflict", "near_conflict", "sample", "duplicate"],
            "of": [1, None, 4, None, 1],
        }
    )
    pq.write_table(table, tmp_path / "left_out.parquet")

    assert left_out_by_reason(at(tmp_path, DuplicateReport)) == {
        "duplicate": "3 (of 1), 9 (of 1)",
        "near conflict": "4, 7 (of 4)",
    }


def test_no_more_rows_are_listed_than_are_shown(tmp_path: Path) -> None:
    shown = examples._MOST_SHOWN
    for count in (shown, shown + 1):
        rows = list(range(count))
        table = pa.table({"row": rows, "rule": ["r"] * count, "column": ["c"] * count})
        pq.write_table(table, tmp_path / "quarantine.parquet")
        (told,) = quarantined_by_rule(at(tmp_path, ValidationReport)).values()
        assert told.count(",") == shown - 1
        assert told.endswith("…") is (count > shown)


def test_where_nothing_was_taken_nothing_is_told(tmp_path: Path) -> None:
    empty = pa.table({"row": [], "rule": [], "column": []}, schema=pa.schema(
        [("row", pa.int64()), ("rule", pa.string()), ("column", pa.string())]
    ))  # fmt: skip
    pq.write_table(empty, tmp_path / "quarantine.parquet")

    assert quarantined_by_rule(at(tmp_path, ValidationReport)) == {}
    assert left_out_by_reason(None) == {}
