"""Classify batches of texts with the model folder that the Bento carries."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

_TEXTS_A_BATCH = 32


@dataclass(frozen=True)
class Answer:
    """Probabilities [n_labels] of one text, if they are too low, and if its end was cut off."""

    probabilities: list[float]
    unsure: bool
    truncated: bool


def read_card(folder: Path) -> dict[str, Any]:
    """Return `card.json`: what to read and refuse, the calibration, the decision, the digests."""
    card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return card


class Engine:
    """A loaded model with its tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.card = read_card(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        self.model.eval().to(self.device)
        calibration = self.card["calibration"]
        self.scale = torch.tensor(calibration["scale"], dtype=torch.float64, device=self.device)
        self.bias = torch.tensor(calibration["bias"], dtype=torch.float64, device=self.device)

    def classify(self, texts: list[str]) -> list[Answer]:
        """Return an answer for each cleaned text, in order.

        Texts of similar length are computed together, so that little of a batch is padding.
        """
        ids, truncated = self._tokenize(texts)
        order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(order), _TEXTS_A_BATCH):
            batch = order[start : start + _TEXTS_A_BATCH]
            rows = self._probabilities([ids[number] for number in batch])
            for number, row in zip(batch, rows, strict=True):
                answers[number] = Answer(row, self._is_unsure(row), truncated[number])
        return [answers[number] for number in range(len(texts))]

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

    def _is_unsure(self, probabilities: list[float]) -> bool:
        """Return whether the label is not probable enough; without a threshold, none ever is."""
        if self.card["abstention"] is None:
            return False
        threshold = self.card["abstention"]["threshold"]
        return threshold is None or max(probabilities) < threshold

    @torch.inference_mode()
    def _probabilities(self, ids: list[list[int]]) -> list[list[float]]:
        """Return calibrated probabilities [n_texts][n_labels] of token ids, shortest text first."""
        width = len(ids[-1])
        pad = self.card["pad_token_id"]
        padded = [row + [pad] * (width - len(row)) for row in ids]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
        logits = self.model(
            input_ids=torch.tensor(padded, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
        ).logits
        scaled = logits.double() * self.scale + self.bias
        rows: list[list[float]] = torch.softmax(scaled, dim=1).tolist()
        return rows
