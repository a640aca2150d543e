"""Adapters of peft: each method trains beside frozen weights and is merged into a plain model."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_training import (
    elsewhere,
    largest_difference,
    moved,
    toy_bert,
    toy_llama,
    toy_spec,
    train_cut_off,
    trained,
    with_base,
)
from transformers import AutoModelForSequenceClassification

from configs.training import Adapter
from tasks.worker.adapters import adapt, inner, merge
from tasks.worker.batches import EncodedRows
from tasks.worker.families import forward_of, padded
from tasks.worker.figures import validation_figures
from tasks.worker.loading import load_model
from tasks.worker.spec import TrainSpec
from tasks.worker.training import train

METHODS = get_args(Adapter.model_fields["peft_type"].annotation)
DORA = Adapter(use_dora=True, use_rslora=True, r=4, lora_alpha=8, lora_dropout=0.1)
ADAPTERS = {**{method: Adapter(peft_type=method) for method in METHODS}, "DoRA": DORA}


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path) -> TrainSpec:
    torch.manual_seed(0)
    spec = with_base(toy_spec(tmp_path, tiny_model), toy_bert())
    return replace(spec, adapter=Adapter().settings(), learning_rate=1e-2)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("make", [toy_bert, toy_llama])
def test_a_merged_model_is_plain_and_computes_what_the_adapted_one_did(
    spec: TrainSpec, make: Any, name: str
) -> None:
    spec = replace(with_base(spec, make()), adapter=ADAPTERS[name].settings())
    base = load_model(spec)
    rows = EncodedRows(Path(spec.validation))
    batch = rows.batch(np.arange(len(rows)))
    before, names = padded(base.eval(), batch), base.state_dict().keys()
    adapted = adapt(load_model(spec), spec).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # as if trained: most begin with an adapter of no effect
                parameter.add_(0.1 * torch.randn_like(parameter))
    _, forward = forward_of(inner(adapted), batch)
    computed = forward(inner(adapted), batch)
    plain = merge(adapted)
    assert (computed - before).abs().max() > 0.01
    assert (padded(plain, batch) - computed).abs().max() < 1e-3
    assert plain.state_dict().keys() == names
    assert not [module for module in plain.modules() if "peft" in type(module).__module__]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_trains_and_leaves_a_model_that_loads_without_peft(
    spec: TrainSpec, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(spec, adapter=ADAPTERS[name].settings())
    before = load_file(Path(spec.base_model) / "model.safetensors")
    after, result = trained(spec)
    monkeypatch.setitem(sys.modules, "peft", None)
    folder = Path(spec.output) / "model"
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert result["parameters"] == sum(tensor.numel() for tensor in after.values())
    assert result["hardware"]["trained_parameters"] < result["parameters"] / 2
    losses = [epoch["train_loss"] for epoch in result["epochs"]]
    assert losses[-1] < losses[0]
    changed = moved(before, after)
    assert {"classifier.weight", "classifier.bias"} < changed
    assert not [name for name in changed if "embeddings" in name or "LayerNorm" in name]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = EncodedRows(Path(spec.validation))
    logits = padded(model, rows.batch(np.arange(len(rows)))).detach().numpy()
    told = result["epochs"][result["best_epoch"] - 1]
    assert validation_figures(logits, rows.labels)["loss"] == pytest.approx(told["loss"], abs=1e-4)


@pytest.mark.parametrize("name", ["DoRA", "VERA"])
def test_a_run_with_an_adapter_goes_on_to_the_bit(spec: TrainSpec, name: str) -> None:
    spec = replace(spec, adapter=ADAPTERS[name].settings())
    whole, expected = trained(elsewhere(spec, "whole"))
    cut_off = elsewhere(spec, "cut-off")
    train_cut_off(cut_off, epoch=3)
    (checkpoint,) = Path(cut_off.output).glob("checkpoint-*")
    kept = load_file(checkpoint / "model.safetensors")
    assert sum(map(torch.numel, kept.values())) == expected["hardware"]["trained_parameters"]
    resumed, result = trained(cut_off)
    assert largest_difference(whole, resumed) == 0.0
    assert result["epochs"] == expected["epochs"]


def test_an_adapter_goes_together_with_activations_computed_twice(
    spec: TrainSpec,
) -> None:
    plain, _ = trained(elsewhere(spec, "plain"))
    both = elsewhere(replace(spec, gradient_checkpointing=True), "both")
    again, _ = trained(both)
    assert largest_difference(plain, again) < 1e-5


def test_named_modules_alone_are_adapted(spec: TrainSpec) -> None:
    adapter = Adapter(target_modules=("query", "value")).settings()
    before = load_file(Path(spec.base_model) / "model.safetensors")
    after, _ = trained(replace(spec, adapter=adapter))
    changed = {name.rpartition(".")[0].rpartition(".")[2] for name in moved(before, after)}
    assert changed == {"query", "value", "classifier"}


def test_modules_that_are_not_there_are_refused_in_a_line(spec: TrainSpec) -> None:
    adapter = Adapter(target_modules=("q_proj",)).settings()
    with pytest.raises(SystemExit, match=r"^training\.adapter on q_proj: No modules were [^\n]*$"):
        train(replace(spec, adapter=adapter))


def test_an_adapter_without_its_package_is_refused_in_a_line(
    spec: TrainSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        SystemExit,
        match=r"^training\.adapter needs the package peft, which is not installed; "
        r"run: pip install 'ekiben\[adapters\]'$",
    ):
        train(spec)
