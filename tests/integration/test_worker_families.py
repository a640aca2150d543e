"""Families of models: the same logits and gradients without padding as transformers has with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from toy_training import SMALL, toy_bert, toy_llama, toy_spec, trained, with_base
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tasks.worker.batches import Batch, EncodedRows, write_rows
from tasks.worker.families import PADDED, forward_of, padded
from tasks.worker.loading import load_model

PACKED = "packed BERT"
EQUAL, DIFFERENT = [7, 7, 7, 7], [5, 1, 17, 9]


def toy_distilbert() -> Any:
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=400, dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.3
        )
    )


def toy_roberta(**changes: Any) -> Any:
    return RobertaForSequenceClassification(RobertaConfig(**SMALL, **changes))


MODELS: dict[str, Callable[..., Any]] = {
    "bert": toy_bert,
    "roberta": toy_roberta,
    "xlm-roberta": lambda **changes: XLMRobertaForSequenceClassification(
        XLMRobertaConfig(**SMALL, **changes)
    ),
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def batch_of(folder: Path, lengths: list[int]) -> Batch:
    """Return rows of random tokens, of which none is the padding token."""
    draw = np.random.default_rng(0)
    ids = [draw.integers(5, 400, size=length).tolist() for length in lengths]
    write_rows(folder, ids, [0, 1, 1, 0])
    return EncodedRows(folder).batch(np.arange(len(lengths)))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.mark.parametrize("lengths", [EQUAL, DIFFERENT])
@pytest.mark.parametrize("kind", MODELS)
def test_packed_logits_are_transformers_own(kind: str, lengths: list[int], tmp_path: Path) -> None:
    model, batch = MODELS[kind](), batch_of(tmp_path, lengths)
    assert batch.is_full == (lengths == EQUAL)
    name, forward = forward_of(model.train(), batch)
    assert (name, model.training) == (PACKED, True)
    model.eval()
    with torch.no_grad():
        own, found = padded(model, batch), forward(model, batch)
    assert own.std() > 0.1  # the rows do differ
    assert (found - own).abs().max() < 1e-5


@pytest.mark.parametrize("lengths", [EQUAL, DIFFERENT])
@pytest.mark.parametrize("kind", MODELS)
def test_packed_gradients_are_transformers_own(
    kind: str, lengths: list[int], tmp_path: Path
) -> None:
    model, batch = MODELS[kind](**NO_DROPOUT).train(), batch_of(tmp_path, lengths)
    _, forward = forward_of(model, batch)
    gradients = []
    for compute in (padded, forward):
        model.zero_grad()
        torch.autograd.backward(F.cross_entropy(compute(model, batch), batch.labels))
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    own, found = gradients
    for name, gradient in own.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            assert gradient.abs().max() > 0, name
            assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name


def test_dropout_drops_in_training_alone(tmp_path: Path) -> None:
    model, batch = toy_bert(), batch_of(tmp_path, DIFFERENT)
    _, forward = forward_of(model, batch)
    for training in (True, False):
        model.train(training)
        once, twice = forward(model, batch), forward(model, batch)
        assert torch.equal(once, twice) != training


@pytest.mark.parametrize("make", [toy_distilbert, toy_llama])
def test_a_model_of_no_family_is_computed_padded_and_trains(
    make: Any, tmp_path: Path, tiny_model: Path
) -> None:
    torch.manual_seed(1)
    spec = replace(with_base(toy_spec(tmp_path, tiny_model), make()), num_train_epochs=8)
    _, result = trained(spec)
    assert result["hardware"]["forward"] == PADDED
    assert result["epochs"][-1]["loss"] < 0.7 * result["epochs"][0]["loss"]


def test_a_bert_that_does_not_compute_as_its_family_is_computed_padded(tmp_path: Path) -> None:
    model, batch = toy_bert(), batch_of(tmp_path, DIFFERENT)
    doubled = model.bert.encoder.register_forward_hook(
        lambda encoder, given, states: type(states)(last_hidden_state=2 * states[0])
    )
    assert forward_of(model, batch) == (PADDED, padded)
    doubled.remove()
    assert forward_of(model, batch)[0] == PACKED


def test_a_roberta_whose_padding_token_stands_in_texts_is_computed_padded(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = with_base(toy_spec(tmp_path, tiny_model), toy_roberta(pad_token_id=1))
    rows = EncodedRows(Path(spec.train))
    assert 1 in rows.ids  # the toy tokenizer's [CLS]: transformers gives it no place in the row
    assert forward_of(load_model(spec), rows.batch(np.arange(8))) == (PADDED, padded)


def test_a_decoder_of_the_family_s_type_is_computed_padded(tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**SMALL, is_decoder=True))
    batch = batch_of(tmp_path, DIFFERENT)
    assert forward_of(model, batch) == (PADDED, padded)


def test_the_report_says_how_the_logits_were_computed(tmp_path: Path, tiny_model: Path) -> None:
    spec = toy_spec(tmp_path, tiny_model)
    _, result = trained(spec)
    assert result["hardware"]["forward"] == PACKED
    kept = json.loads((Path(spec.output) / "model/config.json").read_text())
    assert kept["architectures"] == ["BertForSequenceClassification"]
