"""The course of one training, told to trackers through transformers' own integrations."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    MLflowCallback,
    TensorBoardCallback,
    WandbCallback,
)

from configs.errors import ConfigError
from configs.schema import PipelineConfig, reason, redact
from tasks.steps import home

log = logging.getLogger("ekiben")
INTEGRATIONS = {
    "tensorboard": TensorBoardCallback,
    "mlflow": MLflowCallback,
    "wandb": WandbCallback,
}
POINT = ("loss", "learning_rate", "tokens_per_second", "memory_mb")


class Settings(TrainingArguments):
    """What the integrations ask of the Trainer's arguments, answered from the config."""

    described: dict[str, Any]

    def __post_init__(self) -> None:
        """Leave the devices alone: nothing is trained in this process."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that the run was made with; most of the Trainer's would not be true."""
        return self.described


class Course:
    """Tells every tracker of the worker's events; one that fails is dropped, with one warning."""

    def __init__(self, config: PipelineConfig) -> None:
        self.settings = Settings(output_dir=str(home() / "tracking" / config.name))
        training = config.training.model_dump(mode="json")
        self.settings.described = {**training, "base_model": redact(config.training.base_model)}
        self.epochs = config.training.num_train_epochs
        self.asked = config.tracking.report_to
        self.state, self.control = TrainerState(), TrainerControl()
        self.trackers: dict[str, TrainerCallback] = {}
        self.failed: set[str] = set()

    def begin(self) -> None:
        """Open a run in every tracker.

        Raises:
            ConfigError: if one cannot, with its own words.
        """
        for name in self.asked:
            try:
                self.trackers[name] = INTEGRATIONS[name]()
                self.trackers[name].on_train_begin(self.settings, self.state, self.control)
                _stay_in_step(self.trackers[name])
            except Exception as error:
                raise ConfigError(
                    f"tracking.report_to: {name} cannot open a run ({reason(error)}); set its "
                    "environment variables right, or leave it out"
                ) from error

    def tell(self, event: dict[str, Any]) -> None:
        """Pass one event of the worker on, under the names that the Trainer logs."""
        if event["event"] not in ("step", "epoch"):
            return
        self.state.global_step = event["step"]
        if event["event"] == "step":
            self.state.max_steps = event["total"]
            self.state.epoch = self.epochs * event["done"] / event["total"]
            logs = {name: event[name] for name in POINT}
        else:
            self.state.epoch = float(event["epoch"])
            logs = {f"eval_{name}": event[name] for name in ("loss", "accuracy", "f1")}
            logs["train_loss"] = event["train_loss"]
        logs["epoch"] = self.state.epoch
        for name in self.trackers.keys() - self.failed:
            about = self.settings, self.state, self.control
            self._attempt(name, partial(self.trackers[name].on_log, *about, logs=dict(logs)))

    def end(self, *, failed: bool = False) -> None:
        """Close every run that was opened, and wait until what was told is written or sent."""
        for name, tracker in self.trackers.items():
            about = self.settings, self.state, self.control
            self._attempt(name, partial(_close, name, failed=failed))
            self._attempt(name, partial(tracker.on_train_end, *about))

    def _attempt(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  (each tracker raises its own library's)
            if name not in self.failed:
                told = "tracking: %s failed (%s); training goes on without it"
                log.warning(told, name, reason(error))
            self.failed.add(name)


def _stay_in_step(tracker: TrainerCallback) -> None:
    """Have MLflow log at once: in its own threads it would swallow what fails, and try for long."""
    if isinstance(tracker, MLflowCallback):
        import mlflow

        mlflow.flush_async_logging()
        tracker._async_log = False


def _close(name: str, *, failed: bool) -> None:
    """Do what the integrations leave to the end of the process, which may have more runs to make."""
    if name == "mlflow":
        import mlflow

        mlflow.end_run("FAILED" if failed else "FINISHED")
    elif name == "wandb":
        import wandb

        wandb.finish(exit_code=int(failed))
