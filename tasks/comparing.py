"""Stage compare: how the data differs from what the champion was trained on."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import DataError
from configs.schema import PipelineConfig, redact
from tasks.change import ChangeReport, compare_profiles
from tasks.manifests import DatasetManifest, DuplicateReport, ProfileManifest, ReleaseRecord
from tasks.profiles import NO_ROWS, Profile, merge, profile_of
from tasks.releases import champion, record_file
from tasks.shards import count_shards, places_of, read_shard, side_by_side
from tasks.steps import run_step, write_text


def profile_dataset(dataset: DatasetManifest, duplicates: DuplicateReport) -> ProfileManifest:
    """Return the manifest of `profile.json`, counts of the rows that are kept, without any text."""
    source, kept = dataset.path("rows.parquet"), duplicates.path("kept.parquet")

    def produce(folder: Path) -> dict[str, Any]:
        calls = [
            {"source": source, "kept": kept, "shard": shard}
            for shard in range(count_shards(source))
        ]
        profile = NO_ROWS
        for part in side_by_side(profile_shard, calls, "profile"):
            profile = merge(profile, part)
        write_text(folder / "profile.json", profile.model_dump_json())
        return {"rows": profile.rows}

    parents = {"dataset": dataset.digest, "duplicates": duplicates.digest}
    return run_step("profile", ProfileManifest, section=None, parents=parents, produce=produce)


def profile_shard(source: Path, kept: Path, shard: int) -> Profile:
    """Return the profile of a shard's rows that are kept."""
    table = read_shard(source, shard, ["row", "text"])
    numbers = table["row"].to_numpy()
    own = (pc.field("row") >= numbers[0]) & (pc.field("row") <= numbers[-1])
    rows = pq.read_table(kept, columns=["row", "label"], filters=own)
    at = places_of(numbers, rows["row"].to_numpy())
    table = table.filter(pa.array(at >= 0))
    table = table.append_column("label", rows["label"].take(pa.array(at[at >= 0])))
    return profile_of(table["text"].to_pylist(), table["label"].to_pylist())


def compare_with_champion(config: PipelineConfig, profile: ProfileManifest) -> ChangeReport | None:
    """Return how the data differs from the champion's, or None where there is no champion's.

    Raises:
        DataError: if it differs more than the config allows, and `change.action` is fail.
    """
    released = champion(config.name)
    if released is None or config.change.action == "none":
        return None
    before = _profile_file(released)
    if not before.exists():
        return None
    report = compare_profiles(_read(profile.path("profile.json")), _read(before), config.change)
    if report.verdict == "fail":
        raise DataError(
            [
                f"{redact(config.data.uri)}: differs from the data of {released.tag}: "
                f"{shift.sentence}; raise change.{shift.measure} if that is meant"
                for shift in report.shifts
                if shift.verdict == "fail"
            ]
        )
    return report


def remember_profile(record: ReleaseRecord, profile: ProfileManifest) -> None:
    """Keep the profile beside the release's record, for the runs that come after it."""
    file = _profile_file(record)
    partial = file.with_name(f".{file.name}.partial")
    shutil.copyfile(profile.path("profile.json"), partial)
    partial.replace(file)


def _profile_file(record: ReleaseRecord) -> Path:
    return record_file(record.tag).with_suffix(".profile.json")


def _read(file: Path) -> Profile:
    return Profile.model_validate_json(file.read_text(encoding="utf-8"))


profile = task(name="profile", task_run_name="profile", cache_policy=NO_CACHE)(profile_dataset)
compare = task(name="compare", task_run_name="compare", cache_policy=NO_CACHE)(
    compare_with_champion
)
