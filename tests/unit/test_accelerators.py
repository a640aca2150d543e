"""A device has one user at a time: the next waits, says for whom, and goes on, also after a kill."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.accelerators import cuda_devices, held, training_devices
from tasks.process import environment_with

_HELD = """
import sys, time
from tasks.accelerators import held
with held(sys.argv[1:], "other"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def holder(temporary: Path, *devices: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _HELD, *devices],
        env=environment_with(TMPDIR=str(temporary), EKIBEN_HOME=str(temporary / "another")),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


class Waiting(logging.Handler):
    """Keeps what is logged, and tells when it is said that a device is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.begun = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.said.append(record.getMessage())
        if "waiting" in record.getMessage():
            self.begun.set()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    handler, log = Waiting(), logging.getLogger("ekiben")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def test_the_next_waits_says_for_whom_and_goes_on_when_the_holder_is_killed(
    temporary: Path, waiting: Waiting
) -> None:
    with holder(temporary, "cpu") as other:
        inside = threading.Event()

        def use() -> None:
            with held(["cpu"], "mine"):
                inside.set()

        user = threading.Thread(target=use, daemon=True)
        user.start()
        assert waiting.begun.wait(60)
        assert not inside.is_set()
        assert waiting.said == [f"cpu: in use by process {other.pid} (other); waiting for it"]
        other.kill()
        assert inside.wait(60)
        user.join(60)
    assert waiting.said[1:] == ["cpu: free now, going on"]


def test_another_device_is_free(temporary: Path, waiting: Waiting) -> None:
    with holder(temporary, "cuda-a"), held(["cuda-b"], "mine"):
        pass
    assert waiting.said == []


def test_a_failure_lets_go_and_leaves_no_holder_s_name(temporary: Path, waiting: Waiting) -> None:
    with pytest.raises(ZeroDivisionError), held(["cpu"], "mine"):
        raise ZeroDivisionError
    with held(["cpu"], "mine"):
        pass
    assert waiting.said == []
    place = temporary / f"ekiben-{os.getuid()}" / "devices"
    assert list(place.glob("*.json")) == []


def test_two_that_name_the_devices_in_other_orders_both_end(temporary: Path) -> None:
    ended = []

    def use(devices: list[str]) -> None:
        for _ in range(5):
            with held(devices, "mine"):
                pass
        ended.append(devices)

    users = [
        threading.Thread(target=use, args=[devices], daemon=True)
        for devices in (["a", "b"], ["b", "a"])
    ]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert sorted(ended) == [["a", "b"], ["b", "a"]]


def test_on_the_cpu_training_takes_it_and_scoring_shares_it() -> None:
    assert training_devices("cpu") == ["cpu"]
    assert cuda_devices("cpu") == []
