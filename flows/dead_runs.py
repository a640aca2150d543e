"""Dead runs: known by the lock that their process held, told to Prefect with the cause, run again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.schema import PipelineConfig, redact
from tasks.runs import RunNote, dead_runs, note_of, noted

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger("ekiben")
_RESUMABLE = ("finetune", "distil")
"""Stages whose unfinished work a run that is started again goes on with."""


@dataclass(frozen=True)
class DeadRun:
    """A run whose process is gone, and what became of it, in words."""

    pipeline: str
    run: str
    told: str


@contextmanager
def alive(config: PipelineConfig) -> Iterator[None]:
    """See to runs that died before, then note the run that is entered for as long as it lives."""
    run, _ = run_and_due()
    if not run:
        yield
        return
    see_to_dead_runs()
    with noted(note_of(run, config.name, _server(), config.launch.max_restarts)):
        yield


def run_and_due() -> tuple[str, datetime | None]:
    """Return the id of the run that is entered and, if a schedule started it, when it was due.

    The id is empty where the flow's function is called without Prefect.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None:
        return "", None
    return str(run.id), run.expected_start_time if run.auto_scheduled else None


def see_to_dead_runs() -> list[DeadRun]:
    """Mark this machine's dead runs Crashed, start them again, clear what they left; return them.

    One is started again, from its last checkpoint, if a deployment started it and not more often
    than its `launch.max_restarts`. A server that does not answer is asked again at the next look.
    """
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    seen, notes = [], dead_runs(_server())
    try:
        for note in notes:
            with get_client(sync_client=True) as client:
                seen.append(DeadRun(note.pipeline, note.run, _seen_to(client, note)))
            log.warning("%s: run %s: %s", note.pipeline, note.run, seen[-1].told)
    except (HTTPError, PrefectHTTPStatusError) as error:
        log.warning("dead runs: Prefect's server does not answer (%s)", type(error).__name__)
    finally:
        notes.close()
    if seen:
        _clear()
    return seen


def _server() -> str:
    """Return which server's runs these are; empty for the one that a run starts for itself."""
    from prefect.settings import get_current_settings

    return redact(get_current_settings().api.url or "")


def _seen_to(client: "SyncPrefectClient", note: RunNote) -> str:
    """Tell Prefect what became of a run, start it again if it may be; return both in words."""
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled, Crashed

    try:
        run = client.read_flow_run(UUID(note.run))
    except ObjectNotFound:
        return "is gone, and Prefect knows no such run"
    state = run.state
    if state is not None and state.is_final() and not state.is_crashed():
        return f"had ended as {state.name}"
    at = _crash_tasks(client, run)
    cause = (
        f"process {note.pid} on {note.host} is gone{at}: it was killed, or the machine went down; "
        "what was whole is reused"
    )
    if state is not None and state.is_cancelling():
        client.set_flow_run_state(run.id, Cancelled(message=cause), force=True)
        return f"{cause}; is cancelled, as was asked"
    if state is None or not state.is_crashed():
        client.set_flow_run_state(run.id, Crashed(message=cause), force=True)
    return f"{cause}; {_restarted(client, note, run)}"


def _crash_tasks(client: "SyncPrefectClient", run: "FlowRun") -> str:
    """Mark the run's tasks that seem to go on as Crashed; return in which it was, in words."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.states import Crashed

    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    found = client.read_task_runs(flow_run_filter=of_run)
    going = [task for task in found if task.state is not None and task.state.is_running()]
    for task in going:
        client.set_task_run_state(task.id, Crashed(message="its process is gone"), force=True)
    return f" in {', '.join(sorted({task.name for task in going}))}" if going else ""


def _restarted(client: "SyncPrefectClient", note: RunNote, run: "FlowRun") -> str:
    """Have a run of a deployment run again, if it may; return what was done, in words."""
    from prefect.states import AwaitingRetry

    if run.deployment_id is None:
        return "run it again, and it goes on"
    if run.run_count > note.max_restarts:
        return f"is not started again: it was started {run.run_count} times"
    again: Any = AwaitingRetry(
        scheduled_time=datetime.now(UTC),
        message=f"started again after a crash, {run.run_count} of {note.max_restarts} times",
    )
    client.set_flow_run_state(run.id, again, force=True)
    return f"is started again, {run.run_count} of {note.max_restarts} times"


def _clear() -> None:
    """Remove what killed runs left that no other run goes on with."""
    from tasks.releases import store_locked
    from tasks.scratch import place_of_user, sweep
    from tasks.steps import clear_unfinished

    clear_unfinished(_RESUMABLE)
    sweep(place_of_user())
    with store_locked():  # which clears its staging folder
        pass
