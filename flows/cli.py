"""The `ekiben` command. Heavy imports wait until a command needs them."""

import logging
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from configs.errors import ConfigError, EkibenError
from flows import release_commands

app = typer.Typer(
    help="Turn labelled text into a classifier you can trust, served as a Bento.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigPath = Annotated[Path, typer.Argument(help="YAML file of the pipeline.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Lay key.path=value over the config; may be repeated.",
        metavar="KEY.PATH=VALUE",
    ),
]
T = TypeVar("T")
LONGEST_PROBLEM = 400
EXIT_CODES = {"Released": 0, "Rejected": 3, "Undecided": 4}


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    force: Annotated[
        bool, typer.Option("--force", help="Release the model though its gate rejects it.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why it is forced; stands in all that is released.")
    ] = None,
) -> None:
    """Run the whole line: exit 0 released, 3 rejected, 4 undecided, 2 bad config, 1 other error."""
    from configs.loading import load_config, require_no_open_secret
    from flows.forcing import checked_reason, forcing

    started = time.monotonic()
    forced = checked_reason(force, reason)
    checked = load_config(config, overrides)
    require_no_open_secret(checked)
    _prepare_prefect()
    from rich.console import Console

    from flows.terminal import print_decisions, print_how_to_serve, watching

    console = Console()
    console.print(f"{checked.name}: starting Prefect", highlight=False)
    from flows.pipeline import Outcome, pipeline

    with watching(console), forcing(forced):
        state = _answered(lambda: pipeline(checked, return_state=True))
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    assert isinstance(outcome, Outcome)
    print_decisions(console, outcome.run)
    ended = f"{state.name} in {time.monotonic() - started:.0f} s: {state.message}"
    for line in (f"report: {outcome.report}", ended):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if outcome.record is not None:
        console.print(f"bento: {outcome.record.tag}", highlight=False)
        console.print("Serve it, and classify two texts:")
        print_how_to_serve(console, checked.name)
    raise typer.Exit(EXIT_CODES[str(state.name)])


@app.command()
def check(config: ConfigPath, overrides: Overrides = None) -> None:
    """Check config and data, and train nothing: read, validate, split, report."""
    from configs.loading import load_config

    checked = load_config(config, overrides)
    from rich.console import Console

    from flows.checking import check_data
    from flows.terminal import watching

    console = Console()
    with watching(console):
        check_data(checked)


@app.command()
def freeze(
    config: ConfigPath,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the test rows.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a frozen test set.")] = False,
) -> None:
    """Check config and data, then pin this split's test rows in a file beside the config."""
    from configs.loading import load_config

    checked = load_config(config, overrides)
    from rich.console import Console

    from flows.freezing import freeze as write
    from flows.terminal import watching

    console = Console()
    with watching(console):
        file, digest, line = write(checked, config, output, replace=force)
    for told in (f"wrote {file}", f"sha256: {digest}", "Put this into the config:", f"  {line}"):
        console.print(told, highlight=False, markup=False, soft_wrap=True)


