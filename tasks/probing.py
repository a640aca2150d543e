"""Stage probe: perturb test rows, run the user's own cases, and count the labels that change."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import PipelineConfig
from configs.section import Perturbation
from tasks.calibration import probabilities_of, unscaled
from tasks.cases import Cases, served
from tasks.fingerprints import fingerprints
from tasks.manifests import (
    CheckpointManifest,
    EvaluationReport,
    FlipCount,
    ProbeReport,
    SplitManifest,
    WrongCase,
)
from tasks.perturbations import perturb
from tasks.progress import report_progress
from tasks.scoring import score
from tasks.steps import require_whole, run_step

FLIPS = pa.schema([("perturbation", pa.string()), ("row", pa.int64())])
_EXAMPLES = 10


@dataclass(frozen=True)
class _Row:
    """A test row with its label in the data and the one that it was given."""

    row: int
    text: str
    label: str
    predicted: str


@dataclass(frozen=True)
class _Change:
    """A test row under one perturbation, its text cleaned as the service would."""

    name: Perturbation
    row: _Row
    text: str

    @property
    def is_undone(self) -> bool:
        """Return whether cleaning has made the text what it was."""
        return self.text == self.row.text


def probe_candidate(
    config: PipelineConfig,
    split: SplitManifest,
    checkpoint: CheckpointManifest,
    evaluation: EvaluationReport,
    cases: Cases | None = None,
) -> ProbeReport | None:
    """Return how often the candidate's label flips under each perturbation, and the wrong cases.

    A flip is another label than the evaluation's on the same row. None if nothing is declared.

    Raises:
        TrainingError: if the scoring worker fails, with the end of its log.
        StepError: if an artifact that it reads was changed since it was made.
    """
    if cases is None and not config.robustness.perturbations:
        return None
    require_whole(split, checkpoint, evaluation)

    def produce(folder: Path) -> dict[str, Any]:
        return _probe(config, split, checkpoint, evaluation, cases, folder)

    parents = {"split": split, "checkpoint": checkpoint, "evaluation": evaluation}
    return run_step(
        "probe",
        ProbeReport,
        section={
            "robustness": config.robustness.model_dump(mode="json", exclude={"cases"}),
            "cleaning": config.data.cleaning.model_dump(mode="json"),
            "privacy": config.data.privacy.model_dump(mode="json"),
            "max_length": config.training.max_length,
            "labels": config.data.labels,
            "cases": cases and cases.digest,
        },
        parents={name: parent.digest for name, parent in parents.items()},
        produce=produce,
    )


def _probe(
    config: PipelineConfig,
    split: SplitManifest,
    checkpoint: CheckpointManifest,
    evaluation: EvaluationReport,
    cases: Cases | None,
    folder: Path,
) -> dict[str, Any]:
    names = config.robustness.perturbations
    rows = _rows(config.robustness.max_rows, split, evaluation) if names else []
    changes = _changes(config, rows)
    tried = [change for change in changes if not change.is_undone]
    own = cases.cases if cases else ()
    texts = [change.text for change in tried] + [case.text for case in own]
    given = _labels_given(config, checkpoint, evaluation, texts, folder) if texts else []
    pairs = zip(tried, given, strict=False)
    flipped = [change for change, label in pairs if label != change.row.predicted]
    lines = [{"perturbation": change.name, "row": change.row.row} for change in flipped]
    pq.write_table(pa.Table.from_pylist(lines, FLIPS), folder / "flips.parquet")
    ends = zip(own, given[len(tried) :], strict=True)
    return {
        "rows": len(rows),
        "flips": {
            name: _count(
                [change for change in changes if change.name == name],
                [change for change in flipped if change.name == name],
                config.data.label_names,
            )
            for name in names
        },
        "cases": len(own),
        "cases_digest": cases and cases.digest,
        "wrong_cases": [
            WrongCase(row=case.row, name=case.name, label=case.label, given=label)
            for case, label in ends
            if label != case.label
        ],
    }


def _rows(most: int, split: SplitManifest, evaluation: EvaluationReport) -> list[_Row]:
    """Return the test rows whose texts have the lowest fingerprints, in their order."""
    test = pq.read_table(split.path("test.parquet"), columns=["row", "text", "label"])
    said = pq.read_table(evaluation.path("predictions.parquet"), columns=["predicted"])
    chosen = np.sort(np.argsort(fingerprints(test["text"]), kind="stable")[:most])
    table = test.append_column("predicted", said["predicted"]).take(pa.array(chosen))
    return [_Row(**line) for line in table.to_pylist()]


def _changes(config: PipelineConfig, rows: list[_Row]) -> list[_Change]:
    """Return each row under each perturbation that can change it."""
    changes = []
    names = config.robustness.perturbations
    for done, name in enumerate(names, start=1):
        for row in rows:
            text = perturb(name, row.text, config.robustness.seed)
            if text is not None:
                changes.append(_Change(name, row, served(text, config.data)))
        report_progress("perturb", done * len(rows), len(names) * len(rows), "texts perturbed")
    return changes


def _labels_given(
    config: PipelineConfig,
    checkpoint: CheckpointManifest,
    evaluation: EvaluationReport,
    texts: Sequence[str],
    folder: Path,
) -> list[str]:
    """Return the label that the calibrated candidate gives each text; the folder stays as is."""
    labels = config.data.label_names
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        asked = Path(scratch) / "texts.parquet"
        # The worker wants a label to each text, and makes no use of it.
        pq.write_table(pa.table({"text": texts, "label": [labels[0]] * len(texts)}), asked)
        logits = score(config, checkpoint, asked, Path(scratch), "perturbed texts scored")
    scaling = evaluation.scaling or unscaled(len(labels))
    return [labels[number] for number in probabilities_of(logits, scaling).argmax(axis=1)]


def _count(
    changes: Sequence[_Change], flipped: Sequence[_Change], labels: tuple[str, ...]
) -> FlipCount:
    """Return the counts of one perturbation."""
    of_label = Counter(change.row.label for change in changes)
    flips_of_label = Counter(change.row.label for change in flipped)
    return FlipCount(
        rows=len(changes),
        undone=sum(change.is_undone for change in changes),
        flips=len(flipped),
        by_label={label: (of_label[label], flips_of_label[label]) for label in labels},
        examples=tuple(change.row.row for change in flipped[:_EXAMPLES]),
    )


probe = task(name="probe", task_run_name="probe", cache_policy=NO_CACHE)(probe_candidate)
