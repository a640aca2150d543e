"""The baseline's words: by spaces, by a dictionary for Chinese, in pairs for Japanese."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import Evaluation
from tasks.baseline import baseline_predictions, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("free entry, win £5 now!", ["free", "entry", "win", "5", "now"]),
        ("это хорошая книга", ["это", "хорошая", "книга"]),
        (
            "meet me at 北京 station tomorrow ok",
            ["meet", "me", "at", "北京", "station", "tomorrow", "ok"],
        ),
        ("这个产品的质量非常好，喜欢！", ["这个", "产品", "的", "质量", "非常", "好", "喜欢"]),
        ("我爱python", ["我爱python"]),
        ("我用python编程和学习", ["我用", "python", "编程", "和", "学习"]),
        ("とても良い本", ["とて", "ても", "も良", "良い", "い本"]),
        ("PC を買う", ["PC", "を買", "買う"]),
        ("の", ["の"]),
        ("!? ...", []),
        ("", []),
    ],
)
def test_words_are_cut_as_the_script_needs(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text())
def test_every_word_stands_in_the_text(text: str) -> None:
    assert all(word and word in text for word in words(text))


def test_chinese_that_shares_words_but_no_run_is_told_apart() -> None:
    good, bad = (
        ["质量非常好", "这个很好用", "味道非常好吃"],
        ["质量非常差", "这个很难用", "味道非常难吃"],
    )
    given = baseline_predictions(
        [*good, *bad], [1, 1, 1, 0, 0, 0], ["服务很好", "服务很差"], "none", 0
    )
    assert given.tolist() == [1, 0]


def test_a_stop_word_is_no_feature() -> None:
    texts, labels = ["the lunch", "the lunch", "lunch", "lunch"], [1, 1, 0, 0]
    assert baseline_predictions(texts, labels, ["the lunch"], "none", 0).tolist() == [1]
    left = [
        baseline_predictions(texts, labels, [t], "none", 0, "en")[0] for t in ("the lunch", "lunch")
    ]
    assert left[0] == left[1]


@pytest.mark.parametrize("language", ["none", "en", "zh", "ja"])
def test_stop_words_are_named_by_language(language: str) -> None:
    assert Evaluation(baseline_stop_words=language).baseline_stop_words == language


@pytest.mark.parametrize("language", ["xx", "english", "EN", ""])
def test_a_language_without_stop_words_is_refused(language: str) -> None:
    with pytest.raises(ValueError, match=r"no stop words are known|should match pattern"):
        Evaluation(baseline_stop_words=language)
