"""Run contenders by turns in processes of their own, and sum up what their turns took."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median, quantiles, stdev
from typing import Any, Self

import torch

from benchmarks.arithmetic import arithmetic
from benchmarks.training_cases import Case
from benchmarks.turns import Job
from tasks.worker.batches import EncodedRows
from tasks.worker.spec import TrainSpec

ROOT = Path(__file__).resolve().parent.parent
_SUMMED = (
    "seconds", "cpu_seconds", "rows", "tokens", "computed_tokens", "squared_lengths",
)  # fmt: skip


class Contender:
    """A process that trains when it is its turn."""

    def __init__(self, job: Job, threads: int | None = None) -> None:
        # Closed by __exit__, since it must outlive this call.
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.trainers", job.dumps()],
            cwd=ROOT,
            env={**os.environ, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.name, self.updates = job.contender, job.updates
        self.turns: list[dict[str, Any]] = []
        self.model: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    @property
    def has_ended(self) -> bool:
        """Return whether all updates are done."""
        return bool(self.turns) and self.turns[-1]["updates"] == self.updates

    def wait_until_ready(self) -> None:
        """Hear what is to be trained."""
        self.model = self._heard()

    def take_turn(self) -> None:
        """Let the process do its next updates, and wait for them."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.turns.append(self._heard())

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(
                f"{self.name} ended early; nothing is recorded\n{self.log.read()[-3000:]}"
            )
        event: dict[str, Any] = json.loads(line)
        return event


def race(
    case: Case,
    folder: Path,
    settings: dict[str, Any],
    rates: dict[str, float],
    names: tuple[str, ...],
    *,
    turn: int,
    judged_every: int,
    most: int | None,
) -> dict[str, Any]:
    """Return what each contender came to, and the ratios of ours to the others' speed."""
    with ExitStack() as stack:
        contenders = []
        for name in names:
            spec = case.spec(folder / f"output-{name}", **settings)
            contenders.append(stack.enter_context(_started(name, spec, turn, judged_every, most)))
        for contender in contenders:
            contender.wait_until_ready()
        forth = True
        while not contenders[0].has_ended:
            for contender in contenders if forth else reversed(contenders):
                contender.take_turn()
            forth = not forth
    return _raced(case, spec, contenders, rates)


def _raced(
    case: Case, spec: TrainSpec, contenders: list[Contender], rates: dict[str, float]
) -> dict[str, Any]:
    """Return what a race was run on, what each contender came to, and the ratios."""
    names = [contender.name for contender in contenders]
    frozen = case.adapter is not None
    trained = min(c.model["trained_parameters"] for c in contenders)
    found = {c.name: summary(c.model, c.turns, trained, rates, frozen=frozen) for c in contenders}
    target = found[names[0]]["validation"][-1]["accuracy"]
    for one in found.values():
        one[f"seconds_to_accuracy_of_{names[0]}"] = next(
            (at["seconds"] for at in one["validation"] if at["accuracy"] >= target), None
        )
    whole = _whole_schedule(spec)
    return {
        "rows_from": case.origin,
        "train_rows": len(EncodedRows(case.rows / "train")),
        "rows_an_update": spec.train_batch_size,
        "real_tokens_an_update": fmean(c["tokens_per_update"] for c in found.values()),
        "schedule": f"{spec.num_train_epochs} epochs of {whole // spec.num_train_epochs} updates, "
        f"rate {spec.learning_rate}, linear after {spec.warmup_ratio:.0%} of warm-up",
        "updates": contenders[0].updates,
        "share_of_schedule": contenders[0].updates / whole,
        "contenders": found,
        "ratios": {
            f"ours / {other}": ratio(found["ours"], found[other])
            for other in names
            if other != "ours"
        },
    }


