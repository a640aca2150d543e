"""The typed config of a pipeline: one section a stage, every default in this folder.

Every field has a bound, a unit and a description, because Prefect's UI draws its run form from
them. Names that Hugging Face users know (`learning_rate`, `num_train_epochs`) are kept verbatim.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from configs.limits import (
    AbstentionLimit,
    BaselineRules,
    CalibrationLimit,
    ChampionRules,
    FormRules,
    Limits,
    RobustnessLimit,
    SliceLimits,
)
from configs.releasing import Release
from configs.section import Fraction, LabelName, Perturbation, Section
from configs.serving import Serving
from configs.slicing import Slicing
from configs.training import Launch, Tracking, Training

NAME = r"^[a-z][a-z0-9_]{0,62}$"


class Cleaning(Section):
    """What is done to every text, in training and in the service alike."""

    unicode: Literal["none", "NFC", "NFKC"] = Field(
        "NFC", description="Unicode normal form of the text; NFKC also folds full-width letters."
    )
    unescape_html: bool = Field(
        True, description="Turn HTML entities such as `&amp;` into letters."
    )
    remove_control_characters: bool = Field(
        True, description="Drop control characters that are no white space."
    )
    collapse_whitespace: bool = Field(
        True, description="Turn each run of white space into one space and strip both ends."
    )
    chinese: Literal["none", "simplified", "traditional"] = Field(
        "none", description="Turn Chinese characters into the simplified or traditional ones."
    )
    pinyin: bool = Field(
        False, description="Turn Chinese characters into pinyin without tones, a space between."
    )


# Regions whose national ids tasks/privacy.py knows.
ID_REGIONS = (
    *("AT", "AU", "BE", "BR", "CA", "CH", "CN", "CZ", "DE", "DK", "ES", "FI", "FR", "GB"),
    *("IE", "IN", "IT", "JP", "KR", "MX", "MY", "NO", "PL", "RO", "SE", "TR", "US", "ZA"),
)


class Privacy(Section):
    """What is masked in every text after cleaning, in training and in the service alike."""

    mask: tuple[
        Literal["email", "phone", "card", "iban", "national_id", "ip", "url_secret"], ...
    ] = Field(
        (),
        max_length=7,
        description="Kinds of values that a placeholder such as [EMAIL] replaces. url_secret: a "
        "user:password, token, key or signature in a URL.",
    )
    regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(
        (),
        max_length=20,
        description="ISO codes, such as US, GB, CN, of the regions whose national ids and phone "
        "numbers without a + are known; each adds to the time taken.",
    )

    @model_validator(mode="after")
    def _regions_are_known(self) -> Self:
        if "phone" in self.mask:
            from phonenumbers import SUPPORTED_REGIONS  # late: only masked phones need it

            for region in self.regions:
                if region not in SUPPORTED_REGIONS:
                    raise ValueError(f"regions: no phone numbers are known of {region!r}")
        if "national_id" in self.mask:
            if not self.regions:
                raise ValueError("national_id needs regions, such as [US, CN]")
            for region in self.regions:
                if region not in ID_REGIONS:
                    raise ValueError(
                        f"regions: no national id is known of {region!r}, only of "
                        f"{', '.join(ID_REGIONS)}; take it or national_id out"
                    )
        return self


def _labels_by_raw_value(labels: Any) -> Any:
    """Read `[ham, spam]` as the mapping `{ham: ham, spam: spam}`."""
    if not isinstance(labels, list):
        return labels
    if len({str(label) for label in labels}) != len(labels):
        raise ValueError("a label is listed twice; list each label once")
    return {str(label): label for label in labels}


class Data(Section):
    """Stage ingest: where the labelled texts are and how to read them."""

    uri: str = Field(
        min_length=1,
        max_length=2000,
        description="Source: a path (relative to the config file), pypi://, hf://, any fsspec "
        "scheme such as s3://, or a SQLAlchemy URL with `query`. ${NAME} reads the environment.",
    )
    labels: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=200)], LabelName],
        BeforeValidator(_labels_by_raw_value),
    ] = Field(
        description="The closed set of labels: a list, or a mapping of raw value to label.",
    )
    text_column: str = Field("text", min_length=1, description="Name of the column with the text.")
    label_column: str = Field(
        "label", min_length=1, description="Name of the column with the label."
    )
    group_column: str | None = Field(
        None,
        min_length=1,
        description="Column whose equal values stay on one side of the split, such as an author or "
        "a conversation.",
    )
    slice_columns: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        (),
        max_length=20,
        description="Columns that evaluation.slices may divide the test rows by. Their values, masked "
        "as the text is, are kept, and stand in reports as the names of slices.",
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "folder", "lines"] = Field(
        "auto",
        description="File format; auto goes by the suffix. folder: one folder of texts a label; "
        "lines: one file LABEL.txt a label, a text a line.",
    )
    encoding: str = Field("utf-8", description="Encoding of a text file, such as utf-8 or latin-1.")
    header: bool = Field(
        True, description="Whether the first line of a CSV or TSV file names them."
    )
    columns: tuple[str, ...] | None = Field(
        None, description="The exact columns, in order; needed where there is no header."
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="One character between fields; by default a comma, or a tab for TSV.",
    )
    quoting: Literal["minimal", "none"] = Field(
        "minimal", description='minimal: a field may be in double quotes; none: " is a letter.'
    )
    query: str | None = Field(
        None, min_length=1, description="SQL query that yields the columns, for a SQL source."
    )
    hf_split: str = Field(
        "train", min_length=1, description="Split of a Hugging Face dataset to read."
    )
    max_rows: int = Field(
        10_000_000, ge=1, le=100_000_000, description="Refuse a source with more rows than this."
    )
    max_megabytes: int = Field(
        4096, ge=1, le=1_000_000, description="Refuse a source larger than this, unpacked, in MB."
    )
    shard_rows: int = Field(
        200_000,
        ge=1000,
        le=10_000_000,
        description="Most rows that are held in memory at once; a shard is worked on as a whole.",
    )
    cleaning: Cleaning = Field(default_factory=Cleaning, description="How each text is cleaned.")
    privacy: Privacy = Field(
        default_factory=Privacy, description="What of each text is masked before it is stored."
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError("no such encoding; use a Python codec name such as utf-8") from None
        return encoding

    @field_validator("delimiter")
    @classmethod
    def _delimiter_stands_apart(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and delimiter in '"\r\n':
            raise ValueError("a quote or line end cannot stand between fields; set another")
        return delimiter

    @field_validator("labels")
    @classmethod
    def _two_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        if unstripped := [raw for raw in labels if raw != raw.strip()]:
            raise ValueError(f"label {unstripped[0]!r} has white space around it; take it off")
        if len(set(labels.values())) < 2:
            raise ValueError("a classifier needs at least 2 different labels; add the others")
        if taken := {"macro", "weighted"} & set(labels.values()):
            raise ValueError(f"label {min(taken)!r} is the name of an average; name it otherwise")
        if len(set(labels.values())) > 1000:
            raise ValueError("more than 1000 labels; Ekiben classifies into a closed, small set")
        return labels

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.text_column == self.label_column:
            raise ValueError("text_column and label_column name the same column; name two columns")
        if self.group_column in (self.text_column, self.label_column):
            raise ValueError("group_column names the column of the text or label; name another")
        roles = (self.text_column, self.label_column, self.group_column)
        if taken := [name for name in self.slice_columns if name in roles]:
            raise ValueError(
                f"slice_columns names {taken[0]!r}, which is the text, label or group; take it out"
            )
        if len(set(self.slice_columns)) != len(self.slice_columns):
            raise ValueError("slice_columns lists a name twice; list each name once")
        if not self.header and self.columns is None:
            raise ValueError("header is false, so columns must list the names, in order")
        if self.columns is not None:
            if len(set(self.columns)) != len(self.columns):
                raise ValueError("columns lists a name twice; list each name once")
            for role in self.read_columns:
                if role not in self.columns:
                    raise ValueError(f"columns does not list {role!r}, which is read from it")
        return self

    @property
    def read_columns(self) -> dict[str, str]:
        """Return the columns that are read, in the order of a row, each with its key here."""
        columns = {self.text_column: "text_column", self.label_column: "label_column"}
        if self.group_column is not None:
            columns[self.group_column] = "group_column"
        return columns | dict.fromkeys(self.slice_columns, "slice_columns")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the distinct labels in the order of the config; index is the class id."""
        return tuple(dict.fromkeys(self.labels.values()))


