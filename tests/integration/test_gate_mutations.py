"""What might get a model past its gate that does not reach it, each tried: none is released.

The model here has random weights. Each case mends something, in memory or on disk, so that it would
pass; the line from the evaluation to the Bento must end without one.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from tables import as_made

from configs.errors import BentoError, ConfigError, EkibenError, GateError, StepError
from configs.limits import BaselineRules, ChampionRules, FormRules
from configs.loading import load_config
from configs.schema import Gate, PipelineConfig, Robustness
from tasks import building
from tasks.baseline import fit_baseline
from tasks.calibrating import calibrate_candidate
from tasks.evaluation import evaluate_candidate
from tasks.figures import estimates_of
from tasks.gate import judge
from tasks.ingest import SCHEMA
from tasks.leakage import count_leaks
from tasks.manifests import (
    CalibrationManifest,
    ChallengeReport,
    CheckpointManifest,
    Contest,
    DatasetManifest,
    EvaluationReport,
    Evidence,
    GateDecision,
    RuleVerdict,
    SplitManifest,
)
from tasks.model_card import Candidate
from tasks.questions import figure_of
from tasks.steps import MANIFEST, write_json

LABELS = ("ham", "spam")
BETTER = [[140, 10], [10, 40]]

# --- A gate that lets everything pass, by mistake or not -------------------------------------------

GATES = {
    "no gate": "gate:",
    "an empty gate": "gate: {}",
    "a list": "gate: [accuracy]",
    "a number": "gate: 0.9",
    "no limit": "gate: {accuracy: {}}",
    "a limit of nothing": "gate: {accuracy: {min: null}}",
    "a limit of 0": "gate: {accuracy: {min: 0}}",
    "a limit of true": "gate: {accuracy: {min: true}}",
    "a limit in words": "gate: {accuracy: {min: high}}",
    "a limit with a sign": "gate: {accuracy: {min: 90%}}",
    "a limit in per cent": "gate: {accuracy: {min: 90}}",
    "a limit just above 1": "gate: {accuracy: {min: 1.0000001}}",
    "a limit below 0": "gate: {accuracy: {min: -0.9}}",
    "a limit that is no number": "gate: {accuracy: {min: .nan}}",
    "an endless limit": "gate: {accuracy: {min: .inf}}",
    "a limit below all": "gate: {accuracy: {min: -.inf}}",
    "a list for a limit": "gate: {accuracy: {min: [0.9]}}",
    "a limit without its section": "gate: {accuracy: 0.9}",
    "a wrong metric": "gate: {acuracy: {min: 0.9}}",
    "a metric in capitals": "gate: {Accuracy: {min: 0.9}}",
    "a metric that is none": "gate: {auc: {min: 0.9}}",
    "a wrong bound": "gate: {accuracy: {minimum: 0.9}}",
    "the other bound": "gate: {accuracy: {max: 0.9}}",
    "a wrong average": "gate: {recall: {min_micro: 0.9}}",
    "a label that is none": "gate: {recall: {min_per_class: {eggs: 0.9}}}",
    "a label in capitals": "gate: {recall: {min_per_class: {Spam: 0.9}}}",
    "a label's limit above 1": "gate: {recall: {min_per_class: {spam: 2}}}",
    "a label's limit that is no number": "gate: {recall: {min_per_class: {spam: .nan}}}",
    "a list of labels": "gate: {recall: {min_per_class: [spam]}}",
    "a limit said twice": "gate: {accuracy: {min: 0.9}, accuracy: {min: 0.1}}",
    "a bound said twice": "gate: {accuracy: {min: 0.9, min: 0.1}}",
    "no test rows": "gate: {accuracy: {min: 0.9}, min_test_rows: 0}",
    "fewer than no test rows": "gate: {accuracy: {min: 0.9}, min_test_rows: -5}",
    "no support": "gate: {accuracy: {min: 0.9}, min_support: 0}",
    "what is undecided passes": "gate: {accuracy: {min: 0.9}, undecided: pass}",
    "another thing to judge on": "gate: {accuracy: {min: 0.9}, judge_on: nothing}",
    "a gain in a metric that is none": "gate: {champion: {min_gain: {auc: 0.0}}}",
    "a gain in a label that is none": "gate: {baseline: {min_gain: {recall.eggs: 0.0}}}",
    "a gain of more than all": "gate: {champion: {min_gain: {accuracy: 1.5}}}",
    "a margin of all": "gate: {champion: {min_gain: {accuracy: -1}}}",
    "a gain that is no number": "gate: {baseline: {min_gain: {accuracy: .nan}}}",
    "no gain to be made": "gate: {champion: {missing: pass}}",
    "a missing champion that rejects nothing": "gate: {champion: {missing: release}}",
    "a release by config": "gate: {accuracy: {min: 0.9}, verdict: pass}",
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_a_gate_that_would_not_hold_is_refused(tmp_path: Path, gate: str) -> None:
    file = tmp_path / "spam.yaml"
    file.write_text(
        f"name: spam\ndata: {{uri: rows.csv, labels: [ham, spam]}}\n{gate}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"gate|written twice"):
        load_config(file)


# --- The line from the evaluation on, with a model that does not pass ------------------------------


@dataclass(frozen=True)
class Line:
    """What stands before the decision; its evaluation is on disk."""

    config: PipelineConfig
    dataset: DatasetManifest
    split: SplitManifest
    checkpoint: CheckpointManifest
    calibration: CalibrationManifest
    baseline: CheckpointManifest
    evaluation: EvaluationReport

    def end(self) -> GateDecision:
        """Evaluate, decide and build as the pipeline does; return the decision."""
        evaluation = evaluate_candidate(
            self.config, self.split, self.checkpoint, self.calibration, self.baseline
        )
        evidence = self.evidence(evaluation)
        decision = judge(self.config.gate, evidence)
        self.build(evidence, decision)
        return decision

    def evidence(self, evaluation: EvaluationReport) -> Evidence:
        """Return an evaluation with what goes with it, counted anew."""
        return Evidence(evaluation=evaluation, leakage=count_leaks(self.config, self.split))

    def build(self, evidence: Evidence, decision: GateDecision) -> None:
        """Build, unless the decision is another."""
        if decision.action == "release":
            building.build_bento(
                Candidate(
                    self.config, self.dataset, self.split, self.checkpoint, evidence, decision
                )
            )


def config_with(least: float) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "spam",
            "data": {"uri": "rows.csv", "labels": {label: label for label in LABELS}},
            "training": {"max_length": 32, "device": "cpu"},
            "evaluation": {"bootstrap_samples": 200},
            "gate": {"accuracy": {"min": least}, "recall": {"min": least}},
        }
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Line]:
    """Return a line in a home of its own, evaluated once; the accuracy is that of guessing."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKIBEN_HOME", str(folder / "home"))
        patch.setenv("BENTOML_HOME", str(folder / "bentoml"))
        split, checkpoint = split_in(folder / "split"), checkpoint_in(folder / "model", tiny_model)
        config = config_with(0.9)
        calibration = calibrate_candidate(config, split, checkpoint)
        baseline = fit_baseline(config, split)
        yield Line(
            config, dataset_in(folder), split, checkpoint, calibration, baseline,
            evaluate_candidate(config, split, checkpoint, calibration, baseline),
        )  # fmt: skip


