"""Steps: made once, reused while nothing changed, made again if damaged, never half-written."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tasks import steps
from tasks.manifests import Manifest
from tasks.steps import MANIFEST, home, run_step, write_json, write_text


class Made(Manifest):
    """A manifest with a field of its own."""

    count: int


class Stage:
    """A stage that writes what it is told and counts how often it ran."""

    def __init__(self, content: str = "made") -> None:
        self.content = content
        self.runs = 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.runs += 1
        (folder / "inner").mkdir(exist_ok=True)
        (folder / "inner" / "rows.txt").write_text(self.content)
        return {"count": self.runs}


def run(produce: Callable[[Path], dict[str, Any]], **changes: Any) -> Made:
    """Run a step with the same inputs each time, but for the changes."""
    inputs: dict[str, Any] = {"section": {"seed": 1}, "parents": {"dataset": "d"}}
    return run_step("count", Made, produce=produce, **{**inputs, **changes})


def left_over(homes: Path) -> list[str]:
    """Return what lies in the stage's folder, but for the empty lock files."""
    folder = homes / "ekiben_home" / "steps" / "count"
    names = [path for path in folder.iterdir() if path.suffix != ".lock" or path.stat().st_size]
    return sorted(path.name for path in names)


def test_a_step_is_made_under_the_home_with_a_manifest_of_its_files(homes: Path) -> None:
    manifest = run(Stage())
    assert manifest.folder.parent == homes / "ekiben_home" / "steps" / "count"
    assert manifest.folder.name == manifest.key[:16]
    assert manifest.parents == {"dataset": "d"}
    assert list(manifest.files) == ["inner/rows.txt"]
    assert manifest.path("inner/rows.txt").read_text() == "made"
    assert Made.read(manifest.folder / MANIFEST) == manifest
    assert left_over(homes) == [manifest.folder.name]


