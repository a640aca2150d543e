"""The terminal: a table that fits on a screen."""

from flows.terminal import _told
from tasks.manifests import RuleVerdict, Verdict


def rules_of(names: str, count: int, verdict: Verdict = "pass") -> tuple[RuleVerdict, ...]:
    return tuple(
        RuleVerdict(metric=f"{names}{n}", limit=0.5, figure=None, verdict=verdict, reason="")
        for n in range(count)
    )


def test_few_rules_are_all_shown_in_their_order() -> None:
    rules = (*rules_of("accuracy @ length=", 19), *rules_of("recall.", 1, "reject"))
    assert _told(rules) == rules


def test_of_many_rules_those_that_a_slice_passes_are_left_to_the_report() -> None:
    own, low = rules_of("recall.", 2), rules_of("f1 @ word=", 3, "undecided")
    assert _told((*own, *rules_of("accuracy @ length=", 50), *low)) == (*own, *low)


def test_what_decides_is_shown_before_what_passes() -> None:
    low = rules_of("recall.", 15, "reject")
    shown = _told((*rules_of("precision.", 40), *low))
    assert (shown[:15], len(shown)) == (low, 20)
