"""Which patterns of tokenizers are refused: those that may take for ever, and none that models use."""

import base64
import struct
from typing import Any

import pytest

from tasks.patterns import backtracks, odd_pattern

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


@pytest.mark.parametrize(
    "pattern",
    [
        *(GPT_2, LLAMA_3, O200K, BLOOM, " {2,}", "[0-9][0-9][0-9]", r"\n| "),
        r"(?=(\d{3})+(?!\d))",
        r"<\|start\|>|<\|end\|>|'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        *("[(a+)+]+", r"\(a+\)+", "[]a+]+", "[^]a(+]+", "(a+)?", "(a|b)", "((a))+", "a++", "(", ")+"),
    ],
)  # fmt: skip
def test_a_pattern_that_models_use_is_taken(pattern: str) -> None:
    assert not backtracks(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+$", "(a*)*", "(?:a|aa)+$", "(a{1,3})+x", "((a)+)+", "(a+){2,}", r"(\++)+", "(a+)++"),
        *(r"([a-z]+\.)*@", "(x(a?a))+", r"(?:\s*\w)*!", "(a{2,}b?){1000}", "(a+?)+", "([]+]+)*"),
    ],
)  # fmt: skip
def test_a_repetition_within_a_repetition_is_refused(pattern: str) -> None:
    assert backtracks(pattern)


def charsmap(longest: int) -> str:
    """Return a map of SentencePiece's that writes so many bytes for one character."""
    return base64.b64encode(struct.pack("<I", 4) + bytes(4) + b"ab\0" + b"x" * longest).decode()


@pytest.mark.parametrize(
    ("normalizer", "told"),
    [
        ({"type": "Precompiled", "precompiled_charsmap": charsmap(33)}, None),
        ({"type": "Precompiled", "precompiled_charsmap": None}, None),
        ({"type": "Precompiled", "precompiled_charsmap": charsmap(300)}, "more than 256 bytes"),
        ({"type": "Precompiled", "precompiled_charsmap": "AA=="}, "more than 256 bytes"),
        ({"type": "Precompiled", "precompiled_charsmap": [1]}, "more than 256 bytes"),
        ({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, None),
        ({"type": "Prepend", "prepend": "\u2581" * 65}, "up to 65 characters for one"),
        (None, None),
    ],
)
def test_what_writes_much_for_little_is_refused(
    normalizer: dict[str, Any] | None, told: str | None
) -> None:
    odd = odd_pattern({"normalizer": normalizer, "decoder": {"pattern": {"Regex": "(a+)+"}}})
    assert (odd is None) == (told is None)
    assert odd is None or (told is not None and told in odd)
