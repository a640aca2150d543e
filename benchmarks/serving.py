"""Compare the service with other ways to serve the same model: rates, latencies, cost, memory.

`python -m benchmarks.serving` takes a released pipeline (`--pipeline sms_spam`), its model as it was
trained and its forms, and its test texts. All servers are started once; then, in rounds, each is
loaded while the others are stopped: by 1, 16 and 64 clients that each wait for their answer, and at
70 % of its own best rate at random times. Rivals are in `benchmarks/rivals`, those that are not
installed here in environments of their own below `--cache`. `--forms` leaves all rivals out but the
documented service, and writes `serving_forms.json`. `--quick` takes the fastest few, briefly.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import (
    Contestant,
    all_started,
    bentoml_rival,
    ceiling,
    infinity,
    litserve,
    megabytes,
    ours,
)
from benchmarks.line import RESULTS, surroundings
from benchmarks.load import closed_loop, open_loop
from tasks.building import lay_out, run_bentoml
from tasks.golden import write_golden
from tasks.integrity import write_manifest
from tasks.manifests import CheckpointManifest, EvaluationReport, Manifest, SplitManifest
from tasks.releases import champion
from tasks.requirements import MODULES_OF, SERVING_ROOTS, serving_requirements
from tasks.steps import home, write_json

CLIENTS = (1, 16, 64)
DOCUMENTED, FAIR, BATCHED = "BentoML documented", "BentoML fair", "BentoML batched"
LITSERVE, LITSERVE_ENGINE, ALONE = "LitServe batched", "LitServe with our engine", "engine alone"


def main(arguments: list[str]) -> None:
    """Measure, print the tables, and write `benchmarks/results/serving.json`."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory(prefix="ekiben-serving-") as folder:
        found = measured(options, Path(folder))
    found = {
        **surroundings(),
        "command": f"python -m benchmarks.serving {' '.join(arguments)}".strip(),
        **found,
    }
    name = f"serving{'_quick' if options.quick else '_forms' * options.forms}.json"
    (RESULTS / name).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for table in tables(found):
        Console(width=140).print(table)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving")
    parser.add_argument("--pipeline", default="sms_spam")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--cache", type=Path, default=home() / "rivals")
    parser.add_argument("--forms", action="store_true", help="no rival but the documented service")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures of all, by name, and their ratios to the documented service."""
    models, texts = models_of(options.pipeline)
    bentos = {
        kind: bento_of(options.pipeline, model, folder / kind) for kind, model in models.items()
    }
    form = next(kind for kind in ("openvino-int8", "transformer") if kind in bentos)
    source = bentos[form] / "src"
    contestants = list(contestants_of(models, bentos, source, options))
    rounds: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(all_started(contestants, folder))
        alone = stack.enter_context(ceiling(source, source / "model", texts, folder))
        for number in range(options.rounds):
            told: dict[str, Any] = {}
            for contestant in contestants:
                print(f"round {number + 1}: {contestant.name}", file=sys.stderr)
                told[contestant.name] = loads(contestant, texts, options.seconds)
            told[ALONE] = {"64": alone.measure(options.seconds)}
            rounds.append(told)
    sizes = {
        DOCUMENTED: megabytes(serving_requirements(("bentoml", "torch", "transformers"))),
        **{
            f"Ekiben {kind}": megabytes(serving_requirements(SERVING_ROOTS[kind]))
            for kind in bentos
        },
    }
    return {
        "texts": len(texts),
        "clients": CLIENTS,
        "seconds_of_each_load": options.seconds,
        "seconds_to_the_first_answer": {c.name: c.first_answer for c in contestants},
        "environment_mb": sizes,
        "rounds": rounds,
        "ratios": ratios(rounds),
    }


def models_of(pipeline: str) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of the champion as trained and in its forms, by kind, and its test texts."""
    record = champion(pipeline)
    if record is None:
        raise SystemExit(
            f"{pipeline} has no release; run `ekiben run configs/{pipeline}.yaml` first"
        )
    steps = home() / "steps"
    evaluation = _step(steps / "evaluate", EvaluationReport, record.digests["evaluation"])
    split = _step(steps / "split", SplitManifest, evaluation.parents["split"])
    original = evaluation
    if "original" in evaluation.parents:
        original = _step(steps / "evaluate", EvaluationReport, evaluation.parents["original"])
    trained = _step(steps / "finetune", CheckpointManifest, original.parents["checkpoint"])
    baseline = _step(steps / "baseline", CheckpointManifest, original.parents["baseline"])
    found = {"transformer": trained.path("model"), "linear": baseline.path("model")}
    students = map(CheckpointManifest.read, (steps / "distil").glob("*/manifest.json"))
    own = {each.digest for each in students if each.parents["teacher"] == trained.digest}
    for file in sorted((steps / "form").glob("*/manifest.json"), key=lambda it: it.stat().st_mtime):
        form = CheckpointManifest.read(file)
        if form.parents["checkpoint"] in {trained.digest, *own}:
            found[form.kind] = form.path("model")  # of several students, the last
    return found, pq.read_table(split.path("test.parquet"))["text"].to_pylist()


