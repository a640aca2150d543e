"""What each stage made, in one line for a person."""

from functools import singledispatch

from tasks.change import ChangeReport
from tasks.ladder import summary_of_student
from tasks.manifests import (
    BentoManifest,
    CalibrationManifest,
    ChallengeReport,
    CheckpointManifest,
    DatasetManifest,
    DuplicateReport,
    EvaluationReport,
    FormWeight,
    GateDecision,
    LabelReport,
    LeakageReport,
    Manifest,
    ProbeReport,
    ProofReport,
    SplitManifest,
    ValidationReport,
)


@singledispatch
def summary(manifest: Manifest | GateDecision | ChangeReport) -> str:
    """Return one line that says what the stage made, counts and figures with their units."""
    raise TypeError(f"no summary for {type(manifest).__name__}")


@summary.register
def _(manifest: DatasetManifest) -> str:
    counts = ", ".join(f"{label} {count:,}" for label, count in manifest.label_counts.items())
    return (
        f"ingest: {manifest.rows:,} rows ({counts}), "
        f"{manifest.changed_by_cleaning:,} changed by cleaning{_masked(manifest.masked)}"
    )


def _masked(found: dict[str, int]) -> str:
    counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.items()))
    return f", masked {counts}" if counts else ""


@summary.register
def _(manifest: ValidationReport) -> str:
    failed = sum(not rule.passed for rule in manifest.rules if not rule.takes_rows)
    return (
        f"validate: {manifest.rows_valid:,} rows valid, {manifest.rows_quarantined:,} quarantined, "
        f"{failed} of {sum(not rule.takes_rows for rule in manifest.rules)} table rules failed"
    )


@summary.register
def _(manifest: DuplicateReport) -> str:
    told = [
        f"{manifest.rows_kept:,} rows kept",
        f"{manifest.duplicates:,} duplicates removed",
        f"{manifest.conflicts + manifest.near_conflicts:,} conflicting rows quarantined",
    ]
    if manifest.relabelled:
        told.append(f"{manifest.relabelled:,} relabelled by majority")
    if manifest.sampled_out:
        told.append(f"{manifest.sampled_out:,} left out by split.sample_rows")
    near = f"{manifest.near_rows:,} near-copies in {manifest.near_clusters:,} cluster"
    near += "s" * (manifest.near_clusters != 1)
    return f"deduplicate: {', '.join(told)}; {near}"


@summary.register
def _(report: ChangeReport) -> str:
    told = [f"{shift.measure} {shift.verdict}: {shift.sentence}" for shift in report.shifts]
    return f"compare: {report.verdict} beside the champion's data; {'; '.join(told)}"


@summary.register
def _(manifest: LabelReport) -> str:
    sampled = f" (a sample of {manifest.rows:,})" if manifest.rows_judged < manifest.rows else ""
    return (
        f"audit: {manifest.found:,} of {manifest.rows_judged:,} rows{sampled} probably mislabelled, "
        f"{manifest.listed:,} listed, {manifest.quarantined:,} quarantined"
    )


@summary.register
def _(manifest: SplitManifest) -> str:
    sides = ", ".join(f"{side} {count:,}" for side, count in manifest.rows.items())
    leaked = sum(manifest.leaked.values())
    told = f", {leaked:,} left out as like the frozen test set" if manifest.leaked else ""
    return f"split: {sides}{told}"


@summary.register
def _(manifest: CheckpointManifest) -> str:
    if manifest.kind == "linear":
        return (
            f"baseline: TF-IDF and logistic regression of {manifest.parameters:,} parameters, "
            f"{manifest.seconds:.1f} s"
        )
    if manifest.kind.startswith("openvino"):
        return f"form: {manifest.kind} of {manifest.parameters / 1e6:.1f} M parameters"
    if manifest.teacher_layers:
        return summary_of_student(manifest)
    used = manifest.hardware
    tokens = "" if used is None else f", {used.tokens_per_second:,.0f} tokens/s"
    return (
        f"finetune: {manifest.parameters / 1e6:.1f} M parameters on {manifest.device} "
        f"({manifest.precision}), best of {len(manifest.epochs)} epochs is {manifest.best_epoch}, "
        f"{manifest.seconds:.0f} s, {manifest.rows_per_second:.0f} rows/s{tokens}"
    )


@summary.register
def _(manifest: CalibrationManifest) -> str:
    told = [f"{manifest.rows:,} validation rows"]
    if manifest.scaling.temperature is not None:
        told.append(f"temperature {manifest.scaling.temperature:.3f}")
    told.append(f"loss {manifest.loss_before:.4f} before, {manifest.loss:.4f} after")
    if manifest.abstention is not None and manifest.abstention.threshold is not None:
        told.append(f"sure from {manifest.abstention.threshold:.4f} on")
    return f"calibrate: {'; '.join([', '.join(told), *manifest.told])}"


@summary.register
def _(manifest: EvaluationReport) -> str:
    def figure(name: str) -> str:
        model, other = manifest.figures[name].value, manifest.baseline[name].value
        return f"{name} {model:.4f} (baseline {other:.4f})"

    names = ("accuracy", "precision.macro", "recall.macro")
    return f"evaluate: {manifest.rows:,} test rows: {', '.join(map(figure, names))}"


@summary.register
def _(manifest: ChallengeReport) -> str:
    return f"challenge: {manifest.told}"


@summary.register
def _(manifest: ProbeReport) -> str:
    told = [f"{n.flips:,} of {n.rows:,} flip under {name}" for name, n in manifest.flips.items()]
    if manifest.cases:
        told.append(f"{len(manifest.wrong_cases):,} of {manifest.cases:,} cases wrong")
    return f"probe: {', '.join(told)}"


@summary.register
def _(manifest: LeakageReport) -> str:
    return f"leakage: {manifest.exact + manifest.near:,} test rows are in training, too"


@summary.register
def _(decision: GateDecision) -> str:
    forced = "" if decision.forced is None else f", and forced: {decision.forced}"
    told = "; ".join((*decision.reasons, *decision.remarks))
    return f"decide: {decision.verdict}{forced}: {told}"


@summary.register
def _(manifest: FormWeight) -> str:
    return (
        f"weigh: {manifest.size_mb:.1f} MB, {manifest.cpu_ms:.2f} ms of CPU a text, "
        f"{manifest.memory_mb:,.0f} MB of memory"
    )


@summary.register
def _(manifest: BentoManifest) -> str:
    return f"build: {manifest.tag}, {manifest.size_bytes / 1e6:.1f} MB"


@summary.register
def _(manifest: ProofReport) -> str:
    return (
        f"prove: {manifest.labels_equal:,} of {manifest.rows_replayed:,} labels equal over HTTP, "
        f"p50 {manifest.latency_p50_ms:.1f} ms, p99 {manifest.latency_p99_ms:.1f} ms, "
        f"peak memory {manifest.peak_memory_mb:.0f} MB"
    )
