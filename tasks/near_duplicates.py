"""Near-copies: candidates that share a MinHash band, then the true Jaccard index of each pair."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.progress import report_progress
from tasks.shingles import jaccard, shingles

Indices = NDArray[np.int64]
_MOST_PAIRS = 200_000  # whose texts are in memory at once
_REACH = 32


def candidates(keys: NDArray[np.uint64], rows: Indices) -> Indices:
    """Return pairs [n_pairs, 2] of `rows` that have the same key; `keys` [n_rows] is one band.

    Each row of a run of equal keys is paired with the run's first row and with the one before it,
    so that the pairs grow with the rows, not with their square.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    later = np.flatnonzero(same) + 1
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    first = starts[np.searchsorted(starts, later, side="right") - 1]
    ordered_rows = rows[order]
    pairs = np.concatenate(
        [
            np.stack([ordered_rows[first], ordered_rows[later]], axis=1),
            np.stack([ordered_rows[later - 1], ordered_rows[later]], axis=1),
        ]
    )
    return distinct(pairs)


def further_candidates(keys: NDArray[np.uint64], rows: Indices, cluster: Indices) -> Indices:
    """Return the pairs that `candidates` left out, as far as `cluster` [n_rows] tells them apart.

    A run that holds two kinds of texts by turns hides the copies of each kind behind the other, so
    a row is compared with 32 before it; a longer run is all but always one text made a thousand
    times, whose rows are in one cluster already.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = [np.empty((0, 2), dtype=np.int64)]
    for step in range(2, min(_REACH, len(rows) - 1) + 1):
        later = np.flatnonzero(ordered[step:] == ordered[:-step]) + step
        if not len(later):
            break
        one, other = order[later - step], order[later]
        apart = cluster[one] != cluster[other]
        found.append(np.stack([rows[one[apart]], rows[other[apart]]], axis=1))
    return distinct(np.concatenate(found))


def candidates_across(known: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Indices:
    """Return pairs [n_pairs, 2] of a known row and another that have the same key in one band.

    Rows of `keys` [n_rows] are numbered on from those of `known` [n_known]. Each is paired with
    the first 32 known rows of its key.
    """
    order = np.argsort(known, kind="stable")
    start = np.searchsorted(known[order], keys, side="left")
    count = np.minimum(np.searchsorted(known[order], keys, side="right") - start, _REACH)
    row = np.repeat(np.arange(len(keys)), count)
    step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([order[start[row] + step], row + len(known)], axis=1)


def likely(pairs: Indices, marks: NDArray[np.uint8], least: float) -> Indices:
    """Return the pairs [n_pairs, 2] of which as many marks agree as of near-copies.

    Texts made of the same phrases share bands by chance, in pairs that grow with the square of the
    rows. Of the marks [n_rows, n_marks] of two texts a share as large as their Jaccard index agrees,
    give or take a binomial's spread: four of it below `least` hides one near-copy in 10,000 or fewer.
    """
    n_marks = marks.shape[1]
    enough = n_marks * least - 4 * np.sqrt(n_marks * least * (1 - least))
    parts = (pairs[at : at + _MOST_PAIRS] for at in range(0, len(pairs), _MOST_PAIRS))
    found = [part[(marks[part[:, 0]] == marks[part[:, 1]]).sum(axis=1) >= enough] for part in parts]
    return np.concatenate([pairs[:0], *found])


def distinct(pairs: Indices) -> Indices:
    """Return each pair once, the smaller row first, sorted."""
    if not len(pairs):
        return pairs.reshape(0, 2)
    ordered: Indices = np.unique(np.sort(pairs, axis=1), axis=0)
    return ordered


def near_copies(
    pairs: Sequence[Indices],
    texts_of: Callable[[Indices], Sequence[str]],
    least: float,
    stage: str = "deduplicate",
) -> tuple[Indices, NDArray[np.float64]]:
    """Return those of the candidate pairs whose texts have a Jaccard index of at least `least`.

    The pairs [n_pairs, 2] are those of each band; `texts_of` returns the texts of ascending rows.
    The index [n_near] of each pair is returned beside them.
    """
    candidate_pairs = distinct(np.concatenate(pairs))
    near, index = [candidate_pairs[:0]], [np.empty(0)]
    for start in range(0, len(candidate_pairs), _MOST_PAIRS):
        part = candidate_pairs[start : start + _MOST_PAIRS]
        rows, place = np.unique(part, return_inverse=True)
        texts = texts_of(rows)
        found = np.array(list(_indices(texts, place.reshape(-1, 2).tolist())))
        near.append(part[found >= least])
        index.append(found[found >= least])
        compared = min(start + _MOST_PAIRS, len(candidate_pairs))
        report_progress(stage, compared, len(candidate_pairs), "pairs of texts compared")
    return np.concatenate(near), np.concatenate(index)


def _indices(texts: Sequence[str], pairs: list[list[int]]) -> Iterator[float]:
    # The shingles of a text take a hundred times its memory; sorted pairs share their first text.
    before, first = -1, set[str]()
    for one, other in pairs:
        if one != before:
            before, first = one, shingles(texts[one])
        yield jaccard(first, shingles(texts[other]))


def clusters(rows: int, edges: Iterable[Indices]) -> NDArray[np.int64]:
    """Return for each of `rows` rows the first row that edges [n, 2] lead to, directly or not."""
    joined = np.concatenate([np.empty((0, 2), dtype=np.int64), *edges])
    nodes, ends = np.unique(joined, return_inverse=True)  # most rows are tied to no other
    one, other = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(len(nodes),) * 2)
    count, component = connected_components(graph, directed=False)
    first = np.full(count, rows)
    np.minimum.at(first, component, nodes)
    answer: NDArray[np.int64] = np.arange(rows)
    answer[nodes] = first[component]
    return answer
