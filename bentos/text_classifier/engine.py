"""Classify texts with the model folder that the Bento carries, whatever kind of model it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Row:
    """A text as its model reads it: token ids, or itself; and whether its end was cut off."""

    content: Any
    n_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Probabilities [n_labels] of one text, if they are too low, and if its end was cut off."""

    probabilities: list[float]
    unsure: bool
    truncated: bool


class Scorer(Protocol):
    """What a model does for the engine; `parallel` threads may ask for logits at once."""

    parallel: int

    def encode(self, texts: list[str]) -> list[Row]:
        """Return what the model reads of each text."""
        ...

    def logits(self, rows: list[Row]) -> NDArray[np.float64]:
        """Return logits [n_rows, n_labels]."""
        ...


def read_card(folder: Path) -> dict[str, Any]:
    """Return `card.json`: what to read and refuse, the calibration, the decision, the digests."""
    card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return card


class Engine:
    """A loaded model of the kind that its card names; `threads` of 0 are as many as cores."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self.card = read_card(folder)
        self.scorer = _scorer(folder, self.card, threads)
        calibration = self.card["calibration"]
        self.scale, self.bias = np.array(calibration["scale"]), np.array(calibration["bias"])
        self.threshold = _threshold(self.card)
        self.parallel = self.scorer.parallel

    def encode(self, texts: list[str]) -> list[Row]:
        """Return what the model reads of each cleaned text; any number of threads may ask."""
        return self.scorer.encode(texts)

    def answer(self, rows: list[Row]) -> list[Answer]:
        """Return an answer for each row, in order; `parallel` threads may ask at once."""
        logits = self.scorer.logits(rows) * self.scale + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        unsure = probabilities.max(axis=1) < self.threshold
        return [
            Answer(found, doubted, row.truncated)
            for row, found, doubted in zip(
                rows, probabilities.tolist(), unsure.tolist(), strict=True
            )
        ]

    def classify(self, texts: list[str]) -> list[Answer]:
        """Return an answer for each cleaned text, in order."""
        return self.answer(self.encode(texts))


def _threshold(card: dict[str, Any]) -> float:
    """Return the probability below which an answer is unsure: 0 for never, infinity for always."""
    if card["abstention"] is None:
        return 0.0
    threshold: float | None = card["abstention"]["threshold"]
    return np.inf if threshold is None else threshold


def _scorer(folder: Path, card: dict[str, Any], threads: int) -> Scorer:
    # Late: a Bento holds, and requires, what its own kind needs.
    if card["kind"] == "linear":
        return _Linear(folder, len(card["labels"]))
    if card["kind"].startswith("openvino"):
        return _Packed(folder, card["max_length"], threads)
    from transformer import Transformer

    return Transformer(folder, card, threads)


class _Linear:
    """The exported baseline, which reads every text whole."""

    parallel = 1

    def __init__(self, folder: Path, n_labels: int) -> None:
        from linear import read_linear
        from words import words

        self._model, self._cut = read_linear(folder, n_labels), words

    def encode(self, texts: list[str]) -> list[Row]:
        # A word of English has 4 to 5 letters and a space.
        return [Row(text, 1 + len(text) // 5, truncated=False) for text in texts]

    def logits(self, rows: list[Row]) -> NDArray[np.float64]:
        return self._model.logits([row.content for row in rows], self._cut)


class _Packed:
    """A transformer in OpenVINO's packed form."""

    def __init__(self, folder: Path, max_length: int, threads: int) -> None:
        from packed import Packed

        self._model = Packed(folder, max_length, threads)
        self.parallel = self._model.parallel

    def encode(self, texts: list[str]) -> list[Row]:
        ids, truncated = self._model.tokenize(texts)
        return [Row(row, len(row), cut) for row, cut in zip(ids, truncated, strict=True)]

    def logits(self, rows: list[Row]) -> NDArray[np.float64]:
        return self._model.logits([row.content for row in rows])
