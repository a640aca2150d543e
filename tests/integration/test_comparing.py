"""A dataset beside the champion's: told in words, or refused, before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from tables import Row, config_of, deduplicated, many

from configs.errors import DataError
from configs.schema import PipelineConfig
from tasks.comparing import compare_with_champion, profile_dataset, remember_profile
from tasks.manifests import GateDecision, ProfileManifest, ReleaseRecord
from tasks.releases import bento_store, champion, record_file
from tasks.steps import write_json


def profiled(folder: Path, rows: list[Row], shards: int = 1) -> ProfileManifest:
    """Return the profile of rows as the stages before leave them."""
    return profile_dataset(*deduplicated(folder, rows, config_of(), shards=shards))


def config_with(**change: Any) -> PipelineConfig:
    return config_of().model_copy(update={"change": config_of().change.model_copy(update=change)})


def release(profile: ProfileManifest) -> ReleaseRecord:
    """Record a release of the pipeline `sms` whose rows had that profile."""
    record = ReleaseRecord(
        tag="sms:0123456789ab",
        pipeline="sms",
        released_at="2026-01-01T00:00:00+00:00",
        bento_path=bento_store() / "bentos/sms/0123456789ab",
        report=Path("report.html"),
        previous=None,
        digests={},
        config={},
        decision=GateDecision(
            verdict="pass",
            action="release",
            judged_on="interval",
            rules=(),
            reasons=(),
            evidence={},
        ),
    )
    record.bento_path.mkdir(parents=True)
    (record.bento_path.parent / "latest").write_text("0123456789ab", encoding="utf-8")
    record_file(record.tag).parent.mkdir(parents=True)
    write_json(record_file(record.tag), record.model_dump(mode="json"))
    remember_profile(record, profile)
    return record


def test_without_a_champion_there_is_nothing_to_compare_with(homes: Path) -> None:
    profile = profiled(homes / "first", many(300))
    assert champion("sms") is None
    assert compare_with_champion(config_of(), profile) is None


def test_the_same_rows_are_alike_however_they_lie_in_shards(homes: Path) -> None:
    first = profiled(homes / "first", many(300))
    record = release(first)
    assert champion("sms") == record
    again = profiled(homes / "again", many(300), shards=4)
    assert again.path("profile.json").read_text() == first.path("profile.json").read_text()
    report = compare_with_champion(config_of(), again)
    assert report is not None
    assert report.verdict == "ok"
    assert (report.rows, report.rows_before) == (300, 300)


def test_rows_unlike_the_champions_warn_fail_or_pass_as_declared(homes: Path) -> None:
    release(profiled(homes / "first", many(2000, spam_every=5)))
    other = profiled(homes / "other", many(2000, spam_every=2))
    warned = compare_with_champion(config_with(action="warn"), other)
    assert warned is not None
    assert warned.verdict == "warn"
    assert [shift.measure for shift in warned.shifts if shift.verdict == "warn"] == ["labels"]
    with pytest.raises(DataError) as told:
        compare_with_champion(config_with(action="fail"), other)
    (problem,) = told.value.problems
    assert problem.startswith("db://ann:***@host/sms: differs from the data of sms:0123456789ab: ")
    assert "raise change.labels if that is meant" in problem
    assert compare_with_champion(config_with(action="none"), other) is None
