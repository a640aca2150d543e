"""The line: one config in, a proven Bento out, or the reason why not."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from configs.errors import BentoError, EkibenError, FormError, TrainingError
from configs.schema import PipelineConfig
from configs.serving import Form
from flows import artifacts
from flows.dead_runs import alive, run_and_due
from flows.forcing import forced_reason
from flows.workers import prefect_workers
from tasks.auditing import audit
from tasks.baseline import baseline
from tasks.building import build
from tasks.calibrating import calibrate
from tasks.cases import Cases, read_cases
from tasks.challenging import challenge, remember_rows
from tasks.comparing import compare, profile, remember_profile
from tasks.deciding import decide
from tasks.distilling import distil
from tasks.duplicates import deduplicate
from tasks.evaluation import evaluate
from tasks.faults import telling_refusals
from tasks.finetuning import finetune
from tasks.forms import KIND_OF
from tasks.forms import form as make_form
from tasks.ingest import ingest
from tasks.ladder import Rung
from tasks.leakage import look_for_leaks
from tasks.manifests import CheckpointManifest, EvaluationReport, Evidence, ReleaseRecord
from tasks.model_card import Candidate
from tasks.probing import probe
from tasks.progress import listening
from tasks.proving import prove
from tasks.publishing import publish, require_publishable
from tasks.releasing import release, require_signing_key
from tasks.reporting import Run, write_report
from tasks.runs import turn
from tasks.splitting import split
from tasks.steps import home
from tasks.tracking import require_packages
from tasks.validation import require_valid, validate
from tasks.weighing import weigh

log = logging.getLogger("ekiben")
STATE_NAMES = {
    "release": "Released", "reject": "Rejected", "hold": "Undecided", "leave out": "Skipped",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a run came to: all that it made, its report, and the release if there is one."""

    run: Run
    report: Path
    record: ReleaseRecord | None


@flow(name="ekiben", flow_run_name="{config.name}", description="Labelled text in, a Bento out.")
def pipeline(config: PipelineConfig) -> "State[Outcome]":
    """Run the whole line for one config.

    Ends Completed and named Released, Rejected, Undecided or, if another run stands for it,
    Skipped; or Failed with the problems in words.
    """
    artifacts.prepare_logging()
    try:
        with (
            telling_refusals(config.name, home()),
            alive(config),
            turn(config.name, *run_and_due()) as left_out,
        ):
            if left_out is not None:
                return Completed(name=STATE_NAMES["leave out"], message=left_out)
            with (
                listening(artifacts.ProgressArtifacts(config)),
                prefect_workers(config.workers),
            ):
                outcome = run_line(config)
    except EkibenError as error:
        return Failed(message=str(error), data=error)
    run = outcome.run
    return Completed(
        name=STATE_NAMES[run.chosen.decided.action], message=in_words(run), data=outcome
    )


def in_words(run: Run) -> str:
    """Return why the run ended as it did, on one line."""
    reasons = "; ".join(run.reasons)
    decision = run.chosen.decided
    if decision.forced is None:
        return reasons
    return f"forced: {decision.forced} (though {decision.verdict}: {reasons})"


def run_line(config: PipelineConfig) -> Outcome:
    """Take the config through every stage, in order; only what is released goes beyond the decision."""
    require_packages(config)  # this and the next three before hours of training are spent
    require_signing_key(config)
    require_publishable(config)
    cases = read_cases(config)
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
    run = Run(config, dataset, validation, duplicates, change, suspects, sides, baseline=linear)
    run = tried(run, checkpoint, cases)
    artifacts.show_decision(config, run)
    if run.decided.action != "release" and config.gate.baseline.release_instead:
        other = tried(run, linear, cases)
        artifacts.show_decision(config, other, "baseline-decision")
        run = replace(run, instead=other)
    if run.decided.verdict == "pass":
        run = laddered(run, cases)
    own = run.chosen
    if own.decided.action != "release":
        return Outcome(run, artifacts.show_report(config, write_report(run)), None)
    bento = build(Candidate(config, dataset, sides, own.candidate, own.evidence, own.decided))
    artifacts.show(bento)
    proof = prove(config, sides, own.evidence.evaluation, bento)
    artifacts.show(proof)
    run = replace(run, bento=bento, proof=proof)
    report = write_report(run)
    record = release(config, own.record, bento, proof, report)
    remember_profile(record, seen)
    remember_rows(record, sides)
    shown = artifacts.show_report(config, report)
    if config.release.publish is not None:
        publish(config, record)
    return Outcome(run, shown, record)


def laddered(run: Run, cases: Cases | None) -> Run:
    """Try the cheaper forms that the config asks for of a model that passes, cheapest first."""
    config, sides = run.config, run.split
    assert sides is not None
    asked = [form for form in KIND_OF if form in config.serving.forms]
    if not asked:
        return run
    weight = weigh(config, sides, run.candidate)
    artifacts.show(weight)
    rungs = tuple(rung_of(run, form, cases) for form in asked)
    run = replace(run, weight=weight, forms=rungs)
    artifacts.show_ladder(config, run)
    return run


def rung_of(run: Run, form: Form, cases: Cases | None) -> Rung:
    """Take one form of the model through what the model went through; say why if it cannot be."""
    config, sides, linear = run.config, run.split, run.baseline
    assert sides is not None and linear is not None
    try:
        if form == "baseline":
            model = linear
        else:
            whole = student_of(run) if form == "student" else run.candidate
            model = make_form(config, sides, whole, form)
        log.info("form: the model as %s", form)
        tried_form = tried(run, model, cases, original=run.evaluation)
        weight = weigh(config, sides, model)
        artifacts.show(weight)
    except (BentoError, FormError, TrainingError) as error:
        log.warning("form: %s is not made: %s", form, error)
        return Rung(form, None, str(error))
    return Rung(form, replace(tried_form, weight=weight))


def student_of(run: Run) -> CheckpointManifest:
    """Distil the student of the model, as it comes out of the training."""
    assert run.split is not None
    student = distil(run.config, run.split, run.candidate)
    artifacts.show(student)
    return student


def tried(
    run: Run,
    model: CheckpointManifest,
    cases: Cases | None,
    original: EvaluationReport | None = None,
) -> Run:
    """Take one model, or a form of `original`, through all that its decision rests on, and decide."""
    config, sides, linear = run.config, run.split, run.baseline
    assert sides is not None and linear is not None
    calibration = calibrate(config, sides, model)
    artifacts.show(calibration)
    evaluation = evaluate(config, sides, model, calibration, linear, original)
    if original is None:
        artifacts.show_evaluation(config, evaluation)
        artifacts.show_slices(config, evaluation)
    else:
        artifacts.show(evaluation)
    rival = challenge(config, sides, evaluation) if config.gate.champion.min_gain else None
    if rival is not None:
        artifacts.show(rival)
    probed = probe(config, sides, model, evaluation, cases)
    artifacts.show_probe(config, probed)
    run = replace(
        run, checkpoint=model, calibration=calibration, evaluation=evaluation, challenge=rival,
        probe=probed,
    )  # fmt: skip
    leakage = look_for_leaks(config, sides)
    artifacts.show(leakage)
    evidence = Evidence(evaluation=evaluation, challenge=rival, probe=probed, leakage=leakage)
    decided = decide(config, evidence, forced=None if original else forced_reason())
    return replace(run, decision=decided.decision, recorded=decided)
