"""What a run shows in Prefect: log lines, tables, plots, and the progress of long steps."""

import base64
import logging
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import ParameterTypeError, PrefectHTTPStatusError
from prefect.logging.handlers import APILogHandler

from configs.errors import EkibenError
from configs.schema import PipelineConfig
from flows.summary import summary
from tasks import plots
from tasks.change import ChangeReport
from tasks.examples import left_out_by_reason, quarantined_by_rule
from tasks.faults import refusal
from tasks.ladder import ladder_table
from tasks.manifests import (
    DatasetManifest,
    DuplicateReport,
    EvaluationReport,
    GateDecision,
    LabelReport,
    Manifest,
    ProbeReport,
    SplitManifest,
    ValidationReport,
)
from tasks.model_card import escaped, markdown_table
from tasks.predictions import read_predictions
from tasks.reporting import Run, figure_text, flip_rows, rules_of, slice_figures, suspect_rows
from tasks.steps import home
from tasks.waterfall import waterfall

log = logging.getLogger("ekiben")
_TITLES = {"limits": "Figures against limits", "other_limits": "Other rules"}
_SECONDS_BETWEEN_UPDATES = 2.0


class _NoTracebackForBadInput(logging.Filter):
    """Drop the traceback of what the user or the machine did; the message says it all."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, EkibenError | ParameterTypeError):
            record.exc_info, record.msg, record.args = None, str(error), ()
        elif error is not None and (told := refusal(error, home())) is not None:
            record.exc_info, record.msg, record.args = None, told, ()
        return True


# On import, since Prefect refuses the parameters of a run before it enters the flow.
_hide = _NoTracebackForBadInput()
for _name in ("prefect.task_runs", "prefect.flow_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_hide)
_to_prefect = APILogHandler()


def prepare_logging() -> None:
    """Send Ekiben's log lines to Prefect."""
    log.setLevel(logging.INFO)
    log.addHandler(_to_prefect)


class ProgressArtifacts:
    """Show the progress of each long stage as a Prefect progress artifact."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._ids: dict[str, UUID] = {}
        self._updated: dict[str, float] = {}
        self._is_told = False

    def __call__(self, stage: str, done: int, total: int | None, note: str) -> None:
        """Create the stage's artifact at its first call; then update it at most every 2 s."""
        if not total:
            return
        percent, description = round(100.0 * done / total, 1), f"{done:,} {note}"
        now = time.monotonic()
        begun = stage in self._updated
        if begun and done < total and now - self._updated[stage] < _SECONDS_BETWEEN_UPDATES:
            return
        self._updated[stage] = now
        try:
            self._show(stage, percent, description)
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            if not self._is_told:  # hours of training are not lost for want of a progress bar
                name = type(error).__name__
                log.warning("progress is not shown: Prefect's server does not answer (%s)", name)
            self._is_told = True

    def _show(self, stage: str, percent: float, description: str) -> None:
        if stage in self._ids:
            update_progress_artifact(self._ids[stage], percent, description=description)
            return
        created: Any = create_progress_artifact(
            percent, key=_key(self._config, stage), description=description
        )
        self._ids[stage] = created


def show(manifest: Manifest | GateDecision) -> None:
    """Log what a stage made, in one line."""
    log.info("%s", summary(manifest))


def show_change(config: PipelineConfig, report: ChangeReport | None) -> None:
    """Log how the data differs from the champion's and publish it as a table, if there is one."""
    if report is None:
        log.info("compare: no champion whose data this could be compared with")
        return
    (log.info if report.verdict == "ok" else log.warning)("%s", summary(report))
    create_table_artifact(
        [shift.model_dump(mode="json") for shift in report.shifts],
        key=_key(config, "change"),
        description=summary(report),
    )


def show_validation(config: PipelineConfig, report: ValidationReport) -> None:
    """Log the validation and publish its rules as a table, without any value of the data."""
    show(report)
    first = quarantined_by_rule(report)
    create_table_artifact(
        [
            {
                "met": "yes" if rule.passed else "no",
                "expectation": rule.rule,
                "column": rule.column,
                "rows failed": rule.rows_failed if rule.takes_rows else "",
                "first rows": first.get((rule.rule, rule.column), "") if rule.rows_failed else "",
                "observed": rule.observed,
                "asked": rule.asked,
            }
            for rule in report.rules
        ],
        key=_key(config, "validation"),
        description=summary(report),
    )


def show_duplicates(config: PipelineConfig, report: DuplicateReport) -> None:
    """Log what was found twice and publish rows left out and the nearest copies by row number."""
    show(report)
    left_out = left_out_by_reason(report)
    if left_out:
        create_table_artifact(
            [{"left out as": reason, "first rows": rows} for reason, rows in left_out.items()],
            key=_key(config, "left-out"),
            description=summary(report),
        )
    create_table_artifact(
        [pair.model_dump() for pair in report.examples],
        key=_key(config, "duplicates"),
        description=summary(report),
    )


def show_label_errors(config: PipelineConfig, report: LabelReport) -> None:
    """Log the audit and publish the most probable label errors by row number, as a table."""
    show(report)
    create_table_artifact(
        suspect_rows(report, most=100),
        key=_key(config, "label-errors"),
        description=summary(report),
    )


