"""Scratch folders: gone at the end, and after a kill with the next start; never another user's."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from configs.errors import ConfigError
from tasks.process import environment_with
from tasks.scratch import scratch

_HELD = """
import time
from tasks.scratch import scratch
with scratch() as folder:
    (folder / "model").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def left(temporary: Path) -> list[Path]:
    return list((temporary / f"ekiben-{os.getuid()}").iterdir())


def test_a_folder_is_this_user_s_alone_and_gone_at_the_end(temporary: Path) -> None:
    with scratch() as one, scratch() as other:
        assert one != other
        (one / "file").write_text("x")
        assert one.parent.stat().st_mode & 0o777 == 0o700
    assert left(temporary) == []


def test_a_folder_is_gone_though_its_work_failed(temporary: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch() as folder:
        (folder / "none" / "file").write_text("x")
    assert left(temporary) == []


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(
    temporary: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HELD],
        env=environment_with(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        with scratch():
            assert (held / "model").exists()
        holder.kill()
    assert (held / "model").exists()
    with scratch() as own:
        assert not held.exists()
        assert own.is_dir()
    assert left(temporary) == []


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_a_place_that_others_may_enter_is_refused(temporary: Path, mode: int) -> None:
    place = temporary / f"ekiben-{os.getuid()}"
    place.mkdir()
    place.chmod(mode)
    with (
        pytest.raises(ConfigError, match="is not a folder that only this user may enter"),
        scratch(),
    ):
        raise AssertionError("it was used")


def test_a_link_in_its_place_is_refused(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (temporary / f"ekiben-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(ConfigError, match="is not a folder that only this user may enter"),
        scratch(),
    ):
        raise AssertionError("it was used")


def test_a_temporary_folder_that_cannot_be_written_is_told_in_words(temporary: Path) -> None:
    (temporary / f"ekiben-{os.getuid()}").write_text("")
    with pytest.raises(ConfigError, match=r"TMPDIR: .+ cannot be made"), scratch():
        raise AssertionError("it was used")
