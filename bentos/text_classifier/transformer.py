"""Score texts with a fine-tuned transformer and its tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

_TEXTS_A_BATCH = 32


class Transformer:
    """A loaded model with its tokenizer."""

    def __init__(self, folder: Path, card: dict[str, Any]) -> None:
        self.card = card
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        self.model.eval().to(self.device)

    def score(self, texts: list[str]) -> tuple[NDArray[np.float64], list[bool]]:
        """Return logits [n_texts, n_labels], and for each text whether its end was cut off.

        Texts of similar length are computed together, so that little of a batch is padding.
        """
        ids, truncated = self._tokenize(texts)
        order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
        logits = np.empty((len(texts), len(self.card["labels"])))
        for start in range(0, len(order), _TEXTS_A_BATCH):
            batch = order[start : start + _TEXTS_A_BATCH]
            logits[batch] = self._logits([ids[number] for number in batch])
        return logits, truncated

    def _tokenize(self, texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        """Return the first `max_length` token ids of each text, and whether there were more."""
        encoded = self.tokenizer(
            texts,
            truncation=True,
            max_length=self.card["max_length"],
            return_overflowing_tokens=True,
        )
        windows: list[list[list[int]]] = [[] for _ in texts]
        for source, row in zip(
            encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True
        ):
            windows[source].append(row)
        return [rows[0] for rows in windows], [len(rows) > 1 for rows in windows]

    @torch.inference_mode()
    def _logits(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """Return logits [n_texts, n_labels] of token ids, shortest text first."""
        width = len(ids[-1])
        pad = self.card["pad_token_id"]
        padded = [row + [pad] * (width - len(row)) for row in ids]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
        logits = self.model(
            input_ids=torch.tensor(padded, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
        ).logits
        rows: NDArray[np.float32] = logits.cpu().numpy()
        return rows
