"""Plots keep their words as text, in any script, escaped."""

import pytest
from evaluations import report_of

from tasks.manifests import ReliabilityBin, Selection
from tasks.plots import as_svg, coverage, label_balance, reliability, waterfall
from tasks.waterfall import DataStep


def test_labels_of_any_script_stand_as_escaped_text() -> None:
    svg = as_svg(label_balance({"train": {"\u597d\u8bc4": 3, "<script>": 1, "a&b": 2}}))
    assert ">\u597d\u8bc4<" in svg
    assert "&lt;script&gt;" in svg
    assert "a&amp;b" in svg
    assert "<script" not in svg


def test_a_plot_refers_to_nothing_outside_and_has_no_date() -> None:
    svg = as_svg(waterfall([DataStep("validate", 10, 8, 0, "quarantined")]))
    assert svg.startswith("<svg")
    assert ">validate<" in svg
    assert "<metadata" not in svg
    assert 'href="http' not in svg


def test_a_plot_has_a_background_where_asked() -> None:
    canvas = waterfall([DataStep("validate", 10, 8, 0, "quarantined")])
    assert "fill: #ffffff" in as_svg(canvas, opaque=True)
    assert "fill: #ffffff" not in as_svg(canvas)


BINS = (
    ReliabilityBin(rows=41, confidence=30.0, right=25),
    ReliabilityBin(rows=42, confidence=41.9, right=42),
)
CURVE = tuple(
    Selection(threshold=at, answered=answered, right=right)
    for at, answered, right in ((0.97, 42, 42), (0.0, 83, 67))
)


def test_reliability_shows_the_rows_of_every_bin_before_and_after() -> None:
    bins = {"reliability_before": BINS[:1], "reliability": BINS}
    report = report_of().model_copy(update=bins)
    svg = as_svg(reliability(report))
    assert svg.count(">41<") == 2
    assert svg.count(">42<") == 1
    assert ">not calibrated<" in svg
    assert ">calibrated<" in svg


@pytest.mark.parametrize(
    ("chosen", "marked"),
    [(CURVE[0], 1), (Selection(threshold=None, answered=0, right=0), 0), (None, 0)],
)
def test_the_threshold_is_marked_on_the_curve_where_anything_is_sure(
    chosen: Selection | None, marked: int
) -> None:
    report = report_of().model_copy(update={"selections": CURVE, "abstention": chosen})
    assert as_svg(coverage(report)).count("sure from 0.9700 on<") == marked
