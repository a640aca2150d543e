"""Decision records: one JSON file a decision, from which its verdict can be worked out again.

A record holds the gate's limits and every count that they were held against, so that neither rows
nor a model are needed. Its digest shows that it was edited; it is no signature, and one who also
makes the digest anew must make a record that agrees with itself in every number.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from math import isclose
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from configs.errors import GateError
from configs.loading import explain
from configs.schema import Gate
from tasks.digests import code_digest, value_digest
from tasks.gate import force, judge
from tasks.manifests import Evidence, GateDecision, Record
from tasks.steps import home, make_folder, write_json

SCHEMA_VERSION = 1
MOST_BYTES = 64 * 1024 * 1024
_MOST_DIFFERENCES = 20
_CLOSE = 1e-9  # by which sums may differ between machines


class DecisionRecord(Record):
    """A decision with all that it was made on; `digest` is the SHA-256 of everything else."""

    schema_version: Literal[1]
    pipeline: str
    decided_at: str
    ekiben: str
    code: str
    gate: Gate
    evidence: Evidence
    decision: GateDecision
    digest: str


def record_of(
    pipeline: str, gate: Gate, evidence: Evidence, decision: GateDecision
) -> DecisionRecord:
    """Return the record of a decision that was made now."""
    record = DecisionRecord(
        schema_version=SCHEMA_VERSION,
        pipeline=pipeline,
        decided_at=datetime.now(UTC).isoformat(),
        ekiben=version("ekiben"),
        code=code_digest(),
        gate=gate,
        evidence=evidence,
        decision=decision,
        digest="",
    )
    return record.model_copy(update={"digest": _digest(record.model_dump(mode="json"))})


def write_record(record: DecisionRecord) -> Path:
    """Write the record under the Ekiben home and return its path."""
    folder = home() / "decisions" / record.pipeline
    make_folder(folder)
    stamp = datetime.fromisoformat(record.decided_at).strftime("%Y%m%dT%H%M%S%f")
    file = folder / f"{stamp}-{record.decision.verdict}.json"
    write_json(file, record.model_dump(mode="json"))
    return file


def read_record(file: Path) -> tuple[DecisionRecord, list[str]]:
    """Return the record in a file, and in words what is wrong with it.

    Raises:
        GateError: if the file holds no decision record, or one that cannot be understood.
    """
    tree = _tree(file)
    edited = tree.get("digest") != _digest(tree)
    told = "its digest is not that of what it says; it was edited after the decision"
    problems = [told] if edited else []
    try:
        record = DecisionRecord.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        named = [f"{file}: {problem}" for problem in problems]
        raise GateError(named + explain(error, str(file))) from None
    return record, problems + list(contradictions(record))


def contradictions(record: DecisionRecord) -> Iterator[str]:
    """Yield in words where the decision is not what the gate makes of the evidence."""
    try:
        decision = judge(record.gate, record.evidence)
    except GateError as error:
        yield from error.problems
        return
    if record.decision.forced is not None:
        decision = force(decision, record.decision.forced)
    told, made = record.decision.model_dump(mode="json"), decision.model_dump(mode="json")
    differences = list(_differences(told, made, "decision"))
    yield from differences[:_MOST_DIFFERENCES]
    if len(differences) > _MOST_DIFFERENCES:
        yield f"and {len(differences) - _MOST_DIFFERENCES} more differences"
    if differences and record.code != code_digest():
        yield f"another version of the code decided (Ekiben {record.ekiben}, {record.code[:16]})"


def _differences(told: Any, made: Any, where: str) -> Iterator[str]:
    """Yield where two JSON values differ."""
    if isinstance(told, dict) and isinstance(made, dict) and told.keys() == made.keys():
        for key in told:
            yield from _differences(told[key], made[key], f"{where}.{key}")
    elif isinstance(told, list) and isinstance(made, list) and len(told) == len(made):
        for number, pair in enumerate(zip(told, made, strict=True)):
            yield from _differences(*pair, f"{where}.{number}")
    elif not _same(told, made):
        yield f"{where} is {_short(told)} in the record, and {_short(made)} by its evidence"


def _same(told: Any, made: Any) -> bool:
    if isinstance(told, float) and isinstance(made, float):
        return isclose(told, made, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return bool(told == made)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _digest(tree: dict[str, Any]) -> str:
    return value_digest({key: value for key, value in tree.items() if key != "digest"})


def _tree(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file, if it is a record of this schema."""
    try:
        with file.open("rb") as stream:
            written = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise GateError(
            f"{file}: cannot be read ({error.strerror}); name the file of a decision record"
        ) from None
    foreign = f"{file}: is no decision record; name one from decisions/ or a Bento's decision.json"
    if len(written) > MOST_BYTES:
        raise GateError(foreign)
    try:
        tree = json.loads(written, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise GateError(foreign) from None
    if not isinstance(tree, dict) or "schema_version" not in tree or "evidence" not in tree:
        raise GateError(foreign)
    if tree["schema_version"] != SCHEMA_VERSION:
        raise GateError(
            f"{file}: has the schema version {_short(tree['schema_version'])}, and this Ekiben "
            f"reads {SCHEMA_VERSION}; verify it with the Ekiben that wrote it"
        )
    return tree


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, unless a key stands in it twice: readers differ in which one counts."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)
