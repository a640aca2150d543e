"""Encoded rows on disk, and their division into updates, shares of processes and parts of a share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Numbers of rows [n_rows]."""

_BATCHES_SORTED_TOGETHER = 50
"""Batches whose rows are sorted by length together; more saves padding, fewer mixes better."""


@dataclass(frozen=True)
class Batch:
    """Rows end to end without padding, and what lays them out as a grid where a model needs one.

    `ids` and `positions` int64 [n_tokens] hold each token and its place in its row, `first` int64
    [n_rows] where each row begins, `ends` int32 [n_rows + 1] the same with the end of the last,
    `labels` int64 [n_rows] the class ids, `weights` float32 [n_rows] what each row counts in the
    loss. `grid` int64 [n_rows * width] is the token in each cell of a grid as wide as the longest
    row, `filled` bool [n_rows, width] whether the cell has one, `cells` int64 [n_tokens] the cell
    of each token. `teacher` float32 [n_rows, n_labels] are the logits of a model to learn from, if
    there is one.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    first: torch.Tensor
    ends: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    grid: torch.Tensor
    filled: torch.Tensor
    cells: torch.Tensor
    teacher: torch.Tensor | None = None

    @property
    def width(self) -> int:
        """Return the tokens of the longest row."""
        return self.filled.shape[1]

    @property
    def is_full(self) -> bool:
        """Return whether every row is as long as the longest, so that the grid has no empty cell."""
        return len(self.ids) == self.filled.numel()

    def padded(self, pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and attention mask, int64 [n_rows, width]."""
        ids = self.ids[self.grid].view_as(self.filled)
        return ids.masked_fill(~self.filled, pad_token_id), self.filled.long()

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device; from pinned memory, while this process goes on."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            **{
                field.name: tensor.pin_memory().to(device, non_blocking=True)
                for field in fields(self)
                if (tensor := getattr(self, field.name)) is not None
            },
        )


class EncodedRows:
    """Token ids of n rows, memory-mapped from a folder.

    `ids.npy` int32 [n_tokens] holds all rows end to end, `offsets.npy` int64 [n_rows + 1] where
    each begins, `labels.npy` int64 [n_rows] the class ids. `teacher` is a file of a teacher's logits
    [n_rows, n_labels], float32.
    """

    def __init__(self, folder: Path, teacher: Path | None = None) -> None:
        self.ids = np.load(folder / "ids.npy", mmap_mode="r")
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        self.lengths = np.diff(self.offsets)
        self.teacher = None if teacher is None else np.load(teacher, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Rows, weights: NDArray[np.float64] | None = None) -> Batch:
        """Return the rows as a batch; without `weights` [n_rows], each counts as one."""
        lengths = self.lengths[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(int(lengths.max()))
        filled = places < lengths[:, None]
        arrays = {
            "ids": np.concatenate(
                [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows]
            ).astype(np.int64),
            "positions": np.arange(ends[-1]) - np.repeat(ends[:-1], lengths),
            "first": ends[:-1],
            "ends": ends.astype(np.int32),
            "labels": self.labels[rows],
            "weights": (np.ones(len(rows)) if weights is None else weights).astype(np.float32),
            "grid": np.where(filled, ends[:-1, None] + places, 0).reshape(-1),
            "filled": filled,
            "cells": np.flatnonzero(filled),
        }
        if self.teacher is not None:
            arrays["teacher"] = self.teacher[rows]
        return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})


class RowWriter:
    """Writes rows as `EncodedRows` reads them, holding no more than their lengths and labels."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lengths: list[int] = []
        self.labels: list[int] = []
        self._ids = (folder / "ids.npy").open("wb")
        self._write_header(0)

    def add(self, ids: Sequence[Sequence[int]], labels: Sequence[int]) -> None:
        """Write some rows of token ids and their class ids."""
        self.lengths += map(len, ids)
        self.labels += labels
        np.fromiter(chain.from_iterable(ids), dtype=np.int32).tofile(self._ids)

    def close(self) -> None:
        """Write what is known only now: the count of tokens, where each row begins, the labels."""
        offsets = np.cumsum([0, *self.lengths], dtype=np.int64)
        self._ids.seek(0)
        self._write_header(int(offsets[-1]))
        self._ids.close()
        np.save(self.folder / "offsets.npy", offsets)
        np.save(self.folder / "labels.npy", np.asarray(self.labels, dtype=np.int64))

    def _write_header(self, tokens: int) -> None:
        """Write NumPy's header, which has the same size for any number of tokens."""
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype=np.int32))
        np.lib.format.write_array_header_1_0(self._ids, {**header, "shape": (tokens,)})
        self._ids.flush()  # what follows goes past Python's buffer


def write_rows(folder: Path, ids: Sequence[Sequence[int]], labels: Sequence[int]) -> None:
    """Write rows of token ids and their class ids as `EncodedRows` reads them."""
    writer = RowWriter(folder)
    writer.add(ids, labels)
    writer.close()


def shuffled_batches(lengths: NDArray[np.int64], batch_size: int, seed: int) -> list[Rows]:
    """Return the row numbers of each update of one epoch, in an order that the seed decides.

    Rows are drawn at random, sorted by length within some batches, cut, and the batches shuffled:
    little padding and still a random order.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    batches: list[Rows] = []
    for start in range(0, len(order), batch_size * _BATCHES_SORTED_TOGETHER):
        group = order[start : start + batch_size * _BATCHES_SORTED_TOGETHER]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(lengths: NDArray[np.int64], max_tokens: int) -> Iterator[Rows]:
    """Yield the row numbers of each batch, shortest rows first, of at most so many padded tokens."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= max_tokens:
            stop += 1
        yield order[start:stop]
        start = stop


def shared_out(
    rows: Rows, lengths: NDArray[np.int64], world: int, max_tokens: int
) -> list[list[Rows]]:
    """Return the parts [world][n_parts] in which so many processes compute one update.

    Rows are dealt out by length, so that all processes have about as many tokens, and each share is
    cut into parts of at most `max_tokens`, padding included, or of one row. All processes have
    equally many parts, of which some can be empty.
    """
    order = rows[np.argsort(lengths[rows], kind="stable")]
    shares = [order[rank::world] for rank in range(world)]
    cut = [list(sorted_batches(lengths[share], max_tokens)) for share in shares]
    most = max(map(len, cut))
    return [
        [share[part] for part in parts] + [share[:0]] * (most - len(parts))
        for share, parts in zip(shares, cut, strict=True)
    ]
