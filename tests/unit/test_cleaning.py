"""Cleaning: each switch alone, all together, and that cleaning twice changes nothing."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import Cleaning
from tasks.cleaning import apply, clean, steps_of

ROOT = Path(__file__).resolve().parents[2]
OFF: dict[str, Any] = {
    "unicode": "none",
    "unescape_html": False,
    "remove_control_characters": False,
    "collapse_whitespace": False,
    "chinese": "none",
    "pinyin": False,
}
DEFAULT = Cleaning().model_dump()
ENTITIES = ["&amp;", "&lt;", "amp;", "lt;", "#38;", "&#x26;", "&nbsp;", "&#133;", "&#0;", "&eacute"]
ODD = [
    " ",
    "\t",
    "\r\n",
    "\x85",
    "\xa0",
    "\u200b",
    "\x00",
    "e",
    "\u0301",
    "\ufb01",
    "\u2126",
    "\uff21",
    "\u53f0\u7063",  # Taiwan, one character of each form
    "\u7687\u540e",  # empress, whose second character has two traditional forms
    "\u4e7e",
    "\u9ebc",
    "\U000323af",  # rare, without pinyin
    "\uf900",
]
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(ENTITIES + ODD), max_size=6).map("".join),
)
SWITCHES = st.fixed_dictionaries(
    {
        "unicode": st.sampled_from(["none", "NFC", "NFKC"]),
        "unescape_html": st.booleans(),
        "remove_control_characters": st.booleans(),
        "collapse_whitespace": st.booleans(),
        "chinese": st.sampled_from(["none", "simplified", "traditional"]),
        "pinyin": st.booleans(),
    }
)


@pytest.mark.parametrize(
    ("switch", "text", "cleaned"),
    [
        ({"unicode": "NFC"}, "e\u0301 \u2126 \ufb01", "\xe9 \u03a9 \ufb01"),
        ({"unicode": "NFKC"}, "e\u0301 \ufb01 \uff21\u2460", "\xe9 fi A1"),
        ({"unescape_html": True}, "a &amp; b &lt;c&gt; &#39;d&#39; &eacute;", "a & b <c> 'd' \xe9"),
        ({"unescape_html": True}, "a & b; &nosuch; &", "a & b; &nosuch; &"),
        ({"unescape_html": True}, "&amp;amp;lt;", "<"),
        ({"remove_control_characters": True}, "a\x00b\x07c\x1b[0m\x7f\x9fd", "abc[0md"),
        ({"remove_control_characters": True}, "a\tb\nc\r\nd", "a\tb\nc\r\nd"),
        ({"collapse_whitespace": True}, " \ta \n\n b\xa0\u3000c\r\n", "a b c"),
        ({"collapse_whitespace": True}, " \n ", ""),
        ({"chinese": "simplified"}, "這個產品很好，頭髮", "这个产品很好，头发"),
        ({"chinese": "simplified"}, "这个产品很好 ok", "这个产品很好 ok"),
        ({"chinese": "traditional"}, "这里的头发，皇后在后面", "這裏的頭髮，皇后在後面"),
        ({"chinese": "traditional"}, "plain words", "plain words"),
        ({"pinyin": True}, "你好，世界！", "ni hao，shi jie！"),
        ({"pinyin": True}, "我爱Python3的", "wo ai Python3 de"),
        ({"pinyin": True}, "買 票\U000323af", "mai piao \U000323af"),
        ({"pinyin": True}, "a\U000323afb", "a\U000323afb"),
        ({"pinyin": True}, "かな kana", "かな kana"),
        ({"pinyin": True, "chinese": "simplified"}, "銀行行長", "yin hang hang zhang"),
    ],
)
def test_each_switch_does_its_own_part(switch: dict[str, Any], text: str, cleaned: str) -> None:
    assert clean(text, {**OFF, **switch}) == cleaned


@given(st.text())
def test_with_every_switch_off_a_text_stays_as_it_is(text: str) -> None:
    assert clean(text, OFF) == text


def test_the_default_cleans_a_real_sms() -> None:
    text = "\x00Free entry!!  Text &lt;WIN&gt;\r\nto 80086 &amp;pound;5 cafe\u0301 "
    assert clean(text, DEFAULT) == "Free entry!! Text <WIN> to 80086 \xa35 caf\xe9"


@given(TEXTS, SWITCHES)
def test_cleaning_twice_is_cleaning_once(text: str, switches: dict[str, Any]) -> None:
    once = clean(text, switches)
    assert clean(once, switches) == once


@given(TEXTS)
def test_a_cleaned_text_holds_no_control_character_and_no_run_of_white_space(text: str) -> None:
    cleaned = clean(text, DEFAULT)
    assert re.search(r"[\x00-\x1f\x7f-\x9f]|\s\s|^\s|\s$", cleaned) is None


@pytest.mark.parametrize(
    ("nested", "cleaned"), [(0, "&"), (1, "&"), (7, "&"), (8, "&amp;"), (10, "&amp;amp;amp;")]
)
def test_entities_are_unfolded_up_to_eight_deep(nested: int, cleaned: str) -> None:
    assert clean("&" + "amp;" * (nested + 1), DEFAULT) == cleaned


def test_the_service_cleans_by_the_same_file() -> None:
    stage, service = ROOT / "tasks" / "cleaning.py", ROOT / "bentos/text_classifier/cleaning.py"
    assert service.resolve() == stage.resolve()


def test_each_switch_that_changes_a_text_is_counted_once() -> None:
    changed: Counter[str] = Counter()
    steps = steps_of(DEFAULT)
    for text in ("plain", "&amp;amp;lt;", " a  b ", "a\x00 &gt;", "e\u0301"):
        apply(steps, text, changed)
    assert changed == {
        "unescape_html": 2, "collapse_whitespace": 1, "remove_control_characters": 1, "unicode": 1,
    }  # fmt: skip
    assert [name for name, _ in steps] == [
        "unescape_html", "unicode", "remove_control_characters", "collapse_whitespace",
    ]  # fmt: skip
    assert steps_of(OFF) == []
