"""Figures on a test split: the offline metric modules, their intervals, and the stage itself."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)
from tables import as_made

from configs.errors import GateError, TrainingError
from configs.schema import Calibration, PipelineConfig
from tasks.auditing import SUSPECTS
from tasks.baseline import fit_baseline
from tasks.calibrating import calibrate_candidate
from tasks.duplicates import LEFT_OUT
from tasks.estimates import Z95
from tasks.evaluation import evaluate_candidate, require_own_counts
from tasks.figures import confusion_of, measure
from tasks.gate import judge
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    DuplicateReport,
    EvaluationReport,
    Evidence,
    Figure,
    LabelReport,
    SliceCounts,
    SplitManifest,
    ValidationReport,
)
from tasks.reporting import Run, figure_text, render
from tasks.row_rules import QUARANTINE
from tasks.slice_rules import confusion_of_slice
from tasks.steps import MANIFEST, M, write_json

EXACT = 1e-12  # by which figures may differ from scikit-learn's
ROOT = Path(__file__).resolve().parents[2]
Ids = NDArray[np.int64]
AVERAGES = ("macro", "weighted", None)
ZERO_DIVISIONS = (0.0, 1.0, "nan")

ASK_EVERY_MODULE = """
import json, sys
import numpy as np
from tasks.figures import metric

predicted, actual, labels = json.load(sys.stdin)
base = dict(predictions=predicted, references=actual)
told = {
    "accuracy": metric("accuracy").compute(**base)["accuracy"],
    "confusion": metric("confusion_matrix").compute(**base, labels=labels)["confusion_matrix"],
}
for name in ("precision", "recall", "f1"):
    for average in ("macro", "weighted", None):
        for zero in (0.0, 1.0, "nan"):
            told[f"{name} {average} {zero}"] = metric(name).compute(
                **base, labels=labels, average=average, zero_division=float(zero)
            )[name]
