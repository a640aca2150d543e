"""Stage baseline: TF-IDF and logistic regression, which a fine-tuned model must be seen beside.

It is fitted once and exported as plain arrays. What is evaluated, and may be released, is the export.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import TrainingError
from configs.schema import PipelineConfig
from tasks.linear import Linear, hash_of, terms_of
from tasks.manifests import CheckpointManifest, SplitManifest
from tasks.progress import report_progress
from tasks.steps import run_step
from tasks.words import words

_NEVER = -1e4
"""Logit of a label that no row was trained on: its probability comes to 0, scaled or not."""


def fit_baseline(config: PipelineConfig, split: SplitManifest) -> CheckpointManifest:
    """Return the baseline, fitted on the train split: `model/` as `tasks.linear` writes it.

    Raises:
        TrainingError: if the train split has no word in it, or rows of one label alone.
    """

    def produce(folder: Path) -> dict[str, Any]:
        return _fit(config, split, folder)

    return run_step(
        "baseline",
        CheckpointManifest,
        section={
            "class_weights": config.training.class_weights,
            "seed": config.training.seed,
            "stop_words": config.evaluation.baseline_stop_words,
            "labels": config.data.label_names,
        },
        parents={"split": split.digest},
        produce=produce,
    )


def _fit(config: PipelineConfig, split: SplitManifest, folder: Path) -> dict[str, Any]:
    labels, training = config.data.label_names, config.training
    train = pq.read_table(split.path("train.parquet"), columns=["text", "label"])
    numbers = {label: number for number, label in enumerate(labels)}
    report_progress("baseline", 0, None, "fitting TF-IDF and logistic regression")
    stop_words = stop_words_of(config.evaluation.baseline_stop_words)
    model = baseline_model(training.class_weights, training.seed, stop_words)
    started = time.perf_counter()
    try:
        model.fit(
            train["text"].to_pylist(), [numbers[label] for label in train["label"].to_pylist()]
        )
    except ValueError as error:
        raise TrainingError(
            f"the baseline cannot be fitted on the {train.num_rows} train rows ({error}); they need "
            "words, and rows of 2 labels"
        ) from None
    seconds = time.perf_counter() - started
    linear = exported(model, len(labels), stop_words)
    (folder / "model").mkdir()
    linear.write(folder / "model")
    return {
        "kind": "linear",
        "base_model": "none",
        "base_model_digest": "none",
        "parameters": linear.weights.size + linear.intercept.size,
        "device": "cpu",
        "precision": "fp64",
        "best_epoch": 1,
        "stopped_early": False,
        "seconds": seconds,
        "rows_per_second": train.num_rows / seconds,
        "epochs": (),
        "curve": (),
        "truncated_rows": 0,
    }


def baseline_model(class_weights: str, seed: int, stop_words: frozenset[str] = frozenset()) -> Any:
    """Return the unfitted baseline, a scikit-learn classifier of lists of texts.

    Word unigrams and bigrams with sublinear TF-IDF, then L2 logistic regression with C=10, the
    usual strong linear baseline for short texts (Wang and Manning 2012).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def analyse(text: str) -> list[str]:
        return terms_of([word for word in words(text.lower()) if word not in stop_words])

    return make_pipeline(
        TfidfVectorizer(analyzer=analyse, sublinear_tf=True),
        LogisticRegression(
            C=10.0,
            max_iter=1000,
            class_weight=None if class_weights == "none" else class_weights,
            random_state=seed,
        ),
    )


def exported(model: Any, n_labels: int, stop_words: frozenset[str] = frozenset()) -> Linear:
    """Return the fitted baseline as plain arrays, with a column for each of `n_labels` labels."""
    vectorizer, classifier = model[0], model[-1]
    terms = [hash_of(term) for term in vectorizer.get_feature_names_out()]
    left_out = sorted(hash_of(word) for word in stop_words)
    weights = np.zeros((len(terms), n_labels))
    intercept = np.full(n_labels, _NEVER)
    fitted = classifier.classes_
    if len(fitted) == 2:  # scikit-learn keeps the second label's logit alone, the first one's is 0
        intercept[fitted[0]], fitted = 0.0, fitted[1:]
    weights[:, fitted] = classifier.coef_.T
    intercept[fitted] = classifier.intercept_
    return Linear(
        np.array(terms, dtype=np.uint64),
        np.array(left_out, dtype=np.uint64),
        vectorizer.idf_,
        weights,
        intercept,
    )


def stop_words_of(language: str) -> frozenset[str]:
    """Return the words of a language, such as en or zh, that are met everywhere; of none, no word."""
    if language == "none":
        return frozenset()
    from stopwordsiso import stopwords

    return frozenset(stopwords(language))


baseline = task(name="baseline", task_run_name="baseline", cache_policy=NO_CACHE)(fit_baseline)
