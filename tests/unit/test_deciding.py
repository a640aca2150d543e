"""The stage that decides: the use counted, the decision on record, force where it may be."""

from pathlib import Path
from typing import Any

import pytest
from evaluations import leakage_of, report_of

from configs.errors import GateError
from configs.schema import PipelineConfig
from tasks.deciding import decide_on
from tasks.manifests import Evidence
from tasks.records import read_record


def config_of(least: float, **gate: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "sms",
            "data": {"uri": "x.csv", "labels": ["ham", "spam"]},
            "gate": {"accuracy": {"min": least}, **gate},
        }
    )


def evidence_of(predictions: str = "1", **changes: Any) -> Evidence:
    changes = {"files": {"predictions.parquet": predictions}, **changes}
    return Evidence(evaluation=report_of().model_copy(update=changes), leakage=leakage_of())


def records_in(homes: Path) -> list[Path]:
    return sorted((homes / "ekiben_home/decisions/sms").glob("*.json"))


def test_the_decision_is_on_record_before_anything_else_is_done(homes: Path) -> None:
    record = decide_on(config_of(0.99), evidence_of())
    (file,) = records_in(homes)
    assert file.name.endswith("-reject.json")
    assert read_record(file) == (record, [])


def test_a_use_is_counted_once_a_model_and_widens_the_next_one_s_intervals(homes: Path) -> None:
    config = config_of(0.9, reuse="widen")
    evidence = [evidence_of(), evidence_of("2"), evidence_of(key="made again by other code")]
    records = [decide_on(config, each) for each in evidence]
    assert [record.evidence.uses for record in records] == [1, 2, 1]
    assert [record.decision.level for record in records] == ["95%", "97.5%", "95%"]
    assert len(records_in(homes)) == 3


@pytest.mark.parametrize(("least", "verdict"), [(0.99, "reject"), (0.97, "undecided")])
def test_a_forced_release_is_on_record_with_its_reason(
    homes: Path, least: float, verdict: str
) -> None:
    decision = decide_on(config_of(least), evidence_of(), "the fair is on Monday").decision
    assert (decision.verdict, decision.action) == (verdict, "release")
    (file,) = records_in(homes)
    assert read_record(file)[0].decision.forced == "the fair is on Monday"
    assert file.name.endswith(f"-{verdict}.json")


def test_rows_that_leaked_are_told_where_the_release_is_forced(homes: Path) -> None:
    evidence = evidence_of().model_copy(update={"leakage": leakage_of(exact=3)})
    decision = decide_on(config_of(0.9), evidence, "the fair is on Monday").decision
    assert decision.action == "release"
    assert decision.reasons == ("leaked test rows: 3 is above 0",)


@pytest.mark.parametrize("changes", [{"rows": 999}, {"rows": 0, "confusion": ((0, 0), (0, 0))}])
def test_what_contradicts_itself_cannot_be_forced(homes: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(GateError, match="evaluate anew"):
        decide_on(config_of(0.9), evidence_of(**changes), "the fair is on Monday")
    assert records_in(homes) == []
