"""What each step took adds up, from the rows read to those that go on."""

from itertools import pairwise
from pathlib import Path

from tables import config_of, deduplicated, rows_of

from tasks.auditing import find_label_errors
from tasks.manifests import ValidationReport
from tasks.waterfall import waterfall

ROWS = rows_of(
    [("bad", "ham"), ("one", "ham"), ("one", "ham"), ("two", "ham"), ("two", "spam")]
    + [(f"text {n:x} {n * n:b}", "ham" if n % 3 else "spam") for n in range(20)]
)
STEP = {"key": "validate", "parents": {}, "files": {}}


def validated(folder: Path) -> ValidationReport:
    return ValidationReport(
        **STEP, folder=folder, passed=True, problems=(), rows=len(ROWS), rows_quarantined=1,
        rows_valid=len(ROWS) - 1, rules=(), label_counts={}, length_histogram={},
    )  # fmt: skip


def test_the_rows_after_a_step_are_those_before_the_next(tmp_path: Path) -> None:
    config = config_of(sample_rows=15)
    dataset, duplicates = deduplicated(tmp_path / "x", ROWS, config, unfit=1)
    dataset = dataset.model_copy(
        update={"changed_by": {"unescape_html": 3, "pinyin": 0}, "masked": {"email": 2}}
    )
    labels = find_label_errors(config, dataset, duplicates)
    steps = waterfall(dataset, validated(tmp_path), duplicates, labels)
    assert [(step.step, step.taken, step.changed) for step in steps] == [
        ("clean: unescape_html", 0, 3),
        ("clean: pinyin", 0, 0),
        ("mask: email", 0, 2),
        ("validate", 1, 0),
        ("duplicates", 1, 0),
        ("conflicts", 2, 0),
        ("sample", 6, 0),
    ]
    assert steps[0].before == len(ROWS)
    assert all(one.after == other.before for one, other in pairwise(steps))
    assert steps[-1].after == duplicates.rows_kept == 15
    assert "1 in all" in steps[5].told


def test_a_majority_changes_labels_and_takes_copies(tmp_path: Path) -> None:
    rows = rows_of([("one", "ham"), ("one", "spam"), ("one", "ham"), ("two", "spam")])
    config = config_of({"conflicts": "majority"})
    dataset, duplicates = deduplicated(tmp_path / "x", rows, config)
    report = validated(tmp_path).model_copy(update={"rows_quarantined": 0})
    steps = waterfall(dataset, report, duplicates)
    assert [(s.step, s.taken) for s in steps] == [
        ("validate", 0), ("duplicates", 1), ("conflicts", 0), ("majority", 1),
    ]  # fmt: skip
    assert steps[-1].after == duplicates.rows_kept == 2


def test_data_that_is_not_valid_stops_at_validation(tmp_path: Path) -> None:
    dataset, _ = deduplicated(tmp_path / "x", ROWS, config_of())
    (step,) = waterfall(dataset, validated(tmp_path))
    assert (step.before, step.after) == (25, 24)
