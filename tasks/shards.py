"""Shards: the row groups of one Parquet file, worked on one by one or side by side.

A shard is small enough for memory whatever the table's size, and it is all that one piece of work
reads, so that shards can be worked on by threads, by processes, or on other machines.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.progress import report_progress

T = TypeVar("T")
Call = dict[str, Any]
Workers = Callable[[Callable[..., T], list[Call]], Iterator[T]]
"""Does a piece of work with each call's arguments; yields the answers in the calls' order."""


def count_shards(file: Path) -> int:
    """Return how many shards a Parquet file has."""
    return int(pq.read_metadata(file).num_row_groups)


def shard_ends(file: Path) -> NDArray[np.int64]:
    """Return the number of rows up to the end of each shard [n_shards]."""
    found = pq.read_metadata(file)
    return np.cumsum([found.row_group(shard).num_rows for shard in range(found.num_row_groups)])


def read_shard(file: Path, shard: int, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of one shard."""
    with pq.ParquetFile(file) as parquet:  # a mapped file's pages would stay in memory
        return parquet.read_row_group(shard, columns=columns, use_threads=False)


def read_parts(file: Path, shard: int, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """Yield the rows of one shard, at most so many at once."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(rows, [shard], columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def parquet_writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer that suits rows of text: no dictionary of what differs, quick to unpack."""
    differ = ("row", "text", "fingerprint", "case_text")
    few = [name for name in schema.names if name not in differ]
    return pq.ParquetWriter(file, schema, use_dictionary=few, compression="lz4")


def write_shards(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write each table as a shard of one Parquet file and return the count of rows."""
    rows = 0
    with parquet_writer(file, schema) as writer:
        for table in tables:
            rows += table.num_rows
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    return rows


def texts_of(file: Path, rows: NDArray[np.int64]) -> list[str]:
    """Return the texts of rows by ascending numbers, one shard in memory at a time."""
    wanted = pa.array(rows)
    found: list[str] = []
    for shard in range(count_shards(file)):
        table = read_shard(file, shard, ["row", "text"])
        found += table.filter(pc.is_in(table["row"], wanted))["text"].to_pylist()
    return found


def places_of(rows: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of `rows` [n_rows] stands among ascending numbers, or -1.

    Searching takes no memory, where a hash table of all numbers would take many times theirs.
    """
    if not len(among):
        return np.full(len(rows), -1)
    at = np.minimum(np.searchsorted(among, rows), len(among) - 1)
    return np.where(among[at] == rows, at, -1)


def joined_arrays(files: Iterable[Path], rows: int, *, unlink: bool = False) -> Any:
    """Return NumPy arrays of shards, one a file, as one of so many rows; one is held beside it."""
    joined, at = None, 0
    for file in files:
        part = np.load(file)
        if joined is None:
            joined = np.empty((rows, *part.shape[1:]), dtype=part.dtype)
        joined[at : at + len(part)] = part
        at += len(part)
        if unlink:
            file.unlink()
    return joined


def join_shards(file: Path, schema: pa.Schema, parts: Iterable[Path]) -> int:
    """Move the rows of several Parquet files into one, in order, and return their count."""

    def tables() -> Iterator[pa.Table]:
        for part in parts:
            table = pq.read_table(part)
            part.unlink()
            if table.num_rows:
                yield table

    return write_shards(file, schema, tables())


def _threads(work: Callable[..., T], calls: list[Call]) -> Iterator[T]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda call: work(**call), calls)


_workers: ContextVar[Workers[Any]] = ContextVar("workers", default=_threads)


def side_by_side(work: Callable[..., T], calls: list[Call], stage: str) -> list[T]:
    """Return what `work` gives for each call, in order, and tell the stage's progress in shards.

    A single call is made at once, here.
    """
    if len(calls) == 1:
        return [work(**calls[0])]
    answers = []
    for answer in _workers.get()(work, calls):
        answers.append(answer)
        report_progress(stage, len(answers), len(calls), "shards")
    pa.default_memory_pool().release_unused()
    return answers


@contextmanager
def working_with(workers: Workers[Any]) -> Iterator[None]:
    """Give the shards' work within the block to other workers than threads of this process."""
    token = _workers.set(workers)
    try:
        yield
    finally:
        _workers.reset(token)