def show_data(
    config: PipelineConfig,
    dataset: DatasetManifest,
    validation: ValidationReport,
    duplicates: DuplicateReport,
    label_errors: LabelReport,
    split: SplitManifest,
) -> None:
    """Log the split and publish what each step of the data took or changed, with plots."""
    show(split)
    steps = waterfall(dataset, validation, duplicates, label_errors, split)
    rows = [
        f"| {step.step} | {step.before:,} | {step.taken:,} | {step.after:,} | {step.changed:,} "
        f"| {step.told} |"
        for step in steps
    ]
    drawn = {
        "Rows left after each step": plots.waterfall(steps),
        "Rows of each label in each split": plots.label_balance(split.label_counts),
        "Length of the valid texts": plots.text_lengths(validation.length_histogram),
    }
    parts = [
        f"# {config.name}: data",
        "| step | rows before | taken | rows after | changed | what happened |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        *(f"### {title}\n\n![{title}]({_image(canvas)})\n" for title, canvas in drawn.items()),
    ]
    create_markdown_artifact("\n".join(parts), key=_key(config, "data"), description=summary(split))


def show_evaluation(config: PipelineConfig, report: EvaluationReport) -> None:
    """Log the evaluation and publish every figure beside the baseline's, as a table."""
    show(report)
    create_table_artifact(
        [
            {
                "metric": name,
                "model [95% interval]": figure_text(figure),
                "n": figure.n,
                "baseline [95% interval]": figure_text(report.baseline[name]),
            }
            for name, figure in report.figures.items()
        ],
        key=_key(config, "evaluation"),
        description=summary(report),
    )


def show_probe(config: PipelineConfig, report: ProbeReport | None) -> None:
    """Log the probe, if there was one, and publish flips and wrong cases by row number."""
    if report is None:
        return
    show(report)
    tables = {
        "robustness": [{**line, "flips": figure_text(line["flips"])} for line in flip_rows(report)],
        "cases": [case.model_dump() for case in report.wrong_cases],
    }
    for what, lines in tables.items():
        if lines:
            create_table_artifact(lines, key=_key(config, what), description=summary(report))


def show_slices(config: PipelineConfig, report: EvaluationReport) -> None:
    """Publish the accuracy of each slice, and the worst errors by row number, as tables."""
    figures = slice_figures(report)
    if figures:
        create_table_artifact(
            [
                {"slice": name, "rows": figure.n, "accuracy [95% interval]": figure_text(figure)}
                for name, figure in figures.items()
            ],
            key=_key(config, "slices"),
            description=f"{len(figures)} slices of {report.rows:,} test rows",
        )
    create_table_artifact(
        read_predictions(report).worst_errors(100),
        key=_key(config, "errors"),
        description="Test rows given another label, the least probable label first",
    )


def show_decision(config: PipelineConfig, run: Run, key: str = "decision") -> None:
    """Log the decision and publish it with its reasons and plots as markdown."""
    assert run.decision is not None and run.evaluation is not None and run.checkpoint is not None
    judged = "the baseline in its place: " if run.evaluation.is_of_the_baseline else ""
    log.info("%s%s", judged, summary(run.decision))
    drawn = {
        **{
            _TITLES[name]: canvas
            for name, canvas in plots.limits_by_scale(run.decision, run.evaluation).items()
        },
        "Confusion matrix": plots.confusion(run.evaluation),
        "Confidence and share right": plots.reliability(run.evaluation),
        "Precision when sure": plots.coverage(run.evaluation),
        "Precision and recall": plots.precision_recall(read_predictions(run.evaluation)),
    }
    if figures := slice_figures(run.evaluation):
        drawn["Slices"] = plots.slices(figures, run.evaluation.figures["accuracy"])
    if run.checkpoint.epochs:
        drawn["Training curve"] = plots.training_curve(run.checkpoint)
    parts = [
        f"# {config.name}: {judged}{run.decision.verdict}",
        *([] if run.decision.forced is None else [f"**Forced**: {escaped(run.decision.forced)}\n"]),
        *markdown_table(rules_of(run)),
        "",
        f"Intervals hold the true figure in {run.decision.level} of cases.\n",
        *(f"- {escaped(told)}" for told in (*run.decision.reasons, *run.decision.remarks)),
        "",
        *(f"### {title}\n\n![{title}]({_image(canvas)})\n" for title, canvas in drawn.items()),
    ]
    create_markdown_artifact(
        "\n".join(parts), key=_key(config, key), description=summary(run.decision)
    )


def show_ladder(config: PipelineConfig, run: Run) -> None:
    """Log which form is served and publish the ladder of forms as a table."""
    lines = ladder_table(run)
    told = next((line["form"] for line in lines if line["verdict"].endswith("served")), "no form")
    log.info("forms: %s is served, of %s", told, ", ".join(line["form"] for line in lines))
    create_table_artifact(
        [dict(line) for line in lines],
        key=_key(config, "forms"),
        description=f"What each form of the model costs and comes to; {told} is served",
    )


def show_report(config: PipelineConfig, report: Path) -> Path:
    """Publish where the report lies, and return it."""
    create_link_artifact(
        report.as_uri(),
        report.name,
        key=_key(config, "report"),
        description="The report of this run, on the machine that ran it. A browser opens no file "
        f"from a web page: paste `{report.as_uri()}` into its address bar.",
    )
    log.info("report: %s", report)
    return report


def _image(canvas: Any) -> str:
    svg = plots.as_svg(canvas, opaque=True).encode()
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _key(config: PipelineConfig, what: str) -> str:
    """Return an artifact key; Prefect allows small letters, digits and dashes."""
    return f"{config.name.replace('_', '-')}-{what}"
