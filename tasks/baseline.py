"""The baseline that a fine-tuned model must be seen beside: TF-IDF and logistic regression."""

import numpy as np
from numpy.typing import NDArray

_WORD = r"(?u)\b\w+\b"


def baseline_predictions(
    texts: list[str], labels: list[int], test_texts: list[str], class_weights: str, seed: int
) -> NDArray[np.int64]:
    """Return class ids [n_test_rows] of a baseline fitted on the same rows as the candidate.

    Word unigrams and bigrams with sublinear TF-IDF, then L2 logistic regression with C=10, the
    usual strong linear baseline for short texts (Wang and Manning 2012).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD),
        LogisticRegression(
            C=10.0,
            max_iter=1000,
            class_weight=None if class_weights == "none" else class_weights,
            random_state=seed,
        ),
    )
    model.fit(texts, labels)
    return np.asarray(model.predict(test_texts), dtype=np.int64)
