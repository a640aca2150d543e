"""Train the rows of the vocabulary that the training texts use, and no others.

The other rows get no gradient, yet an optimizer keeps moments of them and passes over them at each
update: half of MiniLM's parameters, four fifths of a multilingual model's. They keep their
pretrained values (with all rows in training, AdamW would shrink them by `learning_rate * weight_decay`
an update).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from numpy.typing import NDArray

from tasks.worker.parallel import as_shared, whole


class VocabularyInUse(torch.nn.Module):
    """An embedding whose rows in use can be trained, and whose other rows stay as they are."""

    def __init__(self, embedding: torch.nn.Embedding, used: NDArray[np.int64]) -> None:
        super().__init__()
        self.whole = embedding.requires_grad_(False)
        rows = torch.from_numpy(used).to(embedding.weight.device)
        place = torch.full((embedding.num_embeddings,), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        self.used = torch.nn.Buffer(rows, persistent=False)
        self.place = torch.nn.Buffer(place, persistent=False)
        self.weight = torch.nn.Parameter(embedding.weight.detach()[rows].clone())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [..., hidden_size] of token ids [...], of any row in evaluation."""
        place = self.place[ids]
        if self.training:
            return F.embedding(place, self.weight)
        own = F.embedding(place.clamp(min=0), self.weight)
        return torch.where((place >= 0)[..., None], own, self.whole(ids))

    @torch.no_grad()
    def merged(self) -> torch.nn.Embedding:
        """Return the whole embedding with the trained rows in their places."""
        rows = whole({"all": self.whole.weight, "trained": self.weight})
        rows["all"][self.used] = rows["trained"]
        self.whole.weight.copy_(as_shared(rows["all"], self.whole.weight))
        return self.whole


def narrow(model: Any, ids: NDArray[np.int32], pad_token_id: int) -> None:
    """Let a model that trains its vocabulary train the rows that the ids [n_tokens] use alone."""
    embedding = model.get_input_embeddings()
    used = np.union1d(np.unique(ids), [pad_token_id]).astype(np.int64)
    plain = type(embedding) is torch.nn.Embedding  # another kind may scale or share its rows
    if plain and embedding.weight.requires_grad and len(used) < embedding.num_embeddings:
        model.set_input_embeddings(VocabularyInUse(embedding, used).train(model.training))


def widen(model: Any) -> None:
    """Give the model its whole vocabulary back."""
    narrowed = model.get_input_embeddings()
    if isinstance(narrowed, VocabularyInUse):
        model.set_input_embeddings(narrowed.merged())
