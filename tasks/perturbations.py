"""Perturbations of a text that leave its label as it is, to see whether the prediction stays too.

Ribeiro et al. 2020 ("Beyond Accuracy: Behavioral Testing of NLP Models with CheckList") call these
invariance tests. What is drawn at random is drawn from the text itself, so that a row is perturbed
alike whatever its neighbours.
"""

import re
from collections.abc import Callable
from functools import cache
from random import Random

from configs.section import Perturbation
from tasks.entities import swap_entities

CHARACTERS_A_TYPO = 30
_MASKED = re.compile(r"(\[(?:EMAIL|PHONE|CARD|IBAN|NATIONAL_ID|IP|URL_SECRET)\])")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_HAN = re.compile("[\u4e00-\u9fff]")
# The first level, which holds the characters in common use, of the two Chinese character sets.
_COMMON = {"gb2312": (0xB0A1, 0xD7F9), "big5": (0xA440, 0xC67E)}
_SPACES: dict[str, Callable[[str], str]] = {
    "doubled": lambda text: text.replace(" ", "  "),
    "tabs": lambda text: text.replace(" ", "\t"),
    "full width": lambda text: text.replace(" ", "\u3000"),
    "missing": lambda text: re.sub(r"(?<=[,.;:!?]) ", "", text),
    "added": lambda text: re.sub(r"(?<=[\uff0c\u3002\uff01\uff1f\uff1b\uff1a\u3001])(?=\S)", " ", text),
    "between": lambda text: re.sub("(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])", " ", text, count=1),
}  # fmt: skip
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_NARROW = {wide: code for code, wide in _WIDE.items()} | {0x3002: ".", 0x3001: ",", 0x3000: " "}


def perturb(name: Perturbation, text: str, seed: int) -> str | None:
    """Return the text under one perturbation, or None where it has nothing to change.

    Placeholders of masked values stay as they are, since the service makes them itself.
    """
    draw = Random(f"{seed} {name} {text}")  # noqa: S311  (no secret)
    parts = _MASKED.split(text)
    parts[::2] = [_PERTURBATIONS[name](part, draw) for part in parts[::2]]
    changed = "".join(parts)
    return None if changed == text or not changed.strip() else changed


def _typos(text: str, draw: Random) -> str:
    """Return the text with one typo in each 30 characters begun that hold a letter."""
    starts = range(0, len(text), CHARACTERS_A_TYPO)
    return "".join(_typo(text[start : start + CHARACTERS_A_TYPO], draw) for start in starts)


def _typo(text: str, draw: Random) -> str:
    spots = [spot for spot, letter in enumerate(text) if letter.isalpha()]
    if not spots:
        return text
    spot = draw.choice(spots)
    letter, following = text[spot], text[spot + 1 : spot + 2]
    before, after = text[:spot], text[spot + 1 :]
    options = [before + other + after for other in _mistaken(letter)]
    options = [draw.choice(options)] if options else [before + 2 * letter + after]
    if not _HAN.match(letter):
        options.append(before + 2 * letter + after)
    if following.isalpha() and following != letter:
        options.append(before + following + letter + after[1:])
    if len(spots) > 1:
        options.append(before + after)
    return draw.choice(options)


def _mistaken(letter: str) -> str:
    """Return the letters that a letter is typed as: neighbours on a keyboard, or homophones."""
    if _HAN.match(letter):
        return _homophones(letter)
    for row in _KEYS:
        if (at := row.find(letter.lower())) >= 0:
            near = row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
            return near.upper() if letter.isupper() else near
    return ""


def _homophones(letter: str) -> str:
    """Return the common characters with the pinyin of one, without tones, in its character set."""
    from pypinyin import lazy_pinyin

    sets = [name for name in _COMMON if letter.encode(name, "ignore")]
    if not sets:
        return ""
    (syllable,) = lazy_pinyin(letter)
    return _by_pinyin(sets[0]).get(syllable, "").replace(letter, "")


@cache
def _by_pinyin(character_set: str) -> dict[str, str]:
    from pypinyin import lazy_pinyin

    first, last = _COMMON[character_set]
    codes = (code.to_bytes(2, "big") for code in range(first, last + 1))
    letters = [letter for code in codes if (letter := code.decode(character_set, "ignore"))]
    found: dict[str, str] = {}
    for letter in letters:
        if _HAN.fullmatch(letter):
            (syllable,) = lazy_pinyin(letter)
            found[syllable] = found.get(syllable, "") + letter
    return found


def _case(text: str, draw: Random) -> str:
    """Return the text in small letters, in capitals, or with a capital on every word."""
    title = re.sub(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", lambda word: word[0].capitalize(), text)
    return _one_of([text.lower(), text.upper(), title], text, draw)


def _white_space(text: str, draw: Random) -> str:
    """Return the text with its white space doubled, of another kind, lacking, or added."""
    return _one_of([change(text) for change in _SPACES.values()], text, draw)


def _full_width(text: str, draw: Random) -> str:
    """Return the text with ASCII in its full-width form, or full-width forms as ASCII."""
    return _one_of([text.translate(_WIDE), text.translate(_NARROW)], text, draw)


def _one_of(options: list[str], text: str, draw: Random) -> str:
    """Return one of the options that differ from the text, or the text if none does."""
    return draw.choice([option for option in options if option != text] or [text])


_PERTURBATIONS: dict[Perturbation, Callable[[str, Random], str]] = {
    "typos": _typos,
    "case": _case,
    "white_space": _white_space,
    "full_width": _full_width,
    "entities": swap_entities,
}
