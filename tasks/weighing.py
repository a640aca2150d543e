"""Stage weigh: what a form of the model costs to serve, measured by the service's own engine."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import PipelineConfig
from tasks.building import SERVICE, window_of
from tasks.manifests import CheckpointManifest, FormWeight, SplitManifest
from tasks.packaged import run_beside
from tasks.steps import require_whole, run_step, write_json

_MOST_ROWS = 500
_MEASURE = """
import json, sys, time
from pathlib import Path

import psutil
from engine import Engine

folder = Path(sys.argv[1])
texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
engine = Engine(folder)
engine.classify(texts[:32])
taken = []
for _ in range(3):
    started = time.process_time()
    engine.classify(texts)
    taken.append(time.process_time() - started)
memory = psutil.Process().memory_info().rss
print(json.dumps({"cpu_ms": 1000 * min(taken) / len(texts), "memory_mb": memory / 1e6}))
"""


def weigh_form(
    config: PipelineConfig, split: SplitManifest, checkpoint: CheckpointManifest
) -> FormWeight:
    """Return size, processor's time a text and memory of one form, on up to 500 validation rows.

    The texts are classified in one call, the fastest of three.

    Raises:
        BentoError: if the engine ends without a result, with the end of what it said.
        StepError: if the split or the checkpoint was changed since it was made.
    """
    require_whole(split, checkpoint)

    def produce(folder: Path) -> dict[str, Any]:
        texts = pq.read_table(split.path("validation.parquet"), columns=["text"])["text"]
        some = texts[:_MOST_ROWS].to_pylist()
        size = sum(file.stat().st_size for file in checkpoint.path("model").rglob("*"))
        own = measured(config, checkpoint, some, folder)
        return {"rows": len(some), "size_mb": size / 1e6, **own}

    return run_step(
        "weigh",
        FormWeight,
        section={"max_length": config.training.max_length, "labels": config.data.label_names},
        parents={"split": split.digest, "checkpoint": checkpoint.digest},
        produce=produce,
    )


def measured(
    config: PipelineConfig, checkpoint: CheckpointManifest, texts: list[str], folder: Path
) -> dict[str, float]:
    """Return `cpu_ms` and `memory_mb` as a process measured that loads the model as the service does.

    Raises:
        BentoError: if the engine ends without a result, with the end of what it said.
    """
    n_labels = len(config.data.label_names)
    scratch = folder / "engine"
    scratch.mkdir()
    for file in checkpoint.path("model").iterdir():
        (scratch / file.name).symlink_to(file.resolve())
    card = {
        "kind": checkpoint.kind,
        "labels": list(config.data.label_names),
        **window_of(config, checkpoint),
        "calibration": {"scale": [1.0] * n_labels, "bias": [0.0] * n_labels},
        "abstention": None,
    }
    write_json(scratch / "card.json", card)
    write_json(scratch / "texts.json", texts)
    told = run_beside(SERVICE, _MEASURE, scratch)
    shutil.rmtree(scratch)  # links alone: the model they lead to stays
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


weigh = task(name="weigh", task_run_name="weigh", cache_policy=NO_CACHE)(weigh_form)
