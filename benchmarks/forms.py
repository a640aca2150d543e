"""The ladder of forms on real data: what each form costs, and what it loses against its original.

`python -m benchmarks.forms` trains on SMS, tweets and Reuters news, or on those named by `--data`,
on all rows or on `--rows` of them chosen by content hash, and puts the model's forms through the
stages of the line; students of as many layers as `--layers` says are among them. The only rule is
that a form loses no more than a point of accuracy, so that all are told of, whatever the original is
worth. Costs are measured in turns. Steps are kept in the Ekiben home: an interrupted run goes on.
`--quick` takes few SMS and a model of two layers.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, ROOT, surroundings
from benchmarks.texts import reuters_r8
from configs.errors import FormError
from configs.loading import load_config
from configs.schema import Gate, PipelineConfig
from configs.serving import Student
from tasks.auditing import find_label_errors
from tasks.baseline import fit_baseline
from tasks.calibrating import calibrate_candidate
from tasks.distilling import distil_student
from tasks.duplicates import find_duplicates
from tasks.evaluation import evaluate_candidate
from tasks.finetuning import fine_tune
from tasks.forms import make_form
from tasks.gate import judge
from tasks.ingest import read_dataset
from tasks.ladder import AS_TRAINED, OVER_ORIGINAL
from tasks.manifests import CheckpointManifest, EvaluationReport, Evidence, SplitManifest
from tasks.progress import listening
from tasks.splitting import split_rows
from tasks.steps import home
from tasks.validation import validate_dataset
from tasks.weighing import measured, weigh_form

DATA = ("sms_spam", "tweet_sentiment", "reuters_r8")
FIGURES = ("accuracy", "f1.macro")
GATE = Gate.model_validate(  # of macro F1 only the gain is asked for, not that it is small
    {"accuracy": {"min": 0.001}, "form": {"min_gain": {"accuracy": -0.01, "f1.macro": -0.99}}}
)
REUTERS: dict[str, Any] = {"learning_rate": 1e-4, "num_train_epochs": 3, "max_length": 128}
_MOST_ROWS = 500  # as the stage weighs

Makers = dict[str, Callable[[], CheckpointManifest]]


def config_of(name: str, rows: int | None) -> PipelineConfig:
    """Return the config of one dataset, with so many rows of it, and the benchmark's gate."""
    if name == "reuters_r8":
        file = home() / "benchmarks" / "reuters_r8.csv"
        texts = reuters_r8()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *texts.items()])
        labels = sorted(set(texts.values()))
        config = PipelineConfig.model_validate(
            {
                "name": name,
                "data": {"uri": str(file), "labels": labels},
                "training": REUTERS,
                "gate": GATE,
            }
        )
    else:
        config = load_config(ROOT / "configs" / f"{name}.yaml")
    split = config.split if rows is None else config.split.model_copy(update={"sample_rows": rows})
    return config.model_copy(update={"gate": GATE, "split": split})


@dataclass(frozen=True)
class Line:
    """The stages that one model and its forms go through."""

    config: PipelineConfig
    split: SplitManifest
    baseline: CheckpointManifest

    @classmethod
    def of(cls, config: PipelineConfig) -> "Line":
        """Take the data up to the split."""
        dataset = read_dataset(config.data)
        duplicates = find_duplicates(config, dataset, validate_dataset(config, dataset))
        suspects = find_label_errors(config, dataset, duplicates)
        split = split_rows(config, dataset, duplicates, suspects)
        return cls(config, split, fit_baseline(config, split))

    def makers(self, trained: CheckpointManifest, layers: list[int]) -> Makers:
        """Return what makes each form, cheapest first."""

        def student(count: int) -> CheckpointManifest:
            serving = self.config.serving.model_copy(
                update={"student": Student(num_hidden_layers=count)}
            )
            asked = self.config.model_copy(update={"serving": serving})
            return make_form(
                asked, self.split, distil_student(asked, self.split, trained), "student"
            )

        return {
            "baseline": lambda: self.baseline,
            **{f"student of {count}": partial(student, count) for count in sorted(layers)},
            "int8": lambda: make_form(self.config, self.split, trained, "int8"),
            "fp32": lambda: make_form(self.config, self.split, trained, "fp32"),
        }

    def evaluated(
        self, model: CheckpointManifest, original: EvaluationReport | None = None
    ) -> EvaluationReport:
        """Calibrate and evaluate a model, beside the original that it is a form of."""
        calibration = calibrate_candidate(self.config, self.split, model)
        return evaluate_candidate(
            self.config, self.split, model, calibration, self.baseline, original
        )


def ladder(config: PipelineConfig, layers: list[int], turns: int) -> dict[str, Any]:
    """Return what every form of the model costs and comes to."""
    line = Line.of(config)
    trained = fine_tune(config, line.split)
    original = line.evaluated(trained)
    models, told = {AS_TRAINED: trained}, {AS_TRAINED: figures_of(original)}
    not_made = {}
    for form, make in line.makers(trained, layers).items():
        try:
            models[form] = make()
        except FormError as error:
            not_made[form] = str(error)
            continue
        told[form] = figures_of(line.evaluated(models[form], original))
        told[form]["training_seconds"] = round(models[form].seconds, 1)
    costs = weighed(line, models, turns)
    return {
        "rows": line.split.rows,
        "labels": len(config.data.label_names),
        "training": {"seconds": round(trained.seconds, 1), "epochs": len(trained.epochs)},
        "forms": {form: told[form] | costs[form] for form in models},
        "not_made": not_made,
    }


