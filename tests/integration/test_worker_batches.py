"""Encoded rows on disk, and batches that hold every row once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.worker.batches import EncodedRows, shuffled_batches, sorted_batches, write_rows

PAD = 9
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)


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


def test_a_batch_is_padded_to_its_own_longest_row(rows: EncodedRows) -> None:
    ids, mask, labels = rows.padded(np.array([1, 0]), PAD)
    assert ids.tolist() == [[7, PAD], [5, 6]]
    assert mask.tolist() == [[1, 0], [1, 1]]
    assert labels.tolist() == [0, 1]
    ids, mask, _ = rows.padded(np.array([2]), PAD)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2, 3]], [[1, 1, 1]])
    assert {str(tensor.dtype) for tensor in (ids, mask, labels)} == {"torch.int64"}


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_holds_every_row_once(
    lengths: "np.ndarray[tuple[int], np.dtype[np.int64]]", batch_size: int, seed: int
) -> None:
    batches = shuffled_batches(lengths, batch_size, seed)
    assert len(batches) == -(-len(lengths) // batch_size)
    assert max(map(len, batches)) <= batch_size
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 20), st.integers(1, 7))
def test_every_process_takes_equally_many_batches(
    lengths: "np.ndarray[tuple[int], np.dtype[np.int64]]", batch_size: int, shares: int
) -> None:
    alone = shuffled_batches(lengths, batch_size, 0)
    together = shuffled_batches(lengths, batch_size, 0, shares)
    assert len({len(together[rank::shares]) for rank in range(shares)}) == 1
    assert len(together) - len(alone) in range(shares)
    for batch, first in zip(together, alone + alone * shares, strict=False):
        assert np.array_equal(batch, first)


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


@given(LENGTHS, st.integers(1, 20))
def test_scoring_takes_every_row_once_and_the_shortest_first(
    lengths: "np.ndarray[tuple[int], np.dtype[np.int64]]", batch_size: int
) -> None:
    batches = list(sorted_batches(lengths, batch_size))
    order = np.concatenate(batches)
    assert sorted(order) == list(range(len(lengths)))
    assert lengths[order].tolist() == sorted(lengths)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
