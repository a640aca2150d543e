"""The model card: Hugging Face can read its metadata, and its words are true of the run."""

import html.parser
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import GOOD, leakage_of, report_of
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from students import STUDENT

from configs.schema import PipelineConfig
from tasks.gate import force, judge
from tasks.manifests import CheckpointManifest, DatasetManifest, Evidence, SplitManifest
from tasks.model_card import Candidate, escaped, model_card

STEP: dict[str, Any] = {"key": "k", "parents": {}, "folder": Path("x"), "files": {}}
TAG = "sms:0123456789ab"
MARKED = ("<script>alert(1)</script>", "a|b *c* [d](http://e) `f` \n# g")


def candidate_of(
    labels: tuple[str, ...] = ("ham", "spam"),
    forced: str | None = None,
    least: float = 0.9,
    kind: str = "transformer",
    **sections: Any,
) -> Candidate:
    """Return a decided model of two labels."""
    config = PipelineConfig.model_validate(
        {
            "name": "sms",
            "data": {"uri": "s3://key:opensesame@bucket/sms.csv", "labels": list(labels)},
            "gate": {
                "accuracy": {"min": least},
                "precision": {"min_per_class": {labels[1]: 0.5}},
            },
            **sections,
        }
    )
    evaluation = report_of(GOOD, labels)
    evidence = Evidence(evaluation=evaluation, leakage=leakage_of(), uses=2)
    decision = judge(config.gate, evidence)
    sides = {side: dict.fromkeys(labels, 50) for side in ("train", "validation", "test")}
    return Candidate(
        config,
        DatasetManifest(
            **STEP, source="s", source_digest="5" * 64, rows=310, changed_by_cleaning=0,
            label_counts={},
        ),
        SplitManifest(**STEP, rows=dict.fromkeys(sides, 100), label_counts=sides),
        CheckpointManifest(
            **STEP, base_model="tiny", base_model_digest="3" * 64, parameters=12_345, device="cpu",
            precision="fp32", best_epoch=1, stopped_early=False, seconds=1.0, rows_per_second=1.0,
            truncated_rows=0, epochs=(), curve=(), kind=kind,
        ),
        evidence,
        force(decision, forced) if forced else decision,
    )  # fmt: skip


def metadata_of(card: str) -> ModelCardData:
    """Return the metadata as Hugging Face reads it."""
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def test_hugging_face_reads_the_metadata_with_every_value() -> None:
    candidate = candidate_of()
    card = metadata_of(model_card(candidate, TAG))
    assert card.pipeline_tag == "text-classification"
    assert card.get("library_name") == "transformers"
    assert card.model_name == TAG
    results = card.eval_results
    assert results is not None and all(isinstance(result, EvalResult) for result in results)
    assert {result.metric_name: result.metric_value for result in results} == {
        name: candidate.evaluation.figures[name].value
        for name in ("accuracy", "precision.macro", "recall.macro", "f1.macro")
    }
    assert [result.metric_type for result in results] == card.metrics
    assert {result.dataset_split for result in results} == {"test"}
    assert {result.dataset_type for result in results} == {"sms"}
    assert card.language is card.datasets is card.base_model is None


def test_what_comes_from_the_hub_and_is_known_of_the_language_is_in_the_metadata() -> None:
    card = metadata_of(
        model_card(
            candidate_of(
                data={"uri": "hf://ann/sms@0123", "labels": ["ham", "spam"]},
                training={"base_model": "hf://bert/tiny@4567"},
                evaluation={"baseline_stop_words": "en"},
            ),
            TAG,
        )
    )
    assert card.datasets == ["ann/sms"]
    assert card.base_model == "bert/tiny"
    assert card.language == ["en"]


def test_a_baseline_is_not_said_to_be_a_transformer() -> None:
    training = {"base_model": "hf://bert/tiny@4567", "max_length": 77}
    card = model_card(candidate_of(kind="linear", training=training), TAG)
    metadata = dict(metadata_of(card).__dict__)
    assert metadata.get("library_name") is None and metadata.get("base_model") is None
    assert metadata["tags"][-2:] == ["tf-idf", "logistic-regression"]
    body = card.split("---\n", 2)[2]
    for told in ("transformer", "bert", "tokens", "learning", "epoch", "base model"):
        assert told not in body
    assert "the run's baseline,\nreleased in the place of the fine-tuned model" in body
    assert "| stop\\_words | none |" in body and "| parameters | 12,345 |" in body
    own = model_card(candidate_of(training=training), TAG)
    assert "logistic" not in own and "the first 77 tokens are read" in own


