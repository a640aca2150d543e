"""The image that `bentoml containerize` would build, as far as a machine without an engine can tell."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from toy_bentos import toy_bento

from tasks.process import child, environment_with
from tasks.serving import free_port

OPERATIONS = Path(__file__).resolve().parents[2] / "bentos" / "operations"


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bento(tmp_path_factory.mktemp("bento"), "v1")


def instructions(bento: Path) -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with what follows each, on one line."""
    text = (bento / "env/docker/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([A-Z]+) +(.*)$", text, re.MULTILINE)
    return [(name, rest.strip()) for name, rest in found]


def test_all_that_it_copies_is_in_the_bento(bento: Path) -> None:
    copied = [rest for name, rest in instructions(bento) if name == "COPY"]
    assert len(copied) >= 2
    for rest in copied:
        *sources, _ = [part for part in rest.split() if not part.startswith("--")]
        assert all((bento / source).exists() for source in sources), rest


def test_it_installs_exact_versions(bento: Path) -> None:
    (line,) = [
        rest for name, rest in instructions(bento) if name == "RUN" and "pip install -r" in rest
    ]
    named = re.search(r"\$BENTO_PATH/(\S+requirements\S*\.txt)", line)
    assert named is not None
    lines = (bento / named[1]).read_text(encoding="utf-8").split("\n")
    wanted = [Requirement(line) for line in lines if line.strip()]
    assert wanted


def test_it_runs_as_the_user_that_the_manifest_runs_it_as(bento: Path) -> None:
    found = instructions(bento)
    assert [rest for name, rest in found if name == "USER"][-1] == "bentoml"
    (number,) = [
        rest for name, rest in found if name == "ARG" and rest.startswith("BENTO_USER_UID=")
    ]
    manifests = yaml.safe_load_all((OPERATIONS / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = next(m for m in manifests if m["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(number.partition("=")[2])
    ports = {int(rest) for name, rest in found if name == "EXPOSE"}
    assert pod["containers"][0]["ports"][0]["containerPort"] in ports


def test_its_entrypoint_serves_with_the_image_s_own_variables(bento: Path, tmp_path: Path) -> None:
    (entrypoint,) = [rest for name, rest in instructions(bento) if name == "ENTRYPOINT"]
    assert "env/docker/entrypoint.sh" in entrypoint
    script = bento / "env/docker/entrypoint.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    port, log = free_port(), tmp_path / "log"
    environment = environment_with(
        BENTO_PATH=str(bento),
        BENTOML_HOME=str(tmp_path),
        BENTOML_CONTAINERIZED="true",
        BENTOML_PORT=str(port),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    with child(["bash", str(script)], log, environment) as process:
        while not _answers(port):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        answer = httpx.post(f"http://127.0.0.1:{port}/classify", json={"texts": ["good"]})
        assert answer.json()[0]["label"] == "one"


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False
