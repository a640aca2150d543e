"""Progress reaches whoever listens, while they listen."""

from typing import Any

import pytest

from tasks.progress import listening, report_progress


class Notebook:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __call__(self, *progress: Any) -> None:
        self.told.append(progress)


def test_a_listener_hears_only_what_is_told_within_its_block() -> None:
    notebook = Notebook()
    report_progress("ingest", 1)
    with listening(notebook):
        report_progress("ingest", 2)
        report_progress("finetune", 3, 10, "updates")
    report_progress("ingest", 4)
    assert notebook.told == [("ingest", 2, None, ""), ("finetune", 3, 10, "updates")]


def test_several_listeners_hear_the_same() -> None:
    outer, inner = Notebook(), Notebook()
    with listening(outer):
        report_progress("a", 1)
        with listening(inner):
            report_progress("b", 2)
        report_progress("c", 3)
    assert [told[0] for told in outer.told] == ["a", "b", "c"]
    assert [told[0] for told in inner.told] == ["b"]


def test_a_failed_block_leaves_no_listener_behind() -> None:
    notebook = Notebook()
    with pytest.raises(ValueError, match="stop"), listening(notebook):
        raise ValueError("stop")
    report_progress("a", 1)
    assert notebook.told == []
