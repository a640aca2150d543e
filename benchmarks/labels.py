"""Flip labels of real texts and see which the search for label errors finds, beside its rivals.

`python -m benchmarks.labels [--quick | --held-out]`. Every ranking gets the same out-of-fold
probabilities. cleanlab (AGPL, no dependency of Ekiben) takes part where it is installed. The model
behind the probabilities was chosen on SMS, tweets and Reuters; the sets held out had no part in it.
"""

import json
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, surroundings
from benchmarks.texts import Labelled, newsgroups, reuters_r8, sample, shipped
from tasks.label_errors import out_of_fold, suspects

RATES = (0.05, 0.1, 0.2)
Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


def flipped(labels: Rows, n_labels: int, rate: float, seed: int) -> Rows:
    """Return the labels with a share of them, drawn by the seed, each turned into another one."""
    draw = np.random.default_rng(seed)
    rows = draw.choice(len(labels), round(rate * len(labels)), replace=False)
    given = labels.copy()
    given[rows] = (given[rows] + draw.integers(1, n_labels, len(rows))) % n_labels
    return given


def ekiben(probabilities: NDArray[np.float64], given: Rows) -> tuple[Rows, Scores]:
    """Return the rows that Ekiben lists, worst first, and the margin by which it ranks all."""
    found = suspects(probabilities, given)
    return np.array([one.index for one in found], dtype=np.int64), margins(probabilities, given)


def self_confidence(probabilities: NDArray[np.float64], given: Rows) -> tuple[Rows, Scores]:
    """Return the rows whose given label gets less than one half: the plain ranking."""
    own = probabilities[np.arange(len(given)), given]
    return np.argsort(own, kind="stable")[: int((own < 0.5).sum())], own


def cleanlab(probabilities: NDArray[np.float64], given: Rows) -> tuple[Rows, Scores]:
    """Return the rows that cleanlab lists with its defaults, worst first, and its margins."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    ranked = find_label_issues(given, probabilities, return_indices_ranked_by="normalized_margin")
    scores = get_label_quality_scores(given, probabilities, method="normalized_margin")
    return np.asarray(ranked, dtype=np.int64), scores


def margins(probabilities: NDArray[np.float64], given: Rows) -> Scores:
    """Return the probability of the given label less that of the best other one [n_rows]."""
    rows = np.arange(len(given))
    others = probabilities.copy()
    others[rows, given] = -np.inf
    margin: Scores = probabilities[rows, given] - others.max(axis=1)
    return margin


def rankings() -> dict[str, Any]:
    """Return the rankings that can run here, by name."""
    found: dict[str, Any] = {"ekiben": ekiben, "self-confidence": self_confidence}
    with suppress(PackageNotFoundError):
        found[f"cleanlab {version('cleanlab')}"] = cleanlab
    return found


def judge(listed: Rows, scores: Scores, wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how many flips the list holds, how many clean rows, and how pure the ranking's top is.

    `precision_at_flipped` is the share of flips among as many rows as were flipped: the list, and
    then, where it is shorter, the rows of lowest score.
    """
    flips = int(wrong.sum())
    order = np.argsort(scores, kind="stable")
    top = np.concatenate([listed, order[~np.isin(order, listed)]])[:flips]
    return {
        "listed": len(listed),
        "recall": round(float(wrong[listed].sum() / flips), 4),
        "false_alarms": round(float((~wrong[listed]).sum() / (~wrong).sum()), 4),
        "precision_at_flipped": round(float(wrong[top].sum() / flips), 4),
    }


def measure(texts: Labelled, seeds: range) -> list[dict[str, Any]]:
    """Return the figures of every ranking, rate and seed on one set."""
    names = sorted(set(texts.values()))
    labels = np.array([names.index(label) for label in texts.values()], dtype=np.int64)
    results = []
    for rate in RATES:
        for seed in seeds:
            given = flipped(labels, len(names), rate, seed)
            started = time.perf_counter()
            probabilities = out_of_fold(list(texts), given, len(names), folds=5, seed=seed)
            seconds = round(time.perf_counter() - started, 1)
            for name, ranking in rankings().items():
                listed, scores = ranking(probabilities, given)
                figures = judge(listed, scores, given != labels)
                at = {"rate": rate, "seed": seed, "rows": len(labels), "ranking": name}
                results.append({**at, **figures, "out_of_fold_seconds": seconds})
    return results


def main(arguments: list[str]) -> None:
    """Measure the sets, print a table of means, and write `benchmarks/results/labels*.json`."""
    quick, held_out = "--quick" in arguments, "--held-out" in arguments
    if quick:
        sets = {"sms_spam": sample(shipped("sms_spam"), 1000)}
    elif held_out:
        sets = {
            "zh_reviews": sample(shipped("zh_reviews"), 5000),
            "newsgroups": sample(newsgroups(), 3000),
        }
    else:
        sets = {
            "sms_spam": shipped("sms_spam"),
            "tweet_sentiment": sample(shipped("tweet_sentiment"), 10_000),
            "reuters_r8": reuters_r8(),
        }
    found = {name: measure(texts, range(1 if quick else 2)) for name, texts in sets.items()}
    command = " ".join(["python", "-m", "benchmarks.labels", *arguments])
    file = RESULTS / f"labels{'_quick' * quick or '_held_out' * held_out}.json"
    file.parent.mkdir(exist_ok=True)
    results = {**surroundings(), "command": command, "sets": found}
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(found)


def _print(found: dict[str, list[dict[str, Any]]]) -> None:
    figures = ("recall", "false_alarms", "precision_at_flipped")
    table = Table("set", "flipped", "ranking", *(f"{figure} (spread)" for figure in figures))
    for name, results in found.items():
        for rate in RATES:
            for ranking in rankings():
                runs = [r for r in results if (r["rate"], r["ranking"]) == (rate, ranking)]
                values = [[run[figure] for run in runs] for figure in figures]
                cells = [f"{np.mean(v):.3f} ({max(v) - min(v):.3f})" for v in values]
                table.add_row(name, f"{rate:.0%}", ranking, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
