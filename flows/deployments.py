"""Deployments: the same pipelines on a Prefect server, with their schedules."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx

from configs.errors import EkibenError
from configs.loading import load_config
from configs.schema import PipelineConfig

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

DEFAULT_SERVER = "http://127.0.0.1:4200/api"


def serve_deployments(configs: list[PipelineConfig]) -> None:
    """Register a deployment a pipeline with the Prefect server and run what falls due.

    Schedules stay active when this process ends, so that a restart goes on with them.

    Raises:
        EkibenError: if no Prefect server answers.
    """
    require_server()
    from prefect import serve
    from prefect.types.entrypoint import EntrypointType

    from flows.pipeline import pipeline

    deployments = [
        pipeline.to_deployment(
            name=config.name,
            parameters={"config": config.model_dump(mode="json")},
            schedules=schedules(config),
            description=f"Trains and releases the Bento {config.name}.",
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for config in configs
    ]
    # `to_deployment` is typed as if it might be awaited, which it is not in synchronous code.
    serve(*cast("list[RunnerDeployment]", deployments), pause_on_shutdown=False)


def require_server() -> str:
    """Return the API address of a Prefect server that answers.

    Raises:
        EkibenError: if none does, saying how to start one.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url or DEFAULT_SERVER
    try:
        httpx.get(f"{url}/health", timeout=10.0).raise_for_status()
    except httpx.HTTPError as error:
        raise EkibenError(
            f"no Prefect server answers at {url} ({type(error).__name__}); start one with `prefect "
            "server start`, or set PREFECT_API_URL to yours"
        ) from None
    return url


def schedules(config: PipelineConfig) -> list[Any]:
    """Return the config's schedule as Prefect's, in a list that is empty if there is none."""
    from prefect.schedules import Cron, Interval

    schedule = config.schedule
    if schedule is None:
        return []
    if schedule.cron is not None:
        return [Cron(schedule.cron, timezone=schedule.timezone)]
    assert schedule.interval_seconds is not None
    return [Interval(timedelta(seconds=schedule.interval_seconds), timezone=schedule.timezone)]


def describe(config: str) -> dict[str, Any]:
    """Return a config file's deployment parameters and schedules, as a step of `prefect.yaml`."""
    checked = load_config(Path(config))
    schedule = checked.schedule
    listed: list[dict[str, Any]] = []
    if schedule is not None and schedule.cron is not None:
        listed = [{"cron": schedule.cron, "timezone": schedule.timezone}]
    elif schedule is not None:
        listed = [{"interval": schedule.interval_seconds, "timezone": schedule.timezone}]
    return {"parameters": {"config": checked.model_dump(mode="json")}, "schedules": listed}
