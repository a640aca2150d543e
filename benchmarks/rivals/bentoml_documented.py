"""BentoML's documented service of a transformers pipeline, one text a request.

Its fair form, `RIVAL=fair`, has two workers of one thread each, so that both cores are used and
none is asked for twice. `RIVAL=batched` has BentoML's adaptive batching.
"""

import os
from typing import Any

import bentoml
import torch
from transformers import pipeline

RIVAL = os.environ["RIVAL"]
WORKERS = 2 if RIVAL == "fair" else 1
if RIVAL == "fair":
    torch.set_num_threads(1)


def loaded() -> Any:
    """Return the pipeline."""
    return pipeline("text-classification", model=os.environ["MODEL"])


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Documented:
    """Classify one text."""

    def __init__(self) -> None:
        self.pipeline = loaded()

    @bentoml.api
    def classify(self, text: str) -> list[dict]:
        """Return the label with its score."""
        return self.pipeline(text, truncation=True)


@bentoml.service(workers=1, traffic={"timeout": 60})
class Batched:
    """Classify texts that BentoML has gathered."""

    def __init__(self) -> None:
        self.pipeline = loaded()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60_000)
    def classify(self, texts: list[str]) -> list[dict]:
        """Return the label of each text with its score."""
        return self.pipeline(texts, truncation=True, batch_size=64)
