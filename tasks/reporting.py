"""The report of a run: one self-contained HTML file, in which every value of the data is escaped."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.schema import PipelineConfig, redact
from tasks.abstention import sure_shares
from tasks.change import ChangeReport
from tasks.estimates import Estimate, Share
from tasks.examples import left_out_by_reason, quarantined_by_rule
from tasks.ladder import OVER_ORIGINAL, Rung, ladder_table, served
from tasks.manifests import (
    BentoManifest,
    CalibrationManifest,
    ChallengeReport,
    CheckpointManifest,
    DatasetManifest,
    DuplicateReport,
    EvaluationReport,
    Evidence,
    Figure,
    FormWeight,
    GateDecision,
    LabelReport,
    ProbeReport,
    ProofReport,
    SplitManifest,
    ValidationReport,
)
from tasks.predictions import read_predictions
from tasks.questions import figure_of
from tasks.records import DecisionRecord
from tasks.reliability import calibration_error
from tasks.rule_table import rule_table
from tasks.slice_rules import slice_estimates
from tasks.steps import home, write_text
from tasks.waterfall import DataStep, waterfall

_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Run:
    """All that a run has made so far; what it did not come to is None."""

    config: PipelineConfig
    dataset: DatasetManifest
    validation: ValidationReport
    duplicates: DuplicateReport | None = None
    change: ChangeReport | None = None
    label_errors: LabelReport | None = None
    split: SplitManifest | None = None
    checkpoint: CheckpointManifest | None = None
    evaluation: EvaluationReport | None = None
    decision: GateDecision | None = None
    bento: BentoManifest | None = None
    proof: ProofReport | None = None
    challenge: ChallengeReport | None = None
    calibration: CalibrationManifest | None = None
    probe: ProbeReport | None = None
    baseline: CheckpointManifest | None = None
    recorded: DecisionRecord | None = None
    instead: "Run | None" = None
    """The same with the baseline in the model's place, where that is not released."""
    weight: FormWeight | None = None
    forms: tuple[Rung, ...] = ()
    """Cheaper forms of the model, cheapest first."""

    @property
    def chosen(self) -> "Run":
        """Return the run by whose decision this one ends."""
        other = self.instead
        if other is not None and other.decision is not None and other.decision.action == "release":
            return other
        form = served(self.forms)
        return self if form is None or form.run is None else form.run

    @property
    def record(self) -> DecisionRecord:
        """Return the decision as it was put on record."""
        assert self.recorded is not None
        return self.recorded

    @property
    def evidence(self) -> Evidence:
        """Return all that the decision was made on."""
        return self.record.evidence

    @property
    def candidate(self) -> CheckpointManifest:
        """Return the model that is judged."""
        assert self.checkpoint is not None
        return self.checkpoint

    @property
    def decided(self) -> GateDecision:
        """Return the decision on it."""
        assert self.decision is not None
        return self.decision

    @property
    def outcome(self) -> str:
        """Return the one word at the top of the report."""
        decision = self.chosen.decision
        if decision is None:
            return "valid data" if self.validation.passed else "invalid data"
        if decision.forced is not None:
            return "forced"
        names = {"reject": "rejected", "hold": "undecided"}
        return names.get(decision.action, "released" if self.proof else "passed")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the run ends as it does: the decision's reasons, and the baseline's."""
        assert self.decision is not None
        if (form := served(self.forms)) is not None:
            return *self.decision.reasons, f"served as {form.name}: {'; '.join(_no_worse(form))}"
        if self.instead is None or self.instead.decision is None:
            return self.decision.reasons
        own, other = "; ".join(self.decision.reasons), "; ".join(self.instead.decision.reasons)
        if self.chosen is self:
            return own, f"nor is the baseline released instead: {other}"
        return f"the baseline is released instead: {other}", f"the model is not: {own}"

    def data_steps(self) -> list[DataStep]:
        """Return what each step of the data took or changed."""
        return waterfall(
            self.dataset, self.validation, self.duplicates, self.label_errors, self.split
        )

    def manifests(self) -> dict[str, Any]:
        """Return the steps' manifests by stage, in the order of the line."""
        stages = {
            "ingest": self.dataset,
            "validate": self.validation,
            "deduplicate": self.duplicates,
            "audit": self.label_errors,
            "split": self.split,
            "baseline": self.baseline,
            "finetune": self.checkpoint,
            "calibrate": self.calibration,
            "evaluate": self.evaluation,
            "challenge": self.challenge,
            "probe": self.probe,
            "evaluate the baseline": self.instead and self.instead.evaluation,
            **self._of_the_form(),
            "build": self.bento,
            "prove": self.proof,
        }
        return {stage: manifest for stage, manifest in stages.items() if manifest is not None}

    def _of_the_form(self) -> dict[str, Any]:
        own = self.chosen
        if served(self.forms) is None:
            return {}
        return {
            "form": own.checkpoint,
            "calibrate the form": own.calibration,
            "evaluate the form": own.evaluation,
            "probe the form": own.probe,
        }


