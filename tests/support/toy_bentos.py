"""Released toy Bentos: the real service with a linear model of two words, in a store of the test's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from configs.schema import Cleaning, Privacy
from tasks.building import SERVICE
from tasks.integrity import write_manifest
from tasks.linear import Linear, hash_of
from tasks.manifests import GateDecision, ReleaseRecord
from tasks.process import environment_with
from tasks.releases import record_file
from tasks.steps import write_json, write_text

PIPELINE = "toy"
SURE = [[0.9820137900379085, 0.017986209962091555], [0.017986209962091555, 0.9820137900379085]]
"""What the model answers to `good` and `bad`."""


def toy_bento(folder: Path, version: str, golden: list[list[float]] | None = None) -> Path:
    """Build the Bento `toy:VERSION` below the folder and return its place.

    `golden` are the probabilities that are recorded for the texts `good` and `bad`.
    """
    context = folder / f"context-{version}"
    model = context / "model"
    model.mkdir(parents=True)
    for source in SERVICE.glob("*.py"):
        shutil.copyfile(source, context / source.name)
    _model().write(model)
    (model / "card.json").write_text(json.dumps(_card(version)), encoding="utf-8")
    if golden is not None:
        recorded = {"texts": ["good", "bad"], "probabilities": golden}
        (model / "golden.json").write_text(json.dumps(recorded), encoding="utf-8")
    bentofile = {
        "service": "service:TextClassifier",
        "name": PIPELINE,
        "include": ["*.py", "model/**"],
        "python": {"packages": ["bentoml"], "lock_packages": False},
    }
    (context / "bentofile.yaml").write_text(yaml.safe_dump(bentofile), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--version", version, "."],
        cwd=context,
        env=environment_with(BENTOML_HOME=str(folder / "store")),
        check=True,
        capture_output=True,
    )
    bento = folder / "store" / "bentos" / PIPELINE / version
    write_manifest(bento, f"{PIPELINE}:{version}")
    return bento


def with_version(bento: Path, version: str) -> Path:
    """Copy a toy Bento beside itself, under another version."""
    copy = bento.with_name(version)
    shutil.copytree(bento, copy)
    described = yaml.safe_load((copy / "bento.yaml").read_text(encoding="utf-8"))
    described["version"] = version
    (copy / "bento.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    card = copy / "src" / "model" / "card.json"
    card.write_text(json.dumps(_card(version)), encoding="utf-8")
    write_manifest(copy, f"{PIPELINE}:{version}")
    return copy


def release(bento: Path, previous: str | None = None, at: str = "2026-01-01T00:00:00+00:00") -> str:
    """Make a toy Bento in BentoML's store the champion; return its tag."""
    version = bento.name
    record = ReleaseRecord(
        tag=f"{PIPELINE}:{version}",
        pipeline=PIPELINE,
        released_at=at,
        bento_path=bento,
        report=bento / "report.html",
        previous=previous,
        digests={},
        config={},
        decision=GateDecision(
            verdict="pass",
            action="release",
            judged_on="interval",
            rules=(),
            reasons=(),
            evidence={},
        ),
    )
    file = record_file(record.tag)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record.model_dump(mode="json"))
    write_text(bento.parent / "latest", version)
    return record.tag


def _model() -> Linear:
    return Linear(
        terms=np.array(sorted(map(hash_of, ("good", "bad"))), dtype=np.uint64),
        stop_words=np.array([], dtype=np.uint64),
        idf=np.ones(2),
        weights=np.array([[2.0, -2.0], [-2.0, 2.0]]),
        intercept=np.zeros(2),
    )


def _card(version: str) -> dict[str, Any]:
    return {
        "pipeline": PIPELINE,
        "tag": f"{PIPELINE}:{version}",
        "kind": "linear",
        "base_model": None,
        "labels": ["one", "two"],
        "max_length": None,
        "pad_token_id": None,
        "max_texts": 64,
        "max_characters": 10_000,
        "cleaning": Cleaning().model_dump(mode="json"),
        "privacy": Privacy().model_dump(mode="json"),
        "calibration": {"scale": [1.0, 1.0], "bias": [0.0, 0.0]},
        "abstention": None,
        "decision": {},
        "forced": False,
        "test_rows": 100,
        "digests": {},
    }
