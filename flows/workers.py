"""Who works on the shards: threads or processes of this machine, or a Dask cluster, by Prefect."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from configs.errors import ConfigError
from configs.schema import Workers
from tasks.shards import Call, working_with

T = TypeVar("T")


@contextmanager
def prefect_workers(settings: Workers) -> Iterator[None]:
    """Give the shards' work within the block to tasks of the flow that is running.

    The workers start with the first work, since most datasets are a single shard.

    Raises:
        ConfigError: if Dask is asked for and not installed.
    """
    runner = _runner(settings)
    with ExitStack() as stack:
        running: list[TaskRunner[Any]] = []

        def work_side_by_side(work: Callable[..., T], calls: list[Call]) -> Iterator[T]:
            if not running:
                running.append(stack.enter_context(runner))
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
