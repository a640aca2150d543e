"""How a model's logits are computed from rows without padding: one module a family of models.

A family offers `fits(model)` and `logits(model, batch)`. A model of no family, or one whose family
does not come to the model's own logits, is computed by `padded`, which fits every model.
"""

from collections.abc import Callable
from typing import Any

import torch

from tasks.worker.batches import Batch
from tasks.worker.families import bert

Forward = Callable[[Any, Batch], torch.Tensor]
"""Takes a model and a batch; returns its logits [n_rows, n_labels]."""

_FAMILIES = {"packed BERT": bert}
PADDED = "padded, by transformers"
_TOLERANCE = 1e-4


def padded(model: Any, batch: Batch) -> torch.Tensor:
    """Return the logits [n_rows, n_labels] that transformers' own forward pass computes."""
    ids, mask = batch.padded(model.config.pad_token_id)
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits


@torch.no_grad()
def forward_of(model: Any, batch: Batch) -> tuple[str, Forward]:
    """Return the fastest forward pass that comes to the model's own logits on the batch, and its name.

    A model can differ from its family in a way that its config does not tell, so that each is asked.
    """
    was_training = model.training
    model.eval()
    own = padded(model, batch)
    chosen: tuple[str, Forward] = (PADDED, padded)
    for name, family in _FAMILIES.items():
        if family.fits(model) and torch.allclose(
            family.logits(model, batch), own, rtol=_TOLERANCE, atol=_TOLERANCE
        ):
            chosen = (name, family.logits)
    model.train(was_training)
    return chosen
