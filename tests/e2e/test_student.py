"""A student is distilled, judged and released by the real line, or else the next form is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from e2e_support import EKIBEN, ROOT, Homes, ReleasedHomes, line_environment

from tasks.manifests import CheckpointManifest, ProofReport

FORMS = ("serving.forms=[student, int8]", "serving.student.num_hidden_layers=1")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, released: ReleasedHomes) -> Homes:
    """Return homes of the module's own, with the model that the released line trained."""
    own = Homes.under(tmp_path_factory.mktemp("student"), released.sources)
    left_out = shutil.ignore_patterns("build", "prove")
    shutil.copytree(released.ekiben / "steps", own.ekiben / "steps", ignore=left_out)
    return own


def run(homes: Homes, *overrides: str) -> str:
    """Run the smoke line to its release and return what it printed."""
    sets = [part for override in (*FORMS, *overrides) for part in ("--set", override)]
    done = subprocess.run(
        [EKIBEN, "run", "configs/smoke.yaml", *sets], cwd=ROOT, env=line_environment(homes),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finetune: reused" in done.stdout + done.stderr
    return done.stdout


def bento_in(homes: Homes, printed: str) -> Path:
    tag = re.search(r"^bento: smoke:([0-9a-f]{12})$", printed, re.MULTILINE)
    assert tag is not None
    return homes.bentoml / "bentos" / "smoke" / tag[1]


def kinds(homes: Homes) -> list[str]:
    files = (homes.ekiben / "steps" / "form").glob("*/manifest.json")
    return sorted(CheckpointManifest.read(file).kind for file in files)


def verdict_in(printed: str, form: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(form)]
    return re.split(r"\s{2,}", line.strip())[-1]


def test_a_student_that_passes_is_released_and_answers_over_http_without_torch(
    homes: Homes,
) -> None:
    # It lost nothing where it was tried; the margin is for other processors, on 134 rows.
    printed = run(homes, "gate.form.min_gain.accuracy=-0.3")
    assert "served as student of 1 layer: accuracy over original: " in printed
    assert verdict_in(printed, "student of 1 layer") == "pass, served"
    assert verdict_in(printed, "int8") == "pass"
    assert "openvino-student" in kinds(homes)
    bento = bento_in(homes, printed)
    card = json.loads((bento / "src/model/card.json").read_text(encoding="utf-8"))
    assert card["kind"] == "openvino-student"
    config = json.loads((bento / "src/model/config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 1
    required = (bento / "env/python/requirements.txt").read_text(encoding="utf-8")
    names = {line.partition("==")[0] for line in required.split()}
    assert {"openvino", "tokenizers"} < names and not {"torch", "transformers"} & names
    (proof,) = (homes.ekiben / "steps" / "prove").glob("*/manifest.json")
    proven = ProofReport.read(proof)
    assert proven.rows_replayed == proven.labels_equal == 60
    told = "student: 1 layer (number 1 of the model's)"
    assert told in printed
    assert told.replace("'", "&#39;") in (bento / "report.html").read_text(encoding="utf-8")
    assert "It is a student: 1 layer" in (bento / "README.md").read_text(encoding="utf-8")


def test_where_a_student_does_not_pass_the_next_form_is_released(homes: Homes) -> None:
    printed = run(homes, "serving.student.num_train_epochs=0")
    assert "served as int8: accuracy over original: " in printed
    assert verdict_in(printed, "student of 1 layer") in ("reject", "undecided")
    assert "left as cut out" in printed
    card = bento_in(homes, printed) / "src/model/card.json"
    assert json.loads(card.read_text(encoding="utf-8"))["kind"] == "openvino-int8"


def test_where_there_can_be_no_student_the_next_form_is_released_and_it_is_told_why(
    homes: Homes,
) -> None:
    printed = run(homes, "serving.student.num_hidden_layers=2")
    assert "served as int8: accuracy over original: " in printed
    assert verdict_in(printed, "student  ") == "not made"
    assert "student was not made: the model has 2 layers, and serving.student" in printed
