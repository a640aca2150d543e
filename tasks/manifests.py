"""What the stages hand to one another: frozen manifests of paths, digests, counts and figures.

A manifest is a few KB of JSON, written beside its artifact. Each names the digests of its parents,
so that one can walk from a served answer back to the rows it was learned from.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from tasks.digests import value_digest
from tasks.estimates import Z95, level_text

Verdict = Literal["pass", "reject", "undecided"]
Action = Literal["release", "reject", "hold"]


class Record(BaseModel):
    """A frozen value inside a manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Manifest(Record):
    """What one step made: where (`folder`), from what (`key`, `parents`), and which files."""

    key: str
    parents: dict[str, str]
    folder: Path
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of all that was made; where it lies on disk does not matter."""
        return value_digest(self.model_dump(mode="json", exclude={"folder"}))

    def path(self, name: str) -> Path:
        """Return the whole path of one of the step's files."""
        return self.folder / name

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the manifest written in `file`."""
        return cls.model_validate_json(file.read_text(encoding="utf-8"))


class DatasetManifest(Manifest):
    """Rows as they were read and cleaned: `rows.parquet`, whose columns `tasks.ingest` names."""

    source: str
    source_digest: str
    rows: int
    changed_by_cleaning: int
    changed_by: dict[str, int] = {}
    masked: dict[str, int] = {}
    label_counts: dict[str, int]


class RuleOutcome(Record):
    """One expectation: what it asked, of which column, and how many rows it took."""

    rule: str
    column: str
    asked: str
    passed: bool
    rows_failed: int
    observed: str
    takes_rows: bool


class ValidationReport(Manifest):
    """What the expectations found; `quarantine.parquet` holds the rows that do not go on."""

    passed: bool
    problems: tuple[str, ...]
    rows: int
    rows_quarantined: int
    rows_valid: int
    rules: tuple[RuleOutcome, ...]
    label_counts: dict[str, int]
    length_histogram: dict[str, int]


class NearPair(Record):
    """Two rows, by number, whose texts are near-copies."""

    row: int
    near: int
    jaccard: float


class DuplicateReport(Manifest):
    """What was found twice: `kept.parquet`, `left_out.parquet` and `near.parquet`."""

    rows_kept: int
    duplicates: int
    conflicts: int
    conflicting_texts: int
    near_conflicts: int
    outvoted: int
    relabelled: int
    sampled_out: int
    near_rows: int
    near_clusters: int
    groups: int
    examples: tuple[NearPair, ...]


class LabelReport(Manifest):
    """Rows whose label is probably wrong, in `suspects.parquet`; `found` counts the unlisted too."""

    rows: int
    rows_judged: int
    found: int
    listed: int
    quarantined: int


class ProfileManifest(Manifest):
    """What the kept rows look like: `profile.json`."""

    rows: int


class SplitManifest(Manifest):
    """`train.parquet`, `validation.parquet`, `test.parquet`: row, text, label, group, slices.

    `leaked` counts the rows that are on no side, since a frozen test set has their like, by why:
    `exact`, `near` or `group`.
    """

    rows: dict[str, int]
    label_counts: dict[str, dict[str, int]]
    leaked: dict[str, int] = {}


class LeakageReport(Manifest):
    """How many rows of train and validation are in the test set too, counted on the files.

    `test_set` is the digest of the test rows, by which the set is known. `near` are near-copies,
    looked for where the set is frozen, at a Jaccard index of `near_jaccard` or more.
    """

    test_set: str
    frozen: bool
    rows: int
    exact: int
    near: int
    near_jaccard: float | None


class EpochFigures(Record):
    """Figures at the end of one epoch; `f1` is the macro average on the validation split."""

    epoch: int
    step: int
    train_loss: float
    loss: float
    accuracy: float
    f1: float


class StepFigures(Record):
    """The course of training up to one update since the point before; memory is in MiB."""

    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    memory_mb: float


class HardwareUse(Record):
    """What training took; `forward` names the forward pass, `cores` those kept busy a process.

    `memory_mb` is the most memory in MiB, of the device or of the first process. `energy_kwh` and
    `co2_kg` are codecarbon's estimates, if asked for.
    """

    trained_parameters: int
    forward: str
    threads: int
    cores: float
    memory_mb: float
    tokens_per_second: float
    energy_kwh: float | None = None
    co2_kg: float | None = None


class CheckpointManifest(Manifest):
    """A model: `model/` with safetensors weights, config and tokenizer, or as `tasks.linear` has it.

    A `linear` one has no base model, epochs, curve or hardware use. The `openvino` ones are forms of
    a transformer and have its own. A student has the layers `teacher_layers` of its teacher, which
    are numbered from 0, and epochs and curve of its own, unless it was left as it was cut out.
    """

    kind: Literal["transformer", "linear", "openvino-fp32", "openvino-int8", "openvino-student"] = (
        "transformer"
    )
    teacher_layers: tuple[int, ...] = ()
    base_model: str
    base_model_digest: str
    parameters: int
    device: str
    precision: str
    best_epoch: int
    stopped_early: bool
    seconds: float
    rows_per_second: float
    epochs: tuple[EpochFigures, ...]
    curve: tuple[StepFigures, ...]
    hardware: HardwareUse | None = None
    truncated_rows: int


class Figure(Record):
    """One metric on the test split; `low` and `high` bound its 95% interval.

    `n` is the figure's own denominator: test rows for an average, rows of the label for its
    recall, rows given the label for its precision.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    method: str


