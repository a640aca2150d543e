"""Score encoded rows with a saved model: float32 logits, the same ones the service computes."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from tasks.worker.batches import EncodedRows, sorted_batches
from tasks.worker.devices import Device, choose_device
from tasks.worker.families import padded
from tasks.worker.parallel import Classifier, over_all
from tasks.worker.spec import ScoreSpec

_TOKENS_A_BATCH = 8192


def score(spec: ScoreSpec) -> None:
    """Write the logits [n_rows, n_labels], float32, in the order of the rows, to `spec.output`."""
    device = choose_device(spec.device, "fp32")
    rows = EncodedRows(Path(spec.rows))
    model = AutoModelForSequenceClassification.from_pretrained(
        spec.model,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    model.config.pad_token_id = spec.pad_token_id
    classifier = Classifier(model.to(device.torch), padded)
    logits = logits_of(classifier, rows, device, report=True)
    partial = Path(spec.output).with_suffix(".partial.npy")
    np.save(partial, logits)
    partial.replace(spec.output)


@torch.no_grad()  # inference mode knows no sharded weights
def logits_of(
    classifier: Classifier, rows: EncodedRows, device: Device, *, report: bool = False
) -> NDArray[np.float32]:
    """Return the logits [n_rows, n_labels] of the rows, in their order.

    Of several processes all must call it; each computes its share of the batches and gets them all.
    """
    classifier.eval()
    batches = list(sorted_batches(rows.lengths, _TOKENS_A_BATCH))
    found = torch.zeros(len(rows), classifier.model.config.num_labels, device=device.torch)
    done = 0
    for start in range(0, len(batches), device.world):
        # One that is left over computes the last again: sharded weights need all processes.
        batch = batches[min(start + device.rank, len(batches) - 1)]
        logits = classifier(rows.batch(batch).to(device.torch))
        if start + device.rank < len(batches):
            found[torch.from_numpy(batch)] = logits.float()
        done += len(batch)
        if report:
            print(json.dumps({"event": "scored", "done": done, "total": len(rows)}), flush=True)
    gathered: NDArray[np.float32] = over_all(found, device).cpu().numpy()
    return gathered