def _no_worse(form: Rung) -> list[str]:
    """Return the reasons for which a form counts as no worse than its original."""
    assert form.run is not None
    rules = form.run.decided.rules
    named = [rule.reason for rule in rules if rule.metric.endswith(OVER_ORIGINAL)]
    return named or ["it passes the same gate"]


def write_report(run: Run) -> Path:
    """Write the run's report under the Ekiben home and return its path."""
    folder = home() / "reports" / run.config.name
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    file = folder / f"{stamp}-{run.outcome.replace(' ', '-')}.html"
    write_text(file, render(run))
    return file


def last_report(pipeline: str) -> Path | None:
    """Return the newest report of a pipeline, or None if it has none."""
    reports = sorted((home() / "reports" / pipeline).glob("*.html"))
    return reports[-1] if reports else None


def render(run: Run) -> str:
    """Return the report as HTML text without any reference to another file or host."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure_text
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    # A long name may be broken after each part of it, and nowhere else.
    environment.filters["breakable"] = lambda name: Markup("_<wbr>").join(name.split("_"))
    environment.filters["count"] = lambda value: f"{value:,}"
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    # The plots are SVG that matplotlib has escaped; everything else goes through autoescape.
    plots = {name: Markup(svg) for name, svg in _plots(run).items()}  # noqa: S704
    return template.render(
        run=run,
        steps=run.data_steps(),
        plots=plots,
        source=redact(run.config.data.uri),
        labels=run.config.data.label_names,
        rules=rules_of(run),
        ladder=ladder_table(run),
        rules_instead=[] if run.instead is None else rules_of(run.instead),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        determinism=determinism(run),
        quarantined=quarantined_by_rule(run.validation),
        left_out=left_out_by_reason(run.duplicates),
        suspects=suspect_rows(run.label_errors),
        confidence=None if run.evaluation is None else confidence_figures(run.evaluation),
        flips=flip_rows(run.probe),
        errors=read_predictions(run.evaluation).worst_errors() if run.evaluation else [],
        slices=slice_figures(run.evaluation) if run.evaluation else {},
    )


def rules_of(run: Run) -> list[dict[str, str]]:
    """Return the table of the run's decision, or nothing if there is none."""
    if run.decision is None or run.evaluation is None:
        return []
    return rule_table(run.decision.rules, run.evaluation, run.challenge)


def figure_text(figure: Figure | None) -> str:
    """Return a figure with its interval, as `0.987 [0.978, 0.993]`."""
    if figure is None or figure.value is None:
        return "undefined"
    if figure.method == "counted":
        return f"{figure.value:,.0f}"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4f}"
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def determinism(run: Run) -> str:
    """Return, in words, what a rerun of the training would give again on this device, and what not."""
    made = run.checkpoint
    if made is None or made.hardware is None:
        return ""
    if made.device.endswith("cpu"):
        processes = int(made.device.split(" x ")[0]) if " x " in made.device else 1
        return (
            f"Deterministic: on this kind of processor, {processes} process(es) of "
            f"{made.hardware.threads} thread(s) and these versions give the same weights to the bit. "
            "Other processors, numbers of threads or processes, and versions differ by rounding."
        )
    if run.config.training.full_determinism:
        return (
            f"Deterministic: kernels that are not were refused. {made.device} and these versions "
            "give the same weights to the bit; other devices and versions differ by rounding."
        )
    return (
        f"Not deterministic to the bit: on {made.device}, kernels add up gradients in an order that "
        "varies. The order of the rows, the new head and dropout are drawn from the seed; "
        "training.full_determinism: true takes deterministic kernels alone."
    )


