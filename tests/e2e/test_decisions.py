"""Decisions through the command line: verified from their records, forced by name, on frozen rows."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from e2e_support import EKIBEN, ROOT, Homes, ReleasedHomes, free_port, line_environment, stopped
from huggingface_hub import ModelCard
from prefect_support import PrefectServer

from configs.loading import load_config
from tasks.digests import file_digest
from tasks.manifests import ReleaseRecord, SplitManifest
from tasks.records import read_record

CONFIG = ROOT / "configs" / "smoke.yaml"
REASON = "the fair is on Monday <b>"


def ekiben(homes: Homes, *arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [EKIBEN, *arguments], cwd=cwd, env=line_environment(homes), capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def wait_until_ready(address: str) -> None:
    for _ in range(240):
        try:
            if httpx.get(f"{address}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{address} was not ready after 240 tries")


@pytest.fixture
def own(released: ReleasedHomes, tmp_path: Path) -> Homes:
    """Return homes of the test's own in which the line has been trained and not released."""
    homes = Homes.under(tmp_path / "own", released.sources)
    unproven = shutil.ignore_patterns("build", "prove")
    shutil.copytree(released.ekiben / "steps", homes.ekiben / "steps", ignore=unproven)
    return homes


def test_the_record_of_a_release_lies_in_its_bento_and_is_verified_elsewhere(
    released: ReleasedHomes, tmp_path: Path
) -> None:
    (bento,) = (path for path in (released.bentoml / "bentos/smoke").iterdir() if path.is_dir())
    kept = next((released.ekiben / "decisions/smoke").glob("*-pass.json"))
    assert (bento / "decision.json").exists()
    assert read_record(bento / "decision.json")[1] == read_record(kept)[1] == []
    copied = tmp_path / "decision.json"
    shutil.copyfile(bento / "decision.json", copied)
    empty = Homes(tmp_path / "e", tmp_path / "b", tmp_path / "p")
    done = ekiben(empty, "verify", "decision.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "agrees"
    assert not any(home.exists() for home in (empty.ekiben, empty.bentoml, empty.prefect))
    copied.write_text(copied.read_text().replace('"pass"', '"undecided"'), encoding="utf-8")
    done = ekiben(empty, "verify", "decision.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "agrees" not in done.stdout
    assert all(line.startswith("error: decision.json: ") for line in done.stderr.splitlines())


def test_the_card_of_a_release_is_one_that_hugging_face_reads(released: ReleasedHomes) -> None:
    (bento,) = (path for path in (released.bentoml / "bentos/smoke").iterdir() if path.is_dir())
    for file in (bento / "README.md", bento / "src/model/README.md"):
        card = ModelCard.load(file)
        assert card.data.pipeline_tag == "text-classification"
        assert card.data.model_name == f"smoke:{bento.name}"
        assert "It passed its gate." in card.text


def test_a_rejected_model_that_is_released_by_name_is_marked_everywhere(
    own: Homes, prefect: PrefectServer
) -> None:
    stricter = (str(CONFIG), "--set", "gate.accuracy.min=0.9999")
    done = prefect.run(own, *stricter, "--force", "--reason", REASON)
    assert done.returncode == 0, done.stdout + done.stderr
    ended = (
        rf"^Released in \d+ s: forced: {REASON} \(though reject: accuracy: .+ is below 0\.9999\)$"
    )
    assert re.search(ended, done.stdout, re.MULTILINE), done.stdout
    (file,) = (own.ekiben / "releases/smoke").glob(f"{'?' * 12}.json")
    record = ReleaseRecord.model_validate_json(file.read_text(encoding="utf-8"))
    assert (record.decision.verdict, record.decision.forced) == ("reject", REASON)
    decided, problems = read_record(record.bento_path / "decision.json")
    assert (decided.decision, problems) == (record.decision, [])
    page = (record.bento_path / "report.html").read_text(encoding="utf-8")
    assert '<span class="badge forced">forced</span>' in page
    assert "the fair is on Monday &lt;b&gt;" in page and REASON not in page
    for place in ("README.md", "src/model/README.md"):
        card = (record.bento_path / place).read_text(encoding="utf-8")
        assert "**A person forced its release**, with the reason: the fair is on Monday" in card
    port = free_port()
    command = [EKIBEN.replace("ekiben", "bentoml"), "serve", record.tag, "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with stopped(subprocess.Popen(command, env=line_environment(own))):
        wait_until_ready(address)
        answers = httpx.post(f"{address}/classify", json={"texts": ["lunch?"]}, timeout=60).json()
    assert [answer["forced"] for answer in answers] == [True]


def test_a_frozen_test_set_is_pinned_and_then_held_out(own: Homes, tmp_path: Path) -> None:
    file = tmp_path / "frozen.parquet"
    done = ekiben(own, "freeze", str(CONFIG), "--output", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    pin = f"{file}#sha256={file_digest(file)}"
    assert done.stdout.splitlines()[-1].strip() == f"split: {{frozen_test: {pin}}}"
    again = ekiben(own, "freeze", str(CONFIG), "--output", str(file))
    assert again.returncode == 2
    assert "is there already" in again.stderr
    override = f"split.frozen_test={json.dumps(pin)}"
    assert load_config(CONFIG, [override]).split.frozen_test == pin
    checked = ekiben(own, "check", str(CONFIG), "--set", override)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    told = "split: train 498, validation 68, test 134, 134 left out as like the frozen test set"
    assert told in checked.stdout
    (split,) = (
        manifest
        for path in (own.ekiben / "steps/split").glob("*/manifest.json")
        if (manifest := SplitManifest.read(path)).leaked
    )
    assert pq.read_table(split.path("test.parquet")).equals(pq.read_table(file))
    report = Path(re.findall(r"^report: (.+)$", checked.stdout, re.MULTILINE)[0])
    assert "like the frozen test set: 134 copies" in report.read_text(encoding="utf-8")
