"""Runs that live hold a lock, those that died left a note; one run of a pipeline at a time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.runs import RunNote, dead_runs, note_of, noted, turn

HELD = """
import sys, time
from tasks.runs import note_of, noted, turn
with noted(note_of(sys.argv[1], "sms", "", 2)), turn("sms", sys.argv[1]) as left_out:
    print(left_out, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(homes: Path) -> Path:
    return homes / "ekiben_home" / "runs"


def held(run: str) -> "subprocess.Popen[str]":
    """Start a process that is a run, and return it once it has its turn."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, run], env=os.environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


def dead() -> list[str]:
    return [note.run for note in dead_runs("")]


def test_a_run_that_was_killed_is_found_once_and_one_that_lives_or_ended_never(
    folder: Path,
) -> None:
    with noted(note_of("ended", "sms", "", 1)):
        assert dead() == []
    assert dead() == []
    process = held("killed")
    assert dead() == []
    kill(process)
    assert list(dead_runs("http://elsewhere/api")) == []
    (note,) = dead_runs("")
    assert (note.run, note.pid, note.max_restarts) == ("killed", process.pid, 2)
    assert dead() == []
    assert [file.name for file in folder.iterdir() if file.suffix == ".json"] == []


def test_a_dead_run_that_could_not_be_seen_to_is_found_again(folder: Path) -> None:
    kill(held("killed"))
    looking = dead_runs("")
    assert next(looking).run == "killed"
    assert dead() == []  # it is being seen to
    looking.close()  # as where Prefect's server does not answer
    assert dead() == ["killed"]


def test_notes_of_other_machines_and_what_is_no_note_are_left(folder: Path) -> None:
    folder.mkdir(parents=True)
    other = RunNote(run="x", pipeline="sms", server="", host="other", pid=1, max_restarts=1)
    (folder / "other.json").write_text(other.model_dump_json())
    (folder / "torn.json").write_text("{")
    assert dead() == []
    assert len([*folder.glob("*.json")]) == 2


def test_a_scheduled_run_is_left_out_while_another_goes_on(folder: Path) -> None:
    process = held("first")
    with turn("sms", "second", datetime.now(UTC)) as left_out:
        assert left_out == (
            f"run first (process {process.pid}) is still going on; the next one that is due stands "
            "for this one"
        )
    with turn("tweets", "third", datetime.now(UTC)) as left_out:
        assert left_out is None
    kill(process)
    with turn("sms", "fourth", datetime.now(UTC)) as left_out:
        assert left_out is None


def test_a_run_that_a_person_started_waits_for_its_turn(folder: Path) -> None:
    process = held("first")
    came: list[str | None] = []

    def wait() -> None:
        with turn("sms", "second") as left_out:
            came.append(left_out)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(1)
    assert came == []
    kill(process)
    waiting.join(20)
    assert came == [None]


def test_of_runs_that_were_missed_one_is_run(folder: Path) -> None:
    missed = [datetime.now(UTC) - timedelta(hours=hours) for hours in (3, 2, 1)]
    left_out = []
    for number, due in enumerate(missed):
        with turn("sms", f"run-{number}", due) as told:
            left_out.append(told)
    assert left_out[0] is None
    assert all(told is not None and "run run-0, which began later" in told for told in left_out[1:])
    with turn("sms", "by a person") as told:
        assert told is None
    with turn("sms", "next", datetime.now(UTC)) as told:
        assert told is None


@pytest.mark.parametrize("content", [None, "{", "[]", '{"run": 1}', '{"run": "x", "began": 3}'])
def test_a_run_that_failed_stands_for_no_other(folder: Path, content: str | None) -> None:
    due = datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(ValueError, match="in mid-run"), turn("sms", "failed", due):
        raise ValueError("in mid-run")
    assert [file.suffix for file in folder.iterdir()] == [".lock"]
    if content is not None:
        (folder / "sms.done").write_text(content)
    with turn("sms", "next", due) as left_out:
        assert left_out is None


def test_a_clock_that_was_set_back_leaves_no_run_out(folder: Path) -> None:
    with turn("sms", "first") as left_out:
        assert left_out is None
    began = datetime.now(UTC) + timedelta(days=400)
    (folder / "sms.done").write_text(json.dumps({"run": "first", "began": began.isoformat()}))
    with turn("sms", "next", datetime.now(UTC)) as left_out:
        assert left_out is None
