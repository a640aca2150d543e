"""BERT and its kin, computed without padding, and in the last layer for the first token alone.

The head reads nothing but the first token of a row, so that the last layer needs the keys and values
of all tokens and the rest of its work for one token a row. Rows are laid out as a grid for the
attention alone. Both are exact: no logit changes but by rounding.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch.nn.attention.varlen import varlen_attn
from torch.utils.checkpoint import checkpoint

from tasks.worker.batches import Batch

_KINDS = {"bert", "roberta", "xlm-roberta"}


def fits(model: Any) -> bool:
    """Return whether the model is an encoder of this family with a head on the first token."""
    config = model.config
    return (
        config.model_type in _KINDS
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
        and hasattr(model, "classifier")
        and config.hidden_size % config.num_attention_heads == 0
    )


def logits(model: Any, batch: Batch) -> torch.Tensor:
    """Return the logits [n_rows, n_labels] of the batch."""
    body = model.base_model
    states = _embedded(body.embeddings, batch)
    *layers, last = body.encoder.layer
    for layer in layers:
        run = partial(_layer, layer, batch=batch)
        if layer.training and layer.gradient_checkpointing:
            states = checkpoint(run, states, use_reentrant=False)
        else:
            states = run(states)
    firsts = _layer(last, states, batch=batch, of_firsts=True)
    if body.pooler is None:  # the head takes a row's states and reads the first
        head: torch.Tensor = model.classifier(firsts[:, None])
    else:
        head = model.classifier(model.dropout(body.pooler(firsts[:, None])))
    return head


def _embedded(embeddings: Any, batch: Batch) -> torch.Tensor:
    """Return the states [n_tokens, hidden_size] before the first layer."""
    padding = embeddings.position_embeddings.padding_idx  # RoBERTa counts places from here
    positions = batch.positions if padding is None else batch.positions + padding + 1
    states = (
        embeddings.word_embeddings(batch.ids)
        + embeddings.position_embeddings(positions)
        + embeddings.token_type_embeddings.weight[0]
    )
    dropped: torch.Tensor = embeddings.dropout(embeddings.LayerNorm(states))
    return dropped


def _layer(
    layer: Any, states: torch.Tensor, *, batch: Batch, of_firsts: bool = False
) -> torch.Tensor:
    """Return the states after a layer, of all tokens or [n_rows, hidden_size] of the first ones."""
    own = layer.attention.self
    asking = states[batch.first] if of_firsts else states
    heads = (own.num_attention_heads, own.attention_head_size)
    query, key, value = (
        linear(of).view(-1, *heads)
        for linear, of in ((own.query, asking), (own.key, states), (own.value, states))
    )
    dropout = own.dropout.p if own.training else 0.0
    if dropout == 0.0 and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        mixed = _attention_of_any_length(query, key, value, batch, of_firsts)
    else:
        mixed = _attention_on_a_grid(query, key, value, batch, of_firsts, dropout)
    after: torch.Tensor = layer.attention.output(mixed.flatten(1), asking)
    fed: torch.Tensor = layer.output(layer.intermediate(after), after)
    return fed


def _attention_on_a_grid(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: Batch,
    of_firsts: bool,
    dropout: float,
) -> torch.Tensor:
    """Return what each asking token takes of its row's values, [n_asking, n_heads, head_size]."""

    def on_grid(states: torch.Tensor) -> torch.Tensor:
        cells = states if batch.is_full else states[batch.grid]
        return cells.view(*batch.filled.shape, *cells.shape[1:]).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        query[:, :, None] if of_firsts else on_grid(query),
        on_grid(key),
        on_grid(value),
        attn_mask=None if batch.is_full else batch.filled[:, None, None],
        dropout_p=dropout,
    )
    if of_firsts:
        return mixed[:, :, 0]
    cells = mixed.transpose(1, 2).flatten(0, 1)
    return cells if batch.is_full else cells[batch.cells]


def _attention_of_any_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch: Batch, of_firsts: bool
) -> torch.Tensor:
    """Return the same by the kernel that needs no grid; it knows no dropout."""
    rows = torch.arange(len(batch.ends), dtype=torch.int32, device=query.device)
    asking, most = (rows, 1) if of_firsts else (batch.ends, batch.width)
    mixed = varlen_attn(query, key, value, asking, batch.ends, most, batch.width)
    assert isinstance(mixed, torch.Tensor)
    return mixed
