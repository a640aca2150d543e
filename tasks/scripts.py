"""Which characters are Han or Kana: scripts that set no space between words."""

HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x33479))
"""Code points, first and last, of the CJK ideographs up to extension J (Unicode 17)."""
KANA = ((0x3040, 0x30FF),)
IDEOGRAPHS = (*KANA, *HAN)


def letters(ranges: tuple[tuple[int, int], ...]) -> str:
    """Return the ranges as they stand within the brackets of a regular expression."""
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)
