"""The service in every Bento that Ekiben releases: texts in, labels with probabilities out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import bentoml
from batching import Batcher, Late, Overloaded
from bentoml._internal.utils.analytics import usage_stats
from bentoml.exceptions import ServiceUnavailable
from cleaning import clean
from engine import Answer, Engine, read_card
from lifecycle import Counted, Lifecycle, respawn_quickly
from pages import OwnPagesOnly
from privacy import mask
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# `bentoml serve` reports its use to its makers, and has asked itself whether to before this file is
# imported: so say no, and make it ask again.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
usage_stats.do_not_track.cache_clear()
respawn_quickly()

MODEL = Path(__file__).with_name("model")
CARD = read_card(MODEL)


def cleaned(text: str) -> str:
    """Return the text cleaned and masked as those of training; refuse one that is then blank."""
    text, _ = mask(clean(text, CARD["cleaning"]), CARD["privacy"])
    if not text.strip():
        raise ValueError("is blank once cleaned; send a text")
    return text


Text = Annotated[
    str,
    Field(min_length=1, max_length=CARD["max_characters"], strict=True),
    AfterValidator(cleaned),
]
Texts = Annotated[
    list[Text],
    Field(
        min_length=1,
        max_length=CARD["max_texts"],
        description=f"1 to {CARD['max_texts']} texts of 1 to {CARD['max_characters']} characters.",
        # `example`, since OpenAPI 3.0, which BentoML writes, does not know `examples` here.
        json_schema_extra={
            "example": [
                "Are we still on for lunch?",
                "Free entry! Text WIN to 80086 now to claim your prize.",
            ]
        },
    ),
]


class Request(BaseModel):
    """The texts to classify. BentoML logs why it refuses a request, but none of its texts."""

    model_config = ConfigDict(title="Request", hide_input_in_errors=True)

    texts: Texts


def _unsure() -> str:
    """Return what `unsure` means in this Bento."""
    if CARD["abstention"] is None:
        return "Always false: this model was released without a threshold."
    threshold = CARD["abstention"]["threshold"]
    if threshold is None:
        return "Always true: no probability was shown to be enough. The label is the likeliest."
    return (
        f"Whether the label's probability is below {threshold:.4f}: then it is the likeliest one, "
        "and not to be relied on."
    )


class Classification(BaseModel):
    """What the model says of one text."""

    label: str = Field(
        description="The most probable label.", json_schema_extra={"example": CARD["labels"][0]}
    )
    probabilities: dict[str, float] = Field(
        description="The probability of every label, calibrated on rows that were not trained on."
    )
    unsure: bool = Field(description=_unsure())
    truncated: bool = Field(
        description=f"Whether the text was longer than the {CARD['max_length']} tokens read."
        if CARD["max_length"]
        else "Always false: every text is read whole."
    )
    model: str = Field(
        description="Tag of the Bento that answered.", json_schema_extra={"example": CARD["tag"]}
    )
    forced: bool = Field(
        description="Whether a person released the model though its gate did not pass it."
    )


@dataclass(frozen=True)
class Settings:
    """What may be set of the queue and of stopping."""

    batch_tokens: int = 1024
    queue_tokens: int = 16384
    queue_ms: int = 100
    drain_seconds: int = 30
    refuse_ms: int = 1000
    deadline_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """A text, and about how many tokens it has."""

    text: str
    n_tokens: int


class Measures:
    """Nobody is told of the batches yet."""

    def computed(self, rows: int, tokens: int) -> None:
        """Take no note."""


SETTINGS = Settings()
LIFECYCLE = Lifecycle(SETTINGS)


@bentoml.service(name=CARD["pipeline"])
class TextClassifier:
    """Classify texts with the model in this Bento."""

    def __init__(self) -> None:
        engine = Engine(MODEL)
        self.batcher: Batcher[Row, Answer] = Batcher(
            lambda rows: engine.classify([row.text for row in rows]), SETTINGS, Measures()
        )

    @bentoml.on_startup
    async def start(self) -> None:
        """Be ready once the model answers as it did when it was built."""
        await self.batcher.start()
        await LIFECYCLE.start(self.answer, MODEL / "golden.json")

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Compute what waits."""
        await self.batcher.close()

    async def answer(self, texts: list[str]) -> list[Answer]:
        """Return an answer for each cleaned text, in order."""
        rows = [Row(text, 2 + len(text) // 4) for text in texts]
        return await self.batcher.submit(rows, SETTINGS.deadline_ms / 1000)

    @bentoml.api(input_spec=Request)
    async def classify(self, texts: list[str]) -> list[Classification]:
        """Return for each text its label, the probability of every label, and the model's tag."""
        try:
            answers = await self.answer(texts)
        except (Overloaded, Late) as refusal:
            raise ServiceUnavailable(str(refusal)) from None
        return [_classification(answer) for answer in answers]


# The decorator has made a Service of the class, which its types do not say.
SERVICE: Any = TextClassifier
SERVICE.add_asgi_middleware(OwnPagesOnly)
# A middleware that a service adds stands within BentoML's own, and this must be the outermost. The
# Service takes no attribute, so its class, which has no other, gives the application.
_application = type(SERVICE).to_asgi
type(SERVICE).to_asgi = lambda service, **asked: Counted(_application(service, **asked), LIFECYCLE)


def _classification(answer: Answer) -> Classification:
    probabilities = dict(zip(CARD["labels"], answer.probabilities, strict=True))
    return Classification(
        label=max(probabilities, key=probabilities.__getitem__),
        probabilities=probabilities,
        unsure=answer.unsure,
        truncated=answer.truncated,
        model=CARD["tag"],
        forced=CARD["forced"],
    )
