"""Score texts with a transformer in OpenVINO's form, without padding.

The rows of a batch lie end to end; attention alone sees a grid of rows, sorted by length. The grid's
width is a multiple of 16, and so is the number of tokens: the processor's kernels then add up every
row in the same order, whatever stands beside it, so that no answer depends on its batch-mates.
The service scores with this very module; `tasks.exporting` writes what it reads.
"""

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

# OpenVINO and NNCF tell their makers of their use through this package, from their import on, and do
# without where there is none.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402

FILE = "openvino.xml"
MOST_TOKENS = 512
"""Tokens of one inference: twice as many are a tenth faster, and keep others waiting twice as long."""
_STEP = 16
_TEXTS_A_PART = 200

Ids = NDArray[np.int64]


class Packed:
    """A loaded model with its tokenizer.

    `parallel` threads may be in `logits` at once; each has a stream of one thread of its own, which
    takes two thirds of the processor's time of one stream that all cores share. `threads` of 0 are
    as many as there are cores.

    Raises:
        ValueError: if the model's files are missing or malformed.
    """

    def __init__(self, folder: Path, max_length: int, threads: int = 0) -> None:
        self.parallel = threads or cores()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._model = _compiled(folder / FILE, self.parallel)
        self._own = threading.local()
        self.n_labels = int(self._model.output(0).partial_shape[1].get_length())

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Ids], list[bool]]:
        """Return the first `max_length` token ids of each text, and whether there were more."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        ids = [np.array(each.ids, dtype=np.int64) for each in encoded]
        return ids, [bool(each.overflowing) for each in encoded]

    def logits(self, rows: Sequence[Ids]) -> NDArray[np.float64]:
        """Return logits [n_rows, n_labels] of token ids, computed in parts of about `MOST_TOKENS`."""
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        found = np.empty((len(rows), self.n_labels))
        for part in _parts(order, rows):
            found[part] = self._infer([rows[number] for number in part])
        return found

    def all_logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return logits [n_texts, n_labels] of any number of texts, computed by all cores."""
        starts = range(0, len(texts), _TEXTS_A_PART)
        with ThreadPoolExecutor(self.parallel) as pool:
            parts = pool.map(
                lambda start: self.logits(self.tokenize(texts[start : start + _TEXTS_A_PART])[0]),
                starts,
            )
            return np.concatenate([np.empty((0, self.n_labels)), *parts])

    def _infer(self, rows: list[Ids]) -> NDArray[np.float32]:
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        result = self._own.request.infer(laid_out(rows), share_inputs=True, share_outputs=True)
        logits: NDArray[np.float32] = result[0]
        return logits


def cores() -> int:
    """Return how many cores this process may use, by its affinity and its container's quota."""
    found = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(found, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or "max"
        return found


def _compiled(file: Path, streams: int) -> openvino.CompiledModel:
    core = openvino.Core()
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return core.compile_model(core.read_model(file), "CPU", settings)
    except RuntimeError:
        raise ValueError(f"{file}: cannot be read; export the model anew") from None


def _parts(order: list[int], rows: Sequence[Ids]) -> list[list[int]]:
    """Return the numbers of the rows in parts whose grids hold about `MOST_TOKENS`, in that order."""
    parts: list[list[int]] = []
    for number in order:
        width = _rounded(len(rows[number]))
        if not parts or (len(parts[-1]) + 1) * width > MOST_TOKENS:
            parts.append([])
        parts[-1].append(number)
    return parts


def laid_out(rows: Sequence[Ids]) -> dict[str, NDArray[np.int64] | NDArray[np.float32]]:
    """Return the inputs of a model's graph for rows of token ids.

    ids, positions and cells [n_tokens] have the tokens end to end, with the place of each in its row
    and in the grid; grid [n_rows, width] has the token in each place of a row, and hidden, of the
    same shape, what is added to its attention: nothing, or the lowest number where a row has ended.
    firsts [n_rows] are the rows' first tokens. Tokens are added at the end, of which nothing is read.
    """
    lengths = np.array([len(row) for row in rows])
    width = _rounded(int(lengths.max()))
    total = int(lengths.sum())
    ids = np.zeros(_rounded(total), dtype=np.int64)
    np.concatenate(rows, out=ids[:total])
    starts = np.cumsum(lengths) - lengths
    places = np.arange(total) - np.repeat(starts, lengths)
    positions = np.zeros_like(ids)
    positions[:total] = places
    cells = np.zeros_like(ids)
    cells[:total] = np.repeat(np.arange(len(rows)) * width, lengths) + places
    filled = np.arange(width) < lengths[:, None]
    grid = np.where(filled, starts[:, None] + np.arange(width), 0)
    hidden = np.where(filled, np.float32(0), np.finfo(np.float32).min).astype(np.float32)
    return {
        "ids": ids,
        "positions": positions,
        "cells": cells,
        "grid": grid,
        "hidden": hidden,
        "firsts": starts,
    }


def _rounded(count: int) -> int:
    return -(-count // _STEP) * _STEP