@app.command()
def init(
    source: Annotated[
        str,
        typer.Argument(help="File, folder, pypi:// or hf:// of labelled texts.", metavar="FILE"),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the pipeline.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the texts.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of the file.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the config.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a config.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Never ask; take what is inferred.")] = False,
) -> None:
    """Look at labelled texts and write a config for them; asks only at a terminal."""
    from rich.console import Console

    from flows.drafting import findings
    from flows.init import Wishes, propose
    from flows.terminal import ask, watching

    console = Console()
    wishes = Wishes(name, text_column, label_column, encoding, output, force)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with watching(console):
        proposal = propose(source, wishes, ask if at_terminal and not yes else None)
    proposal.write(force=force)
    done = [*findings(proposal.draft), f"wrote {proposal.output}", "Check it:"]
    for line in [*done, f"  ekiben check {shlex.quote(str(proposal.output))}"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def deploy(
    configs: Annotated[
        list[Path], typer.Argument(help="YAML files of the pipelines.", metavar="CONFIG...")
    ],
) -> None:
    """Serve the pipelines' schedules and runs for a Prefect server, until interrupted."""
    from configs.loading import load_config, require_no_open_secret

    checked = [load_config(config) for config in configs]
    for each in checked:
        require_no_open_secret(each)
    names = [config.name for config in checked]
    for path, name in zip(configs, names, strict=True):
        if names.count(name) > 1:
            raise ConfigError(f"{path}: name: {name!r} is given to two pipelines; rename one")
    from flows.deployments import serve_deployments

    serve_deployments(checked)


@app.command()
def serve(
    pipeline: Annotated[
        str,
        typer.Argument(
            help="Name of the pipeline, or PIPELINE:VERSION.", metavar="PIPELINE[:VERSION]"
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 3000,
    keys_file: Annotated[
        Path | None, typer.Option(help="API keys, a line NAME SHA256-HEX each.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate of TLS, as a PEM file.")
    ] = None,
    key_of_certificate: Annotated[
        Path | None, typer.Option(help="The certificate's private key, as a PEM file.")
    ] = None,
    allow_plaintext: Annotated[
        bool, typer.Option("--allow-plaintext", help="Answer other machines without TLS.")
    ] = False,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file of the key by which releases must be signed.")
    ] = None,
) -> None:
    """Serve the champion of a pipeline, and each that follows it, without dropping a request."""
    from flows.serving import Network, serve_pipeline

    serve_pipeline(
        pipeline,
        Network(
            host, port, keys_file, certificate, key_of_certificate, allow_plaintext, public_key
        ),
    )


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="The keys file of `ekiben serve`.")],
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    replace: Annotated[bool, typer.Option("--replace", help="End the key of that name.")] = False,
) -> None:
    """Make a key of the service and print it once; the file keeps its hash alone."""
    from flows.keys import make_key

    typer.echo(make_key(file, name, replace=replace))


@app.command()
def doctor(
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking, every 20 s.")] = False,
) -> None:
    """See to runs whose process was killed: mark them, start them again; check what is served."""
    _prepare_prefect()
    from flows.doctor import look

    if not look(watch=watch):
        raise typer.Exit(1)


@app.command()
def report(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline.", metavar="PIPELINE")],
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print the path of the last run's report, or open it."""
    from configs.schema import NAME
    from tasks.reporting import last_report

    if re.fullmatch(NAME, pipeline) is None:
        raise ConfigError(
            f"{pipeline}: is not the name of a pipeline; give `name` of its config, in small "
            "letters, digits and underscores"
        )
    path = last_report(pipeline)
    if path is None:
        raise EkibenError(f"{pipeline}: has no report yet; run `ekiben run CONFIG` first")
    if open_it:
        typer.launch(str(path))
    typer.echo(path)


release_commands.add_to(app)


def _prepare_prefect() -> None:
    """Let the embedded server start on a small machine, and leave the terminal to Ekiben.

    Raises:
        EkibenError: if Prefect is set to a server of the user's own that does not answer.
    """
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    for sender in ("EventsWorker", "APILogWorker"):  # outside Prefect's own tree of loggers
        logging.getLogger(sender).setLevel(logging.CRITICAL)
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        from flows.deployments import require_server

        require_server()


def _answered(run: Callable[[], T]) -> T:
    """Return what a run on Prefect comes to.

    Raises:
        EkibenError: if Prefect's server is gone, or no longer does its work, before the run ends.
    """
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        return run()
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        said = next(iter(str(error).splitlines()), "")
        raise EkibenError(
            f"Prefect's server no longer answers ({type(error).__name__}: {said}); start it, or see "
            "to its database, and run again: every step that is whole is reused"
        ) from None


def _in_a_line(problem: str) -> str:
    """Return the problem on one line: control characters escaped, the middle of a long one cut."""
    line = "".join(
        letter if letter.isprintable() else " " if letter.isspace() else ascii(letter)[1:-1]
        for letter in problem
    )
    half = LONGEST_PROBLEM // 2
    return line if len(line) <= LONGEST_PROBLEM else f"{line[:half]} ... {line[-half:]}"


def main() -> NoReturn:
    """Run the command line; an error of Ekiben's own is printed, one problem a line.

    A request to end is an orderly exit, so that the embedded server and the worker end too.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        app()
    except EkibenError as error:
        for problem in error.problems:
            typer.echo(f"error: {_in_a_line(problem)}", err=True)
        raise SystemExit(error.exit_code) from None
    except (OSError, MemoryError) as error:
        from tasks.faults import refusal
        from tasks.steps import home

        told = refusal(error, home())
        if told is None:
            raise
        typer.echo(f"error: {_in_a_line(told)}", err=True)
        raise SystemExit(1) from None
    raise SystemExit(0)
