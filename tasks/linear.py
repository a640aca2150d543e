"""TF-IDF and logistic regression on plain arrays, in one file that holds no code and no word.

The service scores with this very module: what `tasks.baseline` fits is written and read here.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Cut = Callable[[str], list[str]]
FILE = "linear.safetensors"


def terms_of(words: Sequence[str]) -> list[str]:
    """Return the words, then each two that stand side by side."""
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def hash_of(term: str) -> int:
    """Return a 64-bit hash of a word or pair; of a million, two share one in 3 of 10^8 models."""
    encoded = term.encode(errors="surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Linear:
    """A fitted model: `idf` [n_terms], `weights` [n_terms, n_labels], `intercept` [n_labels].

    `terms` [n_terms] and `stop_words` [n_stop_words] are hashes: words of the rows, which may name
    a person, stay out of the file.
    """

    terms: Hashes
    stop_words: Hashes
    idf: Array
    weights: Array
    intercept: Array

    def logits(self, texts: Sequence[str], cut: Cut) -> Array:
        """Return logits [n_texts, n_labels]; `cut` gives the words of a text.

        A term that is met n times weighs (1 + ln n) * idf, and a text's weights have length 1
        (Salton and Buckley 1988, "Term-weighting approaches in automatic text retrieval").
        """
        rows = np.empty((len(texts), len(self.intercept)))
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._logits(cut(text.lower()))
        return rows

    def _logits(self, words: list[str]) -> Array:
        if self._left_out:
            words = [word for word in words if hash_of(word) not in self._left_out]
        hashes = map(hash_of, terms_of(words))
        found = Counter(self._rows[term] for term in hashes if term in self._rows)
        if not found:
            return self.intercept
        rows = np.array(list(found))
        values = (1.0 + np.log(list(found.values()))) * self.idf[rows]
        logits: Array = values @ self.weights[rows] / np.linalg.norm(values) + self.intercept
        return logits

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {term: row for row, term in enumerate(self.terms.tolist())}

    @cached_property
    def _left_out(self) -> frozenset[int]:
        return frozenset(self.stop_words.tolist())

    def write(self, folder: Path) -> None:
        """Write `linear.safetensors` into the folder."""
        arrays = {name: np.ascontiguousarray(array) for name, array in asdict(self).items()}
        save_file(arrays, folder / FILE)


def read_linear(folder: Path, n_labels: int) -> Linear:
    """Return the model that `Linear.write` left in the folder.

    Raises:
        ValueError: if the file is missing or malformed, or is not of `n_labels` labels.
    """
    file = folder / FILE
    try:
        arrays = load_file(file)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: cannot be read ({type(error).__name__}); export the model anew"
        ) from None
    if odd := _odd(arrays, n_labels):
        raise ValueError(f"{file}: {odd}; export the model anew")
    return Linear(**arrays)


def _odd(arrays: dict[str, NDArray[Any]], n_labels: int) -> str | None:
    """Return what is wrong with the arrays of a model, if anything."""
    n_terms, n_stop_words = (arrays.get(name, np.empty(0)).size for name in ("terms", "stop_words"))
    expected = {
        "terms": ("uint64", (n_terms,)),
        "stop_words": ("uint64", (n_stop_words,)),
        "idf": ("float64", (n_terms,)),
        "weights": ("float64", (n_terms, n_labels)),
        "intercept": ("float64", (n_labels,)),
    }
    came = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    if came != expected:
        return f"holds {came}, expected {expected}"
    for name in ("idf", "weights", "intercept"):
        if not np.isfinite(arrays[name]).all():
            return f"{name} is not finite"
    if (arrays["idf"] <= 0).any():
        return "idf is not above 0"
    if len(np.unique(arrays["terms"])) != n_terms:
        return "names a term twice"
    return None