class Expectation(Section):
    """One Great Expectations expectation, by its own name and arguments."""

    type: str = Field(
        pattern=r"^expect_[a-z0-9_]+$",
        description="Name in snake case, such as expect_column_values_to_not_match_regex.",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Its arguments, such as {column: text, regex: http}."
    )


class Validation(Section):
    """Stage validate: which rows are fit, and how many may be unfit."""

    min_rows: int = Field(100, ge=2, description="Fewest rows the table may have.")
    min_characters: int = Field(1, ge=1, description="Shortest text kept, in characters.")
    max_characters: int = Field(20_000, ge=1, description="Longest text kept, in characters.")
    min_label_fraction: Fraction = Field(
        0.01, description="Smallest share of the rows that any label may have."
    )
    max_duplicate_fraction: Fraction = Field(
        0.5, description="Largest share of rows that may repeat an earlier row's text."
    )
    max_quarantine_fraction: Fraction = Field(
        0.05, description="Largest share of rows that may be quarantined before the run fails."
    )
    expectations: tuple[Expectation, ...] = Field(
        (), max_length=200, description="Your own Great Expectations expectations."
    )
    suite: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Your own Great Expectations suite: a JSON file (relative to the config file).",
    )

    @model_validator(mode="after")
    def _lengths_in_order(self) -> Self:
        if self.min_characters > self.max_characters:
            raise ValueError("min_characters is above max_characters; swap or widen them")
        return self


