"""The line and the service talk to this machine alone, once their sources are cached."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from e2e_support import ReleasedHomes, Watch, free_port, line_environment, stopped


def test_the_watch_sees_a_connection_and_a_look_up_of_the_outside(tmp_path: Path) -> None:
    watch = Watch.under(tmp_path)
    code = """
import contextlib, socket
probe = socket.socket()
probe.settimeout(0.1)
probe.connect_ex(("192.0.2.1", 9))
probe.close()
with contextlib.suppress(OSError):
    socket.getaddrinfo("nowhere.test", 9)
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | watch.environment, check=True)
    assert {host for _, host, _ in watch.outside()} == {"192.0.2.1", "nowhere.test"}


def test_the_whole_line_connects_to_nobody_else(released: ReleasedHomes) -> None:
    records = released.watch.records()
    started = [command for event, _, command in records if event == "start"]
    for process in ("ekiben run", "uvicorn", "tasks.worker train", "tasks.worker score",
                    "bentoml build", "bentoml serve"):  # fmt: skip
        assert any(process in command for command in started), process
    assert [command for event, _, command in records if event == "socket.connect"]
    assert released.watch.outside() == []


def test_the_service_connects_to_nobody_else_without_any_opt_out_set(
    released: ReleasedHomes, tmp_path: Path
) -> None:
    watch = Watch.under(tmp_path)
    environment = line_environment(released) | watch.environment
    for name in ("BENTOML_DO_NOT_TRACK", "DO_NOT_TRACK"):
        environment.pop(name, None)
    port = free_port()
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "smoke:latest"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with stopped(subprocess.Popen(command, env=environment, start_new_session=True)):
        _wait_until_ready(port)
        answer = httpx.post(f"http://127.0.0.1:{port}/classify", json={"texts": ["Hello there"]})
        assert answer.status_code == 200
        page = httpx.get(f"http://127.0.0.1:{port}/")
    # The service's worker is watched too: it is not the process that `bentoml serve` starts as.
    started = {command for event, _, command in watch.records() if event == "start"}
    assert any("service_loader" in command or "_bentoml_impl" in command for command in started)
    assert watch.outside() == []
    # BentoML's page names a tag manager on another host; the header keeps a browser from it.
    assert "googletagmanager" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]


def _wait_until_ready(port: int) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the Bento did not become ready")
