"""Tables as ingest and validation leave them, for the tests of the stages after."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema import PipelineConfig
from tasks.auditing import find_label_errors
from tasks.digests import file_digests
from tasks.duplicates import find_duplicates
from tasks.ingest import SCHEMA
from tasks.manifests import DatasetManifest, DuplicateReport, SplitManifest, ValidationReport
from tasks.row_rules import QUARANTINE
from tasks.shards import write_shards
from tasks.splitting import SIDES, split_rows
from tasks.steps import MANIFEST, M, write_json

Row = dict[str, Any]


def as_made(manifest: M) -> M:
    """Return the manifest with the digests of the files in its folder, written beside them."""
    whole = manifest.model_copy(update={"files": file_digests(manifest.folder)})
    write_json(manifest.folder / MANIFEST, whole.model_dump(mode="json"))
    return whole


def rows_of(pairs: list[tuple[str, str]]) -> list[Row]:
    """Return rows of (text, label), numbered from 1."""
    return [
        {"row": number, "text": text, "label": label, "group": None}
        for number, (text, label) in enumerate(pairs, start=1)
    ]


def many(rows: int, spam_every: int = 5) -> list[Row]:
    """Return rows with texts that are not alike, every so manieth of them spam."""
    return rows_of([(f"{n:x} {n * n:b}", "ham" if n % spam_every else "spam") for n in range(rows)])


def config_of(duplicates: dict[str, Any] | None = None, **split: Any) -> PipelineConfig:
    """Return a config of two labels with those sections."""
    return PipelineConfig.model_validate(
        {
            "name": "sms",
            "data": {"uri": "db://ann:opensesame@host/sms", "labels": ["ham", "spam"]},
            "gate": {"accuracy": {"min": 0.9}},
            "duplicates": duplicates or {},
            "split": split,
            "label_errors": {"action": "none"},
        }
    )


def deduplicated(
    folder: Path, rows: list[Row], config: PipelineConfig, *, shards: int = 1, unfit: int = 0
) -> tuple[DatasetManifest, DuplicateReport]:
    """Write rows as the stages before leave them, the first `unfit` of them in quarantine."""
    folder.mkdir(parents=True)
    size = -(-len(rows) // shards)
    tables = [
        pa.Table.from_pylist(rows[at : at + size], SCHEMA) for at in range(0, len(rows), size)
    ]
    write_shards(folder / "rows.parquet", SCHEMA, tables)
    lines = [{"row": row["row"], "rule": "r", "column": "text"} for row in rows[:unfit]]
    pq.write_table(pa.Table.from_pylist(lines, QUARANTINE), folder / "quarantine.parquet")
    known = dict.fromkeys(("ham", "spam"), 0)
    step: Row = {"key": folder.name, "parents": {}, "folder": folder, "files": {}}
    dataset = DatasetManifest(
        **step, source="sms", source_digest="0", rows=len(rows), changed_by_cleaning=0,
        label_counts=known,
    )  # fmt: skip
    report = ValidationReport(
        **step, passed=True, problems=(), rows=len(rows), rows_quarantined=unfit,
        rows_valid=len(rows) - unfit, rules=(), label_counts=known, length_histogram={},
    )  # fmt: skip
    return dataset, find_duplicates(config, dataset, report)


def split_of(
    folder: Path, rows: list[Row], config: PipelineConfig, shards: int = 1
) -> SplitManifest:
    """Return the manifest of the split of rows."""
    dataset, found = deduplicated(folder, rows, config, shards=shards)
    labels = find_label_errors(config, dataset, found)
    return split_rows(config, dataset, found, labels)


def side_by_row(manifest: SplitManifest) -> dict[int, str]:
    """Return the side of every row that is on one."""
    return {
        row: side
        for side in SIDES
        for row in pq.read_table(manifest.path(f"{side}.parquet"))["row"].to_pylist()
    }
