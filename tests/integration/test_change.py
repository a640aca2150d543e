"""A change between revisions is told where there is one, and chance is no change."""

import re
from collections.abc import Callable
from functools import cache
from itertools import cycle, islice

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import Change
from tasks import profiles
from tasks.change import ChangeReport, Shift, compare_profiles
from tasks.profiles import NO_ROWS, Profile, profile_of

Rows = list[tuple[str, str]]
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
COMMON = 1 / np.arange(1, len(WORDS) + 1)
LIMITS = Change()


@pytest.fixture(autouse=True)
def _languages_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell a text's language once in all trials, since it stays the same."""
    monkeypatch.setattr(profiles, "language_of", LANGUAGES)


LANGUAGES = cache(profiles.language_of)


@cache
def population() -> tuple[tuple[str, str], ...]:
    """Return 6,000 texts in words as frequent as in a language, a fifth of them labelled spam."""
    draw = np.random.default_rng(5)
    lengths = np.maximum(3, draw.lognormal(2.2, 0.5, 6000)).astype(int)
    words = draw.choice(WORDS, lengths.sum(), p=COMMON / COMMON.sum())
    ends = np.cumsum(lengths)
    texts = [" ".join(words[end - n : end]) for end, n in zip(ends, lengths, strict=True)]
    return tuple(zip(texts, np.where(draw.random(6000) < 0.2, "spam", "ham").tolist(), strict=True))


def sample(size: int, draw: np.random.Generator) -> Rows:
    """Return rows drawn from the population, with replacement."""
    return [population()[at] for at in draw.integers(len(population()), size=size)]


def profile(rows: Rows) -> Profile:
    """Return the profile of rows that stand as pairs."""
    return profile_of([text for text, _ in rows], [label for _, label in rows])


def by_measure(report: ChangeReport) -> dict[str, Shift]:
    """Return the shifts of a report by what they measure."""
    return {shift.measure: shift for shift in report.shifts}


@pytest.mark.parametrize("size", [500, 5000])
def test_a_new_sample_of_the_same_data_raises_no_alarm_in_95_of_100_trials(size: int) -> None:
    quiet = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        report = compare_profiles(profile(sample(size, draw)), profile(sample(size, draw)), LIMITS)
        quiet += report.verdict == "ok"
    assert quiet >= 95


def test_chance_is_taken_off_where_samples_differ_in_size() -> None:
    draw = np.random.default_rng(0)
    report = compare_profiles(profile(sample(300, draw)), profile(sample(6000, draw)), LIMITS)
    assert report.verdict == "ok"
    assert all(shift.value is not None and shift.value < 0.08 for shift in report.shifts[:4])


def spam_more_often(rows: Rows) -> Rows:
    return [(text, "spam" if at % 14 == 0 else label) for at, (text, label) in enumerate(rows)]


def longer(rows: Rows) -> Rows:
    return [(f"{text} {text[: len(text) // 5]}", label) for text, label in rows]


def other_words(rows: Rows) -> Rows:
    return [
        (f"{text} nimbus quorum" if at % 5 == 0 else text, label)
        for at, (text, label) in enumerate(rows)
    ]


