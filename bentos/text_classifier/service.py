"""The service in every Bento that Ekiben releases: texts in, labels with probabilities out."""

import os
import sys
from pathlib import Path

import integrity

# Not resolved: were this file a link, another folder than the Bento would be held to its manifest.
BENTO = Path(__file__).absolute().parent.parent
try:  # before anything else of the Bento is read
    integrity.require_intact(BENTO, in_image="BENTOML_CONTAINERIZED" in os.environ)
except integrity.IntegrityError as error:
    sys.exit(f"this Bento is not what was released, and is not served\n{error}")

from typing import Annotated, Any

import bentoml
from batching import Batcher
from bentoml._internal.utils.analytics import usage_stats
from engine import Engine, read_card
from front import Classifier, Front
from guard import Guard
from keys import Keys, KeysError
from lifecycle import App, Counted, Lifecycle, respawn_quickly
from measures import Measures
from observing import Observed, log_to_stdout
from pages import OwnPagesOnly
from pydantic import BaseModel, ConfigDict, Field
from settings import Settings, SettingsError, read_settings

# `bentoml serve` reports its use to its makers, and has asked itself whether to before this file is
# imported: so say no, and make it ask again.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
usage_stats.do_not_track.cache_clear()
respawn_quickly()

MODEL = Path(__file__).with_name("model")
CARD = read_card(MODEL)


Text = Annotated[str, Field(min_length=1, max_length=CARD["max_characters"], strict=True)]
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
    """The texts to classify, as BentoML's client and page are told of them."""

    model_config = ConfigDict(title="Request", hide_input_in_errors=True)

    texts: Texts


class Classification(BaseModel):
    """What the model says of one text; `/docs.json` describes each field."""

    label: str
    probabilities: dict[str, float]
    unsure: bool
    truncated: bool
    model: str
    forced: bool


def _ready_to_guard() -> tuple[Settings, Measures, Keys | None]:
    """Return what the environment asks for; end in words where it cannot be had."""
    try:
        settings, measures = read_settings(os.environ), Measures(CARD["tag"], CARD["kind"])
        if settings.public_key is not None:
            _require_signed(settings.public_key)
        file = settings.keys_file
        return settings, measures, Keys(file, measures.keys_errors.inc) if file else None
    except (SettingsError, KeysError) as error:
        sys.exit(str(error))


def _require_signed(public_key: Path) -> None:
    """End in words where the Bento is not signed by the key's owner."""
    try:
        from signing import SignatureError, require_signed
    except ImportError as error:
        sys.exit(
            f"EKIBEN_SERVE_PUBLIC_KEY: needs the package {error.name!r}; install model-signing"
        )
    try:
        require_signed(BENTO, BENTO / integrity.SIGNATURE, public_key)
    except SignatureError as error:
        sys.exit(str(error))


SETTINGS, MEASURES, KEYS = _ready_to_guard()
LIFECYCLE = Lifecycle(SETTINGS)
SERVED: dict[str, Classifier] = {}  # once BentoML has made the service


@bentoml.service(name=CARD["pipeline"])
class TextClassifier:
    """Classify texts with the model in this Bento."""

    def __init__(self) -> None:
        engine = Engine(MODEL, SETTINGS.threads)
        batcher = Batcher(engine.answer, SETTINGS, MEASURES, threads=engine.parallel)
        SERVED["classifier"] = Classifier(
            CARD, engine.encode, batcher, MEASURES, SETTINGS.deadline_ms / 1000
        )

    @bentoml.on_startup
    async def start(self) -> None:
        """Be ready once the model answers as it did when it was built."""
        classifier = SERVED["classifier"]
        batcher = classifier.batcher
        await batcher.start()
        await LIFECYCLE.start(classifier.answers, MODEL / "golden.json")
        MEASURES.follow(lambda: batcher.queued_tokens, lambda: LIFECYCLE.state == "ready")

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Compute what waits."""
        await SERVED["classifier"].batcher.close()

    @bentoml.api(input_spec=Request)
    async def classify(self, texts: list[str]) -> list[Classification]:
        """Return for each text its label, the probability of every label, and the model's tag."""
        # BentoML's client and page read this method's types; no request comes here.
        raise NotImplementedError(
            "Front answers this route, so that no request comes past the guard"
        )


# The decorator has made a Service of the class, which its types do not say.
SERVICE: Any = TextClassifier
SERVICE.add_asgi_middleware(OwnPagesOnly)
# A middleware that a service adds stands within BentoML's own, and these must be outermost. The
# Service takes no attribute, so its class, which has no other, gives the application.
_application = type(SERVICE).to_asgi


def _guarded(service: Any, **asked: Any) -> App:
    log_to_stdout()
    application = _application(service, **asked)
    front = Front(application, lambda: SERVED["classifier"], CARD, SETTINGS, MEASURES, LIFECYCLE)
    return Counted(Observed(Guard(front, SETTINGS, KEYS), MEASURES), LIFECYCLE)


type(SERVICE).to_asgi = _guarded
