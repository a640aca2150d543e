"""Fingerprints: 64 bits of a text, whatever holds it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from xxhash import xxh3_64_intdigest

from tasks.fingerprints import fingerprints

TEXTS = ["", "a", "hello there", "很好", "a"]


def test_a_text_has_the_xxh3_of_its_bytes() -> None:
    assert fingerprints(TEXTS).tolist() == [xxh3_64_intdigest(text.encode()) for text in TEXTS]


def test_what_holds_the_texts_makes_no_difference() -> None:
    column = pa.array(["before", *TEXTS, "after"])
    for held in (column.slice(1, len(TEXTS)), pa.chunked_array([TEXTS[:2], TEXTS[2:]])):
        assert np.array_equal(fingerprints(held), fingerprints(TEXTS))


@pytest.mark.parametrize("none", [[], pa.array([], pa.string()), pa.chunked_array([], pa.string())])
def test_no_texts_have_no_fingerprints(none: Any) -> None:
    assert len(fingerprints(none)) == 0