def figures_of(report: EvaluationReport) -> dict[str, Any]:
    """Return the figures, and of a form what it gains with 95% intervals, and the verdict."""
    found: dict[str, Any] = {}
    for name in FIGURES:
        figure = report.figures[name]
        found[name] = {"value": figure.value, "low": figure.low, "high": figure.high}
    if report.original is None:
        return found
    decision = judge(GATE, Evidence(evaluation=report))
    gains = {
        rule.metric.removesuffix(OVER_ORIGINAL): rule.figure
        for rule in decision.rules
        if rule.metric.endswith(OVER_ORIGINAL)
    }
    found["gains"] = {
        name: {"value": gain.value, "low": gain.low, "high": gain.high}
        for name, gain in gains.items()
        if gain is not None
    }
    return found | {"verdict": decision.verdict}


def weighed(line: Line, models: dict[str, CheckpointManifest], turns: int) -> dict[str, Any]:
    """Return size and memory of each form, and its processor's time a text, measured in turns."""
    column = pq.read_table(line.split.path("validation.parquet"), columns=["text"])["text"]
    texts = column[:_MOST_ROWS].to_pylist()
    taken: dict[str, list[float]] = {form: [] for form in models}
    for _ in range(turns):
        for form, model in models.items():
            with tempfile.TemporaryDirectory(prefix="ekiben-forms-") as folder:
                told = measured(line.config, model, texts, Path(folder))
            taken[form].append(told["cpu_ms"])
            print(f"{form}: {told['cpu_ms']:.3f} ms a text", file=sys.stderr)
    own = taken[AS_TRAINED]
    found = {}
    for form, model in models.items():
        weight = weigh_form(line.config, line.split, model)
        ratios = [whole / part for whole, part in zip(own, taken[form], strict=True)]
        found[form] = {
            "parameters": model.parameters,
            "size_mb": round(weight.size_mb, 1),
            "memory_mb": round(weight.memory_mb),
            "cpu_ms": [round(value, 4) for value in _spread(taken[form])],
            "texts_per_core_second": round(1000 / median(taken[form]), 1),
            "times_as_fast": [round(value, 2) for value in _spread(ratios)],
        }
    return found


def _spread(values: list[float]) -> list[float]:
    return [median(values), min(values), max(values)]


def main(arguments: list[str]) -> None:
    """Measure, print the ladders, and put them into `benchmarks/results/forms.json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.forms")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--rows", type=int, help="of each dataset; all by default")
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 2], help="of the students")
    parser.add_argument("--turns", type=int, default=3, help="in which costs are measured")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    names = ["smoke"] if asked.quick else asked.data
    file = RESULTS / f"forms{'_quick' * asked.quick}.json"
    known = json.loads(file.read_text(encoding="utf-8"))["data"] if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.forms", *arguments])
    for name in names:
        config = config_of(name, 400 if asked.quick else asked.rows)
        layers, turns = ([1], 1) if asked.quick else (asked.layers, asked.turns)
        with listening(_tell):
            found = {**surroundings(), "command": command, **ladder(config, layers, turns)}
        known[name] = found
        whole = {**surroundings(), "command": command, "data": known}
        file.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        for table in tables({name: found}):
            Console(width=140).print(table)


def _tell(stage: str, done: int, total: int | None, note: str) -> None:
    of_all = "" if total is None else f" of {total:,}"
    print(f"{stage}: {done:,}{of_all} {note}", file=sys.stderr)


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Yield the ladder of each dataset."""
    for name, told in found.items():
        rows = ", ".join(f"{side} {count:,}" for side, count in told["rows"].items())
        table = Table(title=f"{name}: {rows}", title_justify="left")
        for heading in (
            *("form", "size MB", "memory MB", "CPU ms a text", "texts/s a core", "times as fast"),
            *("accuracy", "macro F1", "gain in accuracy", "gain in macro F1", "verdict"),
        ):
            table.add_column(heading, justify="left" if heading == "form" else "right")
        for form, line in told["forms"].items():
            table.add_row(
                form,
                f"{line['size_mb']:.1f}",
                f"{line['memory_mb']:,}",
                f"{line['cpu_ms'][0]:.3f}",
                f"{line['texts_per_core_second']:,.0f}",
                f"{line['times_as_fast'][0]:.1f}",
                *(f"{line[figure]['value']:.4f}" for figure in FIGURES),
                *(_gain(line.get("gains", {}).get(figure)) for figure in FIGURES),
                line.get("verdict", ""),
            )
        yield table


def _gain(gain: dict[str, float] | None) -> str:
    if gain is None:
        return ""
    return f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
