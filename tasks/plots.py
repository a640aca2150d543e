"""Plots of a run as SVG text, to stand inside the report and in Prefect."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.manifests import CheckpointManifest, EvaluationReport, GateDecision
from tasks.waterfall import DataStep

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

INK, ACCENT, SECOND, FAINT = "#1d2530", "#b5442e", "#2d6a78", "#c9ced6"


def waterfall(steps: Sequence[DataStep]) -> "Canvas":
    """Draw the rows left after each step, what it took, and how many texts or labels it changed."""
    canvas, axes = _axes(7.0, 0.8 + 0.26 * len(steps))
    places = range(len(steps))
    axes.barh(places, [step.after for step in steps], color=FAINT, label="left")
    taken = [step.taken for step in steps]
    axes.barh(places, taken, left=[step.after for step in steps], color=ACCENT, label="taken")
    changed = [step.changed for step in steps]
    axes.barh(places, changed, height=0.25, color=SECOND, label="changed")
    axes.set_yticks(places, [step.step for step in steps])
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def label_balance(counts: Mapping[str, Mapping[str, int]]) -> "Canvas":
    """Draw the rows of each label in each split as grouped bars."""
    canvas, axes = _axes(5.6, 2.6)
    labels = list(next(iter(counts.values())))
    colours = (INK, SECOND, ACCENT)
    width = 0.8 / len(counts)
    for number, (side, by_label) in enumerate(counts.items()):
        places = [i + number * width for i in range(len(labels))]
        axes.bar(places, [by_label[x] for x in labels], width, label=side, color=colours[number])
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(labels))], labels)
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    return canvas


def text_lengths(histogram: Mapping[str, int]) -> "Canvas":
    """Draw how many texts have which length in characters."""
    canvas, axes = _axes(5.6, 2.6)
    axes.bar(list(histogram), list(histogram.values()), color=SECOND)
    axes.set_xlabel("characters in a text")
    axes.set_ylabel("rows")
    return canvas


def training_curve(checkpoint: CheckpointManifest) -> "Canvas":
    """Draw the training loss by update, and the validation loss and macro F1 by epoch."""
    canvas, axes = _axes(5.6, 2.6)
    axes.plot(
        [point.step for point in checkpoint.curve],
        [point.loss for point in checkpoint.curve],
        color=FAINT,
        label="training loss",
    )
    steps = [epoch.step for epoch in checkpoint.epochs]
    axes.plot(
        steps,
        [epoch.loss for epoch in checkpoint.epochs],
        "o-",
        color=ACCENT,
        label="validation loss",
    )
    axes.plot(
        steps,
        [epoch.f1 for epoch in checkpoint.epochs],
        "s-",
        color=SECOND,
        label="validation macro F1",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("updates")
    axes.legend(frameon=False)
    return canvas


def confusion(report: EvaluationReport) -> "Canvas":
    """Draw the confusion matrix [n_labels, n_labels], actual label down, given label across."""
    side = min(1.6 + 0.7 * len(report.labels), 10.0)
    canvas, axes = _axes(side + 1.2, side)
    rows = [[cell / max(sum(row), 1) for cell in row] for row in report.confusion]
    axes.imshow(rows, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for down, row in enumerate(report.confusion):
        for across, cell in enumerate(row):
            colour = "white" if rows[down][across] > 0.5 else INK
            axes.text(across, down, str(cell), ha="center", va="center", color=colour)
    places = range(len(report.labels))
    axes.set_xticks(places, report.labels, rotation=0 if len(report.labels) < 6 else 90)
    axes.set_yticks(places, report.labels)
    axes.set_xlabel("label given")
    axes.set_ylabel("label in the data")
    return canvas


def limits(decision: GateDecision, report: EvaluationReport) -> "Canvas":
    """Draw each gated figure with its interval, its limit, and the baseline's figure."""
    measured = [
        rule
        for rule in decision.rules
        if rule.figure is not None
        and rule.figure.value is not None
        and rule.figure.method != "counted"  # it is no share, and would not fit beside them
    ]
    canvas, axes = _axes(7.0, 0.8 + 0.42 * max(len(measured), 1))
    names: list[str] = []
    told = f"model, {decision.level} interval"
    for line, rule in enumerate(measured):
        figure = rule.figure
        assert figure is not None and figure.value is not None
        names.append(rule.metric)
        axes.plot([figure.low, figure.high], [line, line], color=INK, linewidth=2)
        axes.plot(figure.value, line, "o", color=INK, label=_once(told, line))
        axes.plot(
            rule.limit,
            line,
            "|",
            color=ACCENT,
            markersize=18,
            markeredgewidth=2,
            label=_once("limit", line),
        )
        other = report.baseline.get(rule.metric)
        if other is not None and other.value is not None:
            axes.plot(
                other.value,
                line,
                "D",
                color=SECOND,
                fillstyle="none",
                label=_once("baseline", line),
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def _once(label: str, line: int) -> str | None:
    return label if line == 0 else None


def _axes(width: float, height: float) -> "tuple[Canvas, Any]":
    """Return a figure of so many inches and its axes, drawn without a screen or global state."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    return canvas, axes


def as_svg(canvas: "Canvas", *, opaque: bool = False) -> str:
    """Return the figure as an `<svg>` element, with white behind it where it may stand on black.

    Text stays text, escaped, for the browser to draw: it has letters that matplotlib's font lacks.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        canvas.savefig(buffer, format="svg", metadata={"Date": None}, transparent=not opaque)
    text = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
