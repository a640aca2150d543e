"""The commands on what was released: list, verify, trace, roll back, prune, push, pull."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from configs.errors import ConfigError, GateError

_TAG = r"([a-z][a-z0-9_]*):([A-Za-z0-9][A-Za-z0-9_.-]*)"
Pipeline = Annotated[str, typer.Argument(help="Name of the pipeline.", metavar="PIPELINE")]
Tag = Annotated[str, typer.Argument(help="A release.", metavar="PIPELINE:VERSION")]


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (verify, releases, trace, rollback, prune, push, pull):
        app.command()(command)


def verify(
    named: Annotated[
        str,
        typer.Argument(
            help="A release, or a decision record such as decision.json.", metavar="TAG|RECORD"
        ),
    ],
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file; the release must be signed by its private key.")
    ] = None,
) -> None:
    """Check a release's files, or work a verdict out again from its record: exit 0 or 1."""
    tag = None if Path(named).exists() else _tag(named)
    if tag is not None:
        _verify_release(tag, public_key)
    elif public_key is not None:
        raise ConfigError(f"--public-key: {named} is a record, and only releases are signed")
    else:
        _verify_record(Path(named))


def _tag(named: str) -> str | None:
    """Return the tag that is meant: a pipeline's name stands for its champion."""
    from tasks.releases import champion_tag

    if re.fullmatch(_TAG, named):
        version = named.partition(":")[2]
        return champion_tag(named.partition(":")[0]) or named if version == "latest" else named
    return champion_tag(named) if re.fullmatch(r"[a-z][a-z0-9_]*", named) else None


def _verify_release(tag: str, public_key: Path | None) -> None:
    from tasks.integrity import read_manifest
    from tasks.releases import place_of, require_signed_release, require_whole_release

    require_whole_release(tag)
    files = read_manifest(place_of(tag))["files"]
    size = sum(file["size"] for file in files.values())
    _print(f"{tag}: {len(files)} files of {size / 1e6:,.1f} MB are as released")
    if public_key is not None:
        require_signed_release(tag, public_key)
        _print(f"{tag}: is signed by the owner of {public_key}")
    _verify_record(place_of(tag) / "decision.json")


def _verify_record(file: Path) -> None:
    from rich.console import Console

    from flows.terminal import print_decision
    from tasks.records import read_record

    decided, problems = read_record(file)
    console = Console()
    print_decision(console, decided)
    if problems:
        raise GateError([f"{file}: {problem}" for problem in problems])
    console.print("agrees")


def releases(
    pipeline: Annotated[
        str | None, typer.Argument(help="Name of one pipeline.", metavar="[PIPELINE]")
    ] = None,
) -> None:
    """List what was released, newest first, and what is served of it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from flows.terminal import print_whole
    from tasks.releases import pipelines

    names = [_known(pipeline)] if pipeline is not None else pipelines()
    if not names:
        _print("nothing was released yet; `ekiben run CONFIG` releases a model that passes")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("tag", "released", "accuracy", "verdict", "state"):
        justify: Any = "right" if column == "accuracy" else "left"
        table.add_column(column, justify=justify, no_wrap=True)
    for name in names:
        for line in _lines(name):
            table.add_row(*line)
    print_whole(table)


def _lines(pipeline: str) -> list[tuple[str, ...]]:
    from tasks.history import withdrawn
    from tasks.releases import champion_tag, place_of, releases_of

    serving, back = champion_tag(pipeline), withdrawn(pipeline)
    lines: list[tuple[str, ...]] = []
    for record in reversed(releases_of(pipeline)):
        there = place_of(record.tag).is_dir()
        state = "champion" if record.tag == serving else "" if there else "pruned"
        if record.tag in back:
            state = ", ".join(filter(None, [state, f"rolled back {back[record.tag].at[:10]}"]))
        rules = (rule for rule in record.decision.rules if rule.metric == "accuracy")
        value = next((rule.figure.value for rule in rules if rule.figure is not None), None)
        accuracy = f"{value:.4f}" if value is not None else ""
        verdict = record.decision.verdict if record.decision.forced is None else "forced"
        lines.append((record.tag, record.released_at[:19], accuracy, verdict, state))
    return lines


def trace(
    tag: Tag,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Trace a release to its data, config, code, requirements, decision and proof."""
    from tasks.origin import trace as find

    found = find(_tag(tag) or tag)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for key, value in found.items():
        if key == "history":
            for told in value:
                _print(f"{'history':<13} {_event(told)}")
        elif isinstance(value, dict):
            _print(f"{key:<13} {', '.join(f'{k} {v}' for k, v in value.items() if v is not None)}")
        else:
            _print(f"{key:<13} {value}")


