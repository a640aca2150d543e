"""Stage prove: serve the built Bento and hold its answers against the evaluation."""

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError
from configs.schema import PipelineConfig
from tasks.evaluation import require_own_counts
from tasks.manifests import BentoManifest, EvaluationReport, ProofReport, SplitManifest
from tasks.process import child, environment_with, tail
from tasks.progress import report_progress
from tasks.steps import run_step

TOLERANCE = 1e-4
"""Largest difference allowed between a served probability and the evaluation's.

Batches of another shape add up in another order, which moves a float32 probability by about 1e-6.
"""
_SECONDS_TO_READY = 180.0
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
        BentoError: if the Bento does not start (with the end of its log), gives another label, or a
            probability that differs by more than 1e-4.
    """
    require_own_counts(split, evaluation)

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


def _cases(split: SplitManifest, evaluation: EvaluationReport, most: int) -> list[_Case]:
    """Return up to `most` test rows, evenly spread, with what the evaluation said of each."""
    texts = pq.read_table(split.path("test.parquet"))["text"].to_pylist()
    said = pq.read_table(evaluation.path("predictions.parquet")).to_pylist()
    picked = np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)
    return [
        _Case(said[i]["row"], texts[i], said[i]["predicted"], said[i]["probabilities"])
        for i in picked
    ]


def _prove(
    config: PipelineConfig,
    split: SplitManifest,
    evaluation: EvaluationReport,
    bento: BentoManifest,
    folder: Path,
) -> dict[str, Any]:
    cases = _cases(split, evaluation, config.serving.proof_rows)
    with _serving(bento, folder / "serve.log") as (client, memory, seconds):
        answers = _replay(client, cases, config.serving.max_texts)
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


@contextmanager
def _serving(
    bento: BentoManifest, log: Path
) -> Iterator[tuple[httpx.Client, "_PeakMemory", float]]:
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        str(bento.path("bento")),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = environment_with(BENTOML_HOME=str(log.with_name("store")))
    with (
        child(command, log, environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client,
        _PeakMemory(process.pid) as memory,
    ):
        started = time.perf_counter()
        while not _is_ready(client):
            waited = time.perf_counter() - started
            if process.poll() is not None or waited > _SECONDS_TO_READY or _has_given_up(log):
                raise BentoError(
                    f"{bento.tag}: bentoml serve was not ready after {waited:.0f} s (exit code "
                    f"{process.poll()}); the end of its log: {tail(log, 8)}"
                )
            report_progress("prove", 0, None, "starting the Bento")
            time.sleep(0.2)
        yield client, memory, time.perf_counter() - started


def _has_given_up(log: Path) -> bool:
    """Return whether a worker of the service ended at its start; BentoML starts it for ever anew."""
    return "Application startup failed" in log.read_text(encoding="utf-8", errors="replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(client: httpx.Client) -> bool:
    try:
        # While its worker starts, or fails to, the port takes requests that nobody answers.
        return client.get("/readyz", timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False


def _replay(client: httpx.Client, cases: list[_Case], texts_a_request: int) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for start in range(0, len(cases), texts_a_request):
        texts = [case.text for case in cases[start : start + texts_a_request]]
        response = client.post("/classify", json={"texts": texts})
        if response.status_code != 200:
            rows = f"{cases[start].row} to {cases[start + len(texts) - 1].row}"
            raise BentoError(
                f"the Bento answered {response.status_code} to test rows {rows}; expected 200"
            )
        answers += response.json()
        report_progress("prove", len(answers), len(cases), "test rows replayed over HTTP")
    return answers


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
        for case, difference, equal in zip(cases, differences, same, strict=True)
        if not equal or difference > TOLERANCE
    ]
    if wrong:
        raise BentoError(
            f"{bento.tag}: served answers differ from the evaluation on {len(wrong)} of "
            f"{len(cases)} test rows, by up to {differences.max():.2g} (allowed {TOLERANCE:g}), "
            f"rows {wrong[:_SHOWN_ROWS]}; the Bento is not released"
        )
    return int(same.sum()), float(differences.max())


def _latency_ms(client: httpx.Client, text: str) -> float:
    started = time.perf_counter()
    client.post("/classify", json={"texts": [text]})
    return 1000 * (time.perf_counter() - started)


class _PeakMemory:
    """The largest resident memory, in MB, that a process and its children held together."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                held = sum(process.memory_info().rss for process in family)
            except psutil.NoSuchProcess:
                continue
            self.peak_mb = max(self.peak_mb, held / 1e6)


prove = task(name="prove", task_run_name="prove", cache_policy=NO_CACHE)(prove_bento)