def confidence_figures(report: EvaluationReport) -> dict[str, Figure]:
    """Return what is told of the confidences whether or not a rule asks, by name."""
    found: dict[str, Estimate | None] = {
        "calibration error": calibration_error(report.reliability),
        "the same, not calibrated": calibration_error(report.reliability_before),
    }
    if report.abstention is not None:
        found |= sure_shares(report.abstention, report.rows)
    return {name: figure_of(estimate) for name, estimate in found.items()}


def suspect_rows(report: LabelReport | None, most: int = 10) -> list[dict[str, Any]]:
    """Return up to `most` probable label errors, worst first, without their text."""
    import pyarrow.parquet as pq

    if report is None:
        return []
    rows: list[dict[str, Any]] = pq.read_table(report.path("suspects.parquet"))[:most].to_pylist()
    return rows


def flip_rows(report: ProbeReport | None) -> list[dict[str, Any]]:
    """Return what each perturbation did, its flips as a figure, the first of them by row number."""
    return [
        {
            "perturbation": name,
            "rows": count.rows,
            "undone": count.undone,
            "flipped": count.flips,
            "flips": figure_of(Share(count.flips, count.rows) if count.rows else None),
            "by label": ", ".join(
                f"{label} {flips:,} of {rows:,}" for label, (rows, flips) in count.by_label.items()
            ),
            "examples": ", ".join(map(str, count.examples)),
        }
        for name, count in (report.flips if report else {}).items()
    ]


def slice_figures(report: EvaluationReport) -> dict[str, Figure]:
    """Return the accuracy of every slice with its interval, by the slice's name."""
    return {
        each.name: figure_of(slice_estimates(report, each, {"accuracy"}).get("accuracy"))
        for each in report.slices
    }


def _plots(run: Run) -> dict[str, str]:
    from tasks import plots

    drawn = {
        "waterfall": plots.waterfall(run.data_steps()),
        "text_lengths": plots.text_lengths(run.validation.length_histogram),
    }
    if run.split is not None:
        drawn["label_balance"] = plots.label_balance(run.split.label_counts)
    if run.checkpoint is not None:
        drawn["training_curve"] = plots.training_curve(run.checkpoint)
        drawn["training_pace"] = plots.training_pace(run.checkpoint)
    for rung in run.forms:
        if rung.student is not None and rung.student.epochs:
            drawn["student_curve"] = plots.training_curve(rung.student)
    if run.probe is not None and run.probe.flips:
        figures = {line["perturbation"]: line["flips"] for line in flip_rows(run.probe)}
        drawn["flips"] = plots.flips(figures, run.config.gate.robustness.max_flips)
    if run.evaluation is not None:
        drawn["confusion"] = plots.confusion(run.evaluation)
        drawn["reliability"] = plots.reliability(run.evaluation)
        drawn["coverage"] = plots.coverage(run.evaluation)
        drawn["precision_recall"] = plots.precision_recall(read_predictions(run.evaluation))
        if figures := slice_figures(run.evaluation):
            drawn["slices"] = plots.slices(figures, run.evaluation.figures["accuracy"])
        if run.decision is not None:
            drawn |= plots.limits_by_scale(run.decision, run.evaluation)
    if run.instead is not None and run.instead.evaluation and run.instead.decision:
        own = run.instead.evaluation
        drawn["baseline_confusion"] = plots.confusion(own)
        scales = plots.limits_by_scale(run.instead.decision, own)
        drawn |= {f"baseline_{name}": canvas for name, canvas in scales.items()}
    return {name: plots.as_svg(canvas) for name, canvas in drawn.items()}
