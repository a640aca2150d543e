"""A frozen test set: its rows are the test split, and nothing like them is trained on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import Row, as_made, config_of, many, rows_of, side_by_row, split_of

from configs.errors import ConfigError, DataError, SourceError, StepError
from configs.schema import PipelineConfig
from flows.freezing import freeze
from flows.summary import summary
from tasks.digests import file_digest
from tasks.ingest import SCHEMA
from tasks.leakage import count_leaks, digest_of
from tasks.manifests import SplitManifest
from tasks.near_duplicates import candidates_across
from tasks.splitting import SIDES

LONG = "the train leaves the station at noon and the lunch box holds rice salmon egg and ginger"
NEAR = f"{LONG}s"


def frozen_file(folder: Path, rows: list[Row], schema: pa.Schema = SCHEMA) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sms.test.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    return file


def config_with(file: Path, **split: Any) -> PipelineConfig:
    return config_of(frozen_test=f"{file}#sha256={file_digest(file)}", **split)


def rows_in_test(manifest: SplitManifest) -> list[Row]:
    rows: list[Row] = pq.read_table(manifest.path("test.parquet")).to_pylist()
    return rows


def test_the_rows_of_the_frozen_set_are_the_test_split_and_of_no_other_side(homes: Path) -> None:
    rows = many(300)
    before = split_of(homes / "before", rows, config_of())
    file = frozen_file(homes, rows_in_test(before))
    after = split_of(homes / "after", rows, config_with(file))
    assert rows_in_test(after) == rows_in_test(before)
    assert side_by_row(after) == side_by_row(before)
    assert after.leaked == {"exact": before.rows["test"], "near": 0, "group": 0}
    assert before.leaked == {}
    assert after.parents["frozen_test"] == file_digest(file)
    assert f"{before.rows['test']} left out as like the frozen test set" in summary(after)


def test_the_frozen_set_stays_when_the_data_grows_and_new_rows_go_to_training(homes: Path) -> None:
    before = split_of(homes / "before", many(300), config_of())
    file = frozen_file(homes, rows_in_test(before))
    after = split_of(homes / "after", many(600), config_with(file), shards=3)
    assert rows_in_test(after) == rows_in_test(before)
    assert sum(after.rows.values()) == 600 - after.leaked["near"]
    sides = side_by_row(after)
    grown = side_by_row(split_of(homes / "grown", many(600), config_of()))
    frozen = {row["row"] for row in rows_in_test(before)}
    for row, side in sides.items():
        apart = "train" if grown[row] == "test" else grown[row]
        assert side == ("test" if row in frozen else apart)


@pytest.mark.parametrize("shards", [1, 4])
def test_a_copy_a_near_copy_and_the_group_of_a_frozen_row_are_left_out_and_counted(
    homes: Path, shards: int
) -> None:
    rows = many(300)
    rows[10]["text"], rows[120]["text"] = LONG, NEAR
    rows[200]["group"] = rows[201]["group"] = "ann"
    rows[202]["group"] = "bob"
    frozen = rows_of([(LONG, "spam"), ("never seen", "ham")])
    frozen[1]["group"] = "ann"
    manifest = split_of(homes / "s", rows, config_with(frozen_file(homes, frozen)), shards)
    sides = side_by_row(manifest)
    assert manifest.leaked == {"exact": 1, "near": 1, "group": 2}
    left_out = {row["row"] for row in rows} - {r for r, side in sides.items() if side != "test"}
    # Row 2 of the frozen set is not row 2 of the data.
    assert left_out - {1, 2} == {11, 121, 201, 202}
    assert rows_in_test(manifest) == [{**row, "slices": None} for row in frozen]


def test_near_copies_stay_where_their_search_is_switched_off(homes: Path) -> None:
    rows = many(300)
    rows[120]["text"] = NEAR
    file = frozen_file(homes, rows_of([(LONG, "spam"), ("never seen", "ham")]))
    config = config_of({"near_jaccard": None}, frozen_test=f"{file}#sha256={file_digest(file)}")
    assert split_of(homes / "s", rows, config).leaked == {"exact": 0, "near": 0, "group": 0}


def test_a_frozen_set_that_another_one_replaces_makes_another_split(homes: Path) -> None:
    rows = many(300)
    first = frozen_file(homes / "a", rows_of([("one", "ham"), ("two", "spam")]))
    second = frozen_file(homes / "b", rows_of([("one", "ham"), ("three", "spam")]))
    made = [
        split_of(homes / f"of {n}", rows, config_with(f)) for n, f in enumerate((first, second))
    ]
    assert made[0].key != made[1].key


GOOD: list[Row] = rows_of([("one", "ham"), ("two", "spam")])
BAD: dict[str, tuple[list[Row], pa.Schema, str]] = {
    "other columns": (GOOD, pa.schema([("row", pa.int64())]), "its columns are not row int64"),
    "other types": (
        [{**row, "row": str(row["row"])} for row in GOOD],
        pa.schema([("row", pa.string()), *list(SCHEMA)[1:]]),
        "its columns are not row int64, text string",
    ),
    "an unknown label": (
        rows_of([("one", "ham"), ("two", "eggs")]),
        SCHEMA,
        "holds the label 'eggs', which is not one of data.labels",
    ),
    "no label": ([*GOOD, {"row": 3, "text": "x"}], SCHEMA, "holds a row without a text or a label"),
    "no text": ([*GOOD, {"row": 3, "label": "ham"}], SCHEMA, "holds a row without a text or"),
    "not as cleaning leaves it": (
        rows_of([("one  two", "ham"), ("&amp;", "spam"), ("fine", "spam")]),
        SCHEMA,
        "2 of its texts are not as data.cleaning and data.privacy leave them",
    ),
    "a label without rows": (GOOD[:1], SCHEMA, "no row of label 'spam' falls into the test split"),
    "no rows": ([], SCHEMA, "no row of label 'ham' falls into the test split"),
}


@pytest.mark.parametrize(("rows", "schema", "problem"), BAD.values(), ids=BAD)
def test_a_set_that_does_not_fit_is_refused(
    homes: Path, rows: list[Row], schema: pa.Schema, problem: str
) -> None:
    config = config_with(frozen_file(homes, rows, schema))
    with pytest.raises(DataError) as caught:
        split_of(homes / "s", many(300), config)
    assert problem in caught.value.problems[0]
    assert all("\n" not in told for told in caught.value.problems)


def test_a_label_that_the_set_lacks_is_cured_by_another_set(homes: Path) -> None:
    with pytest.raises(DataError, match="or freeze a larger test set"):
        split_of(homes / "s", many(300), config_with(frozen_file(homes, GOOD[:1])))


def test_a_file_that_changed_or_went_is_refused(homes: Path) -> None:
    file = frozen_file(homes, GOOD)
    config = config_with(file)
    frozen_file(homes, GOOD[::-1])
    with pytest.raises(SourceError, match=r"not the pinned .*; the content changed"):
        split_of(homes / "changed", many(300), config)
    file.unlink()
    with pytest.raises(SourceError, match=r"sms\.test\.parquet"):
        split_of(homes / "gone", many(300), config)
    file.write_text("text,label\n")
    with pytest.raises(DataError, match="is not a Parquet file; freeze a test set anew"):
        split_of(homes / "csv", many(300), config_with(file))


@pytest.mark.parametrize(
    "pin", ["sms.parquet", "sms.parquet#sha256=12", "#sha256=" + "a" * 64, "x#sha256=" + "A" * 64]
)
def test_a_set_that_is_not_pinned_is_no_frozen_one(pin: str) -> None:
    with pytest.raises(ValueError, match="String should match pattern"):
        config_of(frozen_test=pin)


# --- Leakage, counted on what was written ---------------------------------------------------------


def written(folder: Path, **sides: list[tuple[str, str]]) -> SplitManifest:
    """Return a split whose files hold those texts, whatever a split would have made of them."""
    folder.mkdir()
    for side in SIDES:
        table = pa.Table.from_pylist(rows_of(sides[side]), SCHEMA)
        pq.write_table(table, folder / f"{side}.parquet", row_group_size=2)
    return as_made(
        SplitManifest(
            key=folder.name, parents={}, folder=folder, files={}, rows={}, label_counts={}
        )
    )


TEST = [(LONG, "ham"), ("two", "spam")]


def test_rows_of_the_test_split_in_training_are_counted(homes: Path) -> None:
    train = [("one", "ham"), (LONG, "spam"), (NEAR, "ham"), ("five", "ham")]
    split = written(homes / "s", train=train, validation=[("two", "ham")], test=TEST)
    assert (report := count_leaks(config_of(), split)).exact == 2
    assert (report.near, report.near_jaccard, report.frozen) == (0, None, False)
    assert (report.rows, report.test_set) == (2, digest_of(pa.Table.from_pylist(rows_of(TEST))))
    assert summary(report) == "leakage: 2 test rows are in training, too"


def test_files_that_changed_after_the_split_are_not_counted(homes: Path) -> None:
    split = written(homes / "s", train=[("one", "ham")], validation=[("2", "ham")], test=TEST)
    pq.write_table(
        pa.Table.from_pylist(rows_of([("three", "ham")]), SCHEMA), split.path("test.parquet")
    )
    with pytest.raises(StepError, match=r"'test\.parquet' is not as the step made it"):
        count_leaks(config_of(), split)


def test_near_copies_of_a_frozen_set_are_counted_too(homes: Path) -> None:
    train = [("one", "ham"), (LONG, "spam"), (NEAR, "ham"), ("five", "ham")]
    split = written(homes / "s", train=train, validation=[("2", "ham")], test=TEST)
    report = count_leaks(config_with(frozen_file(homes, GOOD)), split)
    assert (report.exact, report.near, report.frozen) == (1, 1, True)


def test_a_split_that_the_stage_has_made_leaks_nothing(homes: Path) -> None:
    rows = many(300)
    rows[10]["text"], rows[120]["text"] = LONG, NEAR
    file = frozen_file(homes, rows_of([(LONG, "spam"), ("never seen", "ham")]))
    for name, config in {"plain": config_of(), "frozen": config_with(file)}.items():
        report = count_leaks(config, split_of(homes / name, rows, config))
        assert (report.exact, report.near) == (0, 0)


def test_a_test_set_is_known_by_its_texts_and_labels_alone() -> None:
    def known(*pairs: tuple[str, str], start: int = 1) -> str:
        rows = [{**row, "row": row["row"] + start} for row in rows_of(list(pairs))]
        return digest_of(pa.Table.from_pylist(rows, SCHEMA))

    one, two = ("one", "ham"), ("two", "spam")
    assert known(one, two) == known(two, one) == known(one, two, start=7)
    others = [
        known(one),
        known(one, two, two),
        known(one, ("two", "ham")),
        known(one, ("2", "spam")),
    ]
    assert len({known(one, two), *others}) == 5


def test_each_row_is_paired_with_the_known_rows_of_its_key() -> None:
    import numpy as np

    known, keys = np.array([5, 3, 5, 9], dtype=np.uint64), np.array([5, 4, 9], dtype=np.uint64)
    assert candidates_across(known, keys).tolist() == [[0, 4], [2, 4], [3, 6]]
    assert candidates_across(known[:0], keys).shape == (0, 2)
    assert candidates_across(known, keys[:0]).shape == (0, 2)
    many_known = np.full(100, 7, dtype=np.uint64)
    assert len(candidates_across(many_known, many_known[:2])) == 2 * 32


# --- Freezing -------------------------------------------------------------------------------------


def test_a_config_with_a_frozen_set_is_not_frozen_again(homes: Path) -> None:
    config = config_with(frozen_file(homes, GOOD))
    with pytest.raises(ConfigError, match=r"split\.frozen_test is set already; take it out"):
        freeze(config, homes / "sms.yaml", None, replace=True)


def test_a_frozen_set_is_not_written_over_by_chance(homes: Path) -> None:
    file = frozen_file(homes, GOOD)
    before = file.read_bytes()
    for output in (None, file):
        with pytest.raises(ConfigError, match="is there already; name another with --output"):
            freeze(config_of(), homes / "sms.yaml", output, replace=False)
    with pytest.raises(ConfigError, match="is there already"):
        freeze(config_of(), homes / "sms.yaml", homes, replace=True)
    assert file.read_bytes() == before
