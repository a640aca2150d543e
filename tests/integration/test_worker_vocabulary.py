"""The vocabulary in use: trained as it would be in the whole, and the rest as it was to the bit."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from safetensors.torch import load_file
from toy_training import SMALL, toy_bert, toy_llama, toy_spec, trained, weights_of

from tasks.worker.batches import EncodedRows, write_rows
from tasks.worker.families import padded
from tasks.worker.optimizing import make_optimizer
from tasks.worker.vocabulary import VocabularyInUse, narrow, widen

EMBEDDING = "bert.embeddings.word_embeddings.weight"
IDS = np.array([7, 9, 7, 11, 399], dtype=np.int32)
USED = [0, 7, 9, 11, 399]  # with the padding token
ALL = torch.arange(SMALL["vocab_size"])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.mark.parametrize("make", [toy_bert, toy_llama])
def test_a_narrowed_model_computes_every_token_and_is_whole_again(make: Any) -> None:
    model = make().eval()
    before, ids = {name: p.clone() for name, p in model.state_dict().items()}, ALL.view(4, 100)
    model.config.pad_token_id = 0
    own = model(input_ids=ids).logits
    narrow(model, IDS, pad_token_id=0)
    narrowed = model.get_input_embeddings()
    assert isinstance(narrowed, VocabularyInUse)
    assert narrowed.weight.shape == (len(USED), SMALL["hidden_size"])
    assert [p.requires_grad for p in narrowed.parameters()] == [True, False]
    assert torch.equal(model(input_ids=ids).logits, own)
    widen(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert type(model.get_input_embeddings()) is torch.nn.Embedding


def test_an_embedding_moves_the_rows_in_use_and_leaves_the_others() -> None:
    whole = torch.nn.Embedding(400, 8)
    before = whole.weight.detach().clone()
    narrowed = VocabularyInUse(whole, np.array(USED))
    with torch.no_grad():
        narrowed.weight.add_(1)
    assert torch.equal(narrowed.train()(torch.tensor(USED)), before[USED] + 1)
    expected = before.clone()
    expected[USED] += 1
    assert torch.equal(narrowed.eval()(ALL), expected)
    assert torch.equal(narrowed.merged().weight, expected)


def test_rows_in_use_are_trained_as_in_the_whole_vocabulary(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = replace(toy_spec(tmp_path, tiny_model), weight_decay=0.0)
    rows = EncodedRows(Path(spec.train))
    whole = toy_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    start, narrowed = whole.get_input_embeddings().weight.detach().clone(), deepcopy(whole)
    narrow(narrowed, rows.ids, spec.pad_token_id)
    for model in (whole, narrowed):
        optimizer = make_optimizer(model, spec)
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 1e-3
        for first in range(0, len(rows), 8):
            batch = rows.batch(np.arange(first, first + 8))
            torch.autograd.backward(F.cross_entropy(padded(model, batch), batch.labels))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    widen(narrowed)
    found, expected = narrowed.get_input_embeddings().weight, whole.get_input_embeddings().weight
    used = np.unique(rows.ids)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert (found[used] - start[used]).abs().amax(dim=1).min() > 1e-3
    unused = np.setdiff1d(np.arange(400), used)
    assert torch.equal(found[unused], start[unused])


def test_a_training_moves_the_tokens_of_its_texts_alone(tmp_path: Path, tiny_model: Path) -> None:
    spec = toy_spec(tmp_path, tiny_model)
    after, result = trained(spec)
    before = load_file(tiny_model / "model.safetensors")
    assert after.keys() == before.keys()
    used = np.union1d(EncodedRows(Path(spec.train)).ids, [spec.pad_token_id])
    unused = np.setdiff1d(np.arange(400), used)
    assert torch.equal(after[EMBEDDING][unused], before[EMBEDDING][unused])
    moved = (after[EMBEDDING] != before[EMBEDDING]).any(dim=1)
    assert moved[np.unique(EncodedRows(Path(spec.train)).ids)].all()
    size = sum(tensor.numel() for tensor in before.values())
    assert result["parameters"] == size
    assert result["hardware"]["trained_parameters"] == size - len(unused) * SMALL["hidden_size"]


def test_texts_that_use_every_token_train_the_whole_vocabulary(
    tmp_path: Path, tiny_model: Path
) -> None:
    write_rows(
        tmp_path / "all", [list(range(i, i + 100)) for i in range(0, 400, 100)], [0, 1, 0, 1]
    )
    spec = replace(toy_spec(tmp_path, tiny_model), train=str(tmp_path / "all"))
    _, result = trained(spec)
    assert result["hardware"]["trained_parameters"] == result["parameters"]
    assert weights_of(Path(spec.output))[EMBEDDING].shape == (400, SMALL["hidden_size"])


def test_a_frozen_or_unusual_vocabulary_is_left_alone() -> None:
    class Scaled(torch.nn.Embedding):
        """An embedding that does more than look a row up."""

    frozen, unusual = toy_bert(), toy_bert()
    frozen.get_input_embeddings().weight.requires_grad_(False)
    unusual.set_input_embeddings(Scaled(400, SMALL["hidden_size"]))
    for model in (frozen, unusual):
        before = model.get_input_embeddings()
        narrow(model, IDS, pad_token_id=0)
        assert model.get_input_embeddings() is before
        widen(model)
        assert model.get_input_embeddings() is before