def _event(told: dict[str, Any]) -> str:
    instead = f" instead of {told['instead_of']}" if told["instead_of"] else ""
    why = f": {told['reason']}" if told["reason"] else ""
    return f"{told['at']} {told['what']} {told['tag']}{instead} by {told['by']}{why}"


def rollback(
    pipeline: Pipeline,
    tag: Annotated[
        str | None, typer.Argument(help="The release to serve.", metavar="[PIPELINE:VERSION]")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; stands in the history.")] = None,
) -> None:
    """Serve the release before the champion again, or the one that is named; at once and on record."""
    from tasks.publishing import push as publish
    from tasks.releases import champion_tag
    from tasks.rollback import roll_back

    name = _known(pipeline)
    if tag is not None and ":" not in tag:
        tag = f"{name}:{tag}"
    if tag is not None and not tag.startswith(f"{name}:"):
        raise ConfigError(f"{tag}: is no release of {name}; expected {name}:VERSION")
    before = roll_back(name, tag, reason)
    _print(f"{champion_tag(name)} is the champion, in the place of {before}")
    if (address := publish(name)) is not None:
        _print(f"and at {address}")


def prune(
    pipeline: Pipeline,
    keep: Annotated[int, typer.Option(help="How many of the newest stay.", min=0)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, and remove nothing.")] = False,
) -> None:
    """Remove old releases, never the champion or the release before it; their records stay."""
    from tasks.pruning import prune as remove
    from tasks.publishing import published_at, unpublish_pruned

    goes = remove(_known(pipeline), keep, dry_run=dry_run)
    verb = "would go" if dry_run else "is removed"
    for pruned in goes:
        _print(f"{pruned.tag} {verb}: {pruned.size_bytes / 1e6:,.1f} MB")
    total = sum(pruned.size_bytes for pruned in goes) / 1e6
    _print(f"{len(goes)} releases, {total:,.1f} MB" if goes else "nothing to remove")
    for tag in unpublish_pruned(pipeline, {pruned.tag for pruned in goes}, dry_run=dry_run):
        _print(f"{tag} {verb} at {published_at(pipeline)}")


def push(pipeline: Pipeline) -> None:
    """Publish the champion again, where its runs publish it, and let the pointer there name it."""
    from tasks.publishing import push as publish
    from tasks.releases import champion_tag

    address = publish(_known(pipeline))
    if address is None:
        raise ConfigError(f"{pipeline}: was never published; set release.publish in its config")
    _print(f"{champion_tag(pipeline)} is the champion at {address}")


def pull(
    address: Annotated[
        str,
        typer.Argument(
            help="Where it was published, as s3://bucket/releases/sms_spam.",
            metavar="ADDRESS/PIPELINE[:VERSION]",
        ),
    ],
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file; the release must be signed by its private key.")
    ] = None,
) -> None:
    """Fetch a published release, check every file, and make it this machine's champion."""
    from tasks.pulling import pull as fetch

    pulled = fetch(address, public_key)
    instead = (
        f", in the place of {pulled.before}" if pulled.before not in (None, pulled.tag) else ""
    )
    _print(f"{pulled.tag} is the champion{instead}")


def _known(pipeline: str) -> str:
    """Return the name of a pipeline that has released anything."""
    from configs.errors import BentoError
    from tasks.releases import pipelines

    names = pipelines()
    if pipeline not in names:
        known = f"released are {', '.join(names)}" if names else "nothing was released yet"
        raise BentoError(f"{pipeline}: is no pipeline with a release; {known}")
    return pipeline


def _print(line: str) -> None:
    typer.echo(line)
