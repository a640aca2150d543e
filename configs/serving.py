"""What is served: the forms that a model may take, the student among them, and what is accepted."""

from typing import Literal

from pydantic import Field, field_validator

from configs.section import Fraction, Section

Form = Literal["baseline", "student", "int8", "fp32"]


class Student(Section):
    """Stage distil: a model of fewer layers, trained to answer as the model that passed does."""

    num_hidden_layers: int = Field(
        2,
        ge=1,
        le=200,
        description="Layers that the student keeps of the model's, evenly spaced from the first to "
        "the last; a model of no more has no student.",
    )
    num_train_epochs: int = Field(
        4,
        ge=0,
        le=1000,
        description="Most passes over the train split; 0 leaves the layers as they were cut out.",
    )
    learning_rate: float = Field(
        3e-4, gt=0, le=1, description="Peak learning rate of AdamW for the student."
    )
    temperature: float = Field(
        2.0,
        gt=0,
        le=100,
        description="What both models' logits are divided by in the loss; more tells the student more "
        "of how the model ranks the labels that it does not give.",
    )
    label_weight: Fraction = Field(
        0.5,
        description="Share of the loss that looks at the labels of the data; the rest looks at the "
        "model's answers.",
    )


class Serving(Section):
    """Stages form, build and prove: what is served, what it accepts, how hard it is tried first."""

    forms: tuple[Form, ...] = Field(
        ("int8", "fp32"),
        max_length=4,
        description="Cheaper forms of a model that passes, to be served in its place if they pass the "
        "same gate and are no worse: fp32 and int8 (packed, for OpenVINO, without torch), student "
        "(int8 of fewer layers), baseline. The cheapest that passes is released; [] serves the model "
        "as it was trained.",
    )
    student: Student = Field(
        default_factory=Student, description="How the student is cut and trained, if forms has it."
    )
    calibration_rows: int = Field(
        300,
        ge=10,
        le=100_000,
        description="Training rows, chosen by content hash, from which int8 learns its ranges.",
    )
    max_texts: int = Field(64, ge=1, le=10_000, description="Most texts in one request.")
    max_characters: int = Field(
        20_000, ge=1, le=1_000_000, description="Longest text accepted, in characters."
    )
    proof_rows: int = Field(
        2000, ge=10, le=1_000_000, description="Most test rows replayed through HTTP in the proof."
    )

    @field_validator("forms")
    @classmethod
    def _each_form_once(cls, forms: tuple[Form, ...]) -> tuple[Form, ...]:
        if len(set(forms)) != len(forms):
            raise ValueError("a form is listed twice; list each once")
        return forms
