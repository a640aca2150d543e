"""The report of a run: one self-contained HTML file, in which every value of the data is escaped."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.schema import PipelineConfig, redact
from tasks.change import ChangeReport
from tasks.manifests import (
    BentoManifest,
    CheckpointManifest,
    DatasetManifest,
    DuplicateReport,
    EvaluationReport,
    Figure,
    GateDecision,
    LabelReport,
    ProofReport,
    SplitManifest,
    ValidationReport,
)
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

    @property
    def outcome(self) -> str:
        """Return the one word at the top of the report."""
        if self.decision is None:
            return "valid data" if self.validation.passed else "invalid data"
        if self.decision.forced is not None:
            return "forced"
        names = {"reject": "rejected", "hold": "undecided"}
        return names.get(self.decision.action, "released" if self.proof else "passed")

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
            "finetune": self.checkpoint,
            "evaluate": self.evaluation,
            "build": self.bento,
            "prove": self.proof,
        }
        return {stage: manifest for stage, manifest in stages.items() if manifest is not None}


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
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        quarantine=quarantine_rows(run.validation),
        suspects=suspect_rows(run.label_errors),
    )


def figure_text(figure: Figure | None) -> str:
    """Return a figure with its interval, as `0.987 [0.978, 0.993]`."""
    if figure is None or figure.value is None:
        return "undefined"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4f}"
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def quarantine_rows(report: ValidationReport, most: int = 20) -> list[dict[str, Any]]:
    """Return up to `most` quarantined rows by number, rule and column, without their text."""
    import pyarrow.parquet as pq

    columns = ["row", "rule", "column"]
    table = pq.read_table(report.path("quarantine.parquet"), columns=columns)
    rows: list[dict[str, Any]] = table.slice(0, most).to_pylist()
    return rows


def suspect_rows(report: LabelReport | None, most: int = 10) -> list[dict[str, Any]]:
    """Return up to `most` probable label errors, worst first, without their text."""
    import pyarrow.parquet as pq

    if report is None:
        return []
    rows: list[dict[str, Any]] = pq.read_table(report.path("suspects.parquet"))[:most].to_pylist()
    return rows


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
    if run.evaluation is not None:
        drawn["confusion"] = plots.confusion(run.evaluation)
        if run.decision is not None:
            drawn["limits"] = plots.limits(run.decision, run.evaluation)
    return {name: plots.as_svg(canvas) for name, canvas in drawn.items()}
