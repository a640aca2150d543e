"""Rows whose label is probably wrong: listed with the label they rather have, or kept out."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tables import Row, config_of, deduplicated, rows_of, side_by_row

from configs.schema import LabelErrors, PipelineConfig
from tasks.auditing import SUSPECTS, find_label_errors
from tasks.splitting import split_rows

WORDS = {
    "ham": ["lunch", "train", "mother", "home", "later", "tomorrow"],
    "spam": ["prize", "win", "free", "cash", "claim", "urgent"],
}


def texts(count: int = 600) -> list[Row]:
    """Return rows whose words tell their label, every so manieth label being wrong."""
    draw = random.Random(2)
    pairs = []
    for number in range(count):
        label = ("ham", "spam")[number % 2]
        words = " ".join(draw.choice(WORDS[label]) for _ in range(6))
        given = label if number % 40 else "spam"
        pairs.append((f"{words} {draw.randrange(10**6):x}", given))
    return rows_of(pairs)


def config_with(**settings: object) -> PipelineConfig:
    return config_of({"near_jaccard": None}).model_copy(
        update={"label_errors": LabelErrors.model_validate(settings)}
    )


@pytest.mark.parametrize("shards", [1, 5])
def test_wrong_labels_are_listed_worst_first_by_row(homes: Path, shards: int) -> None:
    config = config_with(action="report")
    report = find_label_errors(
        config, *deduplicated(homes / "before", texts(), config, shards=shards)
    )
    table = pq.read_table(report.path("suspects.parquet"))
    assert table.schema == SUSPECTS
    wrong = {number + 1 for number in range(0, 600, 40)}
    found = set(table["row"].to_pylist())
    assert found <= wrong
    # Only rows more sure of another label than its rows are on average: half to nine in ten by seed.
    assert len(found) > 0.5 * len(wrong)
    assert set(table["label"].to_pylist()) == {"spam"}
    assert set(table["proposed"].to_pylist()) == {"ham"}
    scores = table["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)
    assert (report.rows, report.rows_judged, report.found) == (600, 600, len(found))
    assert (report.listed, report.quarantined) == (len(found), 0)


@pytest.mark.parametrize(
    ("action", "listed", "gone"),
    [("none", False, False), ("report", True, False), ("quarantine", True, True)],
)
def test_only_where_it_is_declared_do_suspects_leave_the_split(
    homes: Path, action: str, listed: bool, gone: bool
) -> None:
    config = config_with(action=action)
    dataset, found = deduplicated(homes / "before", texts(), config)
    report = find_label_errors(config, dataset, found)
    suspects = set(pq.read_table(report.path("suspects.parquet"))["row"].to_pylist())
    assert bool(suspects) is listed
    assert report.quarantined == (len(suspects) if gone else 0)
    sides = side_by_row(split_rows(config, dataset, found, report))
    assert set(range(1, 601)) - set(sides) == (suspects if gone else set())


def test_a_sample_by_content_is_judged_where_there_are_more_rows(homes: Path) -> None:
    config = config_with(action="report", max_rows=400)
    before, turned = texts(), [
        {**row, "row": number} for number, row in enumerate(reversed(texts()), start=1)
    ]  # fmt: skip
    judged = []
    for name, rows in (("before", before), ("turned", turned)):
        report = find_label_errors(config, *deduplicated(homes / name, rows, config))
        assert (report.rows, report.rows_judged) == (600, 400)
        listed = pq.read_table(report.path("suspects.parquet"))["row"].to_pylist()
        judged.append({rows[row - 1]["text"] for row in listed})
    assert judged[0] == judged[1]
    assert judged[0]
