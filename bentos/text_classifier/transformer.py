"""Score texts with a fine-tuned transformer and its tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import Row
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

_TOKENS_A_BATCH = 4096  # padding included


class Transformer:
    """A loaded model with its tokenizer; on a GPU, if there is one. Its own threads share a batch."""

    parallel = 1

    def __init__(self, folder: Path, card: dict[str, Any], threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.card = card
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        self.model.eval().to(self.device)

    def encode(self, texts: list[str]) -> list[Row]:
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
        return [Row(rows[0], len(rows[0]), len(rows) > 1) for rows in windows]

    def logits(self, rows: list[Row]) -> NDArray[np.float64]:
        """Return logits [n_rows, n_labels].

        Rows of similar length are computed together, so that little of a batch is padding.
        """
        order = sorted(range(len(rows)), key=lambda number: rows[number].n_tokens)
        found = np.empty((len(rows), len(self.card["labels"])))
        batch: list[int] = []
        for place, number in enumerate(order):
            batch.append(number)
            following = order[place + 1 : place + 2]
            width = rows[following[0]].n_tokens if following else 0
            if not following or (len(batch) + 1) * width > _TOKENS_A_BATCH:
                found[batch] = self._logits([rows[each].content for each in batch])
                batch = []
        return found

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
