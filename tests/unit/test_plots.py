"""Plots keep their words as text, in any script, escaped."""

from tasks.plots import as_svg, label_balance, waterfall
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
