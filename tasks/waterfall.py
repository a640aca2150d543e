"""What each step of the data took or changed, from the source to the split, in rows."""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.manifests import (
    DatasetManifest,
    DuplicateReport,
    LabelReport,
    SplitManifest,
    ValidationReport,
)

_CLEANING = {
    "unescape_html": "HTML entities turned into letters",
    "unicode": "brought to the Unicode normal form",
    "remove_control_characters": "control characters dropped",
    "collapse_whitespace": "white space collapsed",
    "chinese": "Chinese characters turned into the chosen form",
    "pinyin": "Chinese characters turned into pinyin",
}


@dataclass(frozen=True)
class DataStep:
    """One step of cleaning, validation or de-duplication: rows before and after, texts changed."""

    step: str
    before: int
    after: int
    changed: int
    told: str

    @property
    def taken(self) -> int:
        """Return how many rows the step took."""
        return self.before - self.after


def waterfall(
    dataset: DatasetManifest,
    validation: ValidationReport,
    duplicates: DuplicateReport | None = None,
    label_errors: LabelReport | None = None,
    split: SplitManifest | None = None,
) -> list[DataStep]:
    """Return the steps in their order; a step that was not come to is left out."""
    steps = list(_texts(dataset))
    rows = dataset.rows
    for step, taken, changed, told in _rows(validation, duplicates, label_errors, split):
        steps.append(DataStep(step, rows, rows - taken, changed, told))
        rows -= taken
    return steps


def _texts(dataset: DatasetManifest) -> Iterator[DataStep]:
    """Yield the steps that change texts and take no row."""
    rows = dataset.rows
    for name, changed in dataset.changed_by.items():
        yield DataStep(f"clean: {name}", rows, rows, changed, _CLEANING[name])
    for kind, values in sorted(dataset.masked.items()):
        yield DataStep(
            f"mask: {kind}", rows, rows, values, "values masked; a text may hold several"
        )


def _rows(
    validation: ValidationReport,
    duplicates: DuplicateReport | None,
    label_errors: LabelReport | None,
    split: SplitManifest | None,
) -> Iterator[tuple[str, int, int, str]]:
    """Yield name, rows taken, labels changed and a sentence of each step that may take rows."""
    yield "validate", validation.rows_quarantined, 0, "quarantined by an expectation"
    if duplicates is None:
        return
    found = duplicates
    yield "duplicates", found.duplicates, 0, "same text and label as an earlier row: removed"
    texts = f"texts that stand under two labels, {found.conflicting_texts:,} in all"
    yield "conflicts", found.conflicts, 0, f"{texts}: quarantined"
    if found.near_conflicts:
        yield "near conflicts", found.near_conflicts, 0, "near-copies under two labels: quarantined"
    if found.outvoted or found.relabelled:
        told = f"{texts}: given the label of the majority"
        yield "majority", found.outvoted, found.relabelled, told
    if found.sampled_out:
        yield "sample", found.sampled_out, 0, "left out by split.sample_rows"
    if label_errors is not None and label_errors.rows_judged:
        told = f"{label_errors.found:,} probably mislabelled, by a model of the other rows"
        yield "label errors", label_errors.quarantined, 0, told
    if split is not None and split.leaked:
        exact, near, group = (split.leaked[why] for why in ("exact", "near", "group"))
        told = (
            f"like the frozen test set: {exact:,} copies, {near:,} near-copies, {group:,} by group"
        )
        yield "test set", exact + near + group, 0, told
