"""The champion of a rerun: where it is this very model, the release before it is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from evaluations import report_of

from configs.errors import BentoError
from configs.schema import PipelineConfig
from tasks.challenging import challenge_champion
from tasks.integrity import read_manifest, write_manifest
from tasks.manifests import EvaluationReport, GateDecision, ReleaseRecord, SplitManifest
from tasks.releases import bento_store, record_file
from tasks.steps import write_json

CONFIG = PipelineConfig.model_validate(
    {
        "name": "sms",
        "data": {"uri": "x.csv", "labels": ["ham", "spam"]},
        "gate": {"champion": {"min_gain": {"accuracy": 0.0}}},
    }
)
SPLIT = SplitManifest(key="s", parents={}, folder=Path("s"), files={}, rows={}, label_counts={})
DECISION = GateDecision(
    verdict="pass", action="release", judged_on="interval", rules=(), reasons=(), evidence={}
)


def evaluation_of(predictions: str) -> EvaluationReport:
    return report_of().model_copy(update={"files": {"predictions.parquet": predictions}})


def release(version: str, predictions: str, previous: str | None = None) -> None:
    """Put a release of a model into the store, as the champion; it has no card to be asked by."""
    place = bento_store() / "bentos" / "sms" / version
    place.mkdir(parents=True)
    evidence: Any = {"evaluation": {"files": {"predictions.parquet": predictions}}}
    write_json(place / "decision.json", {"evidence": evidence})
    record = ReleaseRecord(
        tag=f"sms:{version}", pipeline="sms", released_at="now", bento_path=place,
        report=place / "report.html", previous=previous, digests={}, config={}, decision=DECISION,
    )  # fmt: skip
    file = record_file(record.tag)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record.model_dump(mode="json"))
    (place.parent / "latest").write_text(version, encoding="utf-8")


@pytest.mark.usefixtures("homes")
def test_a_rerun_of_the_first_model_comes_to_what_it_came_to_the_first_time() -> None:
    first = challenge_champion(CONFIG, SPLIT, evaluation_of("1"))
    release("a", "1")
    assert challenge_champion(CONFIG, SPLIT, evaluation_of("1")) == first
    assert (first.status, first.champion) == ("missing", None)
    assert first.told == "there is no other release to compare with"


@pytest.mark.usefixtures("homes")
def test_a_rerun_of_a_later_model_asks_the_one_that_it_followed() -> None:
    release("a", "1")
    first = challenge_champion(CONFIG, SPLIT, evaluation_of("2"))
    release("b", "2", previous="sms:a")
    release("c", "2", previous="sms:b")
    assert challenge_champion(CONFIG, SPLIT, evaluation_of("2")) == first
    assert (first.status, first.champion) == ("unusable", "sms:a")


@pytest.mark.usefixtures("homes")
def test_releases_of_one_model_that_name_each_other_end_the_search() -> None:
    release("a", "1", previous="sms:b")
    release("b", "1", previous="sms:a")
    assert challenge_champion(CONFIG, SPLIT, evaluation_of("1")).status == "missing"


@pytest.mark.usefixtures("homes")
@pytest.mark.parametrize(
    ("manifest_too", "told"),
    [
        (False, "'src/service.py' was changed"),
        (True, "the record of its release is of other files"),
    ],
)
def test_a_champion_whose_code_was_changed_is_not_started(manifest_too: bool, told: str) -> None:
    release("a", "1")
    place = bento_store() / "bentos" / "sms" / "a"
    (place / "src" / "model").mkdir(parents=True)
    card = {"labels": list(evaluation_of("2").labels), "max_texts": 1}
    write_json(place / "src" / "model" / "card.json", card)
    for name in ("bento.yaml", "src/service.py"):
        (place / name).write_text("name: sms\nversion: a\n", encoding="utf-8")
    write_manifest(place, "sms:a")
    record = json.loads(record_file("sms:a").read_text(encoding="utf-8"))
    record["digests"]["manifest"] = read_manifest(place)["digest"]
    write_json(record_file("sms:a"), record)
    (place / "src" / "service.py").write_text("raise SystemExit\n", encoding="utf-8")
    if manifest_too:
        write_manifest(place, "sms:a")
    report = challenge_champion(CONFIG, SPLIT, evaluation_of("2"))
    assert (report.status, report.champion) == ("unusable", "sms:a")
    assert told in report.told


@pytest.mark.usefixtures("homes")
def test_a_release_whose_record_cannot_be_read_is_not_taken_for_this_model() -> None:
    release("a", "1")
    (bento_store() / "bentos" / "sms" / "a" / "decision.json").write_text("{", encoding="utf-8")
    assert challenge_champion(CONFIG, SPLIT, evaluation_of("1")).champion == "sms:a"


@pytest.mark.usefixtures("homes")
@pytest.mark.parametrize("written", ["", "{", "[]", '{"tag": "sms:a"}'])
def test_a_damaged_record_of_the_champion_is_refused_in_words(written: str) -> None:
    release("a", "1")
    record_file("sms:a").write_text(written, encoding="utf-8")
    with pytest.raises(BentoError, match=r"a\.json: .*remove it, and sms:a is served as before"):
        challenge_champion(CONFIG, SPLIT, evaluation_of("1"))
