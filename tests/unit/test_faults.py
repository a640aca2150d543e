"""What the machine refuses ends in words that name the stage, the place and the cure."""

import errno
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors import SafetensorError

from configs.errors import DataError, MachineError, TrainingError
from flows import artifacts, cli
from tasks import steps
from tasks.faults import refusal, refused
from tasks.manifests import Manifest
from tasks.process import run_worker
from tasks.steps import run_step


def step(produce: Callable[[Path], dict[str, Any]]) -> Manifest:
    """Run a step of nothing but `produce`."""
    return run_step("count", Manifest, section={}, parents={}, produce=produce)


def raising(error: BaseException) -> Callable[[Path], dict[str, Any]]:
    """Return what writes a file and then fails."""

    def produce(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("written")
        raise error

    return produce


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), errno.EDQUOT),
        (OSError(errno.EIO, "Input/output error"), errno.EIO),
        (OSError(errno.EROFS, "Read-only file system"), errno.EROFS),
        (PermissionError(errno.EACCES, "Permission denied"), errno.EACCES),
        (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE),
        (MemoryError(), errno.ENOMEM),
        (pa.ArrowMemoryError("malloc of size 64 failed"), errno.ENOMEM),
        (SafetensorError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (sqlite3.OperationalError("database or disk is full"), errno.ENOSPC),
        (sqlite3.OperationalError("attempt to write a readonly database"), errno.EROFS),
        (RuntimeError("basic_ios::clear: iostream error"), errno.EIO),
        (RuntimeError("[Errno 5] Input/output error"), errno.EIO),
    ],
)
def test_a_step_says_what_the_machine_refuses_and_the_next_makes_it(
    error: Exception, number: int, homes: Path
) -> None:
    assert refused(error) == number
    with pytest.raises(MachineError) as caught:
        step(raising(error))
    (told,) = caught.value.problems
    assert told.startswith("count: ")
    assert told.endswith("run again: every step that is whole is reused")
    assert ("MB free" in told) == (number not in (errno.ENOMEM, errno.EMFILE))
    folder = homes / "ekiben_home" / "steps" / "count"
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert step(lambda _folder: {}).files == {}


def test_the_file_that_the_error_names_is_told(homes: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", str(homes / "rows.parquet"))
    told = refusal(error, Path("/elsewhere"))
    assert told is not None
    assert told.startswith(f"{homes / 'rows.parquet'}: No space left on device (")
    assert "make room there" in told


@pytest.mark.parametrize(
    "error",
    [ValueError("rows"), FileNotFoundError(errno.ENOENT, "No such file"), KeyError("label")],
)
def test_what_is_a_fault_of_the_code_passes_as_it_is(error: Exception, homes: Path) -> None:
    with pytest.raises(type(error)):
        step(raising(error))


def test_an_error_of_ekibens_own_passes_as_it_is(homes: Path) -> None:
    with pytest.raises(DataError, match=r"^the log says No space left on device$"):
        step(raising(DataError("the log says No space left on device")))


def test_a_disk_that_cannot_be_read_does_not_cost_a_whole_step(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = step(lambda _folder: {})

    def failing(_folder: Path) -> dict[str, str]:
        raise OSError(errno.EIO, "Input/output error", str(made.folder))

    with monkeypatch.context() as patched:
        patched.setattr(steps, "file_digests", failing)
        with pytest.raises(MachineError, match="Input/output error"):
            step(lambda _folder: {})
    assert step(raising(ValueError("made again"))).digest == made.digest


def test_a_full_disk_under_the_home_is_no_bad_config(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any, **_keywords: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(homes))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(MachineError, match="No space left on device") as caught:
        step(lambda _folder: {})
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), MemoryError()])
def test_a_command_ends_with_1_and_one_line(
    error: Exception, homes: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def app() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_prefect_logs_what_the_machine_refuses_without_a_traceback(homes: Path) -> None:
    assert artifacts._hide in logging.getLogger("prefect.task_runs").filters
    try:
        raise OSError(errno.EROFS, "Read-only file system", str(homes))
    except OSError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "raised", None, sys.exc_info())
    assert artifacts._hide.filter(record)
    assert record.exc_info is None
    assert record.getMessage().startswith(f"{homes}: Read-only file system (")


def test_a_worker_that_is_killed_names_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "python"
    own.write_text('#!/bin/sh\necho "the last words" >&2\nkill -9 $$\n')
    own.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(own))
    with pytest.raises(TrainingError) as caught:
        run_worker("train", tmp_path / "train.json", lambda _event: None)
    assert str(caught.value).startswith("the train worker was killed by SIGKILL, most likely since")
    assert str(caught.value).endswith(": the last words")


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("MemoryError", True),
        (
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
            True,
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("OSError: [Errno 12] Cannot allocate memory", True),
        ("RuntimeError: could not create a primitive", True),
        ("ValueError: memory is a word of this row", False),
    ],
)
def test_a_worker_that_says_it_has_no_memory_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, is_memory: bool
) -> None:
    own, words = tmp_path / "python", tmp_path / "words"
    words.write_text(said)
    own.write_text(f"#!/bin/sh\ncat {words} >&2\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(own))
    with pytest.raises(TrainingError) as caught:
        run_worker("train", tmp_path / "train.json", lambda _event: None)
    expected = "ran out of memory (lower " if is_memory else "ended with code 1: "
    assert str(caught.value).startswith(f"the train worker {expected}")
    assert str(caught.value).endswith(said)


def test_a_worker_whose_disk_is_full_is_the_machine_s_fault_and_not_the_model_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "python"
    own.write_text("#!/bin/sh\necho 'OSError: [Errno 28] No space left on device' >&2\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(own))
    with pytest.raises(MachineError, match=r"the score worker: .*: No space left on device \("):
        run_worker("score", tmp_path / "score.json", lambda _event: None)


def test_texts_of_the_system_are_those_that_libraries_print() -> None:
    assert os.strerror(errno.ENOSPC) == "No space left on device"