print(json.dumps(told))
"""


def test_the_metric_modules_load_without_a_hub_and_equal_scikit_learn(tmp_path: Path) -> None:
    draw = np.random.default_rng(11)
    labels = [0, 1, 2, 3]
    actual = draw.choice([0, 1, 2], size=300, p=[0.6, 0.3, 0.1])
    predicted = np.where(draw.random(300) < 0.7, actual, draw.integers(0, 2, size=300))
    assert 3 not in actual and 3 not in predicted  # so that label 3 divides by nothing
    told = json.loads(
        subprocess.run(
            [sys.executable, "-c", ASK_EVERY_MODULE],
            input=json.dumps([predicted.tolist(), actual.tolist(), labels]),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")},
        ).stdout
    )
    assert told["accuracy"] == pytest.approx(accuracy_score(actual, predicted), abs=EXACT, rel=0.0)
    assert told["confusion"] == confusion_matrix(actual, predicted, labels=labels).tolist()
    scores = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    for name, score in scores.items():
        for average in AVERAGES:
            for zero in ZERO_DIVISIONS:
                expected = score(
                    actual, predicted, labels=labels, average=average, zero_division=float(zero)
                )
                assert told[f"{name} {average} {zero}"] == pytest.approx(
                    expected.tolist() if average is None else float(expected),
                    nan_ok=True,
                    abs=EXACT,
                    rel=0.0,
                ), (name, average, zero)


def ids_of(confusion: list[list[int]]) -> tuple[Ids, Ids]:
    """Return predicted and actual class ids that make the confusion matrix (actual down)."""
    pairs = [
        (given, actual)
        for actual, row in enumerate(confusion)
        for given, count in enumerate(row)
        for _ in range(count)
    ]
    predicted, actual = np.array(pairs, dtype=np.int64).T
    return predicted, actual


# Twenty rows: 6 of a, 5 of b, 5 of c, 4 of d; d is never given, so its precision is undefined.
CONFUSION = [[5, 1, 0, 0], [2, 3, 0, 0], [1, 0, 4, 0], [1, 2, 1, 0]]
BY_HAND: dict[str, tuple[float | None, int]] = {
    "accuracy": (12 / 20, 20),
    "precision.a": (5 / 9, 9),
    "precision.b": (3 / 6, 6),
    "precision.c": (4 / 5, 5),
    "precision.d": (None, 0),
    "precision.macro": ((5 / 9 + 3 / 6 + 4 / 5 + 0) / 4, 20),
    "precision.weighted": ((6 * 5 / 9 + 5 * 3 / 6 + 5 * 4 / 5 + 0) / 20, 20),
    "recall.a": (5 / 6, 6),
    "recall.b": (3 / 5, 5),
    "recall.c": (4 / 5, 5),
    "recall.d": (0.0, 4),
    "recall.macro": ((5 / 6 + 3 / 5 + 4 / 5 + 0) / 4, 20),
    "recall.weighted": (12 / 20, 20),
    "f1.a": (10 / 15, 15),
    "f1.b": (6 / 11, 11),
    "f1.c": (8 / 10, 10),
    "f1.d": (0.0, 4),
    "f1.macro": ((10 / 15 + 6 / 11 + 8 / 10 + 0) / 4, 20),
    "f1.weighted": ((6 * 10 / 15 + 5 * 6 / 11 + 5 * 8 / 10 + 0) / 20, 20),
}


def test_the_figures_of_a_confusion_matrix_are_those_worked_out_by_hand() -> None:
    predicted, actual = ids_of(CONFUSION)
    assert confusion_of(predicted, actual, 4).tolist() == CONFUSION
    figures = measure(predicted, actual, ("a", "b", "c", "d"), 500, 0)
    assert figures.keys() == BY_HAND.keys()
    for name, (value, n) in BY_HAND.items():
        figure = figures[name]
        assert figure.n == n, name
        if value is None:
            assert (figure.value, figure.low, figure.high) == (None, None, None)
            assert "undefined" in figure.method
        else:
            assert figure.value == pytest.approx(value, abs=EXACT, rel=0.0), name
            assert figure.low is not None and figure.high is not None
            assert figure.low <= value + 1e-9 and value - 1e-9 <= figure.high, name


def test_a_label_without_rows_has_no_recall_and_one_that_is_nowhere_has_no_figure_at_all() -> None:
    predicted, actual = ids_of([[4, 1, 0], [0, 0, 0], [0, 0, 0]])
    figures = measure(predicted, actual, ("a", "b", "c"), 200, 0)
    undefined = {name for name, figure in figures.items() if figure.value is None}
    averages = {f"{name}.macro" for name in ("precision", "recall", "f1")}
    assert undefined == averages | {"recall.b", "precision.c", "recall.c", "f1.c"}
    assert figures["precision.b"].value == 0.0
    assert figures["recall.weighted"].value == pytest.approx(0.8)


def test_the_interval_of_none_and_all_is_wilson_s() -> None:
    # 0 of 10 right: the upper bound is z^2 / (10 + z^2), and 10 of 10 mirrors it.
    none = measure(np.ones(10, dtype=np.int64), np.zeros(10, dtype=np.int64), ("a", "b"), 200, 0)
    every = measure(np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.int64), ("a", "b"), 200, 0)
    bound = Z95**2 / (10 + Z95**2)
    assert [none["accuracy"].low, none["accuracy"].high] == pytest.approx([0.0, bound])
    assert [every["accuracy"].low, every["accuracy"].high] == pytest.approx([1 - bound, 1.0])
    assert every["recall.a"].method == "Wilson"


def test_intervals_hold_the_true_figure_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(3)
    population = np.array([[0.45, 0.05], [0.10, 0.40]])  # shares of all rows, actual label down
    right, given, rows = population.diagonal(), population.sum(axis=0), population.sum(axis=1)
    truth = {
        "accuracy": right.sum(),
        "recall.b": right[1] / rows[1],
        "precision.macro": (right / given).mean(),
        "recall.macro": (right / rows).mean(),
        "f1.macro": (2 * right / (given + rows)).mean(),
        "f1.weighted": (rows * 2 * right / (given + rows)).sum(),
    }
    held = dict.fromkeys(truth, 0)
    samples = 100
    for _ in range(samples):
        confusion = draw.multinomial(200, population.ravel()).reshape(2, 2)
        figures = measure(*ids_of(confusion.tolist()), ("a", "b"), 300, 1)
        for name, value in truth.items():
            low, high = figures[name].low, figures[name].high
            assert low is not None and high is not None
            held[name] += int(low <= value <= high)
    # 95% of 100 is 95; the bound is four standard deviations of chance away.
    for name, count in held.items():
        assert count >= 86, (name, count)
    assert sum(held.values()) < samples * len(truth)


def test_the_seed_decides_the_bootstrap_and_more_rows_narrow_it() -> None:
    few = ids_of([[40, 10], [5, 45]])
    many = ids_of([[400, 100], [50, 450]])
    first, again = (measure(*few, ("a", "b"), 300, 7)["f1.macro"] for _ in range(2))
    other = measure(*few, ("a", "b"), 300, 8)["f1.macro"]
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert width(measure(*many, ("a", "b"), 300, 7)["f1.macro"]) < width(first) / 2


def width(figure: Figure) -> float:
    assert figure.low is not None and figure.high is not None
    return figure.high - figure.low


# --- The stage, with a real model and worker ------------------------------------------------------

LABELS = ("ham", "spam")
CONFIG = PipelineConfig.model_validate(
    {
        "name": "tried",
        "data": {"uri": "rows.csv", "labels": list(LABELS)},
        "training": {"max_length": 32, "device": "cpu"},
        "evaluation": {"bootstrap_samples": 200},
        "gate": {"accuracy": {"min": 0.5}, "min_test_rows": 10},
    }
)


SIDES = {"train": 40, "validation": 20, "test": 30}


@pytest.fixture
def split(tmp_path: Path) -> SplitManifest:
    """Return a manifest of 90 rows on three sides; the baseline can tell their labels apart."""
    folder = tmp_path / "split"
    folder.mkdir()
    for side, count in SIDES.items():
        labels = [LABELS[i % 3 == 0] for i in range(count)]
        texts = [
            f"{side} {i} " + ("win a free prize" if label == "spam" else "lunch at home") * (i % 4)
            for i, label in enumerate(labels)
        ]
        rows = list(range(100, 100 + count))
        table = pa.table({"row": rows, "text": texts, "label": labels})
        pq.write_table(table, folder / f"{side}.parquet")
    manifest = SplitManifest(
        key="1" * 64, parents={}, folder=folder, files={}, rows=SIDES, label_counts={},
    )  # fmt: skip
    return as_made(manifest)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_model: Path) -> CheckpointManifest:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/model").symlink_to(tiny_model)
    manifest = CheckpointManifest(
        key="2" * 64, parents={}, folder=tmp_path / "checkpoint", files={}, base_model="tiny",
        base_model_digest="3" * 64, parameters=1, device="cpu", precision="fp32", best_epoch=1,
        stopped_early=False, seconds=1.0, rows_per_second=1.0, truncated_rows=0,
        epochs=(), curve=(),
    )  # fmt: skip
    return as_made(manifest)


def test_the_stage_measures_the_candidate_and_the_baseline_on_the_same_rows(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    calibration = calibrate_candidate(CONFIG, split, checkpoint)
    report = evaluate_candidate(CONFIG, split, checkpoint, calibration, fit_baseline(CONFIG, split))
    assert set(report.files) == {"predictions.parquet"}
    assert {path.name for path in report.folder.iterdir()} == {
        "predictions.parquet", "manifest.json"
    }  # fmt: skip
    lines = pq.read_table(report.path("predictions.parquet"))
    assert lines.column_names == ["row", "label", "predicted", "probabilities"]
    test = pq.read_table(split.path("test.parquet"))
    assert lines["row"].to_pylist() == test["row"].to_pylist()
    assert lines["label"].to_pylist() == test["label"].to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path("model"))
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint.path("model")).eval()
    given = np.array(lines["probabilities"].to_pylist())
    with torch.inference_mode():
        for text, probabilities in zip(test["text"].to_pylist(), given, strict=True):
            logits = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=32))
            scaled = logits.logits.double() * calibration.scaling.scale[0]
            expected = torch.softmax(scaled, dim=1)[0].numpy()
            assert np.abs(expected - probabilities).max() < 1e-5
    assert lines["predicted"].to_pylist() == [LABELS[i] for i in given.argmax(axis=1)]
    actual, predicted = lines["label"].to_pylist(), lines["predicted"].to_pylist()
    assert report.rows == 30
    assert report.figures["accuracy"].value == pytest.approx(
        accuracy_score(actual, predicted), abs=EXACT, rel=0.0
    )
    assert report.figures["f1.macro"].value == pytest.approx(
        f1_score(actual, predicted, average="macro", zero_division=0), abs=EXACT, rel=0.0
    )
    assert np.array(report.confusion).tolist() == (
        confusion_matrix(actual, predicted, labels=LABELS).tolist()
    )
    assert report.baseline.keys() == report.figures.keys()
    assert report.baseline["accuracy"].n == 30
    assert report.baseline["accuracy"].value is not None
    assert report.baseline["accuracy"].value > 0.8
    assert sum(part.rows for part in report.reliability) == 30
    assert report.abstention is None


ENGINE = """
import json, sys
from pathlib import Path
from engine import Engine
answers = Engine(Path("model")).classify(json.load(sys.stdin))
print(json.dumps([[answer.probabilities, answer.unsure] for answer in answers]))
"""


def answers_of(
    context: Path, model: Path, report: EvaluationReport, texts: list[str]
) -> list[tuple[list[float], bool]]:
    """Return probabilities and certainty of the Bento's own engine, with the report's card."""
    assert report.scaling is not None and report.abstention is not None
    shutil.copytree(model, context / "model")
    for module in ("engine.py", "transformer.py"):
        shutil.copyfile(ROOT / "bentos/text_classifier" / module, context / module)
    card = {
        "kind": "transformer",
        "labels": list(report.labels),
        "max_length": 32,
        "pad_token_id": 0,
        "calibration": report.scaling.model_dump(),
        "abstention": {"threshold": report.abstention.threshold},
    }
    (context / "model/card.json").write_text(json.dumps(card), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", ENGINE], input=json.dumps(texts), capture_output=True, text=True,
        check=True, cwd=context,
    )  # fmt: skip
    return [(probabilities, unsure) for probabilities, unsure in json.loads(ended.stdout)]


@pytest.mark.parametrize("target", ["coverage", "precision"])
def test_what_was_calibrated_is_evaluated_and_is_what_the_service_answers(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest, target: str
) -> None:
    declared = {"method": "vector", "bins": 5, "abstain": {"target": target, "value": 0.6}}
    config = CONFIG.model_copy(update={"calibration": Calibration.model_validate(declared)})
    calibration = calibrate_candidate(config, split, checkpoint)
    assert set(calibration.files) == set()
    assert calibration.rows == 20
    assert calibration.loss < calibration.loss_before
    report = evaluate_candidate(config, split, checkpoint, calibration, fit_baseline(config, split))
    assert report.scaling == calibration.scaling
    assert [part.rows for part in report.reliability] == [6] * 5
    assert report.abstention is not None and calibration.abstention is not None
    threshold = calibration.abstention.threshold
    lines = pq.read_table(report.path("predictions.parquet")).to_pylist()
    sure = [
        line["label"] == line["predicted"]
        for line in lines
        if threshold is not None and max(line["probabilities"]) >= threshold
    ]
    assert (report.abstention.answered, report.abstention.right) == (len(sure), sum(sure))
    texts = pq.read_table(split.path("test.parquet"))["text"].to_pylist()
    answers = answers_of(homes, checkpoint.path("model"), report, texts)
    for line, (probabilities, unsure) in zip(lines, answers, strict=True):
        assert probabilities == pytest.approx(line["probabilities"], abs=1e-5)
        if threshold is None or abs(max(probabilities) - threshold) > 1e-5:
            assert unsure is (threshold is None or max(probabilities) < threshold)

    require_own_counts(split, report)
    more = report.abstention.model_copy(update={"answered": len(sure) + 1})
    for change in ({"reliability": report.reliability_before}, {"abstention": more}):
        changed = remade(report.model_copy(update=change))
        with pytest.raises(GateError, match="not what its bins and its abstention count"):
            require_own_counts(split, changed)


def remade(manifest: M) -> M:
    """Return a manifest that was changed, written as though it had been made so."""
    (manifest.folder / MANIFEST).unlink()
    return as_made(manifest)


def test_a_model_whose_logits_are_no_numbers_is_refused(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest, tmp_path: Path
) -> None:
    model = checkpoint.path("model")
    broken = shutil.copytree(model.resolve(), tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"] *= float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    model.unlink()
    model.symlink_to(broken)
    with pytest.raises(TrainingError, match="gives logits that are no finite"):
        calibrate_candidate(CONFIG, split, remade(checkpoint))


SLICED = CONFIG.model_copy(
    update={
        "data": CONFIG.data.model_copy(update={"slice_columns": ("site",)}),
        "evaluation": CONFIG.evaluation.model_validate(
            {
                "bootstrap_samples": 200,
                "slices": [
                    {"by": "length", "edges": [20, 40]},
                    {"by": "column", "column": "site"},
                    {"by": "pattern", "name": "has_prize", "pattern": "prize"},
                ],
            }
        ),
    }
)


def test_the_stage_counts_the_slices_of_its_test_rows(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    file = split.path("test.parquet")
    test = pq.read_table(file)
    sites = ["web" if row % 3 else "\u7f51\u7ad9" for row in range(30)]
    pq.write_table(test.append_column("slices", pa.array([[site] for site in sites])), file)
    (split.folder / MANIFEST).unlink()
    split = as_made(split)
    calibration = calibrate_candidate(SLICED, split, checkpoint)
    report = evaluate_candidate(SLICED, split, checkpoint, calibration, fit_baseline(CONFIG, split))
    of_rows = [
        {
            f"length={'0-19' if len(text) < 20 else '20-39' if len(text) < 40 else '40+'}",
            f"site={site}",
            f"has_prize={'yes' if 'prize' in text else 'no'}",
        }
        for text, site in zip(test["text"].to_pylist(), sites, strict=True)
    ]
    lines = pq.read_table(report.path("predictions.parquet")).to_pylist()
    for each in report.slices:
        own = [line for line, names in zip(lines, of_rows, strict=True) if each.name in names]
        right = sum(line["label"] == line["predicted"] for line in own)
        cells = confusion_of_slice(each, 2)
        assert (cells.sum(), cells.trace()) == (len(own), right), each.name
    assert {each.name for each in report.slices} == {
        "length=0-19", "length=20-39", "length=40+", "site=web", "site=\u7f51\u7ad9",
        "has_prize=yes", "has_prize=no",
    }  # fmt: skip
    moved = [each.model_dump() for each in report.slices]
    moved[0]["cells"], moved[1]["cells"] = moved[1]["cells"], moved[0]["cells"]
    changed = EvaluationReport.model_validate({**report.model_dump(), "slices": moved})
    assert judge(SLICED.gate, Evidence(evaluation=changed))  # they still add up
    write_json(report.folder / MANIFEST, changed.model_dump(mode="json"))
    with pytest.raises(GateError, match="are not what its slices count; evaluate anew"):
        evaluate_candidate(SLICED, split, checkpoint, calibration, fit_baseline(CONFIG, split))


def test_the_baseline_as_the_candidate_is_measured_once_and_is_what_others_stand_beside(
    homes: Path, split: SplitManifest, checkpoint: CheckpointManifest
) -> None:
    baseline = fit_baseline(CONFIG, split)
    own = calibrate_candidate(CONFIG, split, baseline)
    report = evaluate_candidate(CONFIG, split, baseline, own, baseline)
    lines = pq.read_table(report.path("predictions.parquet"))
    actual, predicted = lines["label"].to_pylist(), lines["predicted"].to_pylist()
    assert report.is_of_the_baseline
    assert report.figures == report.baseline
    assert report.figures["accuracy"].value == pytest.approx(
        accuracy_score(actual, predicted), abs=EXACT, rel=0.0
    )
    calibration = calibrate_candidate(CONFIG, split, checkpoint)
    model = evaluate_candidate(CONFIG, split, checkpoint, calibration, baseline)
    assert not model.is_of_the_baseline
    assert model.baseline == report.figures != model.figures


def test_figures_stand_in_the_report_as_worked_out_by_hand(tmp_path: Path) -> None:
    page = render(run_on_confusion(tmp_path))
    rows = {
        cells[0]: cells[1:]
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
        if (cells := [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)])
    }
    for name, (value, n) in BY_HAND.items():
        shown = "undefined" if value is None else f"{value:.4f}"
        assert rows[name][0].split(" ")[0] == shown
        assert rows[name][1] == str(n)
    figures = page[page.index("Evaluation on 20 test rows") :]
    for count in (5, 4, 3):
        assert f">{count}</text>" in figures
    errors = page[page.index("Worst errors") :]
    assert re.findall(r'<td class="n">(1\d\d)</td><td>(.)</td><td>(.)</td>', errors) == [
        (str(100 + at), "abcd"[label], "abcd"[given])
        for at, (given, label) in enumerate(zip(*ids_of(CONFUSION), strict=True))
        if given != label
    ]
    assert "Slices of the test rows" not in page
    first = re.findall(r"<th[^>]*>(.*?)</th>", page.split("</tr>", 1)[0])
    assert first == ["rule", "value", "95% interval", "n", "limit", "baseline", "verdict"]
    told = re.findall(r"<h2>(\w+)", page)  # what was decided, what it rests on, where it came from
    assert told == ["Decision", "Evaluation", "Worst", "Data", "Training", "Provenance"]


def test_slices_stand_in_the_report_with_their_intervals(tmp_path: Path) -> None:
    run = run_on_confusion(tmp_path)
    cells = [
        (label, given, rows)
        for label, line in enumerate(CONFUSION)
        for given, rows in enumerate(line)
        if rows
    ]
    empty = SliceCounts(by="length", value="50+", cells=())
    slices = (SliceCounts(by="length", value="<0>", cells=tuple(cells)), empty)
    assert run.evaluation is not None
    evaluation = run.evaluation.model_copy(update={"slices": slices})
    page = render(replace(run, evaluation=evaluation))
    told = page[page.index("Slices of the test rows") :]
    whole = figure_text(evaluation.figures["accuracy"])
    assert f'<td>length=&lt;0&gt;</td><td class="n">20</td><td>{whole}</td>' in told
    assert '<td>length=50+</td><td class="n">0</td><td>undefined</td>' in told
    assert ">length=&lt;0&gt; (20)</text>" in told


def run_on_confusion(folder: Path) -> Run:
    """Return a run whose evaluation has the confusion matrix above, decided and not built."""
    pq.write_table(QUARANTINE.empty_table(), folder / "quarantine.parquet")
    pq.write_table(SUSPECTS.empty_table(), folder / "suspects.parquet")
    made: dict[str, Any] = {"key": "4" * 64, "parents": {}, "folder": folder, "files": {}}
    predicted, actual = ids_of(CONFUSION)
    labels = ("a", "b", "c", "d")
    said = pa.table(
        {
            "row": range(100, 120),
            "label": [labels[label] for label in actual],
            "predicted": [labels[label] for label in predicted],
            "probabilities": np.eye(4)[predicted].tolist(),
        }
    )
    pq.write_table(said, folder / "predictions.parquet")
    pq.write_table(LEFT_OUT.empty_table(), folder / "left_out.parquet")
    figures = measure(predicted, actual, labels, 200, 0)
    config = CONFIG.model_copy(
        update={"data": CONFIG.data.model_copy(update={"labels": {x: x for x in labels}})}
    )
    evaluation = EvaluationReport(
        **made, rows=20, labels=labels, figures=figures, baseline=figures,
        confusion=tuple(tuple(row) for row in CONFUSION), bootstrap_samples=200, bootstrap_seed=0,
    )  # fmt: skip
    decision = judge(config.gate, Evidence(evaluation=evaluation))
    assert decision.rules[0].figure == figures["accuracy"]
    return Run(
        config,
        DatasetManifest(
            **made, source="s", source_digest="5" * 64, rows=20, changed_by_cleaning=0,
            label_counts={},
        ),
        ValidationReport(
            **made, passed=True, problems=(), rows=20, rows_quarantined=0, rows_valid=20,
            rules=(), label_counts={}, length_histogram={"0-19": 20},
        ),
        DuplicateReport(
            **made, rows_kept=20, duplicates=0, conflicts=0, conflicting_texts=0,
            near_conflicts=0, outvoted=0, relabelled=0, sampled_out=0, near_rows=0,
            near_clusters=0, groups=0, examples=(),
        ),
        None,
        LabelReport(**made, rows=20, rows_judged=0, found=0, listed=0, quarantined=0),
        SplitManifest(
            **made, rows={"test": 20}, label_counts={"test": dict.fromkeys(labels, 5)},
        ),
        CheckpointManifest(
            **made, base_model="tiny", base_model_digest="3" * 64, parameters=1, device="cpu",
            precision="fp32", best_epoch=1, stopped_early=False, seconds=1.0, rows_per_second=1.0,
            truncated_rows=0, epochs=(), curve=(),
        ),
        evaluation,
        decision,
    )  # fmt: skip
