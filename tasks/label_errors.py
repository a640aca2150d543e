"""Probable label errors: rows whose label the baseline, fitted on other rows, confidently denies.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 70): a label's threshold is the mean probability that the rows bearing it get
for it, so that a label the model is unsure of in general needs less to be proposed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import LabelErrors
from tasks.baseline import baseline_model
from tasks.fingerprints import fingerprints
from tasks.manifests import Record


class Suspect(Record):
    """A row whose label is probably wrong: its position, both class ids, and how sure that is.

    `score` is the probability of the proposed label less that of the given one, in (0, 1].
    """

    index: int
    given: int
    proposed: int
    score: float


class LabelAudit(Record):
    """The suspects, worst first, at most `max_fraction` of `rows_judged`; `found` counts all."""

    rows: int
    rows_judged: int
    found: int
    suspects: tuple[Suspect, ...]

    @property
    def sentence(self) -> str:
        """Return in words what was looked at and what was found."""
        sampled = f" (a sample of {self.rows:,} by content)" if self.rows_judged < self.rows else ""
        listed = f", the worst {len(self.suspects):,} listed" if self.suspects else ""
        return f"{self.found:,} of {self.rows_judged:,} rows{sampled} probably mislabelled{listed}"


def audit_labels(
    texts: Sequence[str], labels: Sequence[int], n_labels: int, settings: LabelErrors, seed: int
) -> LabelAudit:
    """Return the rows that are probably mislabelled; `index` is the position in `texts`.

    Above `settings.max_rows` only the rows of lowest content hash are judged: a sample that does
    not depend on the order of the rows, and changes little while the data grows.
    """
    chosen = np.arange(len(texts))
    if len(texts) > settings.max_rows:
        chosen = np.sort(np.argsort(fingerprints(texts), kind="stable")[: settings.max_rows])
    given = np.asarray(labels, dtype=np.int64)[chosen]
    judged = [texts[index] for index in chosen.tolist()]
    found = suspects(out_of_fold(judged, given, n_labels, settings.folds, seed), given)
    return LabelAudit(
        rows=len(texts),
        rows_judged=len(judged),
        found=len(found),
        suspects=tuple(
            suspect.model_copy(update={"index": int(chosen[suspect.index])})
            for suspect in found[: int(settings.max_fraction * len(judged))]
        ),
    )


def suspects(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Suspect, ...]:
    """Return the probable label errors, worst first, of out-of-fold `probabilities` [n_rows, n_labels].

    For each pair of a given and another label as many rows are suspect as `_estimated_errors` says
    ("prune by noise rate" in the paper): those where the other label beats the given one by most.
    NaN stands for a label that the model of that row had never seen, and makes no suspect.
    """
    known = np.nan_to_num(probabilities, nan=0.0)
    own = probabilities[np.arange(len(labels)), labels]
    suspect = np.zeros(len(labels), dtype=bool)
    errors = _estimated_errors(probabilities, labels, own)
    for given, other in np.argwhere(errors > 0):
        rows = np.flatnonzero(labels == given)
        margins = np.nan_to_num(known[rows, other] - own[rows], nan=-1.0)
        worst = np.argsort(-margins, kind="stable")[: errors[given, other]]
        suspect[rows[worst[margins[worst] > 0]]] = True
    known[np.arange(len(labels)), labels] = -1.0
    proposed = known.argmax(axis=1)
    found = [
        Suspect(
            index=int(row),
            given=int(labels[row]),
            proposed=int(proposed[row]),
            score=float(known[row, proposed[row]] - own[row]),
        )
        for row in np.flatnonzero(suspect)
    ]
    return tuple(sorted(found, key=lambda one: (-one.score, one.index)))


def _estimated_errors(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], own: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how many rows of a given label [n_labels] truly bear another one [n_labels].

    This is the paper's confident joint: a row counts for the most probable of the labels that reach
    their thresholds, and the counts are scaled to the number of rows of each given label.
    """
    n_labels = probabilities.shape[1]
    rows = np.bincount(labels, minlength=n_labels)
    judged = ~np.isnan(own)
    judged_rows = np.bincount(labels[judged], minlength=n_labels)
    sums = np.bincount(labels[judged], weights=own[judged], minlength=n_labels)
    thresholds = np.where(judged_rows > 0, sums / np.maximum(judged_rows, 1), np.nan)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    sure = confident.max(axis=1) >= 0
    joint = np.zeros((n_labels, n_labels))
    np.add.at(joint, (labels[sure], confident[sure].argmax(axis=1)), 1.0)
    joint *= (rows / np.maximum(joint.sum(axis=1), 1.0))[:, None]
    np.fill_diagonal(joint, 0.0)
    return np.rint(joint).astype(np.int64)


def out_of_fold(
    texts: Sequence[str], labels: NDArray[np.int64], n_labels: int, folds: int, seed: int
) -> NDArray[np.float64]:
    """Return for each text the probabilities [n_rows, n_labels] of a baseline not fitted on it.

    NaN stands for a label that no other fold holds, or texts that have no word in common.
    """
    fold_of = assign_folds(texts, labels, folds, seed)
    probabilities = np.full((len(texts), n_labels), np.nan)
    for fold in np.unique(fold_of):
        held = np.flatnonzero(fold_of == fold)
        others = np.flatnonzero(fold_of != fold)
        present = np.unique(labels[others])
        if len(present) > 1 and _fitted(model := _forgiving_model(seed), texts, labels, others):
            probabilities[np.ix_(held, present)] = model.predict_proba(
                [texts[row] for row in held.tolist()]
            )
    return probabilities


def _forgiving_model(seed: int) -> Any:
    """Return the baseline, held back from learning wrong labels by heart: C=3, no word of one text.

    Labels are not weighted, which would shift the probabilities away from the shares they stand for.
    """
    return baseline_model("none", seed).set_params(
        tfidfvectorizer__min_df=2, logisticregression__C=3.0
    )


def _fitted(
    model: Any, texts: Sequence[str], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> bool:
    """Fit the model on those rows; return whether they have any word in common to learn from."""
    try:
        model.fit([texts[row] for row in rows.tolist()], labels[rows])
    except ValueError as error:
        if "no terms remain" in str(error) or "empty vocabulary" in str(error):
            return False
        raise
    return True


def assign_folds(
    texts: Sequence[str], labels: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold [n_rows] of each text: every label spread evenly, copies of a text together.

    Copies apart would let a wrong label vouch for itself.
    """
    _, first, copies = np.unique(fingerprints(texts), return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    by_label = order[np.argsort(labels[first][order], kind="stable")]
    folds_of_distinct = np.empty(len(first), dtype=np.int64)
    folds_of_distinct[by_label] = np.arange(len(first)) % folds
    return folds_of_distinct[copies]
