"""Stage challenge: ask the champion's own Bento about this run's test rows."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError
from configs.schema import PipelineConfig
from tasks.contests import contest_of
from tasks.digests import folder_digest
from tasks.evaluation import PREDICTIONS
from tasks.figures import measure
from tasks.fingerprints import fingerprints
from tasks.manifests import (
    ChallengeReport,
    Contest,
    EvaluationReport,
    ReleaseRecord,
    SplitManifest,
)
from tasks.progress import report_progress
from tasks.releases import champion, place_of, read_release, record_file, require_as_released
from tasks.serving import classify, serving
from tasks.steps import run_step

log = logging.getLogger("ekiben")
_TRAINED_ON = ("train", "validation")


def challenge_champion(
    config: PipelineConfig, split: SplitManifest, evaluation: EvaluationReport
) -> ChallengeReport:
    """Return how candidate and champion did on the test rows that neither was trained on.

    The champion's Bento is started and answers over HTTP, with its own code, cleaning and tokenizer.
    Where the champion is this very model, the release before it is asked, as it was the first time:
    so a rerun that changes nothing comes to the same decision. Where there is none, or it cannot be
    compared, the report says why.
    """
    latest = champion(config.name)
    released = _other_than(evaluation, latest)
    parents = {"split": split.digest, "evaluation": evaluation.digest}
    if latest is not None and released is not latest:
        before = "there is none before it" if released is None else f"{released.tag} was before it"
        log.info("challenge: the champion %s is this very model; %s", latest.tag, before)
    if released is None:
        return _without(None, "missing", "there is no other release to compare with", parents)
    parents["champion"] = folder_digest(released.bento_path)
    try:
        return run_step(
            "challenge",
            ChallengeReport,
            section="compared",
            parents=parents,
            produce=lambda folder: _challenge(split, evaluation, released, folder),
        )
    except BentoError as error:  # made of nothing that is kept: the next run tries again
        told = f"the champion cannot be compared: {error}"
        return _without(released.tag, "unusable", told, parents)


def _other_than(
    evaluation: EvaluationReport, released: ReleaseRecord | None
) -> ReleaseRecord | None:
    """Return the release, or the newest before it, that is no form of this very model."""
    seen: set[str] = set()
    while released is not None and _model(released) == evaluation.model:
        seen.add(released.tag)
        before = released.previous
        if before is None or before in seen or not record_file(before).exists():
            return None
        released = read_release(before)
        if not released.bento_path.is_dir():
            return None
    return released


def _model(released: ReleaseRecord) -> str:
    """Return the digest of what a release's original predicted, by which a model is known."""
    try:
        decided = json.loads((released.bento_path / "decision.json").read_text(encoding="utf-8"))
        evaluation = decided["evidence"]["evaluation"]
        original = evaluation.get("original")
        return str(original["model"] if original else evaluation["files"][PREDICTIONS])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def _without(tag: str | None, status: str, told: str, parents: dict[str, str]) -> ChallengeReport:
    fields: dict[str, Any] = {
        "champion": tag, "status": status, "told": told, "rows": 0, "left_out": 0,
        "contest": Contest(counts=()), "figures": {},
    }  # fmt: skip
    return run_step(
        "challenge",
        ChallengeReport,
        section=[status, told],
        parents=parents,
        produce=lambda _folder: fields,
    )


def _challenge(
    split: SplitManifest, evaluation: EvaluationReport, released: ReleaseRecord, folder: Path
) -> dict[str, Any]:
    labels = evaluation.labels
    at_once = _texts_a_request(released, labels)
    require_as_released(released)  # its code is about to be run
    test = pq.read_table(split.path("test.parquet"), columns=["row", "text", "label"])
    unseen = ~np.isin(fingerprints(test["text"].combine_chunks()), _trained_on(released))
    if not unseen.any():
        raise BentoError(f"{released.tag}: was trained on every one of the test rows")
    rows = test.filter(unseen)
    said = pq.read_table(evaluation.path(PREDICTIONS), columns=["predicted"])
    named = _ask(released, rows["text"].to_pylist(), rows["row"].to_pylist(), at_once, folder)
    numbers = {label: number for number, label in enumerate(labels)}
    actual, given, other = (
        np.array([numbers[label] for label in column], dtype=np.int64)
        for column in (
            rows["label"].to_pylist(),
            said.filter(unseen)["predicted"].to_pylist(),
            named,
        )
    )
    samples, seed = evaluation.bootstrap_samples, evaluation.bootstrap_seed
    left_out = len(test) - len(rows)
    return {
        "champion": released.tag,
        "status": "compared",
        "told": f"{released.tag} on {len(rows):,} test rows; it was trained on {left_out:,} others",
        "rows": len(rows),
        "left_out": left_out,
        "contest": contest_of(actual, given, other),
        "figures": measure(other, actual, labels, samples, seed),
    }


def _texts_a_request(released: ReleaseRecord, labels: tuple[str, ...]) -> int:
    """Return how many texts the champion takes at once, if it knows the same labels."""
    card = released.bento_path / "src" / "model" / "card.json"
    try:
        told = json.loads(card.read_text(encoding="utf-8"))
        known, most = sorted(told["labels"]), int(told["max_texts"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise BentoError(f"{released.tag}: has no readable card.json in its Bento") from None
    if known != sorted(labels):
        raise BentoError(f"{released.tag}: knows the labels {known}, not {sorted(labels)}")
    return most


def _ask(
    released: ReleaseRecord, texts: list[str], rows: list[int], at_once: int, folder: Path
) -> list[str]:
    """Return the label that the champion gives each text."""

    def starting() -> None:
        report_progress("challenge", 0, None, f"starting {released.tag}")

    def answered(count: int) -> None:
        report_progress("challenge", count, len(texts), f"test rows given to {released.tag}")

    log = folder / "serve.log"
    with serving(released.tag, place_of(released.tag), log, starting) as (client, _, _):
        answers = classify(client, texts, rows, at_once, answered)
    log.unlink()
    return [answer["label"] for answer in answers]


def remember_rows(record: ReleaseRecord, split: SplitManifest) -> None:
    """Keep the fingerprints of what a release was trained on beside its record."""
    columns = [
        pq.read_table(split.path(f"{side}.parquet"), columns=["text"])["text"].combine_chunks()
        for side in _TRAINED_ON
    ]
    seen = np.unique(np.concatenate([fingerprints(texts) for texts in columns]))
    file = _rows_file(record)
    partial = file.with_name(f".{file.name}.partial.npy")
    np.save(partial, seen)
    partial.replace(file)


def _trained_on(record: ReleaseRecord) -> NDArray[np.uint64]:
    try:
        seen: NDArray[np.uint64] = np.load(_rows_file(record), allow_pickle=False)
    except (OSError, ValueError):
        raise BentoError(
            f"{record.tag}: what it was trained on is not known, so test rows may be among it"
        ) from None
    return seen


def _rows_file(record: ReleaseRecord) -> Path:
    return record_file(record.tag).with_suffix(".rows.npy")


challenge = task(name="challenge", task_run_name="challenge", cache_policy=NO_CACHE)(
    challenge_champion
)
