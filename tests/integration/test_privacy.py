"""Raw values never leave the source: not in what ingest stores, not in what the service tells."""

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from canaries import CANARIES, PRIVACY, TEXTS, canaries_in, canaries_under

from configs.schema import Cleaning, Data
from tasks.ingest import read_dataset

ROOT = Path(__file__).resolve().parents[2]


def declared(folder: Path, **sections: Any) -> Data:
    """Return the config of a table of the canaries' texts, which lies apart from every home."""
    file = folder / "source" / "rows.csv"
    file.parent.mkdir()
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(
            [text, "ham" if number % 2 else "spam"] for number, text in enumerate(TEXTS)
        )
    return Data.model_validate({"uri": str(file), "labels": ["ham", "spam"], **sections})


def test_ingest_stores_and_logs_no_value_that_it_masks(
    homes: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    manifest = read_dataset(declared(homes, privacy=PRIVACY))
    home = homes / "ekiben_home"
    assert (home / "steps" / "ingest").is_dir()
    assert canaries_under(home, without=[home / "sources"]) == {}
    told = capfd.readouterr()
    assert canaries_in(caplog.text + told.out + told.err) == set()
    assert manifest.rows == len(CANARIES) == 20
    assert manifest.masked == {
        "email": 3,
        "phone": 5,
        "card": 3,
        "iban": 2,
        "national_id": 3,
        "ip": 2,
        "url_secret": 3,
    }


def test_without_masking_every_canary_would_be_found(homes: Path) -> None:
    manifest = read_dataset(declared(homes))
    assert canaries_under(homes / "ekiben_home") == {manifest.path("rows.parquet"): set(CANARIES)}
    assert manifest.masked == {}


def test_a_value_to_slice_by_is_stored_masked_as_the_text_is(homes: Path) -> None:
    file = homes / "rows.csv"
    lines = ["text,label,from,site", "a,ham,ann@example.org,web", "b,spam,,app"]
    file.write_text("\n".join(lines), encoding="utf-8")
    data = Data.model_validate(
        {
            "uri": str(file),
            "labels": ["ham", "spam"],
            "slice_columns": ["site", "from"],
            "privacy": {"mask": ["email"]},
        }
    )
    manifest = read_dataset(data)
    stored = pq.read_table(manifest.path("rows.parquet"))["slices"].to_pylist()
    assert stored == [["web", "[EMAIL]"], ["app", ""]]
    assert manifest.masked == {"email": 1}


SERVE = """
import json, logging, sys
logging.basicConfig(level=logging.DEBUG)
from replies import Refusal
from service import CARD, MODEL, Engine
from texts import Texts

reader, texts = Texts(CARD), json.load(sys.stdin)
read = reader.read(json.dumps({"texts": texts}).encode())
print(json.dumps({"texts": read, "answers": len(Engine(MODEL).classify(read))}))
try:
    reader.read(json.dumps({"texts": [*texts, " "]}).encode())
except Refusal as refusal:
    print(refusal.body, file=sys.stderr)
"""


def test_the_service_masks_as_ingest_does_and_tells_no_value(homes: Path, tiny_model: Path) -> None:
    data = declared(homes, privacy=PRIVACY)
    stored = pq.read_table(read_dataset(data).path("rows.parquet"))["text"].to_pylist()
    context = homes / "bento"
    shutil.copytree(tiny_model, context / "model")
    for file in (ROOT / "bentos" / "text_classifier").glob("*.py"):
        shutil.copyfile(file, context / file.name)
    card = {
        "pipeline": "letters",
        "tag": "letters:1",
        "kind": "transformer",
        "labels": ["ham", "spam"],
        "max_length": 64,
        "pad_token_id": 0,
        "max_texts": 64,
        "max_characters": 1000,
        "cleaning": Cleaning().model_dump(),
        "privacy": data.privacy.model_dump(),
        "calibration": {"scale": [1.0, 1.0], "bias": [0.0, 0.0]},
        "abstention": None,
    }
    (context / "model" / "card.json").write_text(json.dumps(card), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", SERVE],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
        cwd=context,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert json.loads(ended.stdout) == {"texts": stored, "answers": len(TEXTS)}
    assert "is blank once cleaned" in ended.stderr
    assert canaries_in(ended.stdout + ended.stderr) == set()
    assert canaries_under(context) == {}
