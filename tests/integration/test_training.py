"""Fine-tuning by the real worker: what it learns, writes, survives, and says when it fails."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from toy_training import (
    LABELS,
    elsewhere,
    encode,
    largest_difference,
    result_of,
    toy_spec,
    toy_texts,
    train_cut_off_at_update,
    trained,
    weights_of,
    without_dropout,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from configs.errors import SourceError, TrainingError
from configs.schema import PipelineConfig
from tasks.finetuning import fine_tune
from tasks.manifests import SplitManifest
from tasks.process import run_worker
from tasks.progress import listening
from tasks.scratch import place_of_user
from tasks.worker.batches import EncodedRows, write_rows
from tasks.worker.scoring import score
from tasks.worker.spec import ScoreSpec, TrainSpec
from tasks.worker.training import train

ANY_FILE_BUT_SAFETENSORS = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy"}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with one thread in worker processes, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path) -> TrainSpec:
    return toy_spec(tmp_path, tiny_model)


# --- The stage: a real worker process, started and read by fine_tune ------------------------------


@pytest.fixture
def split(tmp_path: Path) -> SplitManifest:
    """Return a manifest of toy train, validation and test rows on disk."""
    folder = tmp_path / "split"
    folder.mkdir()
    rows, label_counts = {}, {}
    for seed, (side, count) in enumerate({"train": 96, "validation": 32, "test": 32}.items()):
        pairs = toy_texts(count, seed)
        texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
        table = pa.table({"row": list(range(count)), "text": texts, "label": labels})
        pq.write_table(table, folder / f"{side}.parquet")
        rows[side] = count
        label_counts[side] = {label: labels.count(label) for label in LABELS}
    return SplitManifest(
        key="0" * 64, parents={}, folder=folder, files={}, rows=rows, label_counts=label_counts,
    )  # fmt: skip


def config_for(base: Path, **training: Any) -> PipelineConfig:
    settings = {
        "base_model": str(base), "max_length": 32, "learning_rate": 2e-3, "num_train_epochs": 5,
        "train_batch_size": 8, "device": "cpu", "early_stopping_patience": 100,
    }  # fmt: skip
    return PipelineConfig.model_validate(
        {
            "name": "toy",
            "data": {"uri": "toy.csv", "labels": LABELS},
            "training": settings | training,
            "gate": {"accuracy": {"min": 0.5}},
        }
    )


def worker_of(parent: int) -> psutil.Process:
    """Return the worker that a process started; an earlier test may have left it other children."""
    children = psutil.Process(parent).children()
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    (worker,) = [child for child in alive if "tasks.worker" in child.cmdline()]
    return worker


def test_fine_tuning_learns_and_leaves_a_whole_model_with_its_tokenizer(
    homes: Path, split: SplitManifest, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ekiben")
    told: list[tuple[str, int, int | None, str]] = []
    config = config_for(tiny_model)
    with listening(lambda *event: told.append(event)):
        made = fine_tune(config, split)
    assert made.epochs[-1].train_loss < made.epochs[0].train_loss
    assert made.epochs[made.best_epoch - 1].accuracy == 1.0
    files = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*")}
    assert {"model/model.safetensors", "model/tokenizer.json", "model/config.json"} <= files
    assert not {Path(name).suffix for name in files} & ANY_FILE_BUT_SAFETENSORS
    assert set(made.files) == files - {"model", "manifest.json"}
    assert {name.partition("/")[0] for name in files} == {"model", "result.json", "manifest.json"}
    tokenizer = AutoTokenizer.from_pretrained(made.path("model"))
    text = "claim your free prize"
    assert tokenizer(text) == AutoTokenizer.from_pretrained(tiny_model)(text)
    model = AutoModelForSequenceClassification.from_pretrained(made.path("model"))
    assert model.config.id2label == dict(enumerate(LABELS))
    logits = model(**tokenizer(text, return_tensors="pt")).logits
    assert LABELS[int(logits.argmax())] == "spam"
    steps = [event for event in told if event[0] == "finetune"]
    assert [done for _, done, _, _ in steps] == list(range(1, made.epochs[-1].step + 1))
    assert {total for _, _, total, _ in steps} == {made.epochs[-1].step}
    assert all(word in steps[-1][3] for word in ("loss", "rate", "tokens/s", "MiB", "s left"))
    assert [done for stage, done, _, _ in told if stage == "validation"] == [1, 2, 3, 4, 5]
    told.clear()
    with listening(lambda *event: told.append(event)):
        again = fine_tune(config, split)
    assert again == made
    assert not told
    assert f"finetune: reused {made.key[:16]}, nothing changed" in caplog.text


def test_the_device_is_this_run_s_alone_while_it_trains_and_free_after(
    homes: Path, split: SplitManifest, tiny_model: Path
) -> None:
    lock = place_of_user() / "devices" / "cpu.lock"
    free: list[tuple[str, bool]] = []

    def look(stage: str, *_: object) -> None:
        try:
            with FileLock(lock).acquire(timeout=0):
                free.append((stage, True))
        except Timeout:
            free.append((stage, False))

    with listening(look):
        fine_tune(config_for(tiny_model, num_train_epochs=1), split)
    look("after")
    while_training = {("finetune", False), ("validation", False)}
    assert set(free) == {("tokenize", True), ("after", True)} | while_training


def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_with_the_same_weights(
    homes: Path,
    split: SplitManifest,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_for(tiny_model, num_train_epochs=10, seed=3)
    steps_an_epoch = 12
    killed_at: list[int] = []

    def kill_the_worker(stage: str, done: int, total: int | None, note: str) -> None:
        if stage == "finetune" and done > 3 * steps_an_epoch and not killed_at:
            worker_of(os.getpid()).send_signal(signal.SIGKILL)
            killed_at.append(done)

    with listening(kill_the_worker), pytest.raises(TrainingError, match="was killed by SIGKILL"):
        fine_tune(config, split)
    (staging,) = (homes / "ekiben_home/steps/finetune").glob(".*.staging")
    assert list(staging.glob("checkpoint-*"))
    assert not (staging / "result.json").exists()
    torn = staging / ".checkpoint-999999.partial"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half of a file")
    told: list[int] = []
    with listening(
        lambda stage, done, total, note: told.append(done) if stage == "finetune" else None
    ):
        resumed = fine_tune(config, split)
    every = round(config.launch.save_steps * 10 * steps_an_epoch)
    assert every == 6
    assert told[0] >= killed_at[0] - every  # no more than that is done again
    assert told[-1] == 10 * steps_an_epoch
    assert not list(resumed.folder.glob("*checkpoint*")) + list(resumed.folder.glob(".*"))
    monkeypatch.setenv("EKIBEN_HOME", str(homes / "another"))
    whole = fine_tune(config, split)
    assert resumed.files["model/model.safetensors"] == whole.files["model/model.safetensors"]
    assert resumed.epochs == whole.epochs
    losses = [(point.step, point.loss, point.learning_rate) for point in resumed.curve]
    assert losses == [(point.step, point.loss, point.learning_rate) for point in whole.curve]
    assert resumed.best_epoch == whole.best_epoch


def test_a_worker_that_fails_is_an_error_with_the_end_of_its_log(spec: TrainSpec) -> None:
    file = Path(spec.output) / "train.json"
    replace(spec, precision="fp16").write(file)
    with pytest.raises(TrainingError) as told:
        run_worker("train", file, lambda event: None)
    assert str(told.value) == (
        "the train worker ended with code 1: training.precision is fp16, which a CPU cannot train "
        "in; use auto or fp32"
    )


def test_a_base_model_whose_weights_are_broken_is_an_error_before_the_worker_starts(
    homes: Path, split: SplitManifest, tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(SourceError, match=r"model\.safetensors is no sound safetensors file"):
        fine_tune(config_for(broken), split)


def test_a_base_model_without_a_tokenizer_is_an_error_before_the_worker_starts(
    homes: Path, split: SplitManifest, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "mute").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "mute" / name).write_bytes((tiny_model / name).read_bytes())
    with pytest.raises(SourceError, match="/mute holds no tokenizer; name a folder"):
        fine_tune(config_for(tmp_path / "mute"), split)


def test_the_worker_ends_when_its_parent_is_killed(spec: TrainSpec, tmp_path: Path) -> None:
    file = Path(spec.output) / "train.json"
    replace(spec, num_train_epochs=1000).write(file)
    parent_code = (
        "import sys; from pathlib import Path; from tasks.process import run_worker\n"
        "run_worker('train', Path(sys.argv[1]), lambda event: print(event, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code, str(file)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert "'event': 'step'" in parent.stdout.readline()
        worker = worker_of(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert worker.wait(timeout=60) is None  # not our child: the code is not ours to read
    assert not worker.is_running()


def test_two_processes_end_where_one_does_with_the_same_global_batch(spec: TrainSpec) -> None:
    alone = elsewhere(without_dropout(spec), "alone")
    weights, result = trained(alone)
    shared = elsewhere(alone, "shared")
    file = Path(shared.output) / "train.json"
    shared.write(file)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*run, "-m", "tasks.worker", "train", str(file)],
        check=True,
        capture_output=True,
    )
    assert result_of(shared)["device"] == "2 x cpu"
    for mine, theirs in zip(result["epochs"], result_of(shared)["epochs"], strict=True):
        assert mine["step"] == theirs["step"]
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], abs=1e-4)
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-4)
    assert largest_difference(weights, weights_of(Path(shared.output))) < 1e-3


def test_full_determinism_does_no_harm_on_a_cpu(spec: TrainSpec) -> None:
    weights, result = trained(elsewhere(spec, "as-it-is"))
    strict = elsewhere(spec, "strict", full_determinism=True)
    file = Path(strict.output) / "train.json"
    strict.write(file)
    run_worker("train", file, lambda event: None)
    assert result_of(strict)["epochs"] == result["epochs"]
    assert largest_difference(weights, weights_of(Path(strict.output))) == 0.0


def test_a_run_killed_when_all_is_trained_does_not_train_again(
    homes: Path, split: SplitManifest, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(tiny_model, num_train_epochs=1, seed=4)

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".staging"):
            raise KeyboardInterrupt
        return renamed(path, target)

    renamed = Path.rename
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(config, split)
    (staging,) = (homes / "ekiben_home/steps/finetune").glob(".*.staging")
    trained_model = (staging / "model" / "model.safetensors").read_bytes()
    told: list[str] = []
    with listening(lambda stage, done, total, note: told.append(stage)):
        made = fine_tune(config, split)
        again = fine_tune(config, split)
    assert "finetune" not in told
    assert made == again and "manifest.json" not in made.files
    assert (made.folder / "model" / "model.safetensors").read_bytes() == trained_model


# --- The loop itself, in this process -------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others(
    spec: TrainSpec,
) -> None:
    first, first_result = trained(spec)
    second, second_result = trained(elsewhere(spec, "again"))
    other, _ = trained(elsewhere(spec, "other", seed=6))
    assert largest_difference(first, second) == 0.0
    assert first_result["epochs"] == second_result["epochs"]
    assert largest_difference(first, other) > 1e-4


@pytest.mark.parametrize("update", [1, 4, 6, 8, 11, 24])
def test_cut_off_at_any_update_it_goes_on_from_the_last_saved_to_the_same_weights(
    spec: TrainSpec, update: int
) -> None:
    often = replace(spec, save_steps=3 / 24)
    whole, whole_result = trained(often)
    cut_off = elsewhere(often, "cut-off")
    train_cut_off_at_update(cut_off, update)
    saved = (update - 1) // 3 * 3
    kept = [path.name for path in Path(cut_off.output).iterdir()]
    assert kept == ([f"checkpoint-{saved}"] if saved else [])
    resumed, result = trained(cut_off)
    assert largest_difference(resumed, whole) == 0.0
    assert result["epochs"] == whole_result["epochs"]
    curves = [[point["loss"] for point in one["curve"]] for one in (result, whole_result)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_an_update_in_parts_is_the_update_of_one_batch(
    spec: TrainSpec, tmp_path: Path, tiny_model: Path, class_weights: str
) -> None:
    # 20 rows leave an update of 8 after one of 12; the balance of labels differs from part to part.
    rows = encode(tmp_path / "few", tiny_model, toy_texts(20, 3, spam_share=0.2))
    spec = replace(
        without_dropout(spec), train=str(rows), class_weights=class_weights, train_batch_size=12
    )
    whole, expected = trained(elsewhere(spec, "whole"))
    for most in (60, 25, 1):  # some rows at once, two, one
        cut, found = trained(elsewhere(spec, f"cut-{most}", max_tokens_per_device=most))
        assert [epoch["step"] for epoch in found["epochs"]] == [2, 4, 6, 8]
        for name in ("train_loss", "loss"):
            assert [epoch[name] for epoch in found["epochs"]] == pytest.approx(
                [epoch[name] for epoch in expected["epochs"]], abs=1e-5
            )
        assert found["best_epoch"] == expected["best_epoch"]
        assert largest_difference(cut, whole) < 1e-4


def test_class_weights_weigh_the_loss_as_scikit_learn_balances_it(
    spec: TrainSpec, tmp_path: Path, tiny_model: Path
) -> None:
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    rows = encode(tmp_path / "rare", tiny_model, toy_texts(24, 4, spam_share=0.25))
    one_update = replace(
        without_dropout(spec), train=str(rows), num_train_epochs=1, train_batch_size=24
    )
    encoded = EncodedRows(rows)
    logits = logits_before_training(one_update)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    for class_weights in ("none", "balanced"):
        _, result = trained(elsewhere(one_update, class_weights, class_weights=class_weights))
        weights = (
            None if class_weights == "none" else compute_sample_weight("balanced", encoded.labels)
        )
        expected = log_loss(encoded.labels, probabilities, sample_weight=weights)
        assert result["epochs"][0]["train_loss"] == pytest.approx(expected, abs=1e-5)


def logits_before_training(spec: TrainSpec) -> NDArray[np.float64]:
    """Return the base model's logits [n_rows, n_labels] on the train rows, one row at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(spec.base_model).eval()
    rows = EncodedRows(Path(spec.train))
    with torch.inference_mode():
        logits = [
            model(input_ids=rows.batch(np.array([i])).ids[None]).logits[0] for i in range(len(rows))
        ]
    return torch.stack(logits).double().numpy()


