"""Golden answers: what the packaged engine says of texts that are nobody's, for the service to repeat.

A service that gives other answers than these when it starts is not ready: another processor, a
damaged file or another version of a library then shows before it answers anybody.
"""

from pathlib import Path

from tasks.packaged import run_beside
from tasks.steps import write_json

FILE = "golden.json"
TEXTS = (
    "Are we still on for lunch?",
    "Free entry! Text WIN to 80086 now to claim your prize.",
    "Die Lieferung kam drei Tage zu spät, und niemand wusste warum.",
    "这家店的服务很好，下次还来。",  # noqa: RUF001 (as it is written)
    "!",
    "again and " * 300,
)
_ANSWER = """
import json, sys
from pathlib import Path
from engine import Engine

file = Path(sys.argv[1])
texts = json.loads(file.read_text(encoding="utf-8"))
answers = Engine(file.parent).classify(texts)
told = {"texts": texts, "probabilities": [answer.probabilities for answer in answers]}
file.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
"""


def write_golden(service: Path) -> None:
    """Write `model/golden.json` below a service's folder, as its own engine answers there.

    Raises:
        BentoError: if the engine ends without answers, with the end of what it said.
    """
    file = service / "model" / FILE
    write_json(file, list(TEXTS))
    run_beside(service, _ANSWER, file)