def _whole_schedule(spec: TrainSpec) -> int:
    rows = len(EncodedRows(Path(spec.train)))
    return -(-rows // spec.train_batch_size) * spec.num_train_epochs


def _started(
    name: str,
    spec: TrainSpec,
    turn: int,
    judged_every: int,
    most: int | None,
    threads: int | None = None,
) -> Contender:
    Path(spec.output).mkdir(parents=True, exist_ok=True)
    updates = min(most or 10**9, _whole_schedule(spec))
    return Contender(Job(name, asdict(spec), updates, turn, judged_every), threads)


def summary(
    model: dict[str, Any],
    turns: list[dict[str, Any]],
    trained: int,
    rates: dict[str, float],
    *,
    frozen: bool,
) -> dict[str, Any]:
    """Return a contender's figures; its first turn warms up, and counts for no rate."""
    rated = turns[1:] or turns
    took = {key: sum(turn[key] for turn in rated) for key in _SUMMED}
    before = turns[0]["updates"] if turns[1:] else 0
    took["updates"] = turns[-1]["updates"] - before
    passed, validation = 0.0, []
    for turn in turns:
        passed += turn["seconds"]
        if turn["figures"] is not None:
            validation.append({"updates": turn["updates"], "seconds": passed, **turn["figures"]})
    return {
        **model,
        "tokens_per_second": took["tokens"] / took["seconds"],
        "tokens_per_cpu_second": took["tokens"] / took["cpu_seconds"],
        "tokens_per_second_by_turn": [turn["tokens"] / turn["seconds"] for turn in rated],
        "tokens_per_update": took["tokens"] / took["updates"],
        "padding": 1 - took["tokens"] / took["computed_tokens"],
        "seconds": passed,
        "cpu_seconds": sum(turn["cpu_seconds"] for turn in turns),
        "memory_mb": max(turn["memory_mb"] for turn in turns),
        "validation": validation,
        "arithmetic": arithmetic(model, took, trained, rates, frozen=frozen),
    }


def ratio(own: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return one's speed over another's: of all turns, by processor time, and turn by turn."""
    key = "tokens_per_second_by_turn"
    paired = [mine / its for mine, its in zip(own[key], other[key], strict=True)]
    low, _, high = quantiles(paired, n=4) if len(paired) > 1 else paired * 3
    return {
        "of_all": own["tokens_per_second"] / other["tokens_per_second"],
        "of_all_by_cpu_seconds": own["tokens_per_cpu_second"] / other["tokens_per_cpu_second"],
        "median_of_turns": median(paired),
        "quartiles_of_turns": [low, high],
        "turns": len(paired),
    }


def equal_figures(case: Case, folder: Path, settings: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Return the final validation figures of the Trainer and of ours over seeds, two runs at once."""
    specs = [
        (name, case.spec(folder / f"output-{name}-{seed}", seed=seed, **settings))
        for seed in range(1, seeds + 1)
        for name in ("grouped", "ours")
    ]
    with ThreadPoolExecutor(2) as threads:
        ran = list(threads.map(_final, specs))
    found = {
        figure: _compared(
            [
                final[figure]
                for (name, _), final in zip(specs, ran, strict=True)
                if name == "grouped"
            ],
            [final[figure] for (name, _), final in zip(specs, ran, strict=True) if name == "ours"],
        )
        for figure in ("accuracy", "f1", "loss")
    }
    rows = len(EncodedRows(case.rows / "validation"))
    return {
        "rows_from": case.origin,
        "validation_rows": rows,
        "epochs": settings["num_train_epochs"],
        "seeds": seeds,
        **found,
    }


def _final(run: tuple[str, TrainSpec]) -> dict[str, float]:
    name, spec = run
    with _started(
        name, spec, 10**9, 10**9, None, max(1, torch.get_num_threads() // 2)
    ) as contender:
        contender.wait_until_ready()
        contender.take_turn()
    figures: dict[str, float] = contender.turns[-1]["figures"]
    return figures


def _compared(theirs: list[float], own: list[float]) -> dict[str, Any]:
    """Return both with mean and standard deviation, and Welch's t of ours less theirs.

    Within |t| < 2 or so, seeds alone explain the difference; `p` is there where SciPy is.
    """
    spread = (stdev(theirs) ** 2 + stdev(own) ** 2) / len(own)
    difference = fmean(own) - fmean(theirs)
    found: dict[str, Any] = {
        name: {"by_seed": values, "mean": fmean(values), "sd": stdev(values)}
        for name, values in (("grouped", theirs), ("ours", own))
    }
    found["difference"] = difference
    if spread == 0:
        return {**found, "t": None, "p": None, "interval_95": [difference, difference]}
    found["t"] = difference / spread**0.5
    try:
        from scipy import stats
    except ModuleNotFoundError:
        return {**found, "p": None, "interval_95": None}
    test = stats.ttest_ind(own, theirs, equal_var=False)
    interval = test.confidence_interval()
    return {**found, "p": float(test.pvalue), "interval_95": [float(end) for end in interval]}
