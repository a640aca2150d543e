"""A training followed by the real trackers and by codecarbon, and what each of them keeps."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from e2e_support import Watch

from configs.errors import ConfigError, TrainingError
from configs.schema import PipelineConfig
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    SplitManifest,
    ValidationReport,
)
from tasks.reporting import Run, write_report
from tasks.tracking import require_packages, tracked

ROOT = Path(__file__).resolve().parents[2]
CANARY = "xylophone"
STAGE = """
import sys
from pathlib import Path
from tasks.quiet import switch_off_telemetry
switch_off_telemetry()
from configs.schema import PipelineConfig
from tasks.finetuning import fine_tune
from tasks.manifests import SplitManifest

split = SplitManifest.read(Path(sys.argv[1]))
for config in sys.argv[2:]:
    made = fine_tune(PipelineConfig.model_validate_json(config), split)
    print(made.model_dump_json())
"""
STEP = {
    "event": "step", "done": 1, "total": 2, "eta_seconds": 1.0, "step": 1, "loss": 0.7,
    "learning_rate": 1e-3, "tokens_per_second": 100.0, "memory_mb": 50.0,
}  # fmt: skip


def config_of(base: Path, **tracking: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "toy",
            "data": {"uri": "toy.csv", "labels": ["ham", "spam"]},
            "training": {
                "base_model": str(base), "max_length": 32, "learning_rate": 2e-3,
                "num_train_epochs": 2, "train_batch_size": 8, "device": "cpu",
            },
            "gate": {"accuracy": {"min": 0.5}},
            "tracking": tracking,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Followed:
    """A stage that ran twice, with and without tracking, in a folder of a user's with rows in it."""

    made: CheckpointManifest
    again: CheckpointManifest
    config: PipelineConfig
    split: SplitManifest
    home: Path
    where: Path
    watch: Watch
    printed: str

    @property
    def kept(self) -> Path:
        """Return the folder of all that trackers keep."""
        return self.home / "tracking"


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Followed:
    """Fine-tune with every tracker and codecarbon on rows with a word that nothing else has."""
    folder = tmp_path_factory.mktemp("followed")
    split, where = _split(folder / "split"), _where(folder / "where")
    (folder / "split.json").write_text(split.model_dump_json(), encoding="utf-8")
    (folder / "stage.py").write_text(STAGE, encoding="utf-8")
    watch = Watch.under(folder)
    path = os.pathsep.join([str(ROOT), watch.environment["PYTHONPATH"]])
    environment = {
        **os.environ,
        **watch.environment,
        "PYTHONPATH": path,
        "EKIBEN_HOME": str(folder / "home"),
        "PREFECT_HOME": str(folder / "prefect"),
        "WANDB_MODE": "offline",
    }
    trackers = ["tensorboard", "mlflow", "wandb"]
    config = config_of(tiny_model, report_to=trackers, energy=True, country_iso_code="DEU")
    configs = [config, config, config_of(tiny_model)]
    command = [sys.executable, str(folder / "stage.py"), str(folder / "split.json")]
    done = subprocess.run(
        [*command, *(each.model_dump_json() for each in configs)],
        env=environment, cwd=where, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    made, again, untracked = map(CheckpointManifest.model_validate_json, lines)
    assert again == made
    return Followed(
        made, untracked, config, split, folder / "home", where, watch, done.stdout + done.stderr
    )


def _split(folder: Path) -> SplitManifest:
    folder.mkdir()
    texts = [f"{word} {CANARY} {n}" for n in range(24) for word in ("lunch later", "win a prize")]
    table = pa.table({"row": range(48), "text": texts, "label": ["ham", "spam"] * 24})
    for side in ("train", "validation", "test"):
        pq.write_table(table, folder / f"{side}.parquet")
    counts = {side: {"ham": 24, "spam": 24} for side in ("train", "validation", "test")}
    return SplitManifest(
        key="0" * 64, parents={}, folder=folder, files={}, rows=dict.fromkeys(counts, 48),
        label_counts=counts,
    )  # fmt: skip


def _where(folder: Path) -> Path:
    """Return a repository with a changed file of rows, whose difference no tracker may send."""
    folder.mkdir()
    (folder / "rows.csv").write_text("text,label\n", encoding="utf-8")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for line in (["init", "-q"], ["add", "rows.csv"], ["commit", "-q", "-m", "rows"]):
        subprocess.run([*git, *line], cwd=folder, check=True)
    (folder / "rows.csv").write_text(f"text,label\n{CANARY},ham\n", encoding="utf-8")
    return folder


def test_tensorboard_holds_the_curve_under_the_trainers_names(followed: Followed) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = followed.kept.rglob("events.out.tfevents*")
    events = EventAccumulator(str(file))
    events.Reload()
    losses = [(point.step, point.value) for point in events.Scalars("train/loss")]
    curve = followed.made.curve
    assert [step for step, _ in losses] == [point.step for point in curve]
    assert [loss for _, loss in losses] == pytest.approx([point.loss for point in curve])
    rates = [point.value for point in events.Scalars("train/learning_rate")]
    assert rates == pytest.approx([point.learning_rate for point in curve])
    for name in ("loss", "accuracy", "f1"):
        told = [(point.step, point.value) for point in events.Scalars(f"eval/{name}")]
        assert [step for step, _ in told] == [epoch.step for epoch in followed.made.epochs]
        figures = [getattr(epoch, name) for epoch in followed.made.epochs]
        assert [value for _, value in told] == pytest.approx(figures)


def test_mlflow_holds_one_finished_run_with_figures_and_settings(followed: Followed) -> None:
    with sqlite3.connect(followed.kept / "mlflow.db") as store:
        assert store.execute("select status from runs").fetchall() == [("FINISHED",)]
        figures = store.execute("select key, step, value from metrics order by step").fetchall()
        settings = dict(store.execute("select key, value from params").fetchall())
        names = store.execute("select name from experiments").fetchall()
    told = [(step, value) for key, step, value in figures if key == "eval_f1"]
    assert told == [(epoch.step, epoch.f1) for epoch in followed.made.epochs]
    assert {"loss", "learning_rate", "eval_loss", "eval_accuracy", "train_loss", "epoch"} <= {
        key for key, _, _ in figures
    }
    assert ("toy",) in names
    assert settings["learning_rate"] == "0.002"
    assert settings["train_batch_size"] == "8"
    assert "per_device_train_batch_size" not in settings


def test_weights_and_biases_writes_one_offline_run(followed: Followed) -> None:
    (file,) = followed.kept.rglob("*.wandb")
    assert file.parent.name.startswith("offline-run-")
    written = file.read_bytes()
    assert b"eval/accuracy" in written and b"train/loss" in written


def test_no_text_of_a_row_is_in_any_tracker_nor_a_change_of_the_users_repository(
    followed: Followed,
) -> None:
    files = [file for file in followed.kept.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".0", ".db", ".wandb"}
    assert [str(file) for file in files if CANARY.encode() in file.read_bytes()] == []
    assert not list(followed.kept.rglob("*.patch"))
    assert CANARY not in followed.printed


def test_nothing_is_left_where_the_user_stands_and_nobody_else_is_called(
    followed: Followed,
) -> None:
    assert {file.name for file in followed.where.iterdir()} == {".git", "rows.csv"}
    started = [command for event, _, command in followed.watch.records() if event == "start"]
    assert any("tasks.worker train" in command for command in started)
    assert followed.watch.outside() == []
    assert "codecarbon" not in followed.printed
    assert "wandb:" not in followed.printed


def test_a_step_does_not_depend_on_who_follows_it(followed: Followed) -> None:
    assert followed.again == followed.made


def test_energy_and_co2_are_in_the_manifest_and_the_report(followed: Followed, homes: Path) -> None:
    used = followed.made.hardware
    assert used is not None and used.energy_kwh is not None and used.co2_kg is not None
    assert 0 < used.co2_kg < used.energy_kwh < 1  # a kWh of German electricity is under a kg
    nothing = pa.table({"row": pa.array([], pa.int64()), "rule": [], "column": []})
    pq.write_table(nothing, homes / "quarantine.parquet")
    common: dict[str, Any] = {"key": "0" * 64, "parents": {}, "folder": homes, "files": {}}
    dataset = DatasetManifest(
        **common, source="toy.csv", source_digest="0" * 64, rows=48, changed_by_cleaning=0,
        label_counts={"ham": 24, "spam": 24},
    )  # fmt: skip
    validation = ValidationReport(
        **common, passed=True, problems=(), rows=48, rows_quarantined=0, rows_valid=48, rules=(),
        label_counts={"ham": 24, "spam": 24}, length_histogram={"0-49": 48},
    )  # fmt: skip
    run = Run(followed.config, dataset, validation, split=followed.split, checkpoint=followed.made)
    page = write_report(run).read_text(encoding="utf-8")
    assert f"about {used.energy_kwh:.3g} kWh and {used.co2_kg:.3g} kg of CO2" in page


@pytest.mark.parametrize(
    ("package", "tracking", "asked"),
    [
        ("mlflow", {"report_to": ["tensorboard", "mlflow"]}, ("report_to: mlflow", "tracking")),
        ("codecarbon", {"energy": True, "country_iso_code": "DEU"}, ("energy", "energy")),
    ],
)
def test_a_missing_package_is_refused_in_one_line(
    package: str,
    tracking: dict[str, Any],
    asked: tuple[str, str],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as Python keeps what cannot be imported
    with pytest.raises(ConfigError) as told:
        require_packages(config_of(tiny_model, **tracking))
    what, extra = asked
    assert str(told.value) == (
        f"tracking.{what} needs a package that is not installed; pip install 'ekiben[{extra}]', "
        "or leave it out"
    )


def test_a_tracker_that_cannot_open_a_run_is_refused_before_training(
    homes: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (homes / "a-file").touch()
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(homes / "a-file" / "below"))
    with (
        pytest.raises(ConfigError, match="tensorboard cannot open a run") as told,
        tracked(config_of(tiny_model, report_to=["tensorboard"])),
    ):
        raise AssertionError("training began")
    assert len(told.value.problems) == 1


def test_a_training_that_fails_is_a_failed_run(
    followed: Followed, homes: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(followed.kept / "mlflow.db", homes)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{homes}/mlflow.db")
    config = config_of(tiny_model, report_to=["mlflow"])

    def fail() -> None:
        with tracked(config) as tell:
            tell(STEP)
            raise TrainingError("the train worker ended with code 1")

    with pytest.raises(TrainingError):
        fail()
    with sqlite3.connect(homes / "mlflow.db") as store:
        states = store.execute("select status from runs order by start_time").fetchall()
    assert states == [("FINISHED",), ("FAILED",)]


def test_a_country_without_figures_is_refused_before_training(
    homes: Path, tiny_model: Path
) -> None:
    from tasks.energy import measured

    tracking = config_of(tiny_model, energy=True, country_iso_code="XXX").tracking
    with (
        pytest.raises(ConfigError, match="codecarbon has no figures for XXX"),
        measured(tracking, homes / "energy.json"),
    ):
        raise AssertionError("training began")


def test_energy_of_an_interrupted_training_is_added_to_what_follows(
    homes: Path, tiny_model: Path
) -> None:
    from tasks.energy import measured

    tracking = config_of(tiny_model, energy=True, country_iso_code="DEU").tracking
    file = homes / "energy.json"
    with pytest.raises(KeyboardInterrupt), measured(tracking, file):
        raise KeyboardInterrupt
    before = json.loads(file.read_text(encoding="utf-8"))
    with measured(tracking, file) as used:
        assert used == {}
    assert used["energy_kwh"] > before["energy_kwh"] > 0


class Heard(logging.Handler):
    """Keeps the words of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def test_a_tracker_that_fails_on_the_way_costs_a_warning_and_the_others_go_on(
    followed: Followed,
    homes: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(followed.kept / "mlflow.db", homes)  # a new one takes seconds to make
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{homes}/mlflow.db")
    before = dict(os.environ)
    # A logger and handler of this test alone: what else runs in this process sets up the others.
    heard = Heard()
    logger = logging.Logger("ekiben")
    logger.addHandler(heard)
    monkeypatch.setattr("tasks.course.log", logger)
    with tracked(config_of(tiny_model, report_to=["mlflow", "tensorboard"])) as tell:
        tell(STEP)
        (homes / "mlflow.db").write_bytes(b"this is no database" * 1000)
        tell({**STEP, "step": 2, "done": 2})
    (warned,) = heard.told
    assert warned.startswith("tracking: mlflow failed (")
    assert warned.endswith("; training goes on without it")
    (events,) = (homes / "ekiben_home/tracking/toy").rglob("events.out.tfevents*")
    assert b"train/loss" in events.read_bytes()
    ours = ("MLFLOW_", "WANDB_", "TENSORBOARD_")
    assert {k: v for k, v in os.environ.items() if k.startswith(ours)} == {
        k: v for k, v in before.items() if k.startswith(ours)
    }
