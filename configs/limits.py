"""The limits that figures must reach: on all test rows, on slices, and beside other models."""

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.section import GainLimit, LabelName, Limit, MetricName, Perturbation, Section


class AccuracyLimit(Section):
    """The least accuracy that passes."""

    min: Limit | None = Field(None, description="Smallest accuracy that passes.")


class AverageLimit(Section):
    """The least precision, recall or F1 that passes, for averages and for single labels."""

    min: Limit | None = Field(None, description="Smallest macro average that passes.")
    min_weighted: Limit | None = Field(None, description="Smallest weighted average that passes.")
    min_per_class: dict[LabelName, Limit] = Field(
        default_factory=dict, description="Smallest figure that passes for single labels."
    )


class Limits(Section):
    """The least that figures must reach on some rows."""

    accuracy: AccuracyLimit = Field(default_factory=AccuracyLimit, description="Share right.")
    precision: AverageLimit = Field(
        default_factory=AverageLimit, description="Of the rows given a label, the share right."
    )
    recall: AverageLimit = Field(
        default_factory=AverageLimit, description="Of the rows of a label, the share found."
    )
    f1: AverageLimit = Field(
        default_factory=AverageLimit, description="Harmonic mean of precision and recall."
    )

    @property
    def is_empty(self) -> bool:
        """Return whether no limit is set."""
        averages = (self.precision, self.recall, self.f1)
        limits = [self.accuracy.min] + [x for a in averages for x in (a.min, a.min_weighted)]
        return all(x is None for x in limits) and not any(a.min_per_class for a in averages)


class SliceLimits(Limits):
    """The limits that every slice must reach, and how far the best and the worst may be apart."""

    by: str = Field(
        min_length=1, max_length=100, description="Name of the slices, one of evaluation.slices."
    )
    max_gap: dict[MetricName, Limit] = Field(
        default_factory=dict,
        description="Largest difference that passes between the best and the worst slice, by metric, "
        "such as {accuracy: 0.1, recall.spam: 0.1}.",
    )

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.is_empty and not self.max_gap:
            raise ValueError("no limit is set on these slices; set one, or take them out")
        return self


class BaselineRules(Section):
    """What the candidate must gain over the baseline, on the same test rows, and what if not."""

    min_gain: dict[MetricName, GainLimit] = Field(
        default_factory=dict,
        description="Smallest gain by metric, such as accuracy: 0.01 or f1.macro: 0. A large model "
        "costs more to serve than the baseline does.",
    )
    release_instead: bool = Field(
        False,
        description="Where the model is not released, judge the baseline in its place and release "
        "that if it passes.",
    )


class ChampionRules(Section):
    """What the candidate must gain over the champion, the last release, on the same test rows."""

    min_gain: dict[MetricName, GainLimit] = Field(
        default_factory=dict,
        description="Smallest gain by metric: accuracy: 0.01 asks for a point more; below 0, such "
        "as -0.01, it is the margin within which the candidate counts as no worse.",
    )
    missing: Literal["pass", "undecided"] = Field(
        "pass", description="Verdict of these rules where there is no champion yet."
    )
    unusable: Literal["pass", "undecided", "reject"] = Field(
        "undecided",
        description="Verdict where the champion has other labels, or cannot be started or compared.",
    )


class FormRules(Section):
    """What a cheaper form of the model may lose against the model as it was trained."""

    min_gain: dict[MetricName, GainLimit] = Field(
        default_factory=lambda: {"accuracy": -0.01},
        description="Smallest gain by metric over the model as trained, on the same test rows: -0.01 "
        "is the margin within which a form counts as no worse.",
    )


class CalibrationLimit(Section):
    """The largest calibration error that passes."""

    max_error: Limit | None = Field(
        None, description="Largest expected calibration error of the served probabilities."
    )


class AbstentionLimit(Section):
    """What the answers that the service is sure of must reach."""

    min_precision: Limit | None = Field(
        None, description="Smallest share right, of the test rows that the service is sure of."
    )
    min_coverage: Limit | None = Field(
        None, description="Smallest share of the test rows that the service is sure of."
    )


class RobustnessLimit(Section):
    """How many predictions may change under perturbations, and how many cases may be wrong."""

    max_flips: dict[Perturbation, Limit] = Field(
        default_factory=dict,
        description="Largest share of the rows that a perturbation changed whose label it flips.",
    )
    max_wrong_cases: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Most of robustness.cases that may be given another label; by default none.",
    )
