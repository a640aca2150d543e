"""Probable label errors: what is found, what is left alone, and that nothing depends on order."""

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import LabelErrors
from tasks.label_errors import LabelAudit, assign_folds, audit_labels, out_of_fold, suspects

WORDS = (
    "lunch home later friend meeting train dinner tonight",
    "win prize claim cash urgent offer free winner",
    "goal match striker league keeper penalty coach cup",
)


def sentences(rows: int, n_labels: int = 2) -> tuple[list[str], NDArray[np.int64]]:
    """Return distinct texts of five words of their label, and their labels, in turn."""
    draw = np.random.default_rng(7)
    labels = np.arange(rows) % n_labels
    texts = [
        " ".join([*draw.choice(WORDS[label].split(), 5), f"n{row}"])
        for row, label in enumerate(labels)
    ]
    return texts, labels


@pytest.mark.parametrize("n_labels", [2, 3])
def test_flipped_labels_are_found_and_clean_rows_left_alone(n_labels: int) -> None:
    texts, labels = sentences(400, n_labels)
    flipped = np.random.default_rng(1).choice(400, 40, replace=False)
    given = labels.copy()
    given[flipped] = (given[flipped] + 1) % n_labels
    audit = audit_labels(texts, given.tolist(), n_labels, LabelErrors(max_fraction=1.0), seed=0)
    found = {suspect.index for suspect in audit.suspects}
    assert len(found & set(flipped.tolist())) >= 36
    assert len(found - set(flipped.tolist())) <= 4
    right = [s for s in audit.suspects if s.proposed == labels[s.index] and s.given != s.proposed]
    assert len(right) >= 36


def test_clean_rows_make_no_suspects() -> None:
    texts, labels = sentences(300)
    assert audit_labels(texts, labels.tolist(), 2, LabelErrors(), seed=0).found == 0


def test_the_worst_come_first_and_scores_are_margins() -> None:
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 4 + [[0.02, 0.98], [0.1, 0.9]])
    labels = np.array([0] * 4 + [1] * 4 + [0, 0])
    found = suspects(probabilities, labels)
    assert [(one.index, one.given, one.proposed) for one in found] == [(8, 0, 1), (9, 0, 1)]
    assert [one.score for one in found] == pytest.approx([0.96, 0.8])


def test_a_label_the_model_doubts_in_general_needs_less_to_be_proposed() -> None:
    # Rows of label 1 get 0.6 for it on average; 0.62 is much for label 1 and would be little for 0.
    probabilities = np.array([[0.99, 0.01]] * 5 + [[0.4, 0.6]] * 5 + [[0.38, 0.62], [0.62, 0.38]])
    labels = np.array([0] * 5 + [1] * 5 + [0, 1])
    assert [one.index for one in suspects(probabilities, labels)] == [10]


def test_a_label_no_other_fold_holds_is_not_judged() -> None:
    texts, labels = sentences(60)
    lone = np.append(labels, 2)
    probabilities = out_of_fold([*texts, "win prize claim cash"], lone, 3, folds=5, seed=0)
    assert np.isnan(probabilities[-1, 2])
    assert suspects(probabilities, lone) == ()


def test_a_label_with_fewer_rows_than_folds_is_spread_over_them() -> None:
    texts, labels = sentences(50)
    labels = np.where(np.arange(50) < 3, 2, labels)
    fold_of = assign_folds(texts, labels, 5, seed=0)
    assert len(set(fold_of[:3])) == 3
    assert set(np.bincount(fold_of)) == {10}
    assert not np.isnan(out_of_fold(texts, labels, 3, 5, seed=0)).any()


@pytest.mark.parametrize(
    "texts",
    [["!", "?", "...", "-"] * 3, [f"word{row}" for row in range(12)]],
    ids=["no words at all", "no word twice"],
)
def test_texts_that_share_no_word_make_no_suspects(texts: list[str]) -> None:
    audit = audit_labels(texts, [0, 1] * 6, 2, LabelErrors(), seed=0)
    assert (audit.found, audit.suspects) == (0, ())


def test_copies_of_a_text_are_in_one_fold() -> None:
    texts, labels = sentences(90)
    fold_of = assign_folds(texts * 3, np.tile(labels, 3), 5, seed=0)
    assert (fold_of.reshape(3, 90) == fold_of[:90]).all()


def test_the_order_of_the_rows_changes_nothing() -> None:
    texts, labels = sentences(200)
    labels[:20] = 1 - labels[:20]
    order = np.random.default_rng(3).permutation(200)
    settings = LabelErrors(max_fraction=1.0, max_rows=150)

    def found(rows: NDArray[np.int64]) -> dict[str, float]:
        audit = audit_labels([texts[row] for row in rows], labels[rows].tolist(), 2, settings, 0)
        return {texts[rows[one.index]]: round(one.score, 3) for one in audit.suspects}

    assert found(np.arange(200)) == pytest.approx(found(order), abs=2e-3)
    assert len(found(order)) > 3


def test_more_rows_than_allowed_are_sampled_and_the_audit_says_so() -> None:
    texts, labels = sentences(200)
    audit = audit_labels(texts, labels.tolist(), 2, LabelErrors(max_rows=100), seed=0)
    assert (audit.rows, audit.rows_judged) == (200, 100)
    assert audit.sentence == "0 of 100 rows (a sample of 200 by content) probably mislabelled"


def test_no_more_than_the_largest_fraction_is_listed() -> None:
    texts, labels = sentences(400)
    labels[:40] = 1 - labels[:40]
    audit = audit_labels(texts, labels.tolist(), 2, LabelErrors(max_fraction=0.02), seed=0)
    assert audit.found > 30
    assert len(audit.suspects) == 8
    assert audit.sentence.endswith("of 400 rows probably mislabelled, the worst 8 listed")


def test_an_audit_survives_the_way_to_its_manifest_and_back() -> None:
    texts, labels = sentences(100)
    labels[:5] = 1 - labels[:5]
    audit = audit_labels(texts, labels.tolist(), 2, LabelErrors(), seed=0)
    assert audit.suspects
    assert LabelAudit.model_validate_json(audit.model_dump_json()) == audit
