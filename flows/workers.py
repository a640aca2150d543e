"""Who works on the shards: threads or processes of this machine, or a Dask cluster, by Prefect."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from configs.errors import ConfigError
from configs.schema import Workers, reason
from tasks.digests import code_digest
from tasks.shards import Call, working_with
from tasks.steps import home, make_folder

log = logging.getLogger("ekiben")
T = TypeVar("T")


@contextmanager
def prefect_workers(settings: Workers) -> Iterator[None]:
    """Give the shards' work within the block to tasks of the flow that is running.

    The workers start with the first work, since most datasets are a single shard.

    Raises:
        ConfigError: if Dask is asked for and not installed, or its cluster cannot do the work.
    """
    runner = _runner(settings)
    with ExitStack() as stack:
        running: list[TaskRunner[Any]] = []

        def work_side_by_side(work: Callable[..., T], calls: list[Call]) -> Iterator[T]:
            if not running:
                running.append(stack.enter_context(runner))
                if settings.dask_address is not None:
                    _require_fit_cluster(runner, settings.dask_address)
            shard = task(name=work.__name__, cache_policy=NO_CACHE, persist_result=False)(work)
            futures = [running[0].submit(shard, parameters=call) for call in calls]
            for future in futures:
                yield future.result()

        stack.enter_context(working_with(work_side_by_side))
        yield


def _runner(settings: Workers) -> TaskRunner[Any]:
    # Prefect's own default is a thread a task, which would hold every shard in memory at once.
    count = settings.count or os.cpu_count() or 1
    if settings.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=count)
    if settings.kind == "processes":
        return ProcessPoolTaskRunner(max_workers=count)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigError(
            "workers.kind: dask needs the package prefect-dask; run `pip install -c "
            "constraints.txt -e '.[dask]'`"
        ) from None
    if settings.dask_address is not None:
        return DaskTaskRunner(address=settings.dask_address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": count, "dashboard_address": None})


def _require_fit_cluster(runner: Any, address: str) -> None:
    """Let a Dask cluster pass whose workers see the Ekiben home and run the same code.

    Raises:
        ConfigError: if the scheduler does not answer, or a worker is not fit.
    """
    where = f"workers.dask_address: {address}"
    try:
        client = runner.client
    except (OSError, ValueError) as error:  # an address that is none is a ValueError
        raise ConfigError(
            f"{where} does not answer ({reason(error)}); start `dask scheduler` there, or correct it"
        ) from None
    mark = home() / f".mark-{uuid4().hex}"  # a new name: a network file system may know an old one
    make_folder(mark.parent)
    mark.touch()
    try:
        sees = client.run(os.path.exists, str(mark))
        code = client.run(code_digest, on_error="return")
    finally:
        mark.unlink()
    if not sees:
        log.warning("%s has no workers yet; waiting for `dask worker %s`", where, address)
    for worker, seen in sees.items():
        if not seen:
            raise ConfigError(
                f"{where}: worker {worker} does not see the Ekiben home {home()}; set EKIBEN_HOME to "
                "a folder that every machine mounts at that path"
            )
        if code.get(worker) != code_digest():
            raise ConfigError(
                f"{where}: worker {worker} does not run the same Ekiben and libraries as this "
                "machine; install the same there with constraints.txt"
            )
