"""Stage build: a Bento of the passing candidate, made where no `bentoml list` can see it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError
from configs.schema import PipelineConfig
from tasks.digests import code_digest, value_digest
from tasks.encoding import load_tokenizer
from tasks.forms import FORM_OF
from tasks.gate import force, judge
from tasks.golden import write_golden
from tasks.integrity import write_manifest
from tasks.manifests import BentoManifest, CheckpointManifest
from tasks.model_card import Candidate, model_card
from tasks.process import environment_with, tail
from tasks.requirements import MODULES_OF, serving_requirements, serving_roots
from tasks.scratch import scratch
from tasks.steps import require_whole, run_step, write_json

SERVICE = Path(__file__).resolve().parent.parent / "bentos" / "text_classifier"


def build_bento(candidate: Candidate) -> BentoManifest:
    """Return the manifest of the Bento `<pipeline>:<version>`, whole, under `bento/`.

    The version is the first 12 hex digits of the digest of all that goes into the Bento.

    Raises:
        BentoError: if the decision is not to release, is not the gate's on this evidence, or is not
            about this checkpoint; if the config does not have the baseline released; or if `bentoml
            build` fails.
        StepError: if checkpoint or evaluation were changed since they were made.
    """
    config = candidate.config
    _require_decision(candidate)
    parents = candidate.digests
    signed = config.release.signing_key is not None
    roots = serving_roots(config.data, candidate.checkpoint.kind, signed=signed)
    requirements = serving_requirements(roots)
    section = {
        "name": config.name,
        "serving": config.serving.model_dump(mode="json", exclude={"proof_rows"}),
        "cleaning": config.data.cleaning.model_dump(mode="json"),
        "privacy": config.data.privacy.model_dump(mode="json"),
        "max_length": config.training.max_length,
        "requirements": requirements,
    }
    version = value_digest([section, parents, code_digest()])[:12]
    tag = f"{config.name}:{version}"

    def produce(folder: Path) -> dict[str, Any]:
        # BentoML refuses a build context below a hidden folder, as the Ekiben home is by default.
        with scratch() as place:
            context = place / "context"
            kind, model = candidate.checkpoint.kind, candidate.checkpoint.path("model")
            lay_out(context, kind, model, requirements)
            write_json(context / "model" / "card.json", _card(candidate, tag))
            write_golden(context)
            for beside in (context, context / "model"):
                (beside / "README.md").write_text(model_card(candidate, tag), encoding="utf-8")
            built = run_bentoml(config.name, version, context, place)
            shutil.move(built, folder / "bento")
        write_manifest(folder / "bento", tag)
        size = sum(file.stat().st_size for file in (folder / "bento").rglob("*") if file.is_file())
        return {"tag": tag, "requirements": requirements, "size_bytes": size}

    return run_step("build", BentoManifest, section=section, parents=parents, produce=produce)


def _require_decision(candidate: Candidate) -> None:
    """Judge again, so that no decision can be brought along, and look at what it is about."""
    config, decision, evidence = candidate.config, candidate.decision, candidate.evidence
    if decision.action != "release":
        raise BentoError(
            f"{config.name}: the decision is {decision.verdict!r}; only what is to be released is "
            "built"
        )
    _require_wanted(candidate)
    judged = judge(config.gate, evidence)
    if decision.forced is not None:
        judged = force(judged, decision.forced)
    if decision != judged:
        raise BentoError(
            f"{config.name}: the gate does not come to the decision {decision.verdict!r} on this "
            "evidence; run the line"
        )
    checkpoint = candidate.checkpoint
    if evidence.evaluation.parents.get("checkpoint") != checkpoint.digest:
        raise BentoError(
            f"{config.name}: the evaluation is of another checkpoint than {checkpoint.key[:16]}; "
            "only the one that was judged is built"
        )
    if evidence.leakage is None:
        raise BentoError(
            f"{config.name}: the evidence does not say how many test rows are in training, too; run "
            "the line"
        )
    asked = config.robustness
    if evidence.probe is None and (asked.perturbations or asked.cases is not None):
        raise BentoError(
            f"{config.name}: robustness declares a probe, and the evidence has none; run the line"
        )
    require_whole(checkpoint, evidence.evaluation)


def _require_wanted(candidate: Candidate) -> None:
    """Refuse what the config does not have released, and a form that stands beside no original."""
    config, checkpoint = candidate.config, candidate.checkpoint
    is_form = candidate.evaluation.original is not None
    if checkpoint.kind == "linear" and not is_form and not config.gate.baseline.release_instead:
        raise BentoError(
            f"{config.name}: the baseline is not to be released; gate.baseline.release_instead is "
            "false"
        )
    form = FORM_OF.get(checkpoint.kind)
    if is_form and form not in config.serving.forms:
        raise BentoError(
            f"{config.name}: {form or checkpoint.kind!r} is no form to be released; serving.forms is "
            f"{list(config.serving.forms)}"
        )
    if form is not None and checkpoint.kind != "linear" and not is_form:
        raise BentoError(
            f"{config.name}: the form {form!r} was not compared with the model as trained; run the "
            "line"
        )


def lay_out(context: Path, kind: str, model: Path, requirements: tuple[str, ...]) -> None:
    """Lay the service and the model folder side by side, as they will lie in the Bento."""
    context.mkdir()
    own = MODULES_OF[kind]
    others = {name for names in MODULES_OF.values() for name in names if name not in own}
    for source in sorted(SERVICE.glob("*.py")):
        if source.name not in others:
            shutil.copyfile(source, context / source.name)
    shutil.copytree(model, context / "model")
    (context / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")


def _card(candidate: Candidate, tag: str) -> dict[str, Any]:
    """Return what the service must know: labels, limits, cleaning, privacy, and why it passed."""
    config, decision, checkpoint = candidate.config, candidate.decision, candidate.checkpoint
    evaluation = candidate.evaluation
    return {
        "pipeline": config.name,
        "tag": tag,
        "kind": checkpoint.kind,
        "base_model": checkpoint.base_model,
        "labels": list(config.data.label_names),
        **window_of(config, checkpoint),
        "max_texts": config.serving.max_texts,
        "max_characters": config.serving.max_characters,
        "cleaning": config.data.cleaning.model_dump(mode="json"),
        "privacy": config.data.privacy.model_dump(mode="json"),
        "calibration": evaluation.scaling and evaluation.scaling.model_dump(mode="json"),
        "abstention": evaluation.abstention and {"threshold": evaluation.abstention.threshold},
        "decision": decision.model_dump(mode="json"),
        "forced": decision.forced is not None,
        "test_rows": evaluation.rows,
        "digests": candidate.digests,
    }


def window_of(config: PipelineConfig, checkpoint: CheckpointManifest) -> dict[str, int | None]:
    """Return how many tokens of a text are read, and what pads a shorter one."""
    if checkpoint.kind == "linear":
        return {"max_length": None, "pad_token_id": None}
    tokenizer = load_tokenizer(checkpoint.path("model"))
    return {
        "max_length": config.training.max_length,
        "pad_token_id": int(tokenizer.pad_token_id),
    }


def run_bentoml(name: str, version: str, context: Path, scratch: Path) -> Path:
    """Run `bentoml build` in a store of its own and return the one Bento that it makes."""
    bentofile = {
        "service": "service:TextClassifier",
        "name": name,
        "description": "file: README.md",
        "include": ["*.py", "model/**"],
        "python": {"requirements_txt": "requirements.txt", "lock_packages": False},
        "envs": [{"name": "BENTOML_DO_NOT_TRACK", "value": "True"}],
    }
    (context / "bentofile.yaml").write_text(yaml.safe_dump(bentofile), encoding="utf-8")
    store, log = scratch / "store", scratch / "build.log"
    command = [sys.executable, "-m", "bentoml", "build", "--version", version, "."]
    with log.open("w", encoding="utf-8") as output:
        code = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=context,
            env=environment_with(BENTOML_HOME=str(store)),
        ).returncode
    built = store / "bentos" / name / version
    if code != 0 or not built.is_dir():
        raise BentoError(f"{name}:{version}: bentoml build ended with code {code}: {tail(log, 5)}")
    return built


build = task(name="build", task_run_name="build", cache_policy=NO_CACHE)(build_bento)