@pytest.fixture
def line(evaluated: Line, homes: Path) -> Line:
    """Return a copy of the line in a home of this test's own."""
    home = evaluated.split.folder.parent
    shutil.copytree(home / "home", homes / "ekiben_home")
    moved = {}
    for name in ("split", "checkpoint"):
        manifest = getattr(evaluated, name)
        folder = shutil.copytree(manifest.folder, homes / manifest.folder.name)
        moved[name] = manifest.model_copy(update={"folder": folder})
    for name in ("baseline", "calibration", "evaluation"):
        manifest = getattr(evaluated, name)
        place = homes / "ekiben_home" / manifest.folder.relative_to(home / "home")
        moved[name] = manifest.model_copy(update={"folder": place})
    return replace(evaluated, **moved)


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tags that came as far as `bentoml build`, which is not run."""
    tags: list[str] = []

    def run(name: str, version: str, *_: Any) -> Path:
        tags.append(f"{name}:{version}")
        raise BentoError("came as far as bentoml build")

    monkeypatch.setattr(building, "run_bentoml", run)
    return tags


def split_in(folder: Path) -> SplitManifest:
    folder.mkdir()
    counts = {"train": 60, "validation": 20, "test": 200}
    for side, count in counts.items():
        rows = [
            {"row": n, "text": f"{side} {n:b} lunch", "label": LABELS[n % 4 == 0], "group": None}
            for n in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / f"{side}.parquet")
    spam = {side: -(-count // 4) for side, count in counts.items()}
    labels = {side: {"ham": counts[side] - rows, "spam": rows} for side, rows in spam.items()}
    return as_made(
        SplitManifest(
            key="1" * 64, parents={}, folder=folder, files={}, rows=counts, label_counts=labels
        )
    )


def checkpoint_in(folder: Path, model: Path) -> CheckpointManifest:
    shutil.copytree(model, folder / "model")
    return as_made(
        CheckpointManifest(
            key="2" * 64, parents={}, folder=folder, files={}, base_model="tiny",
            base_model_digest="3" * 64, parameters=1, device="cpu", precision="fp32",
            best_epoch=1, stopped_early=False, seconds=1.0, rows_per_second=1.0,
            truncated_rows=0, epochs=(), curve=(),
        )
    )  # fmt: skip


def dataset_in(folder: Path) -> DatasetManifest:
    return DatasetManifest(
        key="4" * 64, parents={}, folder=folder, files={}, source="rows.csv", source_digest="5",
        rows=280, changed_by_cleaning=0, label_counts={},
    )  # fmt: skip


def test_the_model_is_rejected_and_with_a_lower_limit_would_be_built(
    line: Line, built: list[str]
) -> None:
    assert line.end().action == "reject"
    assert built == []
    lenient = replace(line, config=config_with(0.01))
    with pytest.raises(BentoError, match="came as far as bentoml build"):
        lenient.end()
    assert len(built) == 1


# --- An evaluation that is not what was measured ---------------------------------------------------


def figures_of(confusion: Any) -> dict[str, Any]:
    """Return the figures of a confusion matrix, as they stand in a report."""
    estimates = estimates_of(np.array(confusion), LABELS, 200, 0)
    return {name: figure_of(estimate).model_dump() for name, estimate in estimates.items()}


PERFECT = [[150, 0], [0, 50]]
ALL_RIGHT = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 200, "method": "Wilson"}
EDITS: dict[str, dict[str, Any]] = {
    "an accuracy of 1": {"figures": {"accuracy": ALL_RIGHT}},
    "an accuracy that is no number": {"figures": {"accuracy": {**ALL_RIGHT, "value": nan}}},
    "an endless accuracy": {"figures": {"accuracy": {**ALL_RIGHT, "value": inf}}},
    "an accuracy below all": {"figures": {"accuracy": {**ALL_RIGHT, "value": -inf}}},
    "an accuracy above 1": {"figures": {"accuracy": {**ALL_RIGHT, "value": 98.5}}},
    "an accuracy as text": {"figures": {"accuracy": {**ALL_RIGHT, "value": "1.0"}}},
    "an accuracy in words": {"figures": {"accuracy": {**ALL_RIGHT, "value": "high"}}},
    "an accuracy of true": {"figures": {"accuracy": {**ALL_RIGHT, "value": True}}},
    "no accuracy": {"figures": {"accuracy": None}},
    "an accuracy without a value": {"figures": {"accuracy": {**ALL_RIGHT, "value": None}}},
    "an interval above the limit": {"figures": {"accuracy": {"low": 0.95, "high": 0.99}}},
    "a macro recall of 1": {"figures": {"recall.macro": ALL_RIGHT}},
    "all figures of a better model": {"figures": figures_of(PERFECT)},
    "only right answers": {"confusion": PERFECT},
    "only right answers, and their figures": {
        "confusion": PERFECT, "figures": figures_of(PERFECT)
    },
    "a better model's counts and figures": {"confusion": BETTER, "figures": figures_of(BETTER)},
    "fewer rows, all right": {
        "rows": 120, "confusion": [[100, 0], [0, 20]], "figures": figures_of([[100, 0], [0, 20]])
    },
    "more rows, all right": {
        "rows": 2000, "confusion": [[1500, 0], [0, 500]],
        "figures": figures_of([[1500, 0], [0, 500]]),
    },
    "no rows": {"rows": 0, "confusion": [[0, 0], [0, 0]]},
    "no counts": {"confusion": []},
    "counts that cancel": {"confusion": [[250, -50], [-50, 50]]},
    "counts of other labels": {"labels": ["ham", "spam", "eggs"]},
    "labels that change places": {"labels": ["spam", "ham"]},
    "counts that are no numbers": {"confusion": [["many", 0], [0, "few"]]},
    "parts of rows": {"confusion": [[150.5, 0], [0, 49.5]]},
    "a ragged matrix": {"confusion": [[150, 0], [50]]},
    "no resamples": {"bootstrap_samples": 0},
    "fewer than no resamples": {"bootstrap_samples": -1},
    "one resample": {"bootstrap_samples": 1},
    "resamples by another seed": {"bootstrap_seed": 1},
    "a key too many": {"verdict": "pass"},
    "another checkpoint": {"parents": {"checkpoint": "0" * 64}},
}  # fmt: skip


def edited(report: EvaluationReport, edit: dict[str, Any]) -> str:
    """Return the report's JSON with the edit laid over it; None takes a figure out."""
    tree = report.model_dump(mode="json")
    for key, value in edit.items():
        if key == "figures":
            for name, changes in value.items():
                if changes is None:
                    del tree["figures"][name]
                else:
                    tree["figures"][name] |= changes
        elif key == "parents":
            tree["parents"] |= value
        else:
            tree[key] = value
    return json.dumps(tree)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_evaluation_releases_nothing(
    line: Line, built: list[str], edit: dict[str, Any]
) -> None:
    text = edited(line.evaluation, edit)
    try:
        report = EvaluationReport.model_validate_json(text)
        evidence = line.evidence(report)
        line.build(evidence, judge(line.config.gate, evidence))
    except (EkibenError, ValidationError):
        pass
    assert built == []


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_evaluation_edited_on_disk_releases_nothing(
    line: Line, built: list[str], edit: dict[str, Any]
) -> None:
    (line.evaluation.folder / MANIFEST).write_text(edited(line.evaluation, edit), encoding="utf-8")
    try:
        decision = line.end()
        assert decision.action != "release"
    except EkibenError:
        pass
    assert built == []


