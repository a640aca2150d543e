"""The figure of how often a gate releases, by how much better than its limit a model truly is."""

from typing import Any

import numpy as np

from benchmarks.rates import POINTS
from tasks.plots import ACCENT, FAINT, INK, SECOND, as_svg

JUDGES = {"value": ("judged on the measured value", ACCENT), "interval": ("Ekiben", SECOND)}
ROWS = {False: "limits on a figure", True: "gains over another model"}


def draw_rates(sets: dict[str, Any]) -> str:
    """Return as SVG the releases by true difference, a panel for each number of test rows.

    A line is the mean of all figures, models and sets, with the middle nine tenths of them about
    it. White stands behind it, so that it can be read on a dark page too.
    """
    from matplotlib.figure import Figure

    sizes = list(next(iter(next(iter(sets.values())).values())))
    canvas = Figure(figsize=(1.9 * len(sizes), 4.2), layout="constrained")
    panels = canvas.subplots(len(ROWS), len(sizes), sharex=True, sharey=True, squeeze=False)
    for line, (paired, what) in zip(panels, ROWS.items(), strict=True):
        for axes, rows in zip(line, sizes, strict=True):
            _panel(axes, _passed(sets, rows, paired=paired))
        line[0].set_ylabel(f"{what}:\nshare released", fontsize=8, color=INK)
    for axes, rows in zip(panels[0], sizes, strict=True):
        axes.set_title(f"{int(rows):,} test rows", fontsize=9, color=INK)
    canvas.supxlabel("points by which the model is truly better than the limit", fontsize=8)
    handles = panels[0][0].get_lines()[: len(JUDGES)]
    canvas.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return as_svg(canvas, opaque=True)


def _passed(sets: dict[str, Any], rows: str, *, paired: bool) -> dict[str, Any]:
    """Return for each judge the shares released [n_figures, n_points]."""
    told = [
        each
        for models in sets.values()
        for of, sizes in models.items()
        if (" over " in of) == paired and "calibration error" not in sizes[rows]
        for each in sizes[rows].values()
    ]
    return {judge: np.array([each[judge] for each in told]) for judge in JUDGES}


def _panel(axes: Any, passed: dict[str, Any]) -> None:
    for judge, (label, colour) in JUDGES.items():
        shares = passed[judge]
        low, high = np.quantile(shares, [0.05, 0.95], axis=0)
        axes.plot(POINTS, shares.mean(axis=0), color=colour, label=label)
        axes.fill_between(POINTS, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0.05, color=INK, linewidth=0.6, linestyle=":")
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.set_xticks([-5, 0, 5])
    axes.set_yticks([0.05, 0.5, 1], ["5%", "50%", "100%"])
