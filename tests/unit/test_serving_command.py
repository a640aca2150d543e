"""`ekiben serve` refuses in words what it cannot serve, before anything starts."""

import socket
import sys
from pathlib import Path

import pytest
from toy_bentos import release

from flows.cli import main
from tasks.releases import bento_store

pytestmark = pytest.mark.usefixtures("homes")


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, list[str]]:
    """Run `ekiben serve`, which must refuse; return its exit code and what it said."""
    monkeypatch.setattr(sys, "argv", ["ekiben", "serve", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    captured = capsys.readouterr()
    assert captured.out == ""
    return caught.value.code, captured.err.splitlines()


def released(version: str = "v1") -> Path:
    """Put an empty Bento into the store, and make it the champion."""
    place = bento_store() / "bentos" / "toy" / version
    place.mkdir(parents=True)
    release(place)
    return place


@pytest.mark.parametrize("name", ["Toy", "toy/../../etc", "toy:", "toy:v1/..", ""])
def test_what_names_no_pipeline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, said = refused(capsys, monkeypatch, name)
    assert code == 2
    assert said[0].startswith(f"error: {name!r} names no pipeline; expected PIPELINE")


@pytest.mark.parametrize("name", ["toy", "toy:latest"])
def test_a_pipeline_without_a_release(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, said = refused(capsys, monkeypatch, name)
    assert code == 1
    assert "\n".join(said) == (
        f"error: toy: no release of Ekiben is the latest in {bento_store() / 'bentos' / 'toy'}; "
        "release one with `ekiben run CONFIG`"
    )


def test_a_bento_that_somebody_else_put_into_the_store(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bento_store() / "bentos" / "toy"
    (place / "v1").mkdir(parents=True)
    (place / "latest").write_text("v1", encoding="utf-8")
    assert refused(capsys, monkeypatch, "toy")[1][0].startswith("error: toy: no release of Ekiben")
    code, said = refused(capsys, monkeypatch, "toy:v1")
    assert code == 1
    assert said[0].startswith("error: toy:v1: Ekiben released no such version; expected a record")


def test_a_release_that_was_taken_out_of_the_store(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released().rmdir()
    code, said = refused(capsys, monkeypatch, "toy")
    assert code == 1
    assert said[0].startswith("error: toy:v1: was released, but is not in the store at")


def test_a_port_that_is_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, said = refused(capsys, monkeypatch, "toy", "--port", port)
    assert code == 2
    assert "\n".join(said) == (
        f"error: 127.0.0.1:{port}: cannot be listened on (Address already in use); stop what listens "
        "there, or give another --port"
    )


def test_a_host_that_is_no_address(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = refused(capsys, monkeypatch, "toy", "--host", "no such host")
    assert code == 2
    assert said[0].startswith("error: --host 'no such host': is no address of this machine")


def test_another_address_than_loopback_needs_keys_and_tls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exposed = "error: --host '0.0.0.0' can be reached from other machines: give"
    code, said = refused(capsys, monkeypatch, "toy", "--host", "0.0.0.0")
    assert code == 2
    keys_first = [f"{exposed} --keys-file", f"{exposed} --certificate"]
    assert [line.startswith(start) for line, start in zip(said, keys_first, strict=True)] == [
        True,
        True,
    ]
    plain = ("toy", "--host", "0.0.0.0", "--allow-plaintext")
    (said_of_keys,) = refused(capsys, monkeypatch, *plain)[1]
    assert said_of_keys.startswith(keys_first[0])
    keys = tmp_path / "keys"
    keys.touch()
    _, said = refused(capsys, monkeypatch, *plain, "--keys-file", str(keys))
    assert said[0].startswith("error: toy: no release")


def test_files_that_cannot_be_used_are_told_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    asked = ("toy", "--keys-file", missing, "--certificate", missing)
    code, said = refused(capsys, monkeypatch, *asked)
    assert code == 2
    assert said == [
        f"error: --keys-file {missing!r}: is no file that can be read",
        f"error: --certificate {missing!r}: is no file that can be read",
        "error: --certificate and --key-of-certificate: give both or neither",
    ]


def test_a_certificate_that_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text("no certificate", encoding="utf-8")
    asked = ("toy", "--certificate", str(file), "--key-of-certificate", str(file))
    code, said = refused(capsys, monkeypatch, *asked)
    assert code == 2
    assert said[0].startswith(f"error: --certificate {str(file)!r}: cannot be used with its key")


def test_a_time_to_drain_that_is_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIBEN_SERVE_DRAIN_SECONDS", "soon")
    code, said = refused(capsys, monkeypatch, "toy")
    assert code == 2
    assert said[0].startswith("error: EKIBEN_SERVE_DRAIN_SECONDS: 'soon' is no number of seconds")
