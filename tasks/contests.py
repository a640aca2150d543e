"""Contests: what the candidate gains over another model on the same test rows, and how surely."""

from collections.abc import Iterable, Iterator

import numpy as np

from configs.errors import GateError
from configs.limits import BaselineRules, ChampionRules, FormRules
from tasks.gains import Gains, columns_of
from tasks.manifests import (
    ChallengeReport,
    Contest,
    EvaluationReport,
    Evidence,
    Verdict,
)
from tasks.questions import UNDEFINED, Question
from tasks.resampling import Counts, Ids

_MOST_ROWS = 2**32  # sums of so many, over two thousand million cells, stay within 63 bits


def contest_of(actual: Ids, given: Ids, other: Ids) -> Contest:
    """Return how often which labels were given, of class ids [n_rows] each."""
    cells, rows = np.unique(np.stack([actual, given, other]), axis=1, return_counts=True)
    return Contest(counts=tuple(map(tuple, np.vstack([cells, rows]).T.tolist())))


def confusions_of(contest: Contest, n_labels: int) -> tuple[Counts, Counts]:
    """Return the confusion matrices [n_labels, n_labels] of the candidate and of the other.

    Raises:
        GateError: if a label is not one of them, or a count cannot be one of rows: a negative one
            could hide in the sums, while it moves the gain.
    """
    for *named, count in contest.counts:
        if not all(0 <= label < n_labels for label in named) or not 0 < count <= _MOST_ROWS:
            raise GateError(
                f"the contest counts {count} rows of the labels {named}, expected labels from 0 to "
                f"{n_labels - 1} and 1 to {_MOST_ROWS:,} rows; run again"
            )
    actual, given, other, rows = columns_of(contest)
    found = []
    for named in (given, other):
        confusion = np.zeros((n_labels, n_labels), dtype=np.int64)
        np.add.at(confusion, (actual, named), rows)
        found.append(confusion)
    return found[0], found[1]


def over_baseline(rules: BaselineRules, evidence: Evidence) -> Iterator[Question]:
    """Yield what the gate asks of the gains over the baseline.

    Raises:
        GateError: if the contest is not about the rows of the confusion matrix.
    """
    if not rules.min_gain:
        return
    report = evidence.evaluation
    meaning: dict[Verdict, str] = {
        "reject": "the large model does not earn its cost",
        "undecided": "it is not shown that the large model earns its cost",
    }
    yield from _on_all_rows("baseline", report.against_baseline, rules.min_gain, report, meaning)


def over_original(rules: FormRules, evidence: Evidence) -> Iterator[Question]:
    """Yield what the gate asks of a form's gains over the model as it was trained.

    Raises:
        GateError: if the contest is not about the rows of the confusion matrix.
    """
    report = evidence.evaluation
    if report.original is None:
        return
    meaning: dict[Verdict, str] = {
        "reject": "the form is worse than the model as trained",
        "undecided": "it is not shown that the form is no worse than the model as trained",
    }
    yield from _on_all_rows("original", report.original.contest, rules.min_gain, report, meaning)


def _on_all_rows(
    other: str,
    contest: Contest,
    least: dict[str, float],
    report: EvaluationReport,
    meaning: dict[Verdict, str],
) -> Iterator[Question]:
    """Yield the questions of gains over a model that was given every test row."""
    own, _ = confusions_of(contest, len(report.labels))
    if own.tolist() != [list(row) for row in report.confusion]:
        raise GateError(
            f"the rows on which the {other} was compared are not those of the confusion matrix; "
            "evaluate anew"
        )
    gains = _gains(least, contest, report)
    for metric, limit in least.items():
        yield Question(
            f"{metric} over {other}", limit, gains.estimate(metric), missing=UNDEFINED,
            meaning=meaning,
        )  # fmt: skip


def over_champion(rules: ChampionRules, evidence: Evidence) -> Iterator[Question]:
    """Yield what the gate asks of the gains over the champion.

    Raises:
        GateError: if the challenge is of another evaluation, or counts rows that the confusion
            matrix does not.
    """
    report, challenge = evidence.evaluation, evidence.challenge
    if challenge is not None:
        _require_own(challenge, report)
    if not rules.min_gain:
        return
    contest, told = Contest(counts=()), "there was no comparison"
    without: Verdict = rules.unusable
    if challenge is not None:
        told, contest = challenge.told, challenge.contest
        without = rules.missing if challenge.status == "missing" else rules.unusable
    own, _ = confusions_of(contest, len(report.labels))
    if (own > np.array(report.confusion)).any():
        raise GateError(
            "the champion was compared on rows that the confusion matrix does not count; run again"
        )
    gains = _gains(rules.min_gain, contest, report)
    for metric, limit in rules.min_gain.items():
        estimate = gains.estimate(metric)
        if contest.counts:
            told, without = UNDEFINED, "undecided"
        yield Question(
            f"{metric} over champion", limit, estimate, missing=told, without=without,
            rows=sum(count for *_, count in contest.counts) if contest.counts else None,
        )  # fmt: skip


def _require_own(challenge: ChallengeReport, report: EvaluationReport) -> None:
    """Raise a GateError unless the challenge was made for this evaluation and its test split."""
    own = {"evaluation": report.digest, "split": report.parents.get("split")}
    for what, digest in own.items():
        if digest != challenge.parents.get(what):
            raise GateError(
                f"the challenge was made for the {what} {str(challenge.parents.get(what))[:16]}, and "
                f"the one judged is {str(digest)[:16]}; run again"
            )


def _gains(metrics: Iterable[str], contest: Contest, report: EvaluationReport) -> Gains:
    return Gains(contest, report.labels, metrics, report.bootstrap_samples, report.bootstrap_seed)