class Duplicates(Section):
    """Stage deduplicate: what counts as a copy, and what is done where labels contradict."""

    near_jaccard: float | None = Field(
        0.9,
        ge=0.5,
        le=1.0,
        description="Texts that share at least this part of their shingles are near-copies, kept on "
        "one side of the split; null switches the search off.",
    )
    conflicts: Literal["quarantine", "majority"] = Field(
        "quarantine",
        description="What is done with copies of a text under different labels; majority gives "
        "them the label of more than half, and quarantines the others.",
    )
    near_conflicts: Literal["keep", "quarantine", "majority"] = Field(
        "keep", description="The same for near-copies, whose labels may differ with reason."
    )


class LabelErrors(Section):
    """Stage validate: the search for rows whose label is probably wrong."""

    action: Literal["none", "report", "quarantine"] = Field(
        "report", description="none: do not search; report: list them; quarantine: keep them out."
    )
    max_fraction: Fraction = Field(
        0.05, description="Largest share of the rows judged that is listed or quarantined."
    )
    folds: int = Field(
        5, ge=2, le=20, description="Parts of the rows; each is judged by a model of the others."
    )
    max_rows: int = Field(
        10_000, ge=10, le=1_000_000, description="Most rows judged, chosen by content hash."
    )


class Change(Section):
    """Stage validate: how far the data may differ from what the champion was trained on.

    Each limit but the last is a Jensen-Shannon distance (0 equal, 1 nothing in common) beyond what
    chance explains.
    """

    action: Literal["none", "warn", "fail"] = Field(
        "warn", description="What a limit that is passed does: nothing, warn, or fail the run."
    )
    labels: Fraction = Field(0.04, description="Largest distance of the label shares.")
    lengths: Fraction = Field(0.08, description="Largest distance of the lengths of the texts.")
    vocabulary: Fraction = Field(0.06, description="Largest distance of the words used.")
    languages: Fraction = Field(0.08, description="Largest distance of the language shares.")
    unseen: Fraction = Field(
        1.0, description="Largest share of texts the champion's data lacks; 1 never warns."
    )


class Split(Section):
    """Stage split: which side of train / validation / test a text falls on, for ever."""

    test_fraction: float = Field(
        0.2, ge=0.01, le=0.5, description="Share of distinct texts held out for the gate."
    )
    validation_fraction: float = Field(
        0.1, ge=0.01, le=0.4, description="Share of distinct texts used for early stopping."
    )
    sample_rows: int | None = Field(
        None,
        ge=10,
        description="Keep about this many rows, chosen by content hash; for trying out.",
    )
    salt: str = Field(
        "ekiben", max_length=100, description="Mixed into the content hash; change to re-draw."
    )
    frozen_test: str | None = Field(
        None,
        max_length=2000,
        pattern=r"[^#]#sha256=[0-9a-f]{64}$",
        description="Test set that `ekiben freeze` has pinned, as PATH#sha256=HEX (relative to the "
        "config file): its rows are the test split, and nothing like them is trained on.",
    )


class Abstain(Section):
    """Below which confidence the service says that it is unsure."""

    target: Literal["none", "precision", "coverage"] = Field(
        "none",
        description="What the threshold keeps on the validation rows: precision of the sure answers, "
        "shown at 95% confidence; coverage, the share that is sure; or none: always sure.",
    )
    value: float = Field(0.99, gt=0, lt=1, description="The precision or coverage to be kept.")


