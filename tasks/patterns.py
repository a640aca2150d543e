"""What in a tokenizer.json could make one text cost hours, or more memory than there is."""

import base64
import re
import struct
from collections.abc import Iterator
from typing import Any

_LONGEST_PATTERN = 10_000
_MOST_GROWTH = 64
_MOST_ADDED = 64
_LONGEST_MAPPED = 256


def odd_pattern(tokenizer: dict[str, Any]) -> str | None:
    """Return what in a tokenizer.json no tokenizer should have, if there is such a thing.

    Its patterns are run on every text: a repetition within a repetition tries every way to share
    out the characters between the two, and their number doubles with each one.
    """
    growth = 1
    for part in _parts({key: tokenizer.get(key) for key in _RUN}):
        pattern = part.get("Regex")
        if isinstance(pattern, str) and (len(pattern) > _LONGEST_PATTERN or backtracks(pattern)):
            return f"has the pattern {pattern!r:.80}, which may take for ever on a text"
        if part.get("type") in ("Replace", "Prepend"):
            written = part.get("content", part.get("prepend"))
            growth *= max(1, len(written) if isinstance(written, str) else 1)
        added = part.get("special_tokens") if part.get("type") == "TemplateProcessing" else None
        if added is not None and _n_ids(part) > _MOST_ADDED:
            return f"adds more than {_MOST_ADDED} tokens to every text"
        if "precompiled_charsmap" in part and not _is_sound(part["precompiled_charsmap"]):
            return f"has a map of characters that writes more than {_LONGEST_MAPPED} bytes for one"
    if growth > _MOST_GROWTH:
        return f"writes up to {growth} characters for one"
    return None


_RUN = ("normalizer", "pre_tokenizer", "post_processor")
"""What is run on a text; what is decoded is never asked for."""


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _n_ids(template: dict[str, Any]) -> int:
    """Return how many ids the special tokens and the places of a template have."""
    ids = [part["ids"] for part in _parts(template.get("special_tokens")) if "ids" in part]
    places = [template.get("single") or [], template.get("pair") or []]
    return sum(len(each) for each in [*ids, *places] if isinstance(each, list))


def _is_sound(charsmap: Any) -> bool:
    """Return whether a map of SentencePiece's writes little for one character.

    It holds the size of a trie, the trie, and what is written, each ended by a zero byte.
    """
    if charsmap is None:
        return True
    try:
        content = base64.b64decode(charsmap, validate=True)
        (size,) = struct.unpack_from("<I", content)
    except (ValueError, TypeError, struct.error):
        return False
    written = content[4 + size :].split(b"\0")
    return max(map(len, written)) <= _LONGEST_MAPPED


def backtracks(pattern: str) -> bool:
    """Return whether a group is repeated without end that itself may take more or fewer characters.

    Oniguruma's syntax, as far as that needs: escapes, classes in brackets, groups, quantifiers.
    """
    varies = [False]  # of each open group, whether it may take more or fewer characters
    closed = False  # whether what stands before is a group that does
    place = 0
    while place < len(pattern):
        sign = pattern[place]
        quantifier = _QUANTIFIER.match(pattern, place)
        if quantifier and pattern[place - 1 : place + 1] != "(?":
            if closed and _is_endless(quantifier[0]):
                return True
            varies[-1] |= not quantifier[0].strip("{}").isdigit()
            place = quantifier.end()
            continue
        if sign == "(":
            varies.append(False)
        elif sign == "|":
            varies[-1] = True
        closed = sign == ")" and len(varies) > 1 and varies.pop()
        varies[-1] |= closed
        place = _end(pattern, place) + 1
    return False


_QUANTIFIER = re.compile(r"([*+?]|\{\d*,?\d*\})[?+]?")
"""With what makes it lazy or possessive, which is taken for as bad as any."""


def _is_endless(quantifier: str) -> bool:
    """Return whether a quantifier has no upper end, or a large one."""
    numbers = re.fullmatch(r"\{(\d*)(,?)(\d*)\}[?+]?", quantifier)
    if numbers is None:
        return "*" in quantifier or "+" in quantifier
    most = numbers[3] or ("" if numbers[2] else numbers[1])
    return quantifier.endswith("+") or not most or int(most) > 100


def _end(pattern: str, place: int) -> int:
    """Return where the escape, class or sign ends that stands at the place."""
    if pattern[place] == "\\":
        return place + 1
    return _end_of_class(pattern, place) if pattern[place] == "[" else place


def _end_of_class(pattern: str, place: int) -> int:
    """Return the place of the bracket that closes the class which opens at the place."""
    depth, first = 0, place + 1
    while place < len(pattern):
        sign = pattern[place]
        if sign == "\\":
            place += 1
        elif sign == "[":
            depth += 1
            first = place + 1 + (pattern[place + 1 : place + 2] == "^")
        elif sign == "]" and place > first:  # the first of a class stands for itself
            depth -= 1
            if depth == 0:
                return place
        place += 1
    return place
