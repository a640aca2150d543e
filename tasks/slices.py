"""Slices: parts of the test rows by length, language, column or pattern, each counted by itself."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from configs.errors import DataError, GateError
from configs.schema import PipelineConfig
from configs.slicing import Slicing
from tasks.manifests import EvaluationReport, SliceCounts, SplitManifest
from tasks.profiles import language_of

MOST_SLICES = 50
LONGEST_NAME = 100
NO_VALUE, OTHERS = "(none)", "(other)"
Ids = NDArray[np.int64]


def slices_of(
    config: PipelineConfig, test: pa.Table, predicted: Ids, actual: Ids
) -> tuple[SliceCounts, ...]:
    """Return the counts of every slice that `evaluation.slices` declares.

    `test` has the columns of the split, `predicted` and `actual` are class ids [n_rows]. A slice by
    length or pattern is there even if it has no rows: a rule on it then finds no evidence.
    """
    counted: list[SliceCounts] = []
    for slicing in config.evaluation.slices:
        values, names = _values(slicing, config, test)
        found = _count(values, names, actual, predicted, len(config.data.label_names))
        counted += [
            SliceCounts(by=slicing.title, value=name, cells=tuple(cells))
            for name, cells in zip(names, found, strict=True)
        ]
    return tuple(counted)


def require_few_slices(config: PipelineConfig, split: SplitManifest) -> None:
    """Refuse test rows that fall into too many slices, before a model is trained for nothing.

    Raises:
        DataError: if the rows fall into over 50 slices, or a slice's name is over 100 characters.
    """
    if not config.evaluation.slices:
        return
    test = pq.read_table(split.path("test.parquet"), columns=["text", "slices"])
    for slicing in config.evaluation.slices:
        _require_few(slicing, _values(slicing, config, test)[1])


def require_own_slices(
    config: PipelineConfig, split: SplitManifest, report: EvaluationReport
) -> None:
    """Count again what the evaluation counted by slice, from the test rows and the predictions.

    Raises:
        GateError: if the counts differ.
    """
    if not config.evaluation.slices and not report.slices:
        return
    test = pq.read_table(split.path("test.parquet"))
    said = pq.read_table(report.path("predictions.parquet"), columns=["predicted"])
    labels = pa.array(report.labels)
    actual, predicted = (
        pc.index_in(names, labels).to_numpy() for names in (test["label"], said["predicted"])
    )
    if slices_of(config, test, predicted, actual) != report.slices:
        raise GateError(
            f"{report.folder}: its predictions on the test rows are not what its slices count; "
            "evaluate anew"
        )


def _values(
    slicing: Slicing, config: PipelineConfig, test: pa.Table
) -> tuple[list[str], list[str]]:
    """Return the slice that every row is in [n_rows], and the slices' names in order."""
    match slicing.by:
        case "length":
            return _by_length(test["text"], slicing.edges)
        case "pattern":
            found = pc.match_substring_regex(test["text"], slicing.pattern)
            return [("no", "yes")[one] for one in found.to_pylist()], ["yes", "no"]
        case "language":
            return _pool([language_of(text) for text in test["text"].to_pylist()], slicing.min_rows)
        case "column":
            at = config.data.slice_columns.index(str(slicing.column))
            values = pc.list_element(test["slices"], at).to_pylist()
            stripped = [(value or "").strip() or NO_VALUE for value in values]
            return _pool(stripped, slicing.min_rows)


def _by_length(texts: pa.ChunkedArray, edges: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """Return the slices by length in characters; an edge is the first length of the next slice."""
    names = [f"{low}-{high - 1}" for low, high in pairwise((0, *edges))] + [f"{edges[-1]}+"]
    places = np.searchsorted(edges, pc.utf8_length(texts).to_numpy(), side="right")
    return [names[place] for place in places.tolist()], names


def _pool(values: list[str], min_rows: int) -> tuple[list[str], list[str]]:
    """Return the values, those with fewer rows as one, and their names, most rows first."""
    rows = Counter(values)
    pooled = [value if rows[value] >= min_rows else OTHERS for value in values]
    counts = Counter(pooled)
    return pooled, sorted(counts, key=lambda name: (name == OTHERS, -counts[name], name))


def _require_few(slicing: Slicing, names: list[str]) -> None:
    cure = "slice by another column, or raise min_rows so that rare values are one slice"
    if len(names) > MOST_SLICES:
        raise DataError(
            f"evaluation.slices: {slicing.title!r} divides the test rows into {len(names)} slices, "
            f"above {MOST_SLICES}; {cure}"
        )
    if (longest := max(map(len, names), default=0)) > LONGEST_NAME:
        raise DataError(
            f"evaluation.slices: {slicing.title!r} has a value of {longest} characters, above "
            f"{LONGEST_NAME}, where the name of a slice was expected; {cure}"
        )


def _count(
    values: list[str], names: list[str], actual: Ids, predicted: Ids, n_labels: int
) -> list[list[tuple[int, int, int]]]:
    """Return the cells of each slice, in the order of the names; the time is linear in the rows."""
    places = {name: place for place, name in enumerate(names)}
    of_rows = np.array([places[value] for value in values], dtype=np.int64)
    shape = (len(names), n_labels, n_labels)
    flat = np.ravel_multi_index((of_rows, actual, predicted), shape)
    cells, rows = np.unique(flat, return_counts=True)
    found: list[list[tuple[int, int, int]]] = [[] for _ in names]
    counted = np.stack([*np.unravel_index(cells, shape), rows], axis=1)
    for place, label, given, count in counted.tolist():
        found[place].append((label, given, count))
    return found
