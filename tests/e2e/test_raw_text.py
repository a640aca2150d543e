"""Raw texts stay in the rows' own files: a whole line tells none of them, nor one that fails."""

import csv
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from canaries import CANARIES, TEXTS, canaries_in, canaries_under
from e2e_support import EKIBEN, Homes, ReleasedHomes, line_environment

from configs.loading import load_config
from tasks.reading import read_rows
from tasks.sources import fetch

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
HOLD_ROWS = {
    "rows.parquet", "quarantine.parquet", "train.parquet", "validation.parquet", "test.parquet",
}  # fmt: skip
CONFIG = {
    "name": "canaries",
    "data": {"uri": "rows.csv", "labels": ["ham", "spam"]},
    "training": {"base_model": "absent"},
    "gate": {"accuracy": {"min": 0.5}},
}  # fmt: skip


def write_rows(folder: Path) -> None:
    """Write real rows, and canaries as quarantined rows, copies, contradictions and near-copies."""
    data = load_config(SMOKE).data
    rows = [(row.text, row.label) for row in read_rows(fetch(data.uri).path, data)][:400]
    rows += [(text, "canary") for text in TEXTS[:5]]
    rows += [(text, "ham") for text in TEXTS[5:10] for _ in range(2)]
    rows += [(text, label) for text in TEXTS[10:15] for label in ("ham", "spam")]
    rows += [(f"{text} {'and so on ' * 12}{end}", "spam") for text in TEXTS[15:] for end in "ab"]
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])


def test_no_canary_leaves_the_files_of_rows_when_a_run_fails(sources: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    write_rows(folder)
    config = folder / "canaries.yaml"
    config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    homes = Homes.under(tmp_path / "homes", sources)
    ended = subprocess.run(
        [EKIBEN, "run", str(config)], env=line_environment(homes), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "absent: does not exist" in ended.stderr
    assert canaries_in(ended.stdout + ended.stderr) == set()
    assert (homes.prefect / "prefect.db").is_file()
    found = canaries_under(tmp_path, without=[folder, homes.sources])
    assert {file.name for file in found} <= HOLD_ROWS
    assert {file.parts[-3] for file in found} == {"ingest", "validate", "split"}
    assert set.union(*found.values()) == set(CANARIES)  # what was looked for was there


def test_no_text_of_a_released_line_leaves_the_files_of_rows(released: ReleasedHomes) -> None:
    (rows,) = released.ekiben.glob("steps/split/*/test.parquet")
    texts = {text for text in pq.read_table(rows)["text"].to_pylist() if _as_it_is(text)}
    assert len(texts) > 40
    assert canaries_in(released.printed, texts) == set()
    for home in (released.ekiben, released.bentoml, released.prefect):
        found = canaries_under(home, without=[released.sources], sought=texts)
        assert {file.name for file in found} <= HOLD_ROWS
    assert set(canaries_under(rows.parent, sought=texts)[rows]) == texts


def _as_it_is(text: str) -> bool:
    """Return whether a text is long, and has nothing that JSON or HTML would write otherwise."""
    return len(text) > 30 and text.isascii() and not set(text) & set("\"'&<>\\")
