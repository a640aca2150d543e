"""The probe through the real worker: flips against the evaluation's labels, and the user's cases."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import as_made

from configs.schema import PipelineConfig
from tasks.baseline import fit_baseline
from tasks.calibrating import calibrate_candidate
from tasks.cases import read_cases, served
from tasks.evaluation import evaluate_candidate
from tasks.gate import judge
from tasks.manifests import (
    CheckpointManifest,
    EvaluationReport,
    Evidence,
    ProbeReport,
    SplitManifest,
)
from tasks.perturbations import perturb
from tasks.probing import probe_candidate
from tasks.progress import listening

LABELS = ("ham", "spam")
NAMES = ("typos", "case", "white_space")


def config_of(**robustness: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "tried",
            "data": {"uri": "rows.csv", "labels": list(LABELS)},
            "training": {"max_length": 32, "device": "cpu"},
            "evaluation": {"bootstrap_samples": 100},
            "robustness": robustness,
            "gate": {"accuracy": {"min": 0.5}, "min_test_rows": 10},
        }
    )


@pytest.fixture
def split(tmp_path: Path) -> SplitManifest:
    """Return a manifest of 20 train and 30 test rows."""
    folder = tmp_path / "split"
    folder.mkdir()
    for side, count in {"train": 20, "validation": 15, "test": 30}.items():
        labels = [LABELS[number % 3 == 0] for number in range(count)]
        words = {"ham": "lunch at home", "spam": "win a free prize"}
        texts = [f"{side} {i} {words[label] * (i % 4)}".strip() for i, label in enumerate(labels)]
        table = pa.table({"row": range(100, 100 + count), "text": texts, "label": labels})
        pq.write_table(table, folder / f"{side}.parquet")
    made = SplitManifest(
        key="1" * 64, parents={}, folder=folder, files={}, rows={}, label_counts={}
    )
    return as_made(made)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_model: Path, split: SplitManifest) -> CheckpointManifest:
    """Return a tiny model that is of two minds about the test rows, so that some labels flip."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = pq.read_table(split.path("test.parquet"))["text"].to_pylist()
    with torch.inference_mode():
        logits = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits
    model.classifier.bias.data -= logits.median(dim=0).values
    model.save_pretrained(tmp_path / "checkpoint/model")
    tokenizer.save_pretrained(tmp_path / "checkpoint/model")
    made = CheckpointManifest(
        key="2" * 64, parents={}, folder=tmp_path / "checkpoint", files={}, base_model="tiny",
        base_model_digest="3" * 64, parameters=1, device="cpu", precision="fp32", best_epoch=1,
        stopped_early=False, seconds=1.0, rows_per_second=1.0, truncated_rows=0,
        epochs=(), curve=(),
    )  # fmt: skip
    return as_made(made)


def evaluated(
    config: PipelineConfig, split: SplitManifest, checkpoint: CheckpointManifest
) -> EvaluationReport:
    """Return the evaluation of the calibrated checkpoint."""
    calibration = calibrate_candidate(config, split, checkpoint)
    baseline = fit_baseline(config, split)
    return evaluate_candidate(config, split, checkpoint, calibration, baseline)


def labels_of(checkpoint: CheckpointManifest, texts: list[str]) -> list[str]:
    """Return the labels that the model gives, asked text by text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path("model"))
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint.path("model")).eval()
    given = []
    with torch.inference_mode():
        for text in texts:
            logits = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=32))
            given.append(LABELS[int(logits.logits.argmax())])
    return given


def test_flips_and_wrong_cases_are_those_of_the_model_asked_text_by_text(
    homes: Path, tmp_path: Path, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    texts = [f"a {word}  case" for word in ("free", "home", "prize", "lunch")]
    wanted = labels_of(checkpoint, [" ".join(text.split()) for text in texts])
    wanted[2] = LABELS[1 - LABELS.index(wanted[2])]
    lines = [f"{text},{label},of mine" for text, label in zip(texts, wanted, strict=True)]
    own = tmp_path / "cases.csv"
    own.write_text("\n".join(["text,label,name", *lines]), encoding="utf-8")
    config = config_of(perturbations=NAMES, max_rows=20, cases=str(own))
    evaluation = evaluated(config, split, checkpoint)
    told: list[tuple[str, int, int | None]] = []
    with listening(lambda stage, done, total, note: told.append((stage, done, total))):
        probe = probe_candidate(config, split, checkpoint, evaluation, read_cases(config))
    assert probe is not None
    assert {path.name for path in probe.folder.iterdir()} == {"flips.parquet", "manifest.json"}
    assert pq.read_table(probe.path("flips.parquet")).column_names == ["perturbation", "row"]
    assert probe.rows == 20
    assert probe.flips["white_space"].undone == probe.flips["white_space"].rows == 20
    assert probe.flips["white_space"].flips == 0
    require_as_asked(config, probe, split, checkpoint)
    assert sum(count.flips for count in probe.flips.values()) > 0
    (wrong,) = probe.wrong_cases
    assert (wrong.row, wrong.name, wrong.label) == (3, "of mine", wanted[2])
    assert wrong.given != wanted[2]
    decision = judge(config.gate, Evidence(evaluation=evaluation, probe=probe))
    assert decision.verdict == "reject"
    assert any(reason.startswith("cases: ") for reason in decision.reasons)
    scored = [event for event in told if event[0] == "score"]
    assert scored and scored[-1][1] == scored[-1][2]
    content = probe.model_dump_json()
    assert "free" not in content and "lunch" not in content


def require_as_asked(
    config: PipelineConfig, probe: ProbeReport, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    """Perturb every test row anew and ask the model; hold what the probe counted against it."""
    test = pq.read_table(split.path("test.parquet")).to_pylist()
    plain = labels_of(checkpoint, [row["text"] for row in test])
    lines = pq.read_table(probe.path("flips.parquet")).to_pylist()
    for name in config.robustness.perturbations:
        changed = [perturb(name, row["text"], 0) for row in test]
        given = labels_of(checkpoint, [served(text or "", config.data) for text in changed])
        flipped = {
            row["row"]
            for row, before, after in zip(test, plain, given, strict=True)
            if before != after
        }
        found = {line["row"] for line in lines if line["perturbation"] == name}
        count = probe.flips[name]
        assert found <= flipped
        assert count.flips == len(found) == sum(flips for _, flips in count.by_label.values())
        assert count.rows == sum(rows for rows, _ in count.by_label.values()) == 20
        assert set(count.examples) <= found


def test_all_rows_are_probed_where_there_are_fewer_and_a_second_run_reuses(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    config = config_of(perturbations=["case"])
    evaluation = evaluated(config, split, checkpoint)
    first, again = (probe_candidate(config, split, checkpoint, evaluation) for _ in range(2))
    assert first is not None and first == again
    test = pq.read_table(split.path("test.parquet"))
    plain = labels_of(checkpoint, test["text"].to_pylist())
    upper = [perturb("case", text, 0) for text in test["text"].to_pylist()]
    given = labels_of(checkpoint, [text or "" for text in upper])
    flipped = np.array(plain) != np.array(given)
    lines = pq.read_table(first.path("flips.parquet"))
    assert lines["row"].to_pylist() == test["row"].filter(pa.array(flipped)).to_pylist()
    assert (first.cases, first.cases_digest, first.wrong_cases) == (0, None, ())


def test_nothing_is_probed_where_nothing_is_declared(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    config = config_of()
    evaluation = evaluated(config, split, checkpoint)
    assert probe_candidate(config, split, checkpoint, evaluation) is None
