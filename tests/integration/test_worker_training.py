"""The training worker's arithmetic: learning rate, validation figures, class weights, its spec."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from configs.serving import Student
from configs.training import Launch, Training
from tasks.worker.batches import EncodedRows, write_rows
from tasks.worker.figures import validation_figures
from tasks.worker.optimizing import (
    class_weights,
    learning_rate_at,
    parameter_groups,
    row_losses,
)
from tasks.worker.spec import ScoreSpec, TrainSpec

PEAK = 0.01


def spec_with(**changes: Any) -> TrainSpec:
    """Return a spec of the config's defaults, changed as asked."""
    training = Training(learning_rate=PEAK).model_dump(exclude={"base_model", "max_length"})
    names = {"base_model": "m", "train": "t", "validation": "v", "output": "o"}
    rest = {"labels": ["ham", "spam"], "pad_token_id": 0, "save_steps": 0.05}
    return TrainSpec(**{**names, **rest, **training, **changes})


@pytest.mark.parametrize(
    ("warmup_ratio", "steps", "rates"),
    [
        (0.0, 4, [1.0, 0.75, 0.5, 0.25]),
        (0.5, 4, [0.5, 1.0, 1.0, 0.5]),
        (0.2, 10, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (1.0, 4, [0.25, 0.5, 0.75, 1.0]),
        (0.1, 1, [1.0]),
    ],
)
def test_the_learning_rate_warms_up_and_then_falls_to_zero(
    warmup_ratio: float, steps: int, rates: list[float]
) -> None:
    spec = spec_with(warmup_ratio=warmup_ratio)
    found = [learning_rate_at(step, steps, spec) / PEAK for step in range(steps)]
    assert found == pytest.approx(rates)


@given(st.floats(0, 1), st.integers(1, 500))
def test_the_learning_rate_peaks_once_and_is_never_zero_within_training(
    warmup_ratio: float, steps: int
) -> None:
    spec = spec_with(warmup_ratio=warmup_ratio)
    rates = np.array([learning_rate_at(step, steps, spec) for step in range(steps)])
    assert rates.max() == pytest.approx(PEAK)
    assert rates.min() > 0
    top = int(rates.argmax())
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) <= 1e-12)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Any, Any]:
    """Draw logits [n_rows, n_labels], float32, and labels [n_rows]."""
    n_rows, n_labels, seed = draw(st.integers(1, 40)), draw(st.integers(2, 5)), draw(st.integers(0))
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3, size=(n_rows, n_labels)).astype(np.float32)
    return logits, generator.integers(n_labels, size=n_rows)


@given(scored())
def test_the_validation_figures_are_scikit_learn_s(drawn: tuple[Any, Any]) -> None:
    logits, labels = drawn
    ids, predicted = list(range(logits.shape[1])), logits.argmax(axis=1)
    exponents = np.exp(logits.astype(np.float64))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    assert validation_figures(logits, labels) == pytest.approx(
        {
            "loss": log_loss(labels, probabilities, labels=ids),
            "accuracy": accuracy_score(labels, predicted),
            "f1": f1_score(labels, predicted, labels=ids, average="macro", zero_division=0.0),
        },
        rel=1e-5,
        abs=1e-6,
    )


def test_a_very_sure_model_has_a_finite_loss() -> None:
    logits = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype=np.float32)
    assert validation_figures(logits, np.array([0, 1])) == {"loss": 0.0, "accuracy": 1.0, "f1": 1.0}
    assert validation_figures(logits, np.array([1, 0]))["loss"] == 2000.0


def test_balanced_class_weights_are_scikit_learn_s(tmp_path: Path) -> None:
    labels = [0] * 70 + [1] * 20 + [2] * 10
    write_rows(tmp_path, [[1]] * len(labels), labels)
    rows = EncodedRows(tmp_path)
    names = ["a", "b", "c"]
    weights = class_weights(spec_with(labels=names, class_weights="balanced"), rows)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    assert weights.tolist() == pytest.approx(expected.tolist())
    even = class_weights(spec_with(labels=names, class_weights="none"), rows)
    assert even.tolist() == [1.0, 1.0, 1.0]


def test_the_loss_of_a_student_is_the_formula_s(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    taught, own = draw.normal(scale=3, size=(2, 7, 3)).astype(np.float32)
    labels = draw.integers(3, size=7)
    write_rows(tmp_path, [[1, 2]] * 7, labels.tolist())
    np.save(tmp_path / "teacher.npy", taught)
    rows, order = EncodedRows(tmp_path, tmp_path / "teacher.npy"), np.array([4, 0, 6, 1])
    temperature, weight = 2.5, 0.3

    def log_shares(logits: Any) -> Any:
        exact = logits.astype(np.float64)
        return exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))

    of_labels = -log_shares(own)[np.arange(7), labels]
    shares = np.exp(log_shares(taught / temperature))
    of_teacher = -(shares * log_shares(own / temperature)).sum(axis=1)
    expected = weight * of_labels + (1 - weight) * temperature**2 * of_teacher
    spec = spec_with(temperature=temperature, label_weight=weight)
    logits = torch.from_numpy(own[order])
    batch = rows.batch(order)
    assert row_losses(logits, batch, spec).numpy() == pytest.approx(expected[order], rel=1e-5)
    plain = EncodedRows(tmp_path).batch(order)
    assert plain.teacher is None
    assert row_losses(logits, plain, spec).numpy() == pytest.approx(of_labels[order], rel=1e-5)


def test_matrices_decay_and_biases_and_norms_do_not() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    decaying, still = parameter_groups(model, 0.01)
    assert [tuple(p.shape) for p in decaying["params"]] == [(3, 4), (2, 3)]
    assert [tuple(p.shape) for p in still["params"]] == [(3,), (3,), (3,), (2,)]
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.01, 0.0)


def test_the_spec_takes_the_config_s_training_section_name_by_name() -> None:
    names = [field.name for field in fields(TrainSpec)]
    start, end = names.index("num_hidden_layers"), names.index("save_steps")
    assert set(names[start:end]) == set(Training.model_fields) - {"base_model", "max_length"}
    assert "save_steps" in Launch.model_fields
    assert set(names[end + 2 :]) == {"temperature", "label_weight"} <= set(Student.model_fields)


@pytest.mark.parametrize(
    "spec", [spec_with(), spec_with(labels=["caf\xe9", "b"]), ScoreSpec("m", "r", "o", 0, "cpu")]
)
def test_a_spec_is_read_as_it_was_written(tmp_path: Path, spec: TrainSpec | ScoreSpec) -> None:
    spec.write(tmp_path / "spec.json")
    assert asdict(type(spec).read(tmp_path / "spec.json")) == asdict(spec)
