"""Trackers that follow a training: which can be used, how they are set up, and how they end."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from configs.errors import ConfigError
from configs.schema import PipelineConfig
from tasks.steps import home, make_folder

Tell = Callable[[dict[str, Any]], None]


def require_packages(config: PipelineConfig) -> None:
    """Check that the packages of all that `tracking` asks for are installed.

    Raises:
        ConfigError: if one is missing, with the line that installs it.
    """
    tracking = config.tracking
    asked: dict[str, tuple[str, str]] = {
        f"report_to: {name}": (name, "tracking") for name in tracking.report_to
    }
    if tracking.energy:
        asked["energy"] = ("codecarbon", "energy")
    missing = {what: extra for what, (package, extra) in asked.items() if not find_spec(package)}
    if missing:
        raise ConfigError(
            [
                f"tracking.{what} needs a package that is not installed; "
                f"pip install 'ekiben[{extra}]', or leave it out"
                for what, extra in missing.items()
            ]
        )


@contextmanager
def tracked(config: PipelineConfig) -> Iterator[Tell]:
    """Open a run in each tracker of `tracking.report_to`; yield what is told the worker's events.

    Raises:
        ConfigError: if a tracker's package is missing, or it cannot open the run.
    """
    require_packages(config)
    if not config.tracking.report_to:
        yield lambda _: None
        return
    from tasks.course import Course

    with _environment(config.name):
        course = Course(config)
        try:
            course.begin()
            yield course.tell
        except BaseException:
            course.end(failed=True)
            raise
        course.end()


@contextmanager
def _environment(name: str) -> Iterator[None]:
    """Set the trackers' variables within the block; the user's own win, but where rows could leave.

    Everything is kept under `tracking/` in the Ekiben home unless a variable says otherwise.
    """
    folder = home() / "tracking"
    make_folder(folder / name)
    defaults = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": name,
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        # A server that is gone is found out in seconds, not in the minutes of the default.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "WANDB_DIR": str(folder / name),
        "WANDB_PROJECT": name,
        "WANDB_SILENT": "true",
        "WANDB_INIT_TIMEOUT": "30",
        "WANDB_FINISH_TIMEOUT": "60",
    }
    # Weights & Biases would send the changes in the folder that it is called from, where data may
    # lie, all that is printed, and the model, which this process does not have.
    never = {
        "WANDB_DISABLE_GIT": "true",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_LOG_MODEL": "false",
        "WANDB_WATCH": "false",
    }
    before = dict(os.environ)
    if "MLFLOW_EXPERIMENT_ID" in before:
        del defaults["MLFLOW_EXPERIMENT_NAME"]
    os.environ.update({**defaults, **before, **never})
    try:
        yield
    finally:
        for variable in {*defaults, *never, "MLFLOW_EXPERIMENT_ID"}:  # MLflow sets that itself
            os.environ.pop(variable, None)
        os.environ.update(before)
