"""Clean one text as declared, the same way in training and in the service.

The Bento carries this file, so that a text is cleaned there by the same code as the rows the model
was trained on. The libraries that know Chinese are imported where a config asks for them.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal, cast

# C0 and C1 controls and DEL, without those that are white space: dropping one would join two words.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_HAN = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]+")
_MOST_PASSES = 8


Step = tuple[str, Callable[[str], str]]


def clean(text: str, switches: Mapping[str, Any]) -> str:
    """Return the text with the switches of `data.cleaning` applied until nothing more changes."""
    return apply(steps_of(switches), text)


def apply(steps: Sequence[Step], text: str, changed: Counter[str] | None = None) -> str:
    """Return the text after the steps, repeated until nothing more changes.

    Repeating makes cleaning idempotent: `&amp;lt;` becomes `<` at once, so that a text that was
    cleaned before (a row replayed from the test split) passes through unchanged. A text that still
    changes after eight passes, which takes eight nested entities, is left as it is then. Each step
    that changes the text is counted once in `changed`.
    """
    at_work = set()
    for _ in range(_MOST_PASSES):
        before = text
        for name, step in steps:
            after = step(text)
            if after != text:
                at_work.add(name)
                text = after
        if text == before:
            break
    if changed is not None and at_work:
        changed.update(at_work)
    return text


def steps_of(switches: Mapping[str, Any]) -> list[Step]:
    """Return the steps that are switched on, in their order, by the name of the switch."""
    steps: list[Step] = []
    if switches["unescape_html"]:
        steps.append(("unescape_html", html.unescape))
    if switches["unicode"] != "none":
        form = cast("Literal['NFC', 'NFKC']", switches["unicode"])
        steps.append(("unicode", partial(unicodedata.normalize, form)))
    if switches["remove_control_characters"]:
        steps.append(("remove_control_characters", partial(_CONTROL.sub, "")))
    if switches["collapse_whitespace"]:
        steps.append(("collapse_whitespace", lambda text: " ".join(text.split())))
    if switches["chinese"] != "none":
        steps.append(("chinese", partial(_converted, switches["chinese"])))
    if switches["pinyin"]:
        steps.append(("pinyin", partial(_HAN.sub, _pinyin)))
    return steps


def _converted(form: Literal["simplified", "traditional"], text: str) -> str:
    return text if text.isascii() else _converter(form)(text)


@cache
def _converter(form: Literal["simplified", "traditional"]) -> Callable[[str], str]:
    from opencc import OpenCC

    convert: Callable[[str], str] = OpenCC(
        {"simplified": "t2s", "traditional": "s2t"}[form]
    ).convert
    return convert


def _pinyin(run: re.Match[str]) -> str:
    """Return the syllables of a run of Chinese characters, apart from a word on either side."""
    from pypinyin import lazy_pinyin

    syllables = " ".join(lazy_pinyin(run[0]))
    if syllables.replace(" ", "") == run[0]:
        return run[0]  # characters that have no pinyin
    start, end = run.span()
    before = " " if run.string[start - 1 : start].isalnum() else ""
    after = " " if run.string[end : end + 1].isalnum() else ""
    return before + syllables + after
