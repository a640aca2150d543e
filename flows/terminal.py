"""What a person sees in the terminal: a line a stage, live progress, the decision as a table."""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from tasks.manifests import RuleVerdict
from tasks.progress import listening
from tasks.records import DecisionRecord
from tasks.rule_table import rule_table

if TYPE_CHECKING:  # `ekiben verify` prints a decision and has nothing to report
    from tasks.reporting import Run

_SECONDS_BETWEEN_LINES = 5.0
_MOST_RULES = 20
_WIDEST = 1000  # characters of a table
_COLOURS = {"pass": "green", "reject": "red", "undecided": "yellow"}
CURL_EXAMPLE = (
    '{"texts": ["Are we still on for lunch?", '
    '"Free entry! Text WIN to 80086 now to claim your prize."]}'
)


class Progress:
    """Show progress on one changing line, or on a line every 5 s where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._told: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None, note: str) -> None:
        """Show how far the stage is."""
        ended = total is not None and done >= total
        now = time.monotonic()
        pause = 0.1 if self.console.is_terminal else _SECONDS_BETWEEN_LINES
        if not ended and now - self._told.get(stage, 0.0) < pause:
            return
        self._told[stage] = now
        amount = f"{done:,} of {total:,} " if total is not None else f"{done:,} " if done else ""
        text = f"  {stage}: {amount}{note}"
        if self.console.is_terminal:
            width = max(self.console.width - 1, 20)
            self.console.file.write(f"\r{text[:width]:<{width}}\r")
            self.console.file.flush()
        else:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class _Lines(logging.Handler):
    """Print each log line of Ekiben on the console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if self.console.is_terminal:
            self.console.file.write(f"\r{' ' * (self.console.width - 1)}\r")
        self.console.print(record.getMessage(), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def watching(console: Console) -> Iterator[None]:
    """Print log lines and progress within the block."""
    log = logging.getLogger("ekiben")
    handler = _Lines(console)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
    try:
        with listening(Progress(console)):
            yield
    finally:
        log.removeHandler(handler)


def ask(question: str, default: str | None, allowed: list[str]) -> str:
    """Return what a person answers; asked again until it is allowed, where `allowed` lists any."""

    def checked(answer: str) -> str:
        if allowed and answer not in allowed:
            raise typer.BadParameter(f"{answer!r} is not one of {allowed}")
        return answer

    answer: str = typer.prompt(question, default=default, value_proc=checked)
    return answer


def print_decisions(console: Console, run: "Run") -> None:
    """Print the decision on the model, and that on the baseline where it was judged in its place."""
    print_decision(console, run.record)
    if run.instead is not None:
        print_decision(console, run.instead.record)
    print_ladder(console, run)


def print_ladder(console: Console, run: "Run") -> None:
    """Print what each form of the model costs and comes to, if any was tried."""
    from tasks.ladder import ladder_table  # late: `ekiben verify` has no run

    lines = ladder_table(run)
    if not lines:
        return
    table = Table(title="forms", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in lines[0]:
        left = column in ("form", "over original", "verdict")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for line in lines:
        colour = _COLOURS.get(line["verdict"].partition(",")[0], "yellow")
        *cells, verdict = line.values()
        table.add_row(*cells, f"[{colour}]{verdict}[/]")
    print_whole(table, console)
    for rung in run.forms:
        for note in rung.notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)


def print_whole(table: Table, console: Console | None = None) -> None:
    """Print a table as wide as it is: in a narrower window, lines go on in the next, uncut."""
    console = console or Console()
    table.width = table.__rich_measure__(console, console.options.update(width=_WIDEST)).maximum
    console.print(table, crop=False, soft_wrap=True)


def print_decision(console: Console, decided: DecisionRecord) -> None:
    """Print the decision as a table of its rules, and what else a reader should know."""
    decision, evidence = decided.decision, decided.evidence
    judged = "the baseline in its place: " if evidence.evaluation.is_of_the_baseline else ""
    title = f"{decided.pipeline}: {judged}{decision.verdict}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    rules = _told(decision.rules)
    lines = rule_table(rules, evidence.evaluation, evidence.challenge)
    for column in lines[0]:
        heading = f"{decision.level} interval" if column == "interval" else column
        justify: JustifyMethod = "left" if column in ("rule", "verdict") else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for line in lines:
        colour = _COLOURS[line["verdict"]]
        *cells, verdict = map(escape, line.values())  # a label's or slice's name may be anything
        table.add_row(*cells, f"[{colour}]{verdict}[/]")
    print_whole(table, console)
    if untold := len(decision.rules) - len(rules):
        console.print(f"… {untold:,} more rules are in the report", highlight=False)
    forced = [] if decision.forced is None else [f"forced: {decision.forced}"]
    for told in [*forced, *decision.remarks]:
        console.print(told, highlight=False, markup=False, soft_wrap=True)


def _told(rules: tuple[RuleVerdict, ...]) -> tuple[RuleVerdict, ...]:
    """Return what fits on a screen: of many rules none that a slice passes, and what decides first."""
    if len(rules) > _MOST_RULES:
        rules = tuple(r for r in rules if r.verdict != "pass" or " @ " not in r.metric)
    if len(rules) > _MOST_RULES:
        rules = tuple(sorted(rules, key=lambda rule: rule.verdict == "pass"))
    return rules[:_MOST_RULES]


def print_how_to_serve(console: Console, pipeline: str) -> None:
    """Print the two lines that serve the Bento and call it; they work as printed."""
    curl = (
        "curl -s http://127.0.0.1:3000/classify -H 'Content-Type: application/json' "
        f"-d {shlex.quote(CURL_EXAMPLE)}"
    )
    for line in (f"{_bentoml()} serve {pipeline}:latest", curl):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _bentoml() -> str:
    """Return `bentoml` if the shell finds this environment's own, else the path to it."""
    own = Path(sys.executable).with_name("bentoml")
    found = shutil.which("bentoml")
    if found is not None and Path(found).absolute() == own.absolute():
        return "bentoml"
    near = Path.cwd()
    return shlex.quote(str(own.relative_to(near) if own.is_relative_to(near) else own))
