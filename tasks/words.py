"""The words of a text, by the needs of its script, and the code points of those without spaces."""

import re

HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x33479))
"""Code points, first and last, of the CJK ideographs up to extension J (Unicode 17)."""
KANA = ((0x3040, 0x30FF),)
IDEOGRAPHS = (*KANA, *HAN)


def letters(ranges: tuple[tuple[int, int], ...]) -> str:
    """Return the ranges as they stand within the brackets of a regular expression."""
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)


_WORD = re.compile(r"\w+")
_HAN = re.compile(f"[\u3007{letters(HAN)}]")
_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")  # without its marks


def words(text: str) -> list[str]:
    """Return the words of a text, also where none is set apart by a space.

    Chinese, where three letters in ten are Han characters, is segmented by a dictionary. Japanese,
    where one in ten of those is kana, is cut into pairs of characters that overlap.
    """
    runs = _WORD.findall(text)
    kana = len(_KANA.findall(text))
    ideographs = len(_HAN.findall(text)) + kana
    if not ideographs or 10 * ideographs < 3 * sum(map(len, runs)):
        return runs
    if 10 * kana >= ideographs:
        return [pair for run in runs for pair in _pairs(run)]
    import rjieba  # late: only Chinese needs its dictionary

    return [word for word in rjieba.cut(text) if _WORD.fullmatch(word)]


def _pairs(run: str) -> list[str]:
    """Return the overlapping pairs of a run of letters, or a word of another script whole."""
    if len(run) < 2 or not (_KANA.search(run) or _HAN.search(run)):
        return [run]
    return [run[start : start + 2] for start in range(len(run) - 1)]
