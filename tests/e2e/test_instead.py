"""The baseline is released in the place of a model that is rejected, and serves without torch."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from e2e_support import EKIBEN, ROOT, Homes, line_environment

from tasks.calibration import probabilities_of
from tasks.linear import read_linear
from tasks.manifests import CheckpointManifest, EvaluationReport, ProofReport, ReleaseRecord
from tasks.words import words

# A learning rate at which the model learns nothing, so that it finds all of the spam or none of it.
UNTAUGHT = ("training.learning_rate=1e-9", "training.num_train_epochs=1")
LIMITS = ("gate.recall.min_per_class.spam=0.3", "gate.baseline.release_instead=true")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Homes:
    """Return homes of the module's own."""
    return Homes.under(tmp_path_factory.mktemp("instead"), sources)


def ekiben_run(homes: Homes, *overrides: str) -> "subprocess.CompletedProcess[str]":
    sets = [part for override in overrides for part in ("--set", override)]
    return subprocess.run(
        [EKIBEN, "run", "configs/smoke.yaml", *sets], cwd=ROOT, env=line_environment(homes),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def printed(homes: Homes) -> str:
    """Run the line to its release and return what it printed."""
    done = ekiben_run(homes, *UNTAUGHT, *LIMITS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def record(homes: Homes, printed: str) -> ReleaseRecord:
    """Return the record of the release."""
    tag = re.search(r"^bento: smoke:([0-9a-f]{12})$", printed, re.MULTILINE)
    assert tag is not None
    file = homes.ekiben / "releases" / "smoke" / f"{tag[1]}.json"
    return ReleaseRecord.model_validate_json(file.read_text(encoding="utf-8"))


def steps_of(homes: Homes, stage: str) -> Iterator[Path]:
    return (homes.ekiben / "steps" / stage).glob("*/manifest.json")


def test_both_decisions_are_told(homes: Homes, printed: str, record: ReleaseRecord) -> None:
    told = re.search(r"^Released in \d+ s: (.*); the model is not: (.*)$", printed, re.MULTILINE)
    assert told is not None, printed
    assert told[1].startswith("the baseline is released instead: accuracy: 0.")
    assert "is below" in told[2]
    titles = re.findall(r"^smoke: (.*?) *$", printed, re.MULTILINE)
    assert titles[-2:] == ["reject", "the baseline in its place: pass"]
    assert record.decision.verdict == "pass"
    page = (record.bento_path / "report.html").read_text(encoding="utf-8")
    assert page.index("the model is not: ") < page.index("The baseline in its place")
    assert "Confusion matrix of the baseline" in page


def test_what_is_released_is_the_fitted_export(homes: Homes, record: ReleaseRecord) -> None:
    (file,) = steps_of(homes, "baseline")
    baseline = CheckpointManifest.read(file)
    assert record.digests["checkpoint"] == baseline.digest
    model = record.bento_path / "src" / "model"
    for name, digest in baseline.files.items():
        assert (model.parent / name).read_bytes() == baseline.path(name).read_bytes(), digest
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert (card["kind"], card["base_model"], card["max_length"]) == ("linear", "none", None)


def test_the_served_answers_are_the_evaluations(homes: Homes, record: ReleaseRecord) -> None:
    (file,) = steps_of(homes, "prove")
    proof = ProofReport.read(file)
    assert proof.labels_equal == proof.rows_replayed == 60
    assert proof.largest_difference < 1e-12
    evaluations = {
        report.digest: report for report in map(EvaluationReport.read, steps_of(homes, "evaluate"))
    }
    assert len(evaluations) == 2
    own = evaluations.pop(record.digests["evaluation"])
    (of_the_model,) = evaluations.values()
    assert own.figures == own.baseline == of_the_model.baseline != of_the_model.figures
    (split,) = (homes.ekiben / "steps/split").glob("*/test.parquet")
    texts = pq.read_table(split)["text"].to_pylist()
    said = np.array(pq.read_table(own.path("predictions.parquet"))["probabilities"].to_pylist())
    logits = read_linear(record.bento_path / "src" / "model", 2).logits(texts, words)
    assert own.scaling is not None
    assert np.abs(probabilities_of(logits, own.scaling) - said).max() < 1e-12


def test_no_file_of_the_bento_is_a_pickle_or_needs_torch(record: ReleaseRecord) -> None:
    files = [file for file in record.bento_path.rglob("*") if file.is_file()]
    assert {"linear.safetensors", "service.py", "linear.py", "words.py"} <= {
        file.name for file in files
    }
    kinds = {".py", ".json", ".safetensors", ".md", ".txt", ".yaml", ".html", ".sh", ".in"}
    assert {file.suffix for file in files if file.suffix} - kinds == set()
    for file in files:
        content = file.read_bytes()
        assert not re.match(rb"\x80[\x02-\x05]", content), file  # how a pickle begins
        assert b"sklearn" not in content, file
        assert not re.search(
            rb"^\s*(import|from) (pickle|joblib|torch|transformers)\b", content, re.MULTILINE
        )
    lines = (record.bento_path / "env/python/requirements.txt").read_text(encoding="utf-8")
    names = {line.partition("==")[0] for line in lines.splitlines()}
    assert {"bentoml", "numpy", "safetensors", "rjieba"} <= names
    assert not names & {"torch", "transformers", "tokenizers", "scikit-learn", "scipy", "joblib"}


CLASSIFY = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "sklearn", "scipy", "tasks"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from service import Engine, MODEL, Request

texts = Request(texts=json.load(sys.stdin)).texts
print(json.dumps([answer.probabilities for answer in Engine(MODEL).classify(texts)]))
print(sorted({"torch", "transformers", "sklearn", "scipy"} & set(sys.modules)))
"""


def test_the_service_answers_where_torch_and_scikit_learn_are_not(record: ReleaseRecord) -> None:
    texts = ["Are we still on for lunch?", "WIN a free prize now", "这个产品的质量非常好"]
    ended = subprocess.run(
        [sys.executable, "-c", CLASSIFY], input=json.dumps(texts), capture_output=True, text=True,
        check=True, cwd=record.bento_path / "src",
    )  # fmt: skip
    answers, loaded = ended.stdout.splitlines()[-2:]
    assert loaded == "[]"
    rows: Any = json.loads(answers)
    assert [round(sum(row), 9) for row in rows] == [1, 1, 1]
    assert rows[1][1] > rows[0][1]


def test_without_leave_nothing_is_released_in_its_place(homes: Homes, printed: str) -> None:
    done = ekiben_run(homes, *UNTAUGHT, LIMITS[0])
    assert done.returncode == 3, done.stdout + done.stderr
    assert "in its place" not in done.stdout


def test_a_baseline_that_does_not_pass_either_is_not_released(homes: Homes, printed: str) -> None:
    built = set((homes.ekiben / "steps/build").iterdir())
    done = ekiben_run(homes, *UNTAUGHT, *LIMITS, "gate.accuracy.min=0.9999")
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search(
        r"^Rejected in .*; nor is the baseline released instead: ", done.stdout, re.MULTILINE
    )
    assert "bento:" not in done.stdout
    assert set((homes.ekiben / "steps/build").iterdir()) == built
