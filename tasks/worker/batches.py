"""Encoded rows on disk, and their division into batches of similar length."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

_ROWS_SORTED_TOGETHER = 50
"""Batches whose rows are sorted by length together; more saves padding, fewer mixes better."""


class EncodedRows:
    """Token ids of n rows, memory-mapped from a folder.

    `ids.npy` int32 [n_tokens] holds all rows end to end, `offsets.npy` int64 [n_rows + 1] where
    each begins, `labels.npy` int64 [n_rows] the class ids.
    """

    def __init__(self, folder: Path) -> None:
        self.ids = np.load(folder / "ids.npy", mmap_mode="r")
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        self.lengths = np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.labels)

    def padded(
        self, rows: NDArray[np.int64], pad_token_id: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids and attention mask [n, longest of the n], and labels [n], all int64."""
        width = int(self.lengths[rows].max())
        ids = np.full((len(rows), width), pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for line, row in enumerate(rows):
            tokens = self.ids[self.offsets[row] : self.offsets[row + 1]]
            ids[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
        return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(self.labels[rows])


def write_rows(folder: Path, ids: list[list[int]], labels: list[int]) -> None:
    """Write rows of token ids and their class ids as `EncodedRows` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = [token for row in ids for token in row]
    np.save(folder / "ids.npy", np.asarray(flat, dtype=np.int32))
    np.save(folder / "offsets.npy", np.cumsum([0, *map(len, ids)], dtype=np.int64))
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, seed: int, shares: int = 1
) -> list[NDArray[np.int64]]:
    """Return the row numbers of each batch of one epoch, in an order that the seed decides.

    Rows are drawn at random, sorted by length within some batches, cut, and the batches shuffled:
    little padding and still a random order. The number of batches is brought to a multiple of
    `shares` by repeating the first ones, so that every process takes equally many.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _ROWS_SORTED_TOGETHER):
        group = order[start : start + batch_size * _ROWS_SORTED_TOGETHER]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    batches = [batches[i] for i in generator.permutation(len(batches))]
    short = -len(batches) % shares
    return batches + [batches[i % len(batches)] for i in range(short)]


def sorted_batches(lengths: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of each batch, shortest rows first."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