# --- Test rows or weights that are not those of the run --------------------------------------------


def emptied(line: Line) -> None:
    file = line.split.path("test.parquet")
    pq.write_table(pq.read_table(file)[:0], file)


def cut_short(line: Line) -> None:
    file = line.split.path("test.parquet")
    pq.write_table(pq.read_table(file)[:120], file)


def trained_on(line: Line) -> None:
    shutil.copy(line.split.path("train.parquet"), line.split.path("test.parquet"))


def relabelled(line: Line) -> None:
    file = line.split.path("test.parquet")
    said = pq.read_table(line.evaluation.path("predictions.parquet"))["predicted"]
    pq.write_table(pq.read_table(file).set_column(2, "label", said), file)


def only_the_right_ones(line: Line) -> None:
    file = line.split.path("test.parquet")
    said = pq.read_table(line.evaluation.path("predictions.parquet"))
    pq.write_table(pq.read_table(file).filter(pc.equal(said["label"], said["predicted"])), file)


def taken_away(line: Line) -> None:
    line.split.path("test.parquet").unlink()


def no_parquet(line: Line) -> None:
    line.split.path("test.parquet").write_bytes(b"text,label\n")


def other_weights(line: Line) -> None:
    file = line.checkpoint.path("model/model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def other_settings(line: Line) -> None:
    file = line.checkpoint.path("model/config.json")
    file.write_text(file.read_text(encoding="utf-8").replace("}", " }"), encoding="utf-8")


def other_tokenizer(line: Line) -> None:
    line.checkpoint.path("model/tokenizer.json").unlink()


def code_beside_the_weights(line: Line) -> None:
    line.checkpoint.path("model/modeling.py").write_text("print('hello')\n", encoding="utf-8")


def another_checkpoint_s_manifest(line: Line) -> None:
    changed = line.checkpoint.model_copy(update={"best_epoch": 2})
    write_json(line.checkpoint.folder / MANIFEST, changed.model_dump(mode="json"))


SWAPS = (
    emptied, cut_short, trained_on, relabelled, only_the_right_ones, taken_away, no_parquet,
    other_weights, other_settings, other_tokenizer, code_beside_the_weights,
    another_checkpoint_s_manifest,
)  # fmt: skip


@pytest.mark.parametrize("swap", SWAPS)
def test_what_was_swapped_before_the_evaluation_is_an_error(
    line: Line, built: list[str], swap: Callable[[Line], None]
) -> None:
    swap(line)
    lenient = replace(line, config=config_with(0.01))
    with pytest.raises(StepError, match="is not as the step made it"):
        lenient.end()
    assert built == []


@pytest.mark.parametrize("swap", SWAPS[7:])
def test_a_checkpoint_that_was_swapped_after_the_decision_is_not_built(
    line: Line, built: list[str], swap: Callable[[Line], None]
) -> None:
    lenient = replace(line, config=config_with(0.01))
    evidence = line.evidence(line.evaluation)
    decision = judge(lenient.config.gate, evidence)
    assert decision.action == "release"
    swap(line)
    with pytest.raises(StepError, match="is not as the step made it"):
        lenient.build(evidence, decision)
    assert built == []


def test_a_checkpoint_that_was_not_evaluated_is_not_built(line: Line, built: list[str]) -> None:
    lenient = replace(line, config=config_with(0.01))
    evidence = line.evidence(line.evaluation)
    decision = judge(lenient.config.gate, evidence)
    other = lenient.checkpoint.model_copy(update={"key": "9" * 64})
    with pytest.raises(BentoError, match="the evaluation is of another checkpoint than 9999"):
        replace(lenient, checkpoint=as_made(other)).build(evidence, decision)
    assert built == []


# --- A decision that the gate did not make ---------------------------------------------------------

DECISIONS: dict[str, dict[str, Any]] = {
    "released all the same": {"action": "release"},
    "passed and released": {"verdict": "pass", "action": "release"},
    "passed without a rule": {"verdict": "pass", "action": "release", "rules": (), "reasons": ()},
    "judged on something else": {"action": "release", "judged_on": "value"},
    "about another evaluation": {"action": "release", "evidence": {"evaluate": "0" * 64}},
    "about nothing": {"action": "release", "evidence": {}},
    "with another reason": {"action": "release", "reasons": ("all is well",)},
    "undecided and released": {"verdict": "undecided", "action": "release"},
}


@pytest.mark.parametrize("changes", DECISIONS.values(), ids=DECISIONS)
def test_a_decision_that_the_gate_does_not_come_to_builds_nothing(
    line: Line, built: list[str], changes: dict[str, Any]
) -> None:
    evidence = line.evidence(line.evaluation)
    decision = judge(line.config.gate, evidence).model_copy(update=changes)
    with pytest.raises(BentoError, match="the gate does not come to the decision"):
        line.build(evidence, decision)
    assert built == []


def test_a_decision_with_its_rules_mended_builds_nothing(line: Line, built: list[str]) -> None:
    evidence = line.evidence(line.evaluation)
    decision = judge(line.config.gate, evidence)
    mended: tuple[RuleVerdict, ...] = tuple(
        rule.model_copy(update={"limit": 0.01, "verdict": "pass"}) for rule in decision.rules
    )
    changes = {"verdict": "pass", "action": "release", "rules": mended}
    with pytest.raises(BentoError, match="the gate does not come to the decision"):
        line.build(evidence, decision.model_copy(update=changes))
    assert built == []


def test_a_decision_under_another_gate_builds_nothing(line: Line, built: list[str]) -> None:
    evidence = line.evidence(line.evaluation)
    lenient = judge(Gate.model_validate({"accuracy": {"min": 0.01}}), evidence)
    assert lenient.action == "release"
    with pytest.raises(BentoError, match="the gate does not come to the decision"):
        line.build(evidence, lenient)
    assert built == []


def test_a_rejected_model_is_not_built_directly(line: Line, built: list[str]) -> None:
    evidence = line.evidence(line.evaluation)
    decision = judge(line.config.gate, evidence)
    with pytest.raises(BentoError, match="only what is to be released is built"):
        building.build_bento(
            Candidate(line.config, line.dataset, line.split, line.checkpoint, evidence, decision)
        )
    assert built == []


def test_evidence_that_is_silent_on_leaks_builds_nothing(line: Line, built: list[str]) -> None:
    lenient = replace(line, config=config_with(0.01))
    evidence = Evidence(evaluation=line.evaluation)
    decision = judge(lenient.config.gate, evidence)
    assert decision.action == "release"
    with pytest.raises(BentoError, match="does not say how many test rows are in training, too"):
        lenient.build(evidence, decision)
    assert built == []


def test_leaks_that_were_counted_on_another_split_build_nothing(
    line: Line, built: list[str]
) -> None:
    lenient = replace(line, config=config_with(0.01))
    evidence = lenient.evidence(line.evaluation)
    assert evidence.leakage is not None
    decision = judge(lenient.config.gate, evidence)
    other = evidence.leakage.model_copy(update={"parents": {"split": "0" * 64}})
    with pytest.raises(GateError, match="the leaks were counted on another split"):
        lenient.build(evidence.model_copy(update={"leakage": other}), decision)
    assert built == []


def challenge_of(line: Line) -> ChallengeReport:
    """Return a comparison with a champion that was wrong on every row."""
    report = line.evaluation
    counts = tuple(
        (actual, given, 1 - actual, rows)
        for actual, row in enumerate(report.confusion)
        for given, rows in enumerate(row)
        if rows
    )
    return ChallengeReport(
        key="6" * 64, folder=line.split.folder, files={}, champion="spam:1", status="compared",
        told="", rows=report.rows, left_out=0, contest=Contest(counts=counts), figures={},
        parents={"split": line.split.digest, "evaluation": report.digest},
    )  # fmt: skip


@pytest.mark.parametrize("parent", ["evaluation", "split"])
@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_a_challenge_made_for_another_evaluation_or_split_builds_nothing(
    line: Line, built: list[str], parent: str, digest: str | None
) -> None:
    rules = ChampionRules(min_gain={"accuracy": 0.0})
    gate = config_with(0.01).gate.model_copy(update={"champion": rules})
    lenient = replace(line, config=line.config.model_copy(update={"gate": gate}))
    own = challenge_of(line)
    evidence = line.evidence(line.evaluation).model_copy(update={"challenge": own})
    decision = judge(gate, evidence)
    assert decision.action == "release"
    parents = (
        {**own.parents, parent: digest}
        if digest
        else {name: known for name, known in own.parents.items() if name != parent}
    )
    other = own.model_copy(update={"parents": parents})
    with pytest.raises(GateError, match=f"the challenge was made for the {parent}"):
        lenient.build(evidence.model_copy(update={"challenge": other}), decision)
    assert built == []


@pytest.mark.parametrize("declared", [{"perturbations": ["case"]}, {"cases": "cases.csv"}])
def test_a_probe_that_is_declared_and_left_out_builds_nothing(
    line: Line, built: list[str], declared: dict[str, Any]
) -> None:
    lenient = config_with(0.01)
    robustness = Robustness.model_validate(declared)
    lenient = lenient.model_copy(update={"robustness": robustness})
    evidence = line.evidence(line.evaluation)
    decision = judge(lenient.gate, evidence)
    assert decision.action == "release"
    with pytest.raises(BentoError, match="robustness declares a probe, and the evidence has none"):
        replace(line, config=lenient).build(evidence, decision)
    assert built == []


def test_a_baseline_is_built_only_where_the_config_has_it_released(
    line: Line, built: list[str]
) -> None:
    config = config_with(0.01)
    gate = config.gate.model_copy(update={"baseline": BaselineRules(release_instead=True)})
    calibration = calibrate_candidate(config, line.split, line.baseline)
    evaluation = evaluate_candidate(config, line.split, line.baseline, calibration, line.baseline)
    own = replace(line, config=config, checkpoint=line.baseline)
    evidence = own.evidence(evaluation)
    decision = judge(gate, evidence)
    with pytest.raises(BentoError, match="release_instead is false"):
        own.build(evidence, decision)
    assert built == []
    allowed = replace(own, config=config.model_copy(update={"gate": gate}))
    with pytest.raises(BentoError, match="came as far as bentoml build"):
        allowed.build(evidence, decision)
    assert len(built) == 1


def test_a_form_is_built_only_beside_its_original_and_where_the_config_asks(
    line: Line, built: list[str]
) -> None:
    lenient = config_with(0.01)
    lenient = lenient.model_copy(
        update={"gate": lenient.gate.model_copy(update={"form": FormRules(min_gain={})})}
    )
    form = line.checkpoint.model_copy(update={"kind": "openvino-int8"})
    alone = replace(line, config=lenient, checkpoint=form)
    evidence = line.evidence(line.evaluation)
    with pytest.raises(BentoError, match="'int8' was not compared with the model as trained"):
        alone.build(evidence, judge(lenient.gate, evidence))
    beside = evaluate_candidate(
        lenient, line.split, line.checkpoint, line.calibration, line.baseline, line.evaluation
    )
    evidence = line.evidence(beside)
    serving = lenient.serving.model_copy(update={"forms": ("fp32",)})
    unasked = replace(alone, config=lenient.model_copy(update={"serving": serving}))
    with pytest.raises(BentoError, match=r"'int8' is no form to be released; .* \['fp32'\]"):
        unasked.build(evidence, judge(lenient.gate, evidence))
    baseline = replace(line, config=lenient, checkpoint=line.baseline)
    with pytest.raises(BentoError, match="'baseline' is no form to be released"):
        baseline.build(evidence, judge(lenient.gate, evidence))
    assert built == []


def test_a_form_that_is_worse_than_its_original_is_rejected(line: Line) -> None:
    gate = Gate.model_validate({"accuracy": {"min": 0.01}, "form": {"min_gain": {"accuracy": 0.5}}})
    beside = evaluate_candidate(
        line.config, line.split, line.checkpoint, line.calibration, line.baseline, line.evaluation
    )
    assert beside.original is not None and beside.model == line.evaluation.model
    assert all(given == other for _, given, other, _ in beside.original.contest.counts)
    decision = judge(gate, line.evidence(beside))
    assert decision.verdict == "reject"
    assert [rule.metric for rule in decision.rules if rule.verdict == "reject"] == [
        "accuracy over original"
    ]
