"""Clean one text as declared, the same way in training and in the service.

Standard library alone: the Bento carries this file, so that a text is cleaned there by the same
code as the rows the model was trained on.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal, cast

# C0 and C1 controls and DEL, without tab, line feed and carriage return.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MOST_PASSES = 8


def clean(text: str, switches: Mapping[str, Any]) -> str:
    """Return the text with the switches of `data.cleaning` applied until nothing more changes.

    Repeating makes cleaning idempotent: `&amp;lt;` becomes `<` at once, so that a text that was
    cleaned before (a row replayed from the test split) passes through unchanged. A text that still
    changes after eight passes, which takes eight nested entities, is left as it is then.
    """
    for _ in range(_MOST_PASSES):
        cleaned = _clean_once(text, switches)
        if cleaned == text:
            break
        text = cleaned
    return text


def _clean_once(text: str, switches: Mapping[str, Any]) -> str:
    if switches["unescape_html"]:
        text = html.unescape(text)
    if switches["unicode"] != "none":
        form = cast("Literal['NFC', 'NFKC']", switches["unicode"])
        text = unicodedata.normalize(form, text)
    if switches["remove_control_characters"]:
        text = _CONTROL.sub("", text)
    if switches["collapse_whitespace"]:
        text = " ".join(text.split())
    return text
