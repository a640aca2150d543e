"""Plots keep their words as text, in any script, escaped."""

import html
import re

import numpy as np
import pytest
from evaluations import report_of

from tasks.manifests import Figure, ReliabilityBin, Selection
from tasks.plots import (
    as_svg,
    coverage,
    label_balance,
    precision_recall,
    reliability,
    slices,
    waterfall,
)
from tasks.predictions import Predictions
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


def test_of_many_slices_the_largest_thirty_are_drawn_in_their_own_order() -> None:
    figures = {
        f"source={number:02d}": Figure(
            value=0.9, low=0.8, high=0.95, n=100 + number * 7 % 50, method="Wilson"
        )
        for number in range(50)
    }
    svg = as_svg(slices(figures, figures["source=00"]))
    drawn = re.findall(r"source=(\d\d) \((\d+)\)", re.sub(r"<!--.*?-->", "", svg))
    assert len(drawn) == 30
    assert sorted(int(rows) for _, rows in drawn) == list(range(120, 150))
    assert [name for name, _ in drawn] == sorted(name for name, _ in drawn)


def test_a_slice_without_rows_is_not_drawn_and_none_at_all_is_no_error() -> None:
    whole = Figure(value=0.9, low=0.8, high=0.95, n=100, method="Wilson")
    none = Figure(value=None, n=0, method="undefined")
    assert "length=0-49" not in as_svg(slices({"length=0-49": none}, whole))


@pytest.mark.parametrize("name", ["$x^2$ <b>", "_$\\frac$", "好评"])
def test_a_name_is_drawn_as_it_is_written(name: str) -> None:
    figure = Figure(value=0.9, low=0.8, high=0.95, n=100, method="Wilson")
    predictions = Predictions(
        labels=(name, "other"),
        rows=np.arange(2),
        actual=np.arange(2),
        predicted=np.arange(2),
        probabilities=np.eye(2),
    )
    for canvas in (slices({name: figure}, figure), precision_recall(predictions)):
        assert f">{html.escape(name, quote=False)} (" in as_svg(canvas)


def test_a_curve_of_many_rows_is_drawn_with_few_points() -> None:
    draw = np.random.default_rng(0)
    actual = draw.integers(0, 2, 20_000)
    scores = draw.random(20_000)
    predictions = Predictions(
        labels=("a", "b"),
        rows=np.arange(20_000),
        actual=actual,
        predicted=actual,
        probabilities=np.stack([scores, 1 - scores], axis=1),
    )
    assert len(as_svg(precision_recall(predictions))) < 100_000
