"""`ekiben doctor`: see to runs that died, and look at what is served."""

import asyncio
import time

from flows import heartbeats
from flows.dead_runs import see_to_dead_runs

SECONDS_BETWEEN_LOOKS = 20.0


def look(*, watch: bool) -> bool:
    """Print what became of this machine's dead runs, and whether each champion is whole.

    With `watch`, go on looking for dead runs until interrupted. Return whether all champions are.
    """
    from configs.errors import BentoError
    from tasks.releases import champion_tag, pipelines, require_whole_release

    if _has_server():
        asyncio.run(heartbeats.register())
    if not _print_dead_runs():
        _print("no run of this machine is dead")
    whole = True
    for pipeline in pipelines():
        tag = champion_tag(pipeline)
        try:
            if tag is not None:
                require_whole_release(tag)
                _print(f"{tag} is the champion, and whole")
        except BentoError as error:
            whole = False
            for problem in error.problems:
                _print(problem)
    while watch:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        _print_dead_runs()
    return whole


def _has_server() -> bool:
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


def _print_dead_runs() -> bool:
    seen = see_to_dead_runs()
    for each in seen:
        _print(f"{each.pipeline}: run {each.run}: {each.told}")
    return bool(seen)


def _print(line: str) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(line, markup=False)
