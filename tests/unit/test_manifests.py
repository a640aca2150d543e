"""Manifests: frozen, small, the same wherever their folder lies, and chained by their parents."""

import json
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks import manifests
from tasks.manifests import DatasetManifest, Figure, Manifest, Record, SplitManifest

TYPES = [
    kind for kind in vars(manifests).values() if isinstance(kind, type) and issubclass(kind, Record)
]


def dataset(**changes: Any) -> DatasetManifest:
    """Return a manifest of three rows, changed as asked."""
    fields: dict[str, Any] = {
        "key": "k",
        "parents": {"source": "s"},
        "folder": Path("/home/ann/steps/ingest/k"),
        "files": {"rows.parquet": "00"},
        "source": "sms.csv",
        "source_digest": "s",
        "rows": 3,
        "changed_by_cleaning": 0,
        "label_counts": {"ham": 2, "spam": 1},
    }
    return DatasetManifest(**{**fields, **changes})


def split_of(data: DatasetManifest) -> SplitManifest:
    """Return a manifest whose parent is the dataset."""
    return SplitManifest(
        key="l",
        parents={"dataset": data.digest},
        folder=Path("split"),
        files={},
        rows={"train": 3},
        label_counts={},
    )


@pytest.mark.parametrize("kind", TYPES)
def test_a_manifest_is_frozen_and_refuses_fields_it_does_not_know(kind: type[Record]) -> None:
    assert kind.model_config["frozen"] is True
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"no_such_field": 1})


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        dataset().rows = 4  # type: ignore[misc]  # the point of the test


def test_the_digest_does_not_depend_on_where_the_folder_lies() -> None:
    assert dataset().digest == dataset(folder=Path("/mnt/elsewhere")).digest


@pytest.mark.parametrize(
    "change",
    [
        {"key": "l"},
        {"parents": {"source": "t"}},
        {"files": {"rows.parquet": "01"}},
        {"files": {"rows.parquet": "00", "more.parquet": "00"}},
        {"rows": 4},
        {"label_counts": {"ham": 1, "spam": 2}},
    ],
)
def test_the_digest_changes_with_all_that_was_made(change: dict[str, Any]) -> None:
    assert dataset(**change).digest != dataset().digest


def test_a_change_of_a_grandparent_reaches_every_manifest_after_it() -> None:
    first, second = split_of(dataset()), split_of(dataset(parents={"source": "t"}))
    assert first.parents["dataset"] == dataset().digest
    assert first.digest != second.digest


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(dataset(source="caf\xe9").model_dump(mode="json")), encoding="utf-8")
    assert DatasetManifest.read(file) == dataset(source="caf\xe9")
    assert DatasetManifest.read(file).digest == dataset(source="caf\xe9").digest


def test_a_figure_that_is_not_a_number_is_written_and_read(tmp_path: Path) -> None:
    figure = Figure(value=nan, n=1, method="bootstrap")
    read = Figure.model_validate_json(json.dumps(figure.model_dump(mode="json")))
    assert read.value is not None
    assert isnan(read.value)


def test_a_file_of_a_step_lies_in_its_folder() -> None:
    assert dataset().path("rows.parquet") == Path("/home/ann/steps/ingest/k/rows.parquet")


def test_every_stage_s_manifest_names_its_parents() -> None:
    stages = [kind for kind in TYPES if issubclass(kind, Manifest)]
    assert len(stages) > 7
    assert all(kind.model_fields["parents"].is_required() for kind in stages)
