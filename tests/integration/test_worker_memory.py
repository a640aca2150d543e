"""Training with less memory or in other formats: frozen layers, recomputation, 8 bits, bf16."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_training import (
    SMALL,
    elsewhere,
    largest_difference,
    moved,
    toy_bert,
    toy_llama,
    toy_spec,
    train_cut_off,
    trained,
    with_base,
    without_dropout,
)
from transformers import MPNetConfig, MPNetForSequenceClassification

from tasks.worker.loading import load_model
from tasks.worker.spec import TrainSpec
from tasks.worker.training import train


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path) -> TrainSpec:
    return toy_spec(tmp_path, tiny_model)


@pytest.mark.parametrize(("make", "of_layers"), [(toy_bert, ".layer."), (toy_llama, ".layers.")])
@pytest.mark.parametrize("count", [1, 2])
def test_frozen_layers_and_embeddings_stay_the_base_model_s_to_the_bit(
    spec: TrainSpec, make: Any, of_layers: str, count: int
) -> None:
    spec = replace(with_base(spec, make()), freeze_layers=count)
    before = load_file(Path(spec.base_model) / "model.safetensors")
    after, result = trained(spec)
    frozen = {
        name
        for name in before
        if "embed" in name
        or (of_layers in name and int(name.partition(of_layers)[2].partition(".")[0]) < count)
    }
    assert moved(before, after) == before.keys() - frozen
    trained_parameters = sum(after[name].numel() for name in after.keys() - frozen)
    assert result["hardware"]["trained_parameters"] == trained_parameters


def test_more_layers_than_there_are_cannot_be_frozen(spec: TrainSpec) -> None:
    with pytest.raises(
        SystemExit,
        match=r"^training\.freeze_layers is 3, but the base model has 2 layers$",
    ):
        load_model(replace(spec, freeze_layers=3))
    with pytest.raises(SystemExit, match=r"freeze_layers is 2, but the base model has 1 layers$"):
        load_model(replace(spec, freeze_layers=2, num_hidden_layers=1))


@pytest.mark.parametrize("make", [toy_bert, toy_llama])
@pytest.mark.parametrize("freeze_layers", [0, 1])
def test_activations_computed_twice_make_the_same_weights(
    spec: TrainSpec, make: Any, freeze_layers: int
) -> None:
    spec = replace(with_base(spec, make()), freeze_layers=freeze_layers)  # with dropout, in BERT
    kept, _ = trained(elsewhere(spec, "kept"))
    again, _ = trained(elsewhere(spec, "again", gradient_checkpointing=True))
    assert largest_difference(kept, again) < 1e-6


def test_a_model_that_cannot_compute_activations_twice_is_refused(spec: TrainSpec) -> None:
    model: Any = MPNetForSequenceClassification
    spec = with_base(spec, model(MPNetConfig(**SMALL)))
    with pytest.raises(
        SystemExit,
        match=r"^training\.gradient_checkpointing: MPNetForSequenceClassification cannot do it; "
        r"set it to false$",
    ):
        load_model(replace(spec, gradient_checkpointing=True))


def test_bf16_trains_on_a_cpu_and_keeps_weights_in_32_bits(spec: TrainSpec) -> None:
    weights, result = trained(replace(spec, precision="bf16"))
    assert result["precision"] == "bf16"
    assert result["epochs"][-1]["train_loss"] < result["epochs"][0]["train_loss"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.fixture
def wide(spec: TrainSpec) -> TrainSpec:
    """Return a spec with moments in 8 bits; bitsandbytes keeps those of small matrices in 32."""
    torch.manual_seed(0)
    return replace(with_base(spec, toy_bert(hidden_size=64)), optim="adamw_8bit")


def test_moments_of_8_bits_train(wide: TrainSpec) -> None:
    exact, expected = trained(elsewhere(wide, "exact", optim="adamw_torch_fused"))
    coarse, result = trained(elsewhere(wide, "coarse"))
    assert largest_difference(exact, coarse) > 0
    assert result["epochs"][-1]["loss"] == pytest.approx(expected["epochs"][-1]["loss"], abs=0.1)
    assert result["epochs"][-1]["loss"] < result["epochs"][0]["loss"]


def test_a_run_with_moments_of_8_bits_goes_on_to_the_bit(wide: TrainSpec) -> None:
    whole, expected = trained(elsewhere(wide, "whole"))
    cut_off = elsewhere(wide, "cut-off")
    train_cut_off(cut_off, epoch=3)
    (checkpoint,) = Path(cut_off.output).glob("checkpoint-*")
    moments = load_file(checkpoint / "optimizer.safetensors")
    assert torch.uint8 in {tensor.dtype for tensor in moments.values()}
    resumed, result = trained(cut_off)
    assert largest_difference(whole, resumed) == 0.0
    assert result["epochs"] == expected["epochs"]


def test_8_bits_without_their_package_are_refused_in_a_line(
    spec: TrainSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(
        SystemExit,
        match=r"^training\.optim is adamw_8bit, .* not installed; "
        r"run: pip install 'ekiben\[adamw8bit\]', or use adamw_torch_fused$",
    ):
        train(replace(spec, optim="adamw_8bit"))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own
def test_a_compiled_model_trains_to_the_same_figures(spec: TrainSpec) -> None:
    spec = replace(without_dropout(spec), num_hidden_layers=1, num_train_epochs=1)
    eager, expected = trained(elsewhere(spec, "eager"))
    compiled, result = trained(elsewhere(spec, "compiled", torch_compile=True))
    for name in ("train_loss", "loss"):
        assert result["epochs"][0][name] == pytest.approx(expected["epochs"][0][name], abs=1e-4)
    assert largest_difference(eager, compiled) < 1e-3
