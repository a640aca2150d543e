"""Encoded rows on disk, and batches that hold every row once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.worker.batches import (
    EncodedRows,
    shared_out,
    shuffled_batches,
    sorted_batches,
    write_rows,
)

PAD = 9
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)
Lengths = NDArray[np.int64]


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    """Return three rows of 2, 1 and 3 tokens."""
    write_rows(tmp_path / "rows", [[5, 6], [7], [1, 2, 3]], [1, 0, 2])
    return EncodedRows(tmp_path / "rows")


def test_rows_come_back_as_they_were_written(rows: EncodedRows) -> None:
    assert len(rows) == 3
    assert rows.lengths.tolist() == [2, 1, 3]
    assert rows.labels.tolist() == [1, 0, 2]
    assert rows.ids.tolist() == [5, 6, 7, 1, 2, 3]
    assert isinstance(rows.ids, np.memmap)


def test_a_batch_holds_its_rows_end_to_end(rows: EncodedRows) -> None:
    batch = rows.batch(np.array([2, 1, 0]))
    assert batch.ids.tolist() == [1, 2, 3, 7, 5, 6]
    assert batch.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.first.tolist() == [0, 3, 4]
    assert batch.ends.tolist() == [0, 3, 4, 6]
    assert batch.labels.tolist() == [2, 0, 1]
    assert batch.weights.tolist() == [1, 1, 1]
    assert rows.batch(np.array([1, 0]), np.array([0.25, 0.75])).weights.tolist() == [0.25, 0.75]
    whole = (batch.ids, batch.positions, batch.first, batch.labels, batch.grid, batch.cells)
    assert {tensor.dtype for tensor in whole} == {torch.int64}
    assert (batch.ends.dtype, batch.weights.dtype) == (torch.int32, torch.float32)
    assert batch.filled.dtype == torch.bool


def test_a_padded_batch_is_as_wide_as_its_own_longest_row(rows: EncodedRows) -> None:
    batch = rows.batch(np.array([1, 0]))
    ids, mask = batch.padded(PAD)
    assert ids.tolist() == [[7, PAD], [5, 6]]
    assert mask.tolist() == [[1, 0], [1, 1]]
    assert (batch.width, batch.is_full) == (2, False)
    ids, mask = rows.batch(np.array([2])).padded(PAD)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2, 3]], [[1, 1, 1]])
    assert rows.batch(np.array([2])).is_full
    assert {ids.dtype, mask.dtype} == {torch.int64}


def test_the_grid_and_its_cells_lead_from_tokens_to_rows_and_back(rows: EncodedRows) -> None:
    batch = rows.batch(np.array([0, 2, 1]))
    on_grid = batch.ids[batch.grid]
    assert on_grid[batch.cells].tolist() == batch.ids.tolist()
    assert on_grid.view_as(batch.filled)[batch.filled].tolist() == batch.ids.tolist()


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_holds_every_row_once(lengths: Lengths, batch_size: int, seed: int) -> None:
    batches = shuffled_batches(lengths, batch_size, seed)
    assert len(batches) == -(-len(lengths) // batch_size)
    assert max(map(len, batches)) <= batch_size
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 4), st.integers(1, 200), st.integers(0, 5))
def test_an_update_is_shared_out_whole_evenly_and_in_parts_that_fit(
    lengths: Lengths, world: int, max_tokens: int, seed: int
) -> None:
    update = shuffled_batches(lengths, 32, seed)[0]
    shares = shared_out(update, lengths, world, max_tokens)
    assert len(shares) == world
    assert len({len(parts) for parts in shares}) == 1
    parts = [part for share in shares for part in share]
    assert sorted(np.concatenate(parts)) == sorted(update)
    for part in parts:
        assert len(part) <= 1 or len(part) * lengths[part].max() <= max_tokens
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    tokens = [sum(int(lengths[part].sum()) for part in share) for share in shares]
    assert max(tokens) - min(tokens) <= lengths[update].max()


def test_the_order_is_decided_by_the_seed_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=500)
    first, same, other = (
        [batch.tolist() for batch in shuffled_batches(lengths, 16, seed)] for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_a_batch_holds_rows_of_similar_length_and_the_batches_are_mixed() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size=1600)
    batches = shuffled_batches(lengths, 16, 0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded / lengths.sum() < 1.1  # rows in random order would need about 1.9
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)


@given(LENGTHS, st.integers(1, 400))
def test_scoring_takes_every_row_once_and_the_shortest_first(
    lengths: Lengths, max_tokens: int
) -> None:
    batches = list(sorted_batches(lengths, max_tokens))
    order = np.concatenate(batches)
    assert sorted(order) == list(range(len(lengths)))
    assert lengths[order].tolist() == sorted(lengths)
    for batch, following in pairwise(batches):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= max_tokens
        assert (len(batch) + 1) * lengths[following[0]] > max_tokens