class Contest(Record):
    """The candidate and another model on the same test rows: how often which labels were given.

    `counts` lists (actual, given by the candidate, given by the other, rows); labels are class ids.
    """

    counts: tuple[tuple[int, int, int, int], ...]


class Scaling(Record):
    """The served probabilities are softmax(logits * scale + bias), both [n_labels], in float64."""

    method: Literal["temperature", "vector", "none"]
    scale: tuple[float, ...]
    bias: tuple[float, ...]

    @property
    def temperature(self) -> float | None:
        """Return what all logits are divided by, or None where the labels differ in it."""
        return None if self.method == "vector" else 1 / self.scale[0]


class Selection(Record):
    """How many rows are answered at a confidence of `threshold` or more, and how many are right.

    Without a threshold, no confidence is enough, and none is answered.
    """

    threshold: float | None
    answered: int
    right: int


class CalibrationManifest(Manifest):
    """What the validation rows taught: how logits are scaled, and what confidence is sure.

    `loss` is the mean negative log-likelihood of their labels, in nats, before and after.
    `abstention` counts them; it is None where the service is sure of all.
    """

    rows: int
    scaling: Scaling
    loss_before: float
    loss: float
    abstention: Selection | None
    told: tuple[str, ...]


class ReliabilityBin(Record):
    """Test rows of about the same confidence: its sum, and how many are right."""

    rows: int
    confidence: float
    right: int


class SliceCounts(Record):
    """The test rows of one slice: counts of (label's place, place of the label given, rows).

    `by` names the way in which the rows were divided, and `value` the slice; `cells` are those of
    the confusion matrix that are not 0.
    """

    by: str
    value: str
    cells: tuple[tuple[int, int, int], ...]

    @property
    def name(self) -> str:
        """Return the slice's name, such as `length=0-49`."""
        return f"{self.by}={self.value}"


class Original(Record):
    """The model as it was trained, of which the one evaluated is another form, on the same rows.

    `model` is the digest of its predictions.
    """

    model: str
    contest: Contest
    figures: dict[str, Figure]


