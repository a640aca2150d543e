"""Stage prove: serve the built Bento and hold its answers against the evaluation."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError
from configs.schema import PipelineConfig
from tasks.evaluation import require_own_counts
from tasks.manifests import BentoManifest, EvaluationReport, ProofReport, SplitManifest
from tasks.progress import report_progress
from tasks.serving import classify, serving
from tasks.slices import require_own_slices
from tasks.steps import run_step

TOLERANCE = 1e-4
"""Largest difference allowed between a served probability and the evaluation's.

Batches of another shape add up in another order, which moves a float32 probability by about 1e-6.
"""
_LATENCY_REQUESTS = 100
_SHOWN_ROWS = 5


def prove_bento(
    config: PipelineConfig, split: SplitManifest, evaluation: EvaluationReport, bento: BentoManifest
) -> ProofReport:
    """Return what the Bento answered when `bentoml serve` ran it on a free loopback port.

    The test split, or `serving.proof_rows` rows spread evenly over it, goes through HTTP.

    Raises:
        StepError: if split or evaluation were changed since they were made.
        GateError: if the evaluation does not count its own predictions.
        BentoError: if the Bento does not start (with the end of its log), gives another label, a
            probability that differs by more than 1e-4, or is sure of another row, unless that row's
            confidence is within 1e-4 of the threshold.
    """
    require_own_counts(split, evaluation)
    require_own_slices(config, split, evaluation)

    def produce(folder: Path) -> dict[str, Any]:
        return _prove(config, split, evaluation, bento, folder)

    return run_step(
        "prove",
        ProofReport,
        section=config.serving.model_dump(mode="json"),
        parents={"bento": bento.digest, "evaluation": evaluation.digest},
        produce=produce,
    )


@dataclass(frozen=True)
class _Case:
    row: int
    text: str
    label: str
    probabilities: list[float]
    unsure: bool | None


def _cases(split: SplitManifest, evaluation: EvaluationReport, most: int) -> list[_Case]:
    """Return up to `most` test rows, evenly spread, with what the evaluation said of each."""
    texts = pq.read_table(split.path("test.parquet"))["text"].to_pylist()
    said = pq.read_table(evaluation.path("predictions.parquet")).to_pylist()
    picked = np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)
    return [
        _Case(
            said[i]["row"],
            texts[i],
            said[i]["predicted"],
            said[i]["probabilities"],
            _is_unsure(evaluation, said[i]["probabilities"]),
        )
        for i in picked
    ]


def _is_unsure(evaluation: EvaluationReport, probabilities: list[float]) -> bool | None:
    """Return whether the service must be unsure of an answer, or None where rounding decides."""
    if evaluation.abstention is None:
        return False
    threshold, confidence = evaluation.abstention.threshold, max(probabilities)
    if threshold is None:
        return True
    return None if abs(confidence - threshold) <= TOLERANCE else confidence < threshold


def _prove(
    config: PipelineConfig,
    split: SplitManifest,
    evaluation: EvaluationReport,
    bento: BentoManifest,
    folder: Path,
) -> dict[str, Any]:
    cases = _cases(split, evaluation, config.serving.proof_rows)
    texts, rows = [case.text for case in cases], [case.row for case in cases]

    def starting() -> None:
        report_progress("prove", 0, None, "starting the Bento")

    def answered(count: int) -> None:
        report_progress("prove", count, len(cases), "test rows replayed over HTTP")

    with serving(bento.tag, bento.path("bento"), folder / "serve.log", starting) as (
        client, memory, seconds,
    ):  # fmt: skip
        answers = classify(client, texts, rows, config.serving.max_texts, answered)
        equal, difference = _compare(bento, cases, answers, evaluation.labels)
        latencies = [_latency_ms(client, case.text) for case in cases[:_LATENCY_REQUESTS]]
    (folder / "serve.log").unlink()
    shutil.rmtree(folder / "store", ignore_errors=True)
    return {
        "rows_replayed": len(cases),
        "labels_equal": equal,
        "largest_difference": difference,
        "latency_p50_ms": float(np.percentile(latencies, 50)),
        "latency_p99_ms": float(np.percentile(latencies, 99)),
        "latency_requests": len(latencies),
        "peak_memory_mb": memory.peak_mb,
        "seconds_to_ready": seconds,
    }


def _compare(
    bento: BentoManifest, cases: list[_Case], answers: list[dict[str, Any]], labels: tuple[str, ...]
) -> tuple[int, float]:
    """Return how many labels are equal and the largest difference of any probability."""
    served = np.array([[answer["probabilities"][label] for label in labels] for answer in answers])
    differences = np.abs(served - np.array([case.probabilities for case in cases])).max(axis=1)
    same = np.array(
        [a["label"] == case.label for a, case in zip(answers, cases, strict=True)], dtype=bool
    )
    wrong = [
        case.row
        for case, answer, difference, equal in zip(cases, answers, differences, same, strict=True)
        if not equal or difference > TOLERANCE or case.unsure not in (answer["unsure"], None)
    ]
    if wrong:
        raise BentoError(
            f"{bento.tag}: served answers differ from the evaluation on {len(wrong)} of "
            f"{len(cases)} test rows, in label, in what is sure, or by up to "
            f"{differences.max():.2g} (allowed {TOLERANCE:g}), rows {wrong[:_SHOWN_ROWS]}; the Bento "
            "is not released"
        )
    return int(same.sum()), float(differences.max())


def _latency_ms(client: httpx.Client, text: str) -> float:
    started = time.perf_counter()
    client.post("/classify", json={"texts": [text]})
    return 1000 * (time.perf_counter() - started)


prove = task(name="prove", task_run_name="prove", cache_policy=NO_CACHE)(prove_bento)