def chinese(rows: Rows) -> Rows:
    reviews = [f"这本书写得很好。我非常喜欢。第{number}章最精彩。" for number in range(500)]
    new = islice(cycle(reviews), len(rows) // 10)
    changed = [(text, label) for text, (_, label) in zip(new, rows, strict=False)]
    return changed + rows[len(changed) :]


@pytest.mark.parametrize(
    ("change", "measure", "said"),
    [
        (spam_more_often, "labels", r"label shares changed: (ham|spam) \d\d\.\d% -> "),
        (longer, "lengths", r"lengths changed: median about \d\d -> \d\d characters"),
        (other_words, "vocabulary", r"words used changed \(distance 0\.\d+, limit 0\.060\)"),
        (chinese, "languages", r"language shares changed: .*zh 0\.0% -> \d+\.\d%"),
    ],
)
def test_a_change_is_told_by_its_measure(
    change: Callable[[Rows], Rows], measure: str, said: str
) -> None:
    draw = np.random.default_rng(1)
    before, now = sample(5000, draw), change(sample(5000, draw))
    shift = by_measure(compare_profiles(profile(now), profile(before), LIMITS))[measure]
    assert shift.verdict == "warn"
    assert shift.value is not None and shift.value > max(shift.limit, shift.chance)
    assert re.match(said, shift.sentence), shift.sentence


def test_the_same_data_is_no_change_at_all() -> None:
    rows = profile(sample(1000, np.random.default_rng(2)))
    report = compare_profiles(rows, rows, LIMITS)
    assert (report.verdict, report.rows, report.rows_before) == ("ok", 1000, 1000)
    assert [shift.value for shift in report.shifts] == [0.0] * 5


@pytest.mark.parametrize(
    ("action", "verdict"), [("none", "ok"), ("warn", "warn"), ("fail", "fail")]
)
def test_the_action_says_what_a_passed_limit_does(action: str, verdict: str) -> None:
    a, b = profile([("one text", "ham")] * 500), profile([("one text", "spam")] * 500)
    report = compare_profiles(a, b, Change.model_validate({"action": action}))
    assert report.verdict == by_measure(report)["labels"].verdict == verdict
    assert by_measure(report)["labels"].value == pytest.approx(1.0, abs=0.01)


def test_a_limit_of_the_config_is_the_limit_that_counts() -> None:
    draw = np.random.default_rng(1)
    now, before = profile(spam_more_often(sample(5000, draw))), profile(sample(5000, draw))
    assert compare_profiles(now, before, LIMITS).verdict == "warn"
    assert compare_profiles(now, before, Change(labels=0.2)).verdict == "ok"


def numbers(texts: NDArray[np.int64]) -> Profile:
    """Return the profile of distinct texts, one a number."""
    return profile([(f"text {number}", "a") for number in texts.tolist()])


@pytest.mark.parametrize(
    ("now", "before", "share", "within"),
    [
        (np.arange(1000), np.arange(1000), 0.0, 0.0),
        (np.arange(250, 1250), np.arange(1000), 0.25, 0.0),
        (np.arange(1000, 2000), np.arange(1000), 1.0, 0.0),
        (np.arange(2000, 22_000), np.arange(20_000), 0.1, 0.02),
        (np.arange(20_000), np.arange(1000), 0.95, 0.02),
        (np.arange(4000, 6000), np.arange(5000), 0.5, 0.05),
    ],
)
def test_the_share_unseen_is_told_from_the_sketches(
    now: NDArray[np.int64], before: NDArray[np.int64], share: float, within: float
) -> None:
    report = compare_profiles(numbers(now), numbers(before), LIMITS)
    assert by_measure(report)["unseen"].value == pytest.approx(share, abs=within)


def test_unseen_texts_are_an_alarm_only_above_a_limit_below_one() -> None:
    now, before = numbers(np.arange(500, 1500)), numbers(np.arange(1000))
    assert by_measure(compare_profiles(now, before, LIMITS))["unseen"].verdict == "ok"
    strict = by_measure(compare_profiles(now, before, Change(unseen=0.4)))["unseen"]
    assert strict.verdict == "warn"
    assert strict.sentence == "50.0% of the texts unseen before (limit 40.0%)"


def test_what_profiles_cannot_tell_is_unknown_and_no_alarm() -> None:
    report = compare_profiles(profile([("a text", "ham")]), NO_ROWS, LIMITS)
    assert report.verdict == "ok"
    assert [shift.value for shift in report.shifts[:4]] == [None] * 4
    few_of_many = by_measure(
        compare_profiles(numbers(np.arange(5)), numbers(np.arange(30_000)), LIMITS)
    )
    assert few_of_many["unseen"].value is None


def test_a_comparison_comes_out_the_same_each_time_and_survives_its_manifest() -> None:
    draw = np.random.default_rng(3)
    now, before = profile(sample(400, draw)), profile(sample(400, draw))
    report = compare_profiles(now, before, LIMITS)
    assert compare_profiles(now, before, LIMITS) == report
    assert ChangeReport.model_validate_json(report.model_dump_json()) == report
