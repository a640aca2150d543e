"""The model card of a Bento: Hugging Face's form, `README.md` with its metadata in YAML.

Everything in it comes from the run and its config, and what comes from the data is escaped.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from configs.schema import PipelineConfig, redact
from tasks.ladder import layers_of, numbers_of
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    EvaluationReport,
    Evidence,
    GateDecision,
    SplitManifest,
)
from tasks.rule_table import figure_cells, rule_table

_METRICS = ("accuracy", "precision.macro", "recall.macro", "f1.macro")
_WORDS = ("rule", "figure", "verdict")  # columns that are no numbers
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~!])")
_HUB_MODEL = re.compile(r"hf://([\w.-]+/[\w.-]+)")
_HUB_DATASET = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class Candidate:
    """What the line has made of a model that is to be released, up to the decision."""

    config: PipelineConfig
    dataset: DatasetManifest
    split: SplitManifest
    checkpoint: CheckpointManifest
    evidence: Evidence
    decision: GateDecision

    @property
    def evaluation(self) -> EvaluationReport:
        """Return the evaluation that was decided on."""
        return self.evidence.evaluation

    @property
    def digests(self) -> dict[str, str]:
        """Return the digest of what each stage made, by which the Bento is chained to it."""
        return {
            "dataset": self.dataset.digest,
            "split": self.split.digest,
            "checkpoint": self.checkpoint.digest,
            "evaluation": self.evaluation.digest,
            "decision": self.decision.digest,
        }


def model_card(candidate: Candidate, tag: str) -> str:
    """Return the card as markdown that opens with its metadata."""
    metadata = yaml.safe_dump(_metadata(candidate, tag), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {escaped(tag)}",
        *_verdict(candidate.decision),
        *_use(candidate.config, candidate.checkpoint, candidate.decision),
        *_rows(candidate),
        *_training(candidate),
        *_figures(candidate.evidence, candidate.decision),
        *_digests(candidate),
        *_serving(candidate.config.name),
    ]
    return f"---\n{metadata}---\n\n" + "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text that markdown shows as it is, on one line: neither its markup nor HTML's."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return _MARKUP.sub(r"\\\1", html.escape(line, quote=False))


def _metadata(candidate: Candidate, tag: str) -> dict[str, Any]:
    config, figures = candidate.config, candidate.evaluation.figures
    source = redact(config.data.uri)
    measured = [
        {"type": name.removesuffix(".macro"), "name": name, "value": figures[name].value}
        for name in _METRICS
    ]
    results = {
        "task": {"type": "text-classification", "name": "Text classification"},
        "dataset": {"type": config.name, "name": source, "split": "test"},
        "metrics": measured,
    }
    known: dict[str, Any] = {}
    if config.evaluation.baseline_stop_words != "none":
        known["language"] = [config.evaluation.baseline_stop_words]
    tags = ["ekiben", "bentoml", "text-classification"]
    if candidate.checkpoint.kind == "linear":  # no library of the hub's loads it
        tags += ["tf-idf", "logistic-regression"]
    else:
        is_form = candidate.checkpoint.kind.startswith("openvino")
        known["library_name"] = "openvino" if is_form else "transformers"
        if model := _HUB_MODEL.match(config.training.base_model):
            known["base_model"] = model[1]
    if dataset := _HUB_DATASET.match(source):
        known["datasets"] = [dataset[1]]
    return {
        **known,
        "pipeline_tag": "text-classification",
        "tags": tags,
        "metrics": [metric["type"] for metric in measured],
        "model-index": [{"name": tag, "results": [results]}],
    }


def _verdict(decision: GateDecision) -> Iterator[str]:
    said = {
        "pass": "It passed its gate.",
        "reject": "**Its gate rejected it.**",
        "undecided": "**Its gate could not decide on it**, for want of evidence.",
    }[decision.verdict]
    yield f"\n{said}"
    if decision.forced is not None:
        yield f"**A person forced its release**, with the reason: {escaped(decision.forced)}"
    elif decision.verdict == "undecided":
        yield "Its config releases such a model even so."
    if decision.verdict != "pass":
        yield "\nWhat did not pass:\n"
        yield from (f"- {escaped(reason)}" for reason in decision.reasons)
    if decision.judged_on == "value":
        yield "\nLimits were judged on the measured value alone, so a worse model may have passed."
    yield from (f"\nNote: {escaped(remark)}." for remark in decision.remarks)


def _use(
    config: PipelineConfig, checkpoint: CheckpointManifest, decision: GateDecision
) -> Iterator[str]:
    labels = ", ".join(escaped(label) for label in config.data.label_names)
    yield f"\n## Use\n\nIt gives a text one of {len(config.data.label_names)} labels: {labels}."
    yield "\nLimits:\n"
    yield "- Every text gets one of these labels, also one that none of them fits."
    yield "- The figures below hold for texts like those of the test split; on others, such as of"
    yield "  another language, source or time, nothing was measured."
    if checkpoint.kind == "linear":
        yield "- Of a text, words and pairs of words are read, and none that no training text has."
    else:
        yield f"- Of a text, the first {config.training.max_length} tokens are read; the answer says"
        yield "  whether there were more."
    yield f"- A request holds at most {config.serving.max_texts:,} texts of at most"
    yield f"  {config.serving.max_characters:,} characters."
    if config.data.privacy.mask:
        yield f"- Masked before they are read: {escaped(', '.join(config.data.privacy.mask))}."
    if decision.verdict != "pass":
        yield "- It is not known to reach the limits that were set for it."


def _rows(candidate: Candidate) -> Iterator[str]:
    split, labels = candidate.split, candidate.config.data.label_names
    yield f"\n## Data\n\nSource: {escaped(redact(candidate.config.data.uri))}"
    yield f"({candidate.dataset.rows:,} rows read)."
    yield f"\n| split | rows |{''.join(f' {escaped(label)} |' for label in labels)}"
    yield f"| --- | ---: |{' ---: |' * len(labels)}"
    for side, rows in split.rows.items():
        counts = "".join(f" {split.label_counts[side][label]:,} |" for label in labels)
        yield f"| {side} | {rows:,} |{counts}"
    if candidate.config.split.frozen_test is not None:
        taken = sum(split.leaked.values())
        yield f"\nThe test set is frozen; {taken:,} rows like its own were left out of training."


def _training(candidate: Candidate) -> Iterator[str]:
    config, checkpoint = candidate.config, candidate.checkpoint
    yield "\n## Training\n"
    made = {
        "parameters": f"{checkpoint.parameters:,}",
        "device": checkpoint.device,
        "precision": checkpoint.precision,
    }
    is_form = candidate.evaluation.original is not None
    if is_form:
        yield "Served in a cheaper form than the model as trained, which passed the same gate and was"
        yield f"compared with that on the same test rows: {escaped(checkpoint.kind)}.\n"
    if checkpoint.teacher_layers:
        taught = "taught by it" if checkpoint.epochs else "left as they were cut out"
        numbers = numbers_of(checkpoint)
        yield f"It is a student: {layers_of(checkpoint)} ({numbers} of the model's), {taught}."
        yield "Settings of its own begin with `student`.\n"
    if checkpoint.kind == "linear":
        yield "TF-IDF of words and pairs of words, and logistic regression: the run's baseline,"
        place = "no worse than" if is_form else "released in the place of"
        yield f"{place} the fine-tuned model{'' if is_form else ', which was not to be'}.\n"
        settings = {
            "class_weights": config.training.class_weights,
            "stop_words": config.evaluation.baseline_stop_words,
            "seed": config.training.seed,
        }
    else:
        settings = config.training.model_dump(mode="json")
        settings["base_model"] = redact(config.training.base_model)
        made["best_epoch"] = str(checkpoint.best_epoch)
        if checkpoint.teacher_layers:
            student = config.serving.student.model_dump(mode="json")
            settings |= {f"student.{name}": value for name, value in student.items()}
    settings |= made
    yield "| setting | value |\n| --- | --- |"
    yield from (f"| {escaped(name)} | {escaped(str(value))} |" for name, value in settings.items())


def _figures(evidence: Evidence, decision: GateDecision) -> Iterator[str]:
    evaluation = evidence.evaluation
    yield f"\n## Figures on {evaluation.rows:,} test rows\n"
    yield f"The rules of the gate, with {decision.level} intervals:\n"
    yield from markdown_table(rule_table(decision.rules, evaluation, evidence.challenge))
    yield "\nAll figures, with 95% intervals:\n"
    lines = [
        {"figure": name, **figure_cells(figure)} for name, figure in evaluation.figures.items()
    ]
    yield from markdown_table(lines)


def markdown_table(lines: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield as markdown a table whose lines are the cells by column; names are escaped."""
    yield f"| {' | '.join(lines[0])} |"
    yield f"| {' | '.join('---' if name in _WORDS else '---:' for name in lines[0])} |"
    for line in lines:
        cells = (escaped(cell) if name in _WORDS else cell for name, cell in line.items())
        yield f"| {' | '.join(cells)} |"


def _digests(candidate: Candidate) -> Iterator[str]:
    yield "\n## Digests\n\n| what | SHA-256 |\n| --- | --- |"
    yield f"| source | `{candidate.dataset.source_digest}` |"
    if candidate.checkpoint.kind != "linear":
        yield f"| base model | `{candidate.checkpoint.base_model_digest}` |"
    yield from (f"| {name} | `{digest}` |" for name, digest in candidate.digests.items())
    yield "\n`ekiben verify decision.json` works the verdict out again from the record beside the"
    yield "Bento's `report.html`."


def _serving(name: str) -> Iterator[str]:
    yield "\n## Serve\n\n```sh"
    yield f"bentoml serve {name}:latest"
    yield "curl -s http://127.0.0.1:3000/classify -H 'Content-Type: application/json' \\"
    yield """  -d '{"texts": ["Are we still on for lunch?"]}'"""
    yield "```"