def test_training_stops_early_and_keeps_the_best_epoch(spec: TrainSpec) -> None:
    patient = replace(
        spec, num_train_epochs=200, metric_for_best_model="accuracy", early_stopping_patience=2
    )
    train(patient)
    result = result_of(patient)
    accuracies = [epoch["accuracy"] for epoch in result["epochs"]]
    best = accuracies.index(max(accuracies)) + 1
    assert result["stopped_early"]
    assert result["best_epoch"] == best
    assert len(accuracies) == best + 2 < 200
    kept = replace(patient, base_model=f"{patient.output}/model", train=patient.validation)
    right = logits_before_training(kept).argmax(axis=1) == EncodedRows(Path(kept.train)).labels
    assert float(right.mean()) == max(accuracies)
    losses = result["epochs"][best - 1]["loss"], result["epochs"][-1]["loss"]
    assert losses[0] != losses[1]


def test_a_run_that_had_stopped_early_does_not_train_on_when_it_is_resumed(
    spec: TrainSpec,
) -> None:
    patient = replace(
        spec, num_train_epochs=200, metric_for_best_model="accuracy", early_stopping_patience=1
    )
    expected, expected_result = trained(patient)
    cut_off = elsewhere(patient, "cut-off")
    in_the_way = Path(cut_off.output) / "result.json"
    in_the_way.mkdir()
    with pytest.raises(IsADirectoryError):
        train(cut_off)
    in_the_way.rmdir()
    resumed, resumed_result = trained(cut_off)
    assert largest_difference(resumed, expected) == 0.0
    assert resumed_result["epochs"] == expected_result["epochs"]
    assert resumed_result["stopped_early"]


def test_fewer_layers_and_other_labels_than_the_base_model_has_can_be_trained(
    spec: TrainSpec, tmp_path: Path
) -> None:
    rows = tmp_path / "three"
    write_rows(rows, [[1, 5, 2], [1, 6, 7, 2], [1, 8, 2]] * 4, [0, 1, 2] * 4)
    three = replace(
        spec, labels=["a", "b", "c"], num_hidden_layers=1, train=str(rows), validation=str(rows)
    )
    _, result = trained(three)
    config = json.loads((Path(three.output) / "model/config.json").read_text())
    assert config["num_hidden_layers"] == 1
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert result["parameters"] == sum(
        tensor.numel() for tensor in weights_of(Path(three.output)).values()
    )


def test_scores_are_the_logits_of_each_row_in_the_order_of_the_rows(spec: TrainSpec) -> None:
    train(spec)
    output = Path(spec.output) / "logits.npy"
    model = f"{spec.output}/model"
    score(ScoreSpec(model, spec.train, str(output), spec.pad_token_id, "cpu"))
    expected = logits_before_training(replace(spec, base_model=model))
    assert np.abs(np.load(output) - expected).max() < 1e-5
