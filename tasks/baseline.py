"""The baseline that a fine-tuned model must be seen beside: TF-IDF and logistic regression."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.scripts import HAN, letters

_WORD = re.compile(r"\w+")
_HAN = re.compile(f"[\u3007{letters(HAN)}]")
_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")  # without its marks


def baseline_model(class_weights: str, seed: int, stop_words: str = "none") -> Any:
    """Return the unfitted baseline, a scikit-learn classifier of lists of texts.

    Word unigrams and bigrams with sublinear TF-IDF, then L2 logistic regression with C=10, the
    usual strong linear baseline for short texts (Wang and Manning 2012). Words of the language
    `stop_words`, such as en or zh, that are met everywhere are left out unless it is none.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    left_out = _stop_words(stop_words)
    return make_pipeline(
        TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            token_pattern=None,
            tokenizer=lambda text: [word for word in words(text) if word not in left_out],
        ),
        LogisticRegression(
            C=10.0,
            max_iter=1000,
            class_weight=None if class_weights == "none" else class_weights,
            random_state=seed,
        ),
    )


def baseline_predictions(
    texts: list[str],
    labels: list[int],
    test_texts: list[str],
    class_weights: str,
    seed: int,
    stop_words: str = "none",
) -> NDArray[np.int64]:
    """Return class ids [n_test_rows] of a baseline fitted on the same rows as the candidate."""
    model = baseline_model(class_weights, seed, stop_words)
    model.fit(texts, labels)
    return np.asarray(model.predict(test_texts), dtype=np.int64)


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


def _stop_words(language: str) -> frozenset[str]:
    if language == "none":
        return frozenset()
    from stopwordsiso import stopwords

    return frozenset(stopwords(language))
