"""The line: one config in, a proven Bento out, or the reason why not."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from configs.errors import EkibenError
from configs.schema import PipelineConfig
from flows import artifacts
from flows.workers import prefect_workers
from tasks.auditing import audit
from tasks.baseline import baseline
from tasks.building import build
from tasks.challenging import challenge, remember_rows
from tasks.comparing import compare, profile, remember_profile
from tasks.duplicates import deduplicate
from tasks.evaluation import evaluate
from tasks.finetuning import finetune
from tasks.gate import decide
from tasks.ingest import ingest
from tasks.manifests import EvaluationReport, Evidence, ReleaseRecord, SplitManifest
from tasks.progress import listening
from tasks.proving import prove
from tasks.releasing import release
from tasks.reporting import Run, write_report
from tasks.splitting import split
from tasks.validation import require_valid, validate

log = logging.getLogger("ekiben")
STATE_NAMES = {"release": "Released", "reject": "Rejected", "hold": "Undecided"}


@dataclass(frozen=True)
class Outcome:
    """What a run came to: all that it made, its report, and the release if there is one."""

    run: Run
    report: Path
    record: ReleaseRecord | None


@flow(name="ekiben", flow_run_name="{config.name}", description="Labelled text in, a Bento out.")
def pipeline(config: PipelineConfig) -> "State[Outcome]":
    """Run the whole line for one config.

    Ends Completed and named Released, Rejected or Undecided, or Failed with the problems in words.
    """
    artifacts.prepare_logging()
    try:
        with (
            listening(artifacts.ProgressArtifacts(config)),
            prefect_workers(config.workers),
        ):
            outcome = run_line(config)
    except EkibenError as error:
        return Failed(message=str(error), data=error)
    run = outcome.run
    decision = run.chosen.decision
    assert decision is not None
    return Completed(
        name=STATE_NAMES[decision.action], message="; ".join(run.reasons), data=outcome
    )


def run_line(config: PipelineConfig) -> Outcome:
    """Take the config through every stage, in order; only what is released goes beyond the decision."""
    dataset = ingest(config.data)
    artifacts.show(dataset)
    validation = validate(config, dataset)
    artifacts.show_validation(config, validation)
    if not validation.passed:
        artifacts.show_report(config, write_report(Run(config, dataset, validation)))
    require_valid(validation)
    duplicates = deduplicate(config, dataset, validation)
    artifacts.show_duplicates(config, duplicates)
    seen = profile(dataset, duplicates)
    change = compare(config, seen)
    artifacts.show_change(config, change)
    suspects = audit(config, dataset, duplicates)
    artifacts.show_label_errors(config, suspects)
    sides = split(config, dataset, duplicates, suspects)
    artifacts.show_data(config, dataset, validation, duplicates, suspects, sides)
    linear = baseline(config, sides)
    artifacts.show(linear)
    checkpoint = finetune(config, sides)
    artifacts.show(checkpoint)
    evaluation = evaluate(config, sides, checkpoint, linear)
    artifacts.show_evaluation(config, evaluation)
    evidence = evidence_of(config, sides, evaluation)
    decision = decide(config.gate, evidence)
    run = Run(
        config, dataset, validation, duplicates, change, suspects, sides, checkpoint, evaluation,
        decision, challenge=evidence.challenge, baseline=linear,
    )  # fmt: skip
    artifacts.show_decision(config, run)
    if decision.action != "release" and config.gate.baseline.release_instead:
        own = evidence_of(config, sides, evaluate(config, sides, linear, linear))
        other = decide(config.gate, own)
        trial = replace(
            run, checkpoint=linear, evaluation=own.evaluation, challenge=own.challenge,
            decision=other,
        )  # fmt: skip
        artifacts.show_decision(config, trial, "baseline-decision")
        run = replace(run, instead=trial)
        if other.action == "release":
            checkpoint, evidence, decision = linear, own, other
    if decision.action != "release":
        return Outcome(run, artifacts.show_report(config, write_report(run)), None)
    bento = build(config, dataset, checkpoint, evidence, decision)
    artifacts.show(bento)
    proof = prove(config, sides, evidence.evaluation, bento)
    artifacts.show(proof)
    run = replace(run, bento=bento, proof=proof)
    report = write_report(run)
    record = release(config, decision, bento, proof, report)
    remember_profile(record, seen)
    remember_rows(record, sides)
    return Outcome(run, artifacts.show_report(config, report), record)


def evidence_of(
    config: PipelineConfig, sides: SplitManifest, evaluation: EvaluationReport
) -> Evidence:
    """Return what the gate judges a model by: its evaluation, and the champion's if a rule asks."""
    rival = challenge(config, sides, evaluation) if config.gate.champion.min_gain else None
    if rival is not None:
        artifacts.show(rival)
    return Evidence(evaluation=evaluation, challenge=rival)
