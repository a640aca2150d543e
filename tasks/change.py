"""How far one revision of the data is from another, by their profiles and in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs.schema import Change
from tasks.manifests import Record
from tasks.profiles import Counts, Profile, length_of_bin

Alarm = Literal["ok", "warn", "fail"]

_DRAWS = 200
_WIDER = 1.3  # the draws' spread is too narrow, since words of one text go together (measured)
_SHOWN = 3
_FEWEST_TEXTS = 50


class Shift(Record):
    """One measure of change: its value, what chance alone reaches, its limit, and the verdict.

    `value` is None where the profiles cannot tell.
    """

    measure: str
    value: float | None
    chance: float
    limit: float
    verdict: Alarm
    sentence: str


class ChangeReport(Record):
    """How this revision of the data differs from the one before; one alarm makes the verdict."""

    verdict: Alarm
    rows: int
    rows_before: int
    shifts: tuple[Shift, ...]


@dataclass(frozen=True)
class _Table:
    """Counts of both revisions [n_categories] over the same categories."""

    names: Sequence[str]
    now: Counts
    before: Counts


def compare_profiles(now: Profile, before: Profile, limits: Change) -> ChangeReport:
    """Return how far the rows of `now` are from those of `before`, measure by measure.

    An alarm is a value above both its limit and what chance reaches.
    """
    labels = _by_name(now.label_counts, before.label_counts)
    languages = _by_name(Counter(now.languages), Counter(before.languages))
    lengths = _by_number(now.lengths, before.lengths)
    words = _by_number(now.words, before.words)
    measured = (
        _distance("labels", labels, limits, "label shares", _shares(labels)),
        _distance("lengths", lengths, limits, "lengths", _medians(lengths)),
        _distance("vocabulary", words, limits, "words used", ""),
        _distance("languages", languages, limits, "language shares", _shares(languages)),
        _unseen(now, before, limits),
    )
    alarms = [shift.verdict for shift in measured if shift.verdict != "ok"]
    return ChangeReport(
        verdict=alarms[0] if alarms else "ok",
        rows=now.rows,
        rows_before=before.rows,
        shifts=measured,
    )


def _distance(measure: str, table: _Table, limits: Change, what: str, details: str) -> Shift:
    """Return the Jensen-Shannon distance of the two columns, in base 2, with chance taken off.

    The distance (Lin 1991) is 0 for equal shares and 1 for nothing in common. Two samples of one
    population are apart too, the more so the smaller they are, by a chi-squared law (Grosse et al.
    2002, "Analysis of symbolic sequences using the Jensen-Shannon divergence"). That law fails for
    rare categories, so chance is drawn: the pooled counts are dealt out to two revisions of these
    sizes again and again (parametric bootstrap), with a fixed seed. The mean of the draws is taken
    off the divergence, and their largest, widened, says what chance reaches.
    """
    limit: float = getattr(limits, measure)
    if not (table.now.any() and table.before.any()):
        return _shift(measure, None, 0.0, limits, f"{what}: unknown, for want of texts")
    pooled = table.now + table.before
    share = table.now.sum() / pooled.sum()
    drawn = np.random.default_rng(0).binomial(pooled, share, size=(_DRAWS, len(pooled)))
    by_chance = _divergence(drawn, pooled - drawn)
    typical = by_chance.mean()
    beyond = _divergence(table.now, table.before) - typical
    reach = _WIDER * (by_chance.max() - typical)
    value, chance = np.sqrt(np.maximum([beyond, reach], 0.0)).tolist()
    state = "changed" if value > max(limit, chance) else "alike"
    told = f"{what} {state}{details} (distance {value:.3f}, limit {limit:.3f})"
    return _shift(measure, value, chance, limits, told)


def _divergence(now: Counts, before: Counts) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence in bits [...] of counts [..., n_categories]."""
    from scipy.special import entr

    shares = [
        counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1) for counts in (now, before)
    ]
    mixed, *own = (entr(p).sum(axis=-1) for p in ((shares[0] + shares[1]) / 2, *shares))
    bits: NDArray[np.float64] = (mixed - (own[0] + own[1]) / 2) / np.log(2)
    return bits


def _unseen(now: Profile, before: Profile, limits: Change) -> Shift:
    """Return the share of this revision's distinct texts that the one before does not have.

    Below the smaller of the two sketches' ends both hold every fingerprint there is, so that the
    texts of `now` down there are a random sample of all (Beyer et al. 2007, "On synopses for
    distinct-value estimation under multiset operations").
    """
    ends = [profile.smallest[-1] for profile in (now, before) if not profile.whole]
    known = now.smallest
    sampled = known[known <= min(ends)] if ends else known
    if len(sampled) < (_FEWEST_TEXTS if ends else 1):
        return _shift("unseen", None, 0.0, limits, "texts unseen before: unknown, sizes too unlike")
    value = float(np.isin(sampled, before.smallest, invert=True).mean())
    told = f"{value:.1%} of the texts unseen before (limit {limits.unseen:.1%})"
    return _shift("unseen", value, 0.0, limits, told)


def _shift(
    measure: str, value: float | None, chance: float, limits: Change, sentence: str
) -> Shift:
    """Return the measure with its verdict."""
    limit: float = getattr(limits, measure)
    beyond = value is not None and value > max(limit, chance)
    return Shift(
        measure=measure,
        value=value,
        chance=chance,
        limit=limit,
        verdict=limits.action if beyond and limits.action != "none" else "ok",
        sentence=sentence,
    )


def _by_name(now: Mapping[str, int], before: Mapping[str, int]) -> _Table:
    names = sorted({*now, *before})
    columns = (np.array([counts.get(n, 0) for n in names], np.int64) for counts in (now, before))
    return _Table(names, *columns)


def _by_number(now: Sequence[int], before: Sequence[int]) -> _Table:
    columns = np.array([now, before], dtype=np.int64)
    used = np.flatnonzero(columns.any(axis=0))
    return _Table([str(number) for number in used], *columns[:, used])


def _shares(table: _Table) -> str:
    """Return in words how the shares went that changed most."""
    now, before = (c / max(1, c.sum()) for c in (table.now, table.before))
    most = np.argsort(-np.abs(now - before), kind="stable")[:_SHOWN]
    told = (f"{table.names[at]} {before[at]:.1%} -> {now[at]:.1%}" for at in most)
    return f": {', '.join(told)}"


def _medians(table: _Table) -> str:
    """Return in words how the median length went, to within a bin of the histogram."""
    now, before = (_median(table.names, counts) for counts in (table.now, table.before))
    return f": median about {before} -> {now} characters"


def _median(bins: Sequence[str], counts: Counts) -> int:
    if not counts.any():
        return 0
    middle = np.searchsorted(counts.cumsum(), counts.sum() / 2)
    return round(length_of_bin(int(bins[middle]) + 0.5))