def _step(folder: Path, kind: type[Any], digest: str) -> Any:
    for file in folder.glob("*/manifest.json"):
        manifest: Manifest = kind.read(file)
        if manifest.digest == digest:
            return manifest
    raise SystemExit(f"{folder} has no step {digest[:16]}; run the pipeline anew")


def bento_of(pipeline: str, model: Path, folder: Path) -> Path:
    """Build a Bento of a model as it would be released, with the service of this version."""
    record = champion(pipeline)
    assert record is not None
    kind = folder.name
    card = json.loads((record.bento_path / "src/model/card.json").read_text(encoding="utf-8"))
    window = {} if kind != "linear" else {"max_length": None, "pad_token_id": None}
    folder.mkdir()
    context = folder / "context"
    lay_out(context, kind, model, serving_requirements(SERVING_ROOTS[kind]))
    write_json(context / "model" / "card.json", {**card, **window, "kind": kind})
    (context / "README.md").write_text(f"# {pipeline}\n", encoding="utf-8")
    write_golden(context)
    assert MODULES_OF[kind]
    built = run_bentoml(pipeline, "benchmark", context, folder)
    write_manifest(built, f"{pipeline}:benchmark")
    return built


def contestants_of(
    models: dict[str, Path], bentos: dict[str, Path], source: Path, options: argparse.Namespace
) -> Iterator[Contestant]:
    """Yield the servers to compare."""
    trained = models["transformer"]
    yield bentoml_rival(DOCUMENTED, "documented", "Documented", "text", trained)
    if not (options.quick or options.forms):
        yield bentoml_rival(FAIR, "fair", "Documented", "text", trained)
        yield bentoml_rival(BATCHED, "batched", "Batched", "texts", trained)
        yield litserve(LITSERVE, "documented", trained, source, options.cache)
        yield litserve(LITSERVE_ENGINE, "engine", source / "model", source, options.cache)
        yield infinity(_named(trained, options.cache), options.cache)
    for kind in [kind for kind in bentos if not (options.quick and kind == "transformer")]:
        yield ours(f"Ekiben {kind}", bentos[kind])


def _named(trained: Path, cache: Path) -> Path:
    """Return a copy of the model whose labels' names infinity takes for a classifier's."""
    copy = cache / "model"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(trained, copy)
    return copy


def loads(contestant: Contestant, texts: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return what each load came to, by the number of clients, and at 70 % of the best rate."""
    requests = [contestant.request(text) for text in texts]
    assert contestant.process is not None
    contestant.wake()
    try:
        asyncio.run(
            closed_loop(contestant.port, requests, 8, min(1.0, seconds), contestant.process)
        )
        found: dict[str, Any] = {}
        for clients in CLIENTS:
            load = closed_loop(contestant.port, requests, clients, seconds, contestant.process)
            found[str(clients)] = asyncio.run(load).told()
        rate = 0.7 * max(found[str(clients)]["requests_per_second"] for clients in CLIENTS)
        load = open_loop(contestant.port, requests, max(rate, 1.0), seconds, contestant.process)
        found["open"] = asyncio.run(load).told()
    finally:
        contestant.sleep()
    return found


def ratios(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return each contestant's figures over the documented service's, as [median, least, most]."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        for load in rounds[0][name]:
            for figure in ("requests_per_second", "cpu_ms", "p50_ms", "p99_ms", "memory_mb"):
                values = [
                    told[name][load][figure] / told[DOCUMENTED][load][figure]
                    for told in rounds
                    if figure in told[name][load] and told[DOCUMENTED][load][figure]
                ]
                if values:
                    spread = [median(values), min(values), max(values)]
                    found.setdefault(name, {}).setdefault(load, {})[figure] = spread
    return found


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Yield a table of each load: medians of the rounds, and ratios to the documented service."""
    first = found["seconds_to_the_first_answer"]
    for load in (*map(str, found["clients"]), "open"):
        title = (
            "70 % of its own best rate, at random times" if load == "open" else f"{load} clients"
        )
        table = Table(title=title, title_justify="left")
        for heading in (
            "server",
            "requests/s",
            "ratio",
            "p50 ms",
            "p99 ms",
            "CPU ms",
            "ratio",
            "memory MB",
            "first answer s",
        ):
            table.add_column(heading, justify="left" if heading == "server" else "right")
        for name in found["rounds"][0]:
            told = [each[name][load] for each in found["rounds"] if load in each[name]]
            if told:
                table.add_row(
                    name, *_cells(told, found["ratios"][name][load]), f"{first.get(name, 0):.1f}"
                )
        yield table


def _cells(told: Sequence[dict[str, float]], ratio: dict[str, list[float]]) -> Iterator[str]:
    for figure, digits in (
        ("requests_per_second", 1),
        ("p50_ms", 1),
        ("p99_ms", 1),
        ("cpu_ms", 2),
        ("memory_mb", 0),
    ):
        values = [each[figure] for each in told if figure in each]
        yield f"{median(values):.{digits}f}" if values else ""
        if figure in ("requests_per_second", "cpu_ms"):
            yield f"{ratio[figure][0]:.2f}" if figure in ratio else ""


if __name__ == "__main__":
    main(sys.argv[1:])
