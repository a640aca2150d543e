"""The probe's counts with a made-up model in the worker's place: what is asked, counted, stored."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import as_made

from configs.schema import PipelineConfig
from tasks import probing
from tasks.cases import Case, Cases
from tasks.manifests import CheckpointManifest, EvaluationReport, ProbeReport, SplitManifest

TEXTS = ["Win now", "lunch at home", "free", "see you", "2468"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the label spam to what has a capital letter, and return the texts that are asked."""
    texts: list[str] = []

    def give(
        config: PipelineConfig,
        checkpoint: CheckpointManifest,
        evaluation: EvaluationReport,
        some: Sequence[str],
        folder: Path,
    ) -> list[str]:
        texts.extend(some)
        return ["ham" if text == text.lower() else "spam" for text in some]

    monkeypatch.setattr(probing, "_labels_given", give)
    return texts


def probe_of(folder: Path, cases: Cases | None = None, **robustness: object) -> ProbeReport | None:
    """Return the probe of five test rows, of which the first alone was called spam."""
    config = PipelineConfig.model_validate(
        {
            "name": "tried",
            "data": {"uri": "rows.csv", "labels": ["ham", "spam"]},
            "gate": {"accuracy": {"min": 0.5}},
            "robustness": robustness,
        }
    )
    for part in ("split", "evaluation", "checkpoint"):
        (folder / part).mkdir(parents=True)
    predicted = ["spam", "ham", "ham", "ham", "ham"]
    labels = ["spam", "ham", "spam", "ham", "ham"]
    test = {"row": list(range(7, 12)), "text": TEXTS, "label": labels}
    pq.write_table(pa.table(test), folder / "split/test.parquet")
    pq.write_table(
        pa.table({"row": test["row"], "predicted": predicted}),
        folder / "evaluation/predictions.parquet",
    )
    split = SplitManifest(
        key="1", parents={}, folder=folder / "split", files={}, rows={}, label_counts={}
    )
    evaluation = EvaluationReport(
        key="2", parents={}, folder=folder / "evaluation", files={}, rows=5,
        labels=("ham", "spam"), figures={},
        baseline={}, confusion=(), bootstrap_samples=100, bootstrap_seed=0,
    )  # fmt: skip
    checkpoint = CheckpointManifest(
        key="3", parents={}, folder=folder / "checkpoint", files={},
        base_model="m", base_model_digest="m", parameters=1, device="cpu", precision="fp32",
        best_epoch=1, stopped_early=False,
        seconds=1.0, rows_per_second=1.0, truncated_rows=0, epochs=(), curve=(),
    )  # fmt: skip
    made = (as_made(split), as_made(checkpoint), as_made(evaluation))
    return probing.probe_candidate(config, *made, cases)


def test_flips_are_counted_against_the_evaluation_s_label_of_the_rows_changed(
    homes: Path, tmp_path: Path, asked: list[str]
) -> None:
    probe = probe_of(tmp_path / "made", perturbations=["case", "white_space"])
    assert probe is not None and probe.rows == 5
    case, space = probe.flips["case"], probe.flips["white_space"]
    assert (case.rows, case.undone) == (4, 0)  # digits have no case
    became_small = "win now" in asked
    assert case.flips == 3 + became_small
    assert case.by_label == {"ham": (2, 2), "spam": (2, 1 + became_small)}
    assert case.examples == ((7,) if became_small else ()) + (8, 9, 10)
    assert (space.rows, space.undone, space.flips) == (3, 3, 0)  # cleaning takes it all back
    assert len(asked) == 4
    lines = pq.read_table(probe.path("flips.parquet")).to_pylist()
    assert lines == [{"perturbation": "case", "row": row} for row in case.examples]


def test_cases_are_asked_after_the_rows_and_told_by_row_and_name(
    homes: Path, tmp_path: Path, asked: list[str]
) -> None:
    cases = Cases((Case(1, "A", "spam", "one"), Case(2, "b", "spam", "two")), "d" * 64)
    probe = probe_of(tmp_path / "made", cases, perturbations=["case"])
    assert probe is not None and asked[-2:] == ["A", "b"]
    assert (probe.cases, probe.cases_digest) == (2, "d" * 64)
    (wrong,) = probe.wrong_cases
    assert (wrong.row, wrong.name, wrong.label, wrong.given) == (2, "two", "spam", "ham")
    alone = probe_of(tmp_path / "again", cases)
    assert alone is not None and (alone.rows, alone.flips, alone.cases) == (0, {}, 2)


def test_nothing_is_asked_where_nothing_is_declared(
    homes: Path, tmp_path: Path, asked: list[str]
) -> None:
    assert probe_of(tmp_path / "made") is None
    assert asked == []
