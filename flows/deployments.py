"""Deployments: the same pipelines on a Prefect server, with their schedules."""

import asyncio
import contextlib
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from configs.errors import ConfigError, EkibenError
from configs.loading import load_config
from configs.schema import PipelineConfig, redact
from flows import heartbeats
from flows.dead_runs import see_to_dead_runs
from flows.doctor import SECONDS_BETWEEN_LOOKS

if TYPE_CHECKING:
    from prefect.runner import Runner

DEFAULT_SERVER = "http://127.0.0.1:4200/api"
ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, so that a restart does not put the next run off."""


def serve_deployments(configs: list[PipelineConfig]) -> None:
    """Register a deployment a pipeline with the Prefect server and run what falls due.

    Ends on SIGINT or SIGTERM. Schedules stay active then, so that a restart goes on with them; a
    run in progress is cancelled, and started again goes on from its last checkpoint.

    Raises:
        EkibenError: if no Prefect server answers.
    """
    url = require_server()
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        asyncio.run(_serve(configs))


def require_server() -> str:
    """Return the API address of a Prefect server that answers.

    Raises:
        EkibenError: if none does, saying how to start one.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url or DEFAULT_SERVER
    try:
        httpx.get(f"{url}/health", timeout=10.0).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EkibenError(
            f"no Prefect server answers at {redact(url)} ({type(error).__name__}); start one with "
            "`prefect server start`, or set PREFECT_API_URL to yours"
        ) from None
    return url


async def _serve(configs: list[PipelineConfig]) -> None:
    from prefect.runner import Runner
    from prefect.types.entrypoint import EntrypointType

    from flows.pipeline import pipeline

    await heartbeats.register()
    runner = Runner(name="ekiben", pause_on_shutdown=False)
    interrupted = _on_interrupt(runner)
    for config in configs:
        deployment = await pipeline.ato_deployment(
            name=config.name,
            parameters={"config": config.model_dump(mode="json")},
            schedules=schedules(config),
            description=description(config),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        # Set, though to nothing: else a deployment that a work pool had would stay with the pool.
        deployment.work_pool_name = deployment.work_queue_name = None
        await runner.aadd_deployment(deployment)
    _print_served(configs)
    serving = asyncio.create_task(runner.start())
    waiting = asyncio.create_task(interrupted.wait())
    looking = asyncio.create_task(_look_for_dead_runs())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    looking.cancel()
    if interrupted.is_set():
        await _stop(runner, serving)
    else:
        await serving


async def _look_for_dead_runs() -> None:
    while True:
        await asyncio.to_thread(see_to_dead_runs)
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


def _on_interrupt(runner: "Runner") -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set, whichever handler `runner.start` installs."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)

    def interrupt(*_: object) -> None:
        loop.call_soon_threadsafe(interrupted.set)

    # Prefect's own, which `start` installs, raises SystemExit in the loop and leaves runs as Running.
    runner.handle_sigterm = interrupt  # type: ignore[method-assign]
    return interrupted


async def _stop(runner: "Runner", serving: "asyncio.Task[None]") -> None:
    """End the runner and its runs; one that has not begun to look for runs is cancelled."""
    if runner.started:
        await runner.astop()
    else:
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _print_served(configs: list[PipelineConfig]) -> None:
    from prefect.settings import get_current_settings
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(config.name) for config in configs)
    console.print("Serving until interrupted (Ctrl+C), schedules stay active after that:")
    for config in configs:
        console.print(f"  {config.name:<{width}}  {_when(config)}")
    console.print(f"Start a run, and see all runs, at {get_current_settings().ui_url}/deployments")


def _when(config: PipelineConfig) -> str:
    schedule = config.schedule
    if schedule is None:
        return "no schedule"
    if schedule.cron is not None:
        return f"cron {schedule.cron} ({schedule.timezone})"
    return f"every {timedelta(seconds=schedule.interval_seconds or 0)}"


def description(config: PipelineConfig) -> str:
    """Return what Prefect shows under the deployment's name."""
    return f"Trains and releases the Bento {config.name}."


def schedules(config: PipelineConfig) -> list[Any]:
    """Return the config's schedule as Prefect's, in a list that is empty if there is none."""
    from prefect.schedules import Cron, Interval

    schedule = config.schedule
    if schedule is None:
        return []
    if schedule.cron is not None:
        return [Cron(schedule.cron, timezone=schedule.timezone)]
    assert schedule.interval_seconds is not None
    interval = timedelta(seconds=schedule.interval_seconds)
    return [Interval(interval, anchor_date=ANCHOR, timezone=schedule.timezone)]


def describe(config: str, schedules: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a config file's parameters and description, as a build step of `prefect.yaml`.

    Prefect fills no template in for schedules, so that `prefect.yaml` must repeat them.

    Raises:
        ConfigError: if the config file cannot be used, or its schedule is not `schedules`.
    """
    checked = load_config(Path(config))
    schedule = checked.schedule
    expected: list[dict[str, Any]] = []
    if schedule is not None and schedule.cron is not None:
        expected = [{"cron": schedule.cron, "timezone": schedule.timezone}]
    elif schedule is not None:
        expected = [
            {
                "interval": schedule.interval_seconds,
                "anchor_date": ANCHOR.isoformat(),
                "timezone": schedule.timezone,
            }
        ]
    if schedules != expected:
        raise ConfigError(
            f"prefect.yaml: schedules of {config} are {schedules}, but that file asks for "
            f"{expected}; write the latter"
        )
    return {
        "config": checked.model_dump(mode="json"),
        "description": description(checked),
    }
