"""Progress of long steps, told to whoever listens: the terminal, Prefect, or nobody."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int | None, str], None]
"""Called with stage, units done, units in all (None where unknown), and a short note."""

_listeners: list[Listener] = []


def report_progress(stage: str, done: int, total: int | None = None, note: str = "") -> None:
    """Tell every listener how far a stage is; units are the stage's own (rows, updates, texts)."""
    for listener in _listeners:
        listener(stage, done, total, note)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send progress to `listener` within the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