def test_a_student_is_said_to_be_one_with_its_layers_and_settings() -> None:
    candidate = candidate_of(serving={"forms": ["student"], "student": {"temperature": 3.5}})
    assert "student" not in model_card(candidate, TAG)
    student = STUDENT.model_copy(update={"kind": "openvino-student"})
    card = model_card(replace(candidate, checkpoint=student), TAG)
    assert "It is a student: 2 layers (numbers 1, 6 of the model's), taught by it." in card
    assert "| student.temperature | 3.5 |" in card and "| parameters | 11,000,000 |" in card
    assert metadata_of(card).get("library_name") == "openvino"


def test_no_secret_of_the_source_is_in_it() -> None:
    card = model_card(candidate_of(), TAG)
    assert "opensesame" not in card
    assert "bucket/sms.csv" in card


def test_a_model_that_passed_is_said_to_have_and_its_figures_are_told() -> None:
    card = model_card(candidate_of(), TAG)
    assert "It passed its gate." in card
    assert "forced" not in card and "What did not pass" not in card
    assert "| accuracy | 0.9700 | [0.9575, 0.9789] | 1,000 | ≥ 0.9 | pass |" in card
    assert "| leaked test rows | 0 |  | 1,000 | ≤ 0 | pass |" in card
    assert "| train | 100 | 50 | 50 |" in card
    assert "| parameters | 12,345 |" in card
    assert "Note: this test set has decided on 2 models, this one included" in card


@pytest.mark.parametrize(("least", "said"), [(0.99, "rejected it"), (0.97, "could not decide")])
def test_a_forced_model_is_marked_with_the_reason_and_what_did_not_pass(
    least: float, said: str
) -> None:
    card = model_card(candidate_of(forced="the <fair> is on", least=least), TAG)
    assert f"**Its gate {said}" in card
    assert "**A person forced its release**, with the reason: the &lt;fair&gt; is on" in card
    assert "What did not pass:\n\n- accuracy: 0.9700" in card
    assert "It is not known to reach the limits that were set for it." in card


def test_an_undecided_model_that_the_config_releases_is_not_said_to_have_passed() -> None:
    gate = {"accuracy": {"min": 0.97}, "undecided": "release"}
    card = model_card(candidate_of(gate=gate), TAG)
    assert "It passed" not in card
    assert "Its config releases such a model even so." in card


def test_every_digest_of_the_chain_is_in_it() -> None:
    candidate = candidate_of()
    card = model_card(candidate, TAG)
    for digest in (*candidate.digests.values(), "5" * 64, "3" * 64):
        assert f"`{digest}`" in card


class Elements(html.parser.HTMLParser):
    """Collects the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def test_markup_in_labels_comes_out_as_text() -> None:
    card = model_card(candidate_of(labels=MARKED), TAG)
    body = card.split("---\n", 2)[2]
    reader = Elements()
    reader.feed(body)
    assert reader.found == []
    for raw in ("a|b", "*c*", "[d]", "`f`", "\n# g"):
        assert raw not in body
    assert r"a\|b \*c\* \[d\](http://e) \`f\`  \# g" in body
    rows = [line for line in body.splitlines() if line.startswith("| train |")]
    assert rows == ["| train | 100 | 50 | 50 |"]
    assert metadata_of(card).pipeline_tag == "text-classification"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ham", "ham"),
        ("a_b", r"a\_b"),
        ("<b>&amp;</b>", "&lt;b&gt;&amp;amp;&lt;/b&gt;"),
        ("one\ntwo\x07", "one two "),
        ("\\| |", r"\\\| \|"),
        ("![x](y)", r"\!\[x\](y)"),
        ("猫", "猫"),
    ],
)
def test_text_is_escaped_for_markdown_and_html(text: str, shown: str) -> None:
    assert escaped(text) == shown
