"""Classify batches of texts with the model folder that the Bento carries, of either kind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """Probabilities [n_labels] of one text, if they are too low, and if its end was cut off."""

    probabilities: list[float]
    unsure: bool
    truncated: bool


class Scorer(Protocol):
    """What a model does for the engine."""

    def score(self, texts: list[str]) -> tuple[NDArray[np.float64], list[bool]]:
        """Return logits [n_texts, n_labels], and for each text whether its end was cut off."""
        ...


def read_card(folder: Path) -> dict[str, Any]:
    """Return `card.json`: what to read and refuse, the calibration, the decision, the digests."""
    card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return card


class Engine:
    """A loaded model of the kind that its card names."""

    def __init__(self, folder: Path) -> None:
        self.card = read_card(folder)
        self.scorer = _scorer(folder, self.card)
        calibration = self.card["calibration"]
        self.scale, self.bias = np.array(calibration["scale"]), np.array(calibration["bias"])

    def classify(self, texts: list[str]) -> list[Answer]:
        """Return an answer for each cleaned text, in order."""
        logits, truncated = self.scorer.score(texts)
        logits = logits * self.scale + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        return [
            Answer(row, self._is_unsure(row), cut)
            for row, cut in zip(probabilities.tolist(), truncated, strict=True)
        ]

    def _is_unsure(self, probabilities: list[float]) -> bool:
        """Return whether the label is not probable enough; without a threshold, none ever is."""
        if self.card["abstention"] is None:
            return False
        threshold = self.card["abstention"]["threshold"]
        return threshold is None or max(probabilities) < threshold


def _scorer(folder: Path, card: dict[str, Any]) -> Scorer:
    # Late: a Bento holds, and requires, what its own kind needs.
    if card["kind"] == "linear":
        return _Linear(folder, len(card["labels"]))
    from transformer import Transformer

    return Transformer(folder, card)


class _Linear:
    """The exported baseline, which reads every text whole."""

    def __init__(self, folder: Path, n_labels: int) -> None:
        from linear import read_linear
        from words import words

        self._model, self._cut = read_linear(folder, n_labels), words

    def score(self, texts: list[str]) -> tuple[NDArray[np.float64], list[bool]]:
        return self._model.logits(texts, self._cut), [False] * len(texts)
