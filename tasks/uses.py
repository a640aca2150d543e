"""Uses of a test set: a line for each model that it has decided on, in a ledger that only grows."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from configs.errors import GateError
from tasks.steps import home, make_folder


def count_use(test_set: str, model: str, pipeline: str) -> int:
    """Return how many models the test set has decided on up to this one, which is noted if new.

    `test_set` is the digest of its rows, `model` that of the candidate's predictions. A model that
    is decided on again keeps its number.

    Raises:
        GateError: if the ledger holds a line that is not its own.
    """
    ledger = home() / "test_sets" / f"{test_set[:16]}.jsonl"
    make_folder(ledger.parent)
    with FileLock(ledger.with_name(f".{ledger.name}.lock")):
        models = _models(ledger)
        if model not in models:
            _append(ledger, {"model": model, "pipeline": pipeline, "decided_at": _now()})
            models.append(model)
    return models.index(model) + 1


def _models(ledger: Path) -> list[str]:
    """Return the models in their order; a last line that was torn is cut off, and counts for none."""
    if not ledger.exists():
        return []
    written = ledger.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        os.truncate(ledger, len(whole))
    models: list[str] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            models.append(str(json.loads(line)["model"]))
        except (ValueError, KeyError, TypeError):
            raise GateError(
                f"{ledger}: line {number} is not a use of a test set; restore the file, since "
                "without it nobody knows how often the set was used"
            ) from None
    return models


def _append(ledger: Path, use: dict[str, str]) -> None:
    with ledger.open("ab") as stream:
        stream.write(json.dumps(use).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
