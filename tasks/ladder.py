"""The ladder: the model as trained and its cheaper forms, what each costs and how it was judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.manifests import CheckpointManifest, Figure

if TYPE_CHECKING:  # a run holds the rungs of its ladder
    from tasks.reporting import Run

AS_TRAINED = "as trained"
OVER_ORIGINAL = " over original"


@dataclass(frozen=True)
class Rung:
    """One form of the model: the run that judged it, or why there is none."""

    form: str
    run: "Run | None"
    told: str | None = None

    @property
    def student(self) -> CheckpointManifest | None:
        """Return the model, if it is a student that could be made."""
        made = None if self.run is None else self.run.checkpoint
        return made if made is not None and made.teacher_layers else None

    @property
    def name(self) -> str:
        """Return the form, and of a student how many layers it has."""
        return self.form if self.student is None else f"{self.form} of {layers_of(self.student)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be told of the form: why there is none, or what the student is."""
        if self.told is not None:
            return (f"{self.form} was not made: {self.told}",)
        return () if self.student is None else (summary_of_student(self.student),)

    @property
    def passes(self) -> bool:
        """Return whether the form passed every rule of the gate."""
        return self.run is not None and self.run.decided.verdict == "pass"


def layers_of(student: CheckpointManifest) -> str:
    """Return how many layers a student has, in words."""
    count = len(student.teacher_layers)
    return f"{count} layer{'s' if count > 1 else ''}"


def numbers_of(student: CheckpointManifest) -> str:
    """Return which layers of its teacher a student has, in words; the first is number 1."""
    numbers = ", ".join(str(number + 1) for number in student.teacher_layers)
    return f"number{'s' if len(student.teacher_layers) > 1 else ''} {numbers}"


def summary_of_student(student: CheckpointManifest) -> str:
    """Return in words what a student is and how it was trained."""
    kept = f"student: {layers_of(student)} ({numbers_of(student)} of the model's)"
    size = f"{student.parameters / 1e6:.1f} M parameters"
    if not student.epochs:
        return f"{kept}, {size}, left as cut out"
    return (
        f"{kept}, {size}, trained to the model's answers on {student.device} "
        f"({student.precision}), best of {len(student.epochs)} epochs is {student.best_epoch}, "
        f"{student.seconds:.0f} s, {student.rows_per_second:.0f} rows/s"
    )


def served(rungs: Sequence[Rung]) -> Rung | None:
    """Return the first form that passes; rungs are in the order of their cost, cheapest first."""
    return next((rung for rung in rungs if rung.passes), None)


def ladder_table(run: "Run") -> list[dict[str, str]]:
    """Return a line for the model as trained and for each form, cheapest last, or none.

    Columns are form, size, CPU and memory, accuracy and macro F1, what the form gains over the
    original in the gate's own figures, and the verdict; the form that is served is marked.
    """
    if not run.forms:
        return []
    chosen = served(run.forms)
    lines = [_line(AS_TRAINED, run, is_served=chosen is None)]
    for rung in reversed(run.forms):
        if rung.run is None:
            lines.append({**dict.fromkeys(lines[0], ""), "form": rung.form, "verdict": "not made"})
        else:
            lines.append(_line(rung.name, rung.run, is_served=rung is chosen))
    return lines


def _line(form: str, run: "Run", *, is_served: bool) -> dict[str, str]:
    weight, figures = run.weight, run.evidence.evaluation.figures
    verdict: str = run.decided.verdict
    return {
        "form": form,
        "size": "" if weight is None else f"{weight.size_mb:.1f} MB",
        "CPU a text": "" if weight is None else f"{weight.cpu_ms:.2f} ms",
        "memory": "" if weight is None else f"{weight.memory_mb:,.0f} MB",
        "accuracy": _value(figures.get("accuracy")),
        "macro F1": _value(figures.get("f1.macro")),
        "over original": _gains(run),
        "verdict": f"{verdict}, served" if is_served else verdict,
    }


def _gains(run: "Run") -> str:
    """Return each gain over the original with its interval, on one line."""
    found = []
    for rule in run.decided.rules:
        figure = rule.figure
        if rule.metric.endswith(OVER_ORIGINAL) and figure is not None and figure.value is not None:
            interval = "" if figure.low is None else f" [{figure.low:+.4f}, {figure.high:+.4f}]"
            found.append(f"{rule.metric.removesuffix(OVER_ORIGINAL)} {figure.value:+.4f}{interval}")
    return "; ".join(found)


def _value(figure: Figure | None) -> str:
    return "" if figure is None or figure.value is None else f"{figure.value:.4f}"
