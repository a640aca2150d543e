"""Fingerprints of texts: 64 bits that depend on the content alone, to sample and compare by."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest


def fingerprints(texts: Sequence[str] | pa.StringArray | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return 64 bits of XXH3 for each text [n_texts], the same on every machine."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    column = texts if isinstance(texts, pa.StringArray) else pa.array(texts, pa.string())
    _, ends, letters = column.buffers()
    at = np.frombuffer(ends, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    view = memoryview(letters) if letters is not None else memoryview(b"")
    hashes = [xxh3_64_intdigest(view[start:end]) for start, end in pairwise(at.tolist())]
    return np.array(hashes, dtype=np.uint64)
