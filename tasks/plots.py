"""Plots of a run as SVG text, to stand inside the report and in Prefect."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.estimates import Z95, Share
from tasks.manifests import CheckpointManifest, EvaluationReport, Figure, GateDecision, RuleVerdict
from tasks.predictions import Predictions
from tasks.waterfall import DataStep

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

INK, ACCENT, SECOND, FAINT = "#1d2530", "#b5442e", "#2d6a78", "#c9ced6"
MOST_LINES = 30
_POINTS = 400  # of a curve, however many the rows are


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


def training_pace(checkpoint: CheckpointManifest) -> "Canvas":
    """Draw the tokens a second and the learning rate by update."""
    canvas, axes = _axes(5.6, 2.6)
    steps = [point.step for point in checkpoint.curve]
    axes.plot(
        steps,
        [point.tokens_per_second for point in checkpoint.curve],
        color=SECOND,
        label="tokens a second",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("updates")
    rates = axes.twinx()
    rates.plot(
        steps,
        [point.learning_rate for point in checkpoint.curve],
        color=ACCENT,
        label="learning rate (right)",
    )
    rates.set_ylim(bottom=0)
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.legend(handles=[*axes.get_lines(), *rates.get_lines()], frameon=False, loc="lower center")
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


def reliability(report: EvaluationReport) -> "Canvas":
    """Draw each bin's share right with its interval, and its mean confidence, before and after."""
    from matplotlib.figure import Figure as Canvas

    sides = {"not calibrated": report.reliability_before, "calibrated": report.reliability}
    canvas = Canvas(figsize=(8.4, 3.2), layout="constrained")
    both = canvas.subplots(1, 2, sharey=True)
    for axes, (name, bins) in zip(both, sides.items(), strict=True):
        shares = [Share(part.right, part.rows) for part in bins]
        ends = [share.interval(Z95) for share in shares]
        values = [share.value for share in shares]
        # Rounding may put an end of the interval beyond the value by nothing.
        below = [max(0.0, share - low) for share, (low, _) in zip(values, ends, strict=True)]
        above = [max(0.0, high - share) for share, (_, high) in zip(values, ends, strict=True)]
        places = range(len(bins))
        bars = {"color": FAINT, "ecolor": INK, "label": "share right, 95% interval"}
        axes.bar(places, values, yerr=[below, above], **bars)
        means = [part.confidence / part.rows for part in bins]
        axes.plot(places, means, "o", color=ACCENT, label="mean confidence")
        axes.set_xticks(places, [str(part.rows) for part in bins], rotation=90)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("rows in the bin")
        _style(axes)
    both[0].set_ylim(min([0.5, *(p.right / p.rows for s in sides.values() for p in s)]) - 0.1, 1.02)
    both[0].legend(framealpha=0.9, edgecolor="none", fontsize=8, loc="lower right")
    return canvas


def coverage(report: EvaluationReport) -> "Canvas":
    """Draw the precision of the most confident rows by how many are answered, and the threshold."""
    canvas, axes = _axes(5.6, 2.6)
    points = report.selections
    axes.plot(
        [point.answered / report.rows for point in points],
        [point.right / point.answered for point in points],
        color=INK,
    )
    chosen = report.abstention
    if chosen is not None and chosen.answered:
        share, precision = chosen.answered / report.rows, chosen.right / chosen.answered
        axes.plot(share, precision, "o", color=ACCENT, label=f"sure from {chosen.threshold:.4f} on")
        axes.legend(frameon=False)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("coverage: share of the test rows answered")
    axes.set_ylabel("precision of these")
    return canvas


def limits_by_scale(decision: GateDecision, report: EvaluationReport) -> "dict[str, Canvas]":
    """Draw the rules on figures as `limits`, and those on anything else as `other_limits`."""
    measured = [
        rule
        for rule in decision.rules
        if rule.figure is not None
        and rule.figure.value is not None
        and rule.figure.method != "counted"  # it is no share, and would not fit beside them
    ]
    figures = [rule for rule in measured if rule.metric in report.figures]
    others = [rule for rule in measured if rule.metric not in report.figures]
    drawn = {"limits": figures, "other_limits": others}
    return {name: limits(some, decision.level, report) for name, some in drawn.items() if some}


