"""Decision records: worked out again to the same verdict, and every edit noticed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import leakage_of, report_of

from configs.errors import GateError
from configs.schema import Gate
from tasks.digests import value_digest
from tasks.gate import force, judge
from tasks.manifests import Evidence
from tasks.records import DecisionRecord, read_record, record_of, write_record

GATE = {"accuracy": {"min": 0.99}, "recall": {"min": 0.5, "min_per_class": {"spam": 0.85}}}
Tree = dict[str, Any]


def decided(forced: str | None = None, uses: int = 1, **gate: Any) -> DecisionRecord:
    """Return the record of a model that its gate rejects for its accuracy."""
    limits = Gate.model_validate({**GATE, **gate})
    evidence = Evidence(evaluation=report_of(), leakage=leakage_of(), uses=uses)
    decision = judge(limits, evidence)
    if forced is not None:
        decision = force(decision, forced)
    return record_of("sms", limits, evidence, decision)


def tree_of(record: DecisionRecord) -> Tree:
    tree: Tree = json.loads(json.dumps(record.model_dump(mode="json")))
    return tree


def written(folder: Path, tree: Any) -> Path:
    file = folder / "decision.json"
    file.write_text(json.dumps(tree), encoding="utf-8")
    return file


def resealed(tree: Tree) -> Tree:
    """Return the record with a digest that is right again."""
    rest = {key: value for key, value in tree.items() if key != "digest"}
    return {**rest, "digest": value_digest(rest)}


def problems_of(folder: Path, tree: Any) -> list[str]:
    """Return what is wrong with a record, whether it could be read or not."""
    try:
        return read_record(written(folder, tree))[1]
    except GateError as error:
        return error.problems


@pytest.mark.parametrize(
    "record",
    [
        decided(),
        decided("the fair is on Monday"),
        decided(uses=7),
        decided(uses=7, reuse="widen"),
        decided(judge_on="value"),
        decided(accuracy={"min": 0.97}, undecided="release"),
    ],
    ids=["rejected", "forced", "used", "widened", "by value", "undecided"],
)
def test_a_record_that_nobody_touched_agrees(homes: Path, record: DecisionRecord) -> None:
    file = write_record(record)
    assert file.parent == homes / "ekiben_home" / "decisions" / "sms"
    assert file.name.endswith(f"-{record.decision.verdict}.json")
    assert read_record(file) == (record, [])


def put(*path: str | int, value: Any) -> Callable[[Tree], None]:
    """Return an edit that sets one value in the record."""

    def edit(tree: Tree) -> None:
        node: Any = tree
        for key in path[:-1]:
            node = node[key]
        assert node[path[-1]] != value
        node[path[-1]] = value

    return edit


def drop(*path: str | int) -> Callable[[Tree], None]:
    """Return an edit that takes one value out of the record."""

    def edit(tree: Tree) -> None:
        node: Any = tree
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return edit


DECISION, EVALUATION, LEAKAGE = ("decision",), ("evidence", "evaluation"), ("evidence", "leakage")
UNDEFINED = {"value": None, "n": 0, "method": "none"}
RULE = (*DECISION, "rules", 0)
OF_NO_CONSEQUENCE = {
    "the pipeline": put("pipeline", value="other"),
    "the time": put("decided_at", value="2020-01-01T00:00:00+00:00"),
    "the version": put("ekiben", value="9.9"),
    "the code": put("code", value="0" * 64),
    "the least support": put("gate", "min_support", value=11),
    "where the evaluation lay": put(*EVALUATION, "folder", value="/tmp/x"),
    "what is done of the undecided": put("gate", "undecided", value="release"),
}
OF_CONSEQUENCE = {
    "the verdict": put(*DECISION, "verdict", value="pass"),
    "the action": put(*DECISION, "action", value="release"),
    "a reason": put(*DECISION, "reasons", value=["accuracy: fine"]),
    "no reasons": put(*DECISION, "reasons", value=[]),
    "what it was judged on": put(*DECISION, "judged_on", value="value"),
    "a remark": put(*DECISION, "remarks", value=["all is well"]),
    "the deviates": put(*DECISION, "z", value=1.0),
    "the evidence it names": put(*DECISION, "evidence", "evaluate", value="0" * 64),
    "forced, though rejected": put(*DECISION, "forced", value="because"),
    "a rule's verdict": put(*RULE, "verdict", value="pass"),
    "a rule's limit": put(*RULE, "limit", value=0.5),
    "a rule's name": put(*RULE, "metric", value="recall.ham"),
    "a rule's side": put(*RULE, "at_most", value=True),
    "a rule's reason": put(*RULE, "reason", value="accuracy: fine"),
    "the rows a rule lacks": put(*RULE, "more_rows", value=3),
    "a rule's value": put(*RULE, "figure", "value", value=0.99),
    "a rule's low end": put(*RULE, "figure", "low", value=0.991),
    "a rule's high end": put(*RULE, "figure", "high", value=0.999),
    "a rule's rows": put(*RULE, "figure", "n", value=100_000),
    "a rule's method": put(*RULE, "figure", "method", value="exact"),
    "a rule taken out": drop(*DECISION, "rules", 0),
    "the rule on leakage taken out": drop(*DECISION, "rules", -1),
    "the gate's limit": put("gate", "accuracy", "min", value=0.9),
    "a limit, lower but still missed": put("gate", "accuracy", "min", value=0.985),
    "no limit on accuracy": put("gate", "accuracy", "min", value=None),
    "a limit on another label": put("gate", "recall", "min_per_class", value={"ham": 0.85}),
    "the least rows": put("gate", "min_test_rows", value=1001),
    "judging on values": put("gate", "judge_on", value="value"),
    "the confusion matrix": put(*EVALUATION, "confusion", value=[[770, 0], [20, 210]]),
    "a row more": put(*EVALUATION, "rows", value=1001),
    "a negative count": put(*EVALUATION, "confusion", value=[[1760, 10], [-980, 210]]),
    "the labels": put(*EVALUATION, "labels", value=["spam", "ham"]),
    "the evaluation's accuracy": put(*EVALUATION, "figures", "accuracy", "value", value=0.99),
    "an evaluation without accuracy": drop(*EVALUATION, "figures", "accuracy"),
    "the evaluation's interval": put(*EVALUATION, "figures", "accuracy", "low", value=0.981),
    "the baseline": put(*EVALUATION, "baseline", value={"accuracy": UNDEFINED}),
    "the seed": put(*EVALUATION, "bootstrap_seed", value=1),
    "the resamples": put(*EVALUATION, "bootstrap_samples", value=501),
    "the evaluation's key": put(*EVALUATION, "key", value="other"),
    "the evaluation's parents": put(*EVALUATION, "parents", value={"checkpoint": "0"}),
    "the predictions": put(*EVALUATION, "files", value={"predictions.parquet": "0"}),
    "rows that leaked": put(*LEAKAGE, "exact", value=4),
    "near-copies that leaked": put(*LEAKAGE, "near", value=4),
    "the test set": put(*LEAKAGE, "test_set", value="0" * 64),
    "no leakage": put(*LEAKAGE, value=None),
    "the uses": put("evidence", "uses", value=2),
}  # fmt: skip
NOT_A_RECORD_ANY_MORE = {
    "a limit above 1": put("gate", "accuracy", "min", value=1.5),
    "a limit of text": put("gate", "accuracy", "min", value="0.99"),
    "rows of text": put(*EVALUATION, "rows", value="1000"),
    "an unknown verdict": put(*DECISION, "verdict", value="passed"),
    "an unknown key": lambda tree: tree["evidence"].update(note="x"),
    "no decision": drop("decision"),
    "no evaluation": drop(*EVALUATION),
    "no digest": drop("digest"),
    "no uses at all": put("evidence", "uses", value=0),
    "a typo in the gate": lambda tree: tree["gate"].update(acuracy={"min": 0.1}),
}


EDITS = {**OF_NO_CONSEQUENCE, **OF_CONSEQUENCE, **NOT_A_RECORD_ANY_MORE}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_every_edit_is_noticed(tmp_path: Path, edit: Callable[[Tree], None]) -> None:
    tree = tree_of(decided())
    edit(tree)
    problems = problems_of(tmp_path, tree)
    assert any("it was edited after the decision" in problem for problem in problems)


def test_another_digest_is_noticed(tmp_path: Path) -> None:
    tree = {**tree_of(decided()), "digest": "0" * 64}
    (problem,) = problems_of(tmp_path, tree)
    assert "it was edited after the decision" in problem


CONTRADICTIONS = {**OF_CONSEQUENCE, **NOT_A_RECORD_ANY_MORE}
del CONTRADICTIONS["no digest"]


@pytest.mark.parametrize("edit", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_an_edit_of_what_was_decided_is_noticed_though_the_digest_is_made_anew(
    tmp_path: Path, edit: Callable[[Tree], None]
) -> None:
    tree = tree_of(decided())
    edit(tree)
    problems = problems_of(tmp_path, resealed(tree))
    assert problems
    assert all("edited after" not in problem and "\n" not in problem for problem in problems)


def test_a_reason_to_force_what_passes_is_noticed(tmp_path: Path) -> None:
    tree = tree_of(decided(accuracy={"min": 0.9}))
    tree["decision"]["forced"] = "because"
    assert problems_of(tmp_path, resealed(tree)) == [
        'decision.forced is "because" in the record, and null by its evidence'
    ]


def test_a_forced_release_without_its_mark_is_noticed(tmp_path: Path) -> None:
    tree = tree_of(decided("because"))
    tree["decision"]["forced"] = None
    assert problems_of(tmp_path, resealed(tree)) == [
        'decision.action is "release" in the record, and "reject" by its evidence'
    ]


def test_the_matrix_that_contradicts_its_report_is_told_in_its_own_words(tmp_path: Path) -> None:
    tree = tree_of(decided())
    tree["evidence"]["evaluation"]["confusion"] = [[770, 0], [20, 210]]
    (problem,) = problems_of(tmp_path, resealed(tree))
    assert problem.startswith("accuracy: the evaluation reports 0.97, its confusion matrix gives")


def test_a_record_of_other_code_that_differs_says_so(tmp_path: Path) -> None:
    tree = tree_of(decided())
    tree["code"], tree["decision"]["verdict"] = "0" * 64, "pass"
    problems = problems_of(tmp_path, resealed(tree))
    assert problems[-1].startswith("another version of the code decided (Ekiben 0.")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"x", b"\xff\xfe", b"[]", b"3", b"null", b"{}", b'{"schema_version": 1}',
        b'{"schema_version": 1, "evidence": {}, "evidence": {}}', b"[" * 100_000, b'{"a": 1',
    ],
)  # fmt: skip
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(GateError, match="is no decision record; name one from decisions/"):
        read_record(file)


def test_a_torn_record_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, tree_of(decided()))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(GateError, match="is no decision record"):
        read_record(file)


@pytest.mark.parametrize("schema_version", [0, 2, "1", None])
def test_a_record_of_another_schema_is_refused(tmp_path: Path, schema_version: Any) -> None:
    tree = {**tree_of(decided()), "schema_version": schema_version}
    with pytest.raises(GateError, match="and this Ekiben reads 1; verify it with the Ekiben that"):
        read_record(written(tmp_path, tree))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "none.json", tmp_path):
        with pytest.raises(GateError, match=r"cannot be read \(.+\); name the file of a decision"):
            read_record(file)