class Calibration(Section):
    """Stage calibrate: how logits become the probabilities that are served."""

    method: Literal["temperature", "vector", "none"] = Field(
        "temperature",
        description="temperature: one number for all logits, which changes no label; vector: a "
        "scale and a bias a label, which may; none: the model's own probabilities.",
    )
    bins: int = Field(
        15, ge=2, le=100, description="Bins of equal size behind the calibration error."
    )
    abstain: Abstain = Field(
        default_factory=Abstain, description="When the service says that it is unsure."
    )


class Evaluation(Section):
    """Stage evaluate: how the uncertainty of each figure is measured."""

    bootstrap_samples: int = Field(
        2000, ge=100, le=100_000, description="Resamples behind the interval of a macro average."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the bootstrap.")
    slices: tuple[Slicing, ...] = Field(
        (),
        max_length=20,
        description="Ways to divide the test rows, each slice measured by itself.",
    )
    baseline_stop_words: str = Field(
        "none",
        pattern="^(none|[a-z]{2})$",
        description="Language, such as en or zh, whose stop words the baseline leaves out, or none.",
    )

    @field_validator("baseline_stop_words")
    @classmethod
    def _stop_words_are_known(cls, language: str) -> str:
        if language != "none":
            from stopwordsiso import has_lang  # late: most baselines keep every word

            if not has_lang(language):
                raise ValueError(f"no stop words are known of {language!r}; set none")
        return language

    @field_validator("slices")
    @classmethod
    def _slices_differ(cls, slices: tuple[Slicing, ...]) -> tuple[Slicing, ...]:
        titles = [each.title for each in slices]
        if len(set(titles)) != len(titles):
            raise ValueError("two ways to divide the rows have one name; set another name")
        return slices


class Robustness(Section):
    """Stage probe: how test rows are perturbed, and the user's own cases."""

    perturbations: tuple[Perturbation, ...] = Field(
        (),
        max_length=5,
        description="What is done to test rows to see whether the label stays. entities swaps "
        "numbers, names and hosts: leave it out where they make the label, as in ratings.",
    )
    max_rows: int = Field(
        1000, ge=10, le=1_000_000, description="Most test rows perturbed, chosen by content hash."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of what the perturbations draw.")
    cases: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Your own cases: a CSV file of text, label and perhaps name (relative to the "
        "config file). Each text must be given its label.",
    )

    @field_validator("perturbations")
    @classmethod
    def _each_once(cls, names: tuple[Perturbation, ...]) -> tuple[Perturbation, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a perturbation is listed twice; list each once")
        return names


class Gate(Limits):
    """Stage decide: the limits a model must reach on the test split to become a Bento."""

    slices: tuple[SliceLimits, ...] = Field(
        (),
        max_length=20,
        description="Limits on each slice of evaluation.slices.",
    )
    champion: ChampionRules = Field(
        default_factory=ChampionRules, description="What must be gained over the champion."
    )
    baseline: BaselineRules = Field(
        default_factory=BaselineRules, description="What must be gained over the baseline."
    )
    form: FormRules = Field(
        default_factory=FormRules, description="What a cheaper form may lose against the original."
    )
    calibration: CalibrationLimit = Field(
        default_factory=CalibrationLimit, description="Confidence beside the share right."
    )
    abstention: AbstentionLimit = Field(
        default_factory=AbstentionLimit, description="The answers that are sure."
    )
    robustness: RobustnessLimit = Field(
        default_factory=RobustnessLimit, description="Flips under perturbations, wrong cases."
    )
    min_test_rows: int = Field(
        100, ge=1, description="Fewest test rows on which a decision is made; else undecided."
    )
    min_support: int = Field(
        10, ge=1, description="Fewest rows that a figure is a share of; else it is undecided."
    )
    judge_on: Literal["interval", "value"] = Field(
        "interval",
        description="interval: a limit must lie outside the 95% interval, else undecided; value: "
        "the measured value alone is held against it.",
    )
    undecided: Literal["hold", "reject", "release"] = Field(
        "hold", description="What is done of a model that the test rows leave undecided."
    )
    reuse: Literal["warn", "widen"] = Field(
        "warn",
        description="What is done where a test set decides on its second model and further ones: "
        "warn, or widen the intervals to a level of 1 - 0.05 / models.",
    )

    @model_validator(mode="after")
    def _reuse_fits(self) -> Self:
        if self.reuse == "widen" and self.judge_on == "value":
            raise ValueError(
                "reuse: widen widens intervals, but judge_on: value asks for none; set warn"
            )
        return self

    @field_validator("slices", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        """Take a list for a tuple where values are read strictly, as those of a record are."""
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        gains = self.champion.min_gain or self.baseline.min_gain
        limits = (self.calibration.max_error, *self.abstention.model_dump().values())
        others = (self.slices, gains, any(limit is not None for limit in limits))
        if self.is_empty and not any(others):
            if self.robustness != RobustnessLimit():
                raise ValueError(
                    "robustness alone is limited, and a model that gives one label to all never "
                    "flips; set a limit on a figure of quality too, such as accuracy: {min: 0.9}"
                )
            raise ValueError(
                "no limit is set, so every model would pass; set one, such as accuracy: {min: 0.9}"
            )
        return self

    @property
    def of_the_baseline(self) -> "Gate":
        """Return the gate that the baseline itself is judged by: without a rule of it beside itself."""
        return self.model_copy(update={"baseline": BaselineRules()})


class Workers(Section):
    """Who works on the shards of a large dataset, side by side."""

    kind: Literal["threads", "processes", "dask"] = Field(
        "threads",
        description="threads or processes of this machine, or a Dask cluster, whose workers must "
        "see the Ekiben home under the same path.",
    )
    count: int | None = Field(
        None, ge=1, le=1024, description="How many at once; by default one a core."
    )
    dask_address: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="A Dask scheduler, such as tcp://10.0.0.5:8786; by default one is started here.",
    )

    @model_validator(mode="after")
    def _address_is_for_dask(self) -> Self:
        if self.dask_address is not None and self.kind != "dask":
            raise ValueError("dask_address is set, but kind is not dask; set kind: dask")
        return self


class Schedule(Section):
    """When `ekiben deploy` runs the pipeline by itself."""

    cron: str | None = Field(
        None, max_length=100, description="Cron line, such as 0 3 * * 1 for Monday at three."
    )
    interval_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="Seconds between runs, in place of cron."
    )
    timezone: str = Field("UTC", description="IANA time zone of the cron line.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("set exactly one of cron and interval_seconds")
        if self.cron is not None:
            from cronsim import CronSim, CronSimError  # late: only schedules need it

            try:
                CronSim(self.cron, datetime(2000, 1, 1, tzinfo=UTC))
            except CronSimError as error:
                raise ValueError(f"cron {self.cron!r} is not a cron line: {error}") from None
        if self.timezone not in available_timezones():
            raise ValueError(f"timezone {self.timezone!r} is not an IANA name such as Asia/Tokyo")
        return self


class PipelineConfig(Section):
    """A whole pipeline: from where the labelled texts are to what its Bento must reach."""

    name: str = Field(
        pattern=NAME,
        description="Name of the pipeline and of its Bento: small letters, digits, underscores.",
    )
    data: Data = Field(description="Where the labelled texts are and how to read them.")
    validation: Validation = Field(
        default_factory=Validation, description="Which rows are fit, and how many may be unfit."
    )
    duplicates: Duplicates = Field(
        default_factory=Duplicates, description="What is done with copies and near-copies."
    )
    label_errors: LabelErrors = Field(
        default_factory=LabelErrors, description="How probably wrong labels are dealt with."
    )
    change: Change = Field(
        default_factory=Change, description="How far the data may differ from the champion's."
    )
    split: Split = Field(default_factory=Split, description="How train, validation, test divide.")
    training: Training = Field(
        default_factory=Training, description="The base model and how it is fine-tuned."
    )
    launch: Launch = Field(
        default_factory=Launch, description="How many processes train, and on which machines."
    )
    tracking: Tracking = Field(
        default_factory=Tracking, description="Where the course of the training is sent."
    )
    calibration: Calibration = Field(
        default_factory=Calibration, description="How logits become served probabilities."
    )
    evaluation: Evaluation = Field(
        default_factory=Evaluation, description="How the uncertainty of figures is measured."
    )
    robustness: Robustness = Field(
        default_factory=Robustness, description="How test rows are perturbed, and your own cases."
    )
    gate: Gate = Field(description="The limits a model must reach to become a Bento.")
    serving: Serving = Field(
        default_factory=Serving, description="What the service accepts, and how it is proven."
    )
    release: Release = Field(default_factory=Release, description="How a proven Bento is released.")
    workers: Workers = Field(
        default_factory=Workers, description="Who works on the shards of a large dataset."
    )
    schedule: Schedule | None = Field(None, description="When to run by itself, if at all.")

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        known = set(self.data.label_names)
        for metric in ("precision", "recall", "f1"):
            unknown = sorted(set(getattr(self.gate, metric).min_per_class) - known)
            if unknown:
                raise ValueError(
                    f"gate.{metric}.min_per_class names {unknown[0]!r}, which is not one of "
                    f"data.labels {sorted(known)}"
                )
        metrics = {"accuracy"} | {
            f"{metric}.{part}"
            for metric in ("precision", "recall", "f1")
            for part in ("macro", "weighted", *known)
        }
        for other in ("champion", "baseline", "form"):
            unknown = sorted(set(getattr(self.gate, other).min_gain) - metrics)
            if unknown:
                raise ValueError(
                    f"gate.{other}.min_gain names {unknown[0]!r}, which is no metric; expected "
                    "accuracy, or precision, recall or f1 with .macro, .weighted or a label"
                )
        asked = self.gate.abstention.model_dump(exclude_none=True)
        if asked and self.calibration.abstain.target == "none":
            raise ValueError(
                f"gate.abstention sets {next(iter(asked))}, but calibration.abstain declares no "
                "threshold; set its target to precision or coverage"
            )
        for name in self.gate.robustness.max_flips:
            if name not in self.robustness.perturbations:
                raise ValueError(
                    f"gate.robustness.max_flips names {name!r}, which robustness.perturbations "
                    "does not list; add it there"
                )
        if self.gate.robustness.max_wrong_cases is not None and self.robustness.cases is None:
            raise ValueError(
                "gate.robustness.max_wrong_cases is set, but no cases are; set robustness.cases"
            )
        self._slices_agree(known)
        if self.split.test_fraction + self.split.validation_fraction > 0.8:
            raise ValueError(
                "split: test and validation take over 0.8 of the rows; train needs 0.2"
            )
        return self

    def _slices_agree(self, labels: set[str]) -> None:
        """Refuse a slice of a column that is not kept, and a rule on slices or figures unknown."""
        for slicing in self.evaluation.slices:
            if slicing.column is not None and slicing.column not in self.data.slice_columns:
                raise ValueError(
                    f"evaluation.slices names the column {slicing.column!r}, which is not one of "
                    f"data.slice_columns {list(self.data.slice_columns)}; add it there"
                )
        titles = [slicing.title for slicing in self.evaluation.slices]
        if len({rule.by for rule in self.gate.slices}) != len(self.gate.slices):
            raise ValueError("gate.slices has two entries by the same name; write them as one")
        figures = {"accuracy"} | {
            f"{metric}.{part}"
            for metric in ("precision", "recall", "f1")
            for part in (*labels, "macro", "weighted")
        }
        for rule in self.gate.slices:
            if rule.by not in titles:
                raise ValueError(
                    f"gate.slices names {rule.by!r}, which is not one of evaluation.slices {titles}"
                )
            averages = (rule.precision, rule.recall, rule.f1)
            named = {label for average in averages for label in average.min_per_class}
            if unknown := sorted(named - labels):
                raise ValueError(
                    f"gate.slices: min_per_class names {unknown[0]!r}, which is not one of "
                    f"data.labels {sorted(labels)}"
                )
            if unknown := sorted(set(rule.max_gap) - figures):
                raise ValueError(
                    f"gate.slices: max_gap names {unknown[0]!r}, which is no figure; expected "
                    "accuracy, or precision, recall or f1 with .macro, .weighted or a label"
                )


def redact(uri: str) -> str:
    """Return the URI with any password or token in it replaced by `***`, for messages."""
    uri = re.sub(r"(?<=://)([^/@:\s]*):\S+@", r"\1:***@", uri)
    uri = re.sub(r"(?<=://)(?<!hf://)[^/@:\s]+@", "***@", uri)  # a token where a user name stands
    names = "token|key|secret|password|passwd|pwd|sig|signature|odbc_connect"
    return re.sub(rf"(?i)((?:{names})=)[^&#\s]+", r"\1***", uri)


def reason(error: BaseException) -> str:
    """Return an exception's type and message on one line, short and without passwords."""
    message = " ".join(redact(str(error)).split())
    return f"{type(error).__name__}: {message[:200]}" if message else type(error).__name__