class EvaluationReport(Manifest):
    """Figures by name, such as `accuracy`, `precision.macro`, `recall.spam`, for two models.

    `reliability` has the bins of the calibrated probabilities, `reliability_before` those of the
    logits' own; `selections` is the curve of coverage and precision, and `abstention` its point at
    the threshold that is served, or None where the service is sure of all.
    """

    rows: int
    labels: tuple[str, ...]
    figures: dict[str, Figure]
    baseline: dict[str, Figure]
    against_baseline: Contest = Contest(counts=())
    confusion: tuple[tuple[int, ...], ...]
    bootstrap_samples: int
    bootstrap_seed: int
    scaling: Scaling | None = None
    reliability_before: tuple[ReliabilityBin, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    selections: tuple[Selection, ...] = ()
    abstention: Selection | None = None
    slices: tuple[SliceCounts, ...] = ()
    original: Original | None = None
    """What this is a form of; None where it is the model as it was trained."""

    @property
    def model(self) -> str:
        """Return what tells the model from others: a digest of predictions, its forms' original's."""
        if self.original is not None:
            return self.original.model
        return self.files.get("predictions.parquet", self.digest)

    @property
    def is_of_the_baseline(self) -> bool:
        """Return whether the candidate is the baseline itself, so that nothing stands beside it."""
        return self.parents.get("baseline", "none") == self.parents.get("checkpoint")


class ChallengeReport(Manifest):
    """The candidate against the champion: whether they can be compared, and if so, how they did.

    `rows` were given to both; `left_out` are test rows on which the champion was trained. `figures`
    are the champion's on the rows.
    """

    champion: str | None
    status: Literal["compared", "missing", "unusable"]
    told: str
    rows: int
    left_out: int
    contest: Contest
    figures: dict[str, Figure]


class FlipCount(Record):
    """What one perturbation did: the rows it changed, and those that were given another label.

    `undone` of them were as before once cleaned, and keep their label. `by_label` holds (rows,
    flips) by the label in the data; `examples` are the first flipped rows by number.
    """

    rows: int
    undone: int
    flips: int
    by_label: dict[str, tuple[int, int]]
    examples: tuple[int, ...]


class WrongCase(Record):
    """One of the user's own cases that was given another label than its own."""

    row: int
    name: str
    label: str
    given: str


class ProbeReport(Manifest):
    """How predictions hold under perturbations, by name, and on the user's own cases.

    `flips.parquet` has a line a flip: perturbation, row. `cases_digest` is the SHA-256 of the file.
    """

    rows: int
    flips: dict[str, FlipCount]
    cases: int
    cases_digest: str | None
    wrong_cases: tuple[WrongCase, ...]


class Evidence(Record):
    """All that a decision is made on: the gate can judge it again without the data or a model."""

    evaluation: EvaluationReport
    challenge: ChallengeReport | None = None
    probe: ProbeReport | None = None
    leakage: LeakageReport | None = None
    uses: int = Field(1, ge=1)
    """How many models were decided on this test set, up to this one."""

    @property
    def digests(self) -> dict[str, str]:
        """Return the digest of each stage's part."""
        parts = {
            "evaluate": self.evaluation,
            "challenge": self.challenge,
            "probe": self.probe,
            "leakage": self.leakage,
        }
        return {stage: part.digest for stage, part in parts.items() if part is not None}

    @property
    def model(self) -> str:
        """Return what tells the candidate from others; its forms are the same model."""
        return self.evaluation.model


class RuleVerdict(Record):
    """One limit of the gate, judged; `more_rows` are those that would settle what is undecided.

    The limit is the least that the figure may be, or with `at_most` the most.
    """

    metric: str
    limit: float
    at_most: bool = False
    figure: Figure | None
    verdict: Verdict
    more_rows: int | None = None
    reason: str


class GateDecision(Record):
    """What the gate says of the candidate, why, and what is therefore done.

    Intervals reach to `z` deviates. `forced` is the reason a person gave for the release of a
    model that the gate does not pass; the verdict stays what it is.
    """

    verdict: Verdict
    action: Action
    judged_on: Literal["interval", "value"]
    rules: tuple[RuleVerdict, ...]
    reasons: tuple[str, ...]
    evidence: dict[str, str]
    remarks: tuple[str, ...] = ()
    z: float = Z95
    forced: str | None = None

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the decision."""
        return value_digest(self.model_dump(mode="json"))

    @property
    def level(self) -> str:
        """Return what the intervals are called, such as `95%`."""
        return level_text(self.z)


class FormWeight(Manifest):
    """What one form of a model costs to serve, measured in a process that does nothing else.

    `size_mb` is that of its files, `cpu_ms` the processor's time for a text among `rows` texts, and
    `memory_mb` the resident memory after them; megabytes are 10^6 bytes.
    """

    rows: int
    size_mb: float
    cpu_ms: float
    memory_mb: float


class BentoManifest(Manifest):
    """A whole Bento in the staging store, or already in the user's store."""

    tag: str
    requirements: tuple[str, ...]
    size_bytes: int


class ProofReport(Manifest):
    """What the started Bento answered over HTTP when the test split was replayed."""

    rows_replayed: int
    labels_equal: int
    largest_difference: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_requests: int
    peak_memory_mb: float
    seconds_to_ready: float


class ReleaseRecord(Record):
    """What was released, when, and from which data, config, code and decision."""

    tag: str
    pipeline: str
    released_at: str
    bento_path: Path
    report: Path
    previous: str | None
    digests: dict[str, str]
    config: dict[str, Any]
    decision: GateDecision