def test_a_step_with_the_same_inputs_is_reused_and_says_so(
    homes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    first = run(stage)
    with caplog.at_level(logging.INFO, "ekiben"):
        assert run(stage) == first
    assert stage.runs == 1
    assert caplog.messages == [f"count: reused {first.key[:16]}, nothing changed"]


@pytest.mark.parametrize(
    "change",
    [
        {"section": {"seed": 2}},
        {"section": {"seed": 1, "more": None}},
        {"parents": {"dataset": "e"}},
        {"parents": {"dataset": "d", "base_model": "m"}},
    ],
)
def test_a_changed_section_or_parent_makes_another_folder_beside_the_first(
    homes: Path, change: dict[str, Any]
) -> None:
    stage = Stage()
    first, second = run(stage), run(stage, **change)
    assert stage.runs == 2
    assert first.folder != second.folder
    assert run(stage) == first
    assert stage.runs == 2


def test_another_stage_or_code_makes_another_folder(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    keys = {run(stage).key, run_step("other", Made, section={"seed": 1}, parents={"dataset": "d"},
                                     produce=stage).key}  # fmt: skip
    monkeypatch.setattr(steps, "code_digest", lambda: "edited")
    keys.add(run(stage).key)
    assert len(keys) == stage.runs == 3


def damage_content(folder: Path) -> None:
    (folder / "inner" / "rows.txt").write_text("MADE")


def damage_by_cutting(folder: Path) -> None:
    (folder / "inner" / "rows.txt").write_text("")


def damage_by_removal(folder: Path) -> None:
    (folder / "inner" / "rows.txt").unlink()


def damage_by_addition(folder: Path) -> None:
    (folder / "more.txt").write_text("")


def damage_manifest_by_removal(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def damage_manifest_by_cutting(folder: Path) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-20])


def damage_manifest_by_zeros(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\x00" * 50)


def damage_manifest_by_another_shape(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "count": "many"}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_content,
        damage_by_cutting,
        damage_by_removal,
        damage_by_addition,
        damage_manifest_by_removal,
        damage_manifest_by_cutting,
        damage_manifest_by_zeros,
        damage_manifest_by_another_shape,
    ],
)
def test_a_damaged_step_is_noticed_and_made_again(
    homes: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    first = run(stage)
    damage(first.folder)
    second = run(stage)
    assert stage.runs == 2
    assert second.files == first.files
    assert "made again" in caplog.text
    assert run(stage) == second
    assert stage.runs == 2


def test_a_home_that_was_moved_is_reused_where_it_is(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    first = run(stage)
    monkeypatch.setenv("EKIBEN_HOME", str(home().rename(homes / "moved")))
    moved = run(stage)
    assert stage.runs == 1
    assert moved.path("inner/rows.txt").is_file()
    assert moved.digest == first.digest


class Broken(Stage):
    """A stage that writes half of its output and then fails."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("half")
        self.error = error

    def __call__(self, folder: Path) -> dict[str, Any]:
        super().__call__(folder)
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_half_written(homes: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(Broken(error))
    assert left_over(homes) == []
    assert run(Stage()).path("inner/rows.txt").read_text() == "made"


def test_fields_that_do_not_fit_the_manifest_leave_nothing_either(homes: Path) -> None:
    with pytest.raises(ValueError, match="no_such_field"):
        run(lambda folder: {"count": 1, "no_such_field": 2})
    assert left_over(homes) == []


def test_a_resumable_step_goes_on_from_what_it_left(homes: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        run(Broken(ValueError("no")), resumable=True)
    (staging,) = left_over(homes)
    assert staging.endswith(".staging")

    def go_on(folder: Path) -> dict[str, Any]:
        rows = folder / "inner" / "rows.txt"
        rows.write_text(rows.read_text() + " and half")
        return {"count": 2}

    manifest = run(go_on, resumable=True)
    assert manifest.path("inner/rows.txt").read_text() == "half and half"
    assert left_over(homes) == [manifest.folder.name]


def test_a_step_that_is_not_resumable_starts_from_nothing(homes: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        run(Broken(ValueError("no")), resumable=True)

    def start(folder: Path) -> dict[str, Any]:
        return {"count": len(list(folder.iterdir()))}

    assert run(start).count == 0


PROCESS = """
import os, signal, sys, time
from pathlib import Path
from tasks.manifests import Manifest
from tasks.steps import run_step

class Made(Manifest):
    count: int

folder, me, other, ending = Path(sys.argv[1]), *sys.argv[2:]

def produce(staging):
    with (folder / "runs").open("a") as runs:
        runs.write(me + "\\n")
    (staging / "rows.txt").write_text("half")
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    while not (folder / other).exists():
        time.sleep(0.01)
    (staging / "rows.txt").write_text("made")
    return {"count": 1}

(folder / me).touch()
print(run_step("count", Made, section={}, parents={}, produce=produce).digest)
"""


def start_process(
    folder: Path, me: str, other: str, ending: str = "whole"
) -> "subprocess.Popen[str]":
    """Start a process that makes the step once it has it to itself and `other` is under way too."""
    command = [sys.executable, "-c", PROCESS, str(folder), me, other, ending]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_make_a_step_once(homes: Path) -> None:
    processes = [start_process(homes, "one", "two"), start_process(homes, "two", "one")]
    digests = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert digests[0] == digests[1] != ""
    assert len((homes / "runs").read_text().splitlines()) == 1


def test_what_a_killed_process_left_is_never_read(homes: Path) -> None:
    killed = start_process(homes, "one", "one", "killed")
    assert killed.communicate(timeout=60)[0] == ""
    assert killed.returncode == -signal.SIGKILL
    (staging,) = left_over(homes)
    assert staging.endswith(".staging")
    again = start_process(homes, "two", "two")
    assert again.communicate(timeout=60)[0] != ""
    (made,) = left_over(homes)
    assert (homes / "ekiben_home/steps/count" / made / "rows.txt").read_text() == "made"
    assert (homes / "runs").read_text() == "one\ntwo\n"


def test_a_text_is_written_whole_over_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "latest"
    for text in ("first, and longer", "second", "caf\xe9\n"):
        write_text(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"name": "caf\xe9"})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(file, {"name": Path("x")})
    assert json.loads(file.read_text(encoding="utf-8")) == {"name": "caf\xe9"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("variable", "folder"),
    [("/data/ekiben", "/data/ekiben"), ("~/e", "/home/ann/e"), ("", "/home/ann/.ekiben")],
)
def test_the_home_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variable: str, folder: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("EKIBEN_HOME", variable)
    assert home() == Path(folder)


def test_what_a_killed_run_left_of_another_key_goes_with_the_next_step(homes: Path) -> None:
    made = run(Stage())
    stage = made.folder.parent
    (stage / ".0123456789abcdef.staging").mkdir()
    (stage / ".0123456789abcdef.staging" / "rows").write_text("half")
    run(Stage(), section={"seed": 2})
    assert not list(stage.glob(".*.staging"))


def test_of_trainings_that_were_interrupted_the_last_three_are_kept(homes: Path) -> None:
    made = run(Stage(), resumable=True)
    stage = made.folder.parent
    for number in range(5):
        staging = stage / f".{number:016}.staging"
        staging.mkdir()
        os.utime(staging, (number, number))
    run(Stage(), section={"seed": 2}, resumable=True)
    kept = sorted(path.name for path in stage.glob(".*.staging"))
    assert kept == [f".{number:016}.staging" for number in (2, 3, 4)]


def test_what_another_process_is_making_stays(homes: Path) -> None:
    made = run(Stage())
    stage = made.folder.parent
    staging = stage / ".0123456789abcdef.staging"
    staging.mkdir()
    with FileLock(staging.with_suffix(".lock")):
        run(Stage(), section={"seed": 2})
    assert staging.is_dir()