def limits(rules: Sequence[RuleVerdict], level: str, report: EvaluationReport) -> "Canvas":
    """Draw the first 30 gated figures, each with its interval, limit, and the baseline's figure."""
    count, measured = len(rules), rules[:MOST_LINES]
    canvas, axes = _axes(7.0, 0.8 + 0.42 * max(len(measured), 1))
    if count > MOST_LINES:
        axes.set_xlabel(f"the first {MOST_LINES} of {count} figures")
    names: list[str] = []
    told = f"model, {level} interval"
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
        if other is not None and other.value is not None and not report.is_of_the_baseline:
            axes.plot(
                other.value,
                line,
                "D",
                color=SECOND,
                fillstyle="none",
                label=_once("baseline", line),
            )
    axes.set_yticks(range(len(names)), map(_plain, names))
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def flips(figures: Mapping[str, Figure], most: Mapping[Any, float]) -> "Canvas":
    """Draw the share of labels that flip under each perturbation, with its interval and limit."""
    measured = {name: figure for name, figure in figures.items() if figure.value is not None}
    canvas, axes = _axes(7.0, 0.8 + 0.42 * max(len(measured), 1))
    for line, (name, figure) in enumerate(measured.items()):
        axes.plot([figure.low, figure.high], [line, line], color=INK, linewidth=2)
        axes.plot(figure.value, line, "o", color=INK)
        if name in most:
            axes.plot(most[name], line, "|", color=ACCENT, markersize=18, markeredgewidth=2)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.set_ylim(max(len(measured), 1) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of changed rows whose label flips, 95% interval; the bar is the limit")
    return canvas


def slices(figures: Mapping[str, Figure], whole: Figure) -> "Canvas":
    """Draw the accuracy of each slice with its interval, beside that of all rows; the largest 30."""
    largest = sorted(figures, key=lambda name: -figures[name].n)[:MOST_LINES]
    shown = [name for name in figures if name in largest and figures[name].value is not None]
    canvas, axes = _axes(7.0, 0.8 + 0.24 * max(len(shown), 2))
    axes.axvspan(whole.low, whole.high, color=FAINT, alpha=0.5, label="all rows, 95% interval")
    for line, name in enumerate(shown):
        figure = figures[name]
        axes.plot([figure.low, figure.high], [line, line], color=INK, linewidth=2)
        axes.plot(figure.value, line, "o", color=INK, label=_once("slice, 95% interval", line))
    names = [f"{_plain(name)} ({figures[name].n:,})" for name in shown]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xlabel("accuracy")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def precision_recall(predictions: Predictions) -> "Canvas":
    """Draw precision against recall of each label over all thresholds; the most frequent 8."""
    canvas, axes = _axes(5.6, 3.6)
    rows = np.bincount(predictions.actual, minlength=len(predictions.labels))
    lines, names = [], []
    for label in np.argsort(-rows, kind="stable")[:8].tolist():
        precision, recall = predictions.precision_recall(label)
        some = np.unique(np.linspace(0, len(recall) - 1, _POINTS).astype(int))
        lines += axes.plot(recall[some], precision[some], linewidth=1.5)
        names.append(f"{_plain(predictions.labels[label])} ({rows[label]:,})")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(
        lines, names, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    return canvas


def _plain(name: str) -> str:
    """Return a name so written that matplotlib takes no part of it for a formula."""
    return name.replace("$", r"\$")


def _once(label: str, line: int) -> str | None:
    return label if line == 0 else None


def _axes(width: float, height: float) -> "tuple[Canvas, Any]":
    """Return a figure of so many inches and its axes, drawn without a screen or global state."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots()
    _style(axes)
    return canvas, axes


def _style(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)


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
