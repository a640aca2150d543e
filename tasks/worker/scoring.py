"""Score encoded rows with a saved model: float32 logits, the same ones the service computes."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from tasks.worker.batches import EncodedRows, sorted_batches
from tasks.worker.devices import Device, choose_device
from tasks.worker.spec import ScoreSpec

_ROWS_A_BATCH = 64


def score(spec: ScoreSpec) -> None:
    """Write the logits [n_rows, n_labels], float32, in the order of the rows, to `spec.output`."""
    device = choose_device(spec.device, "fp32")
    rows = EncodedRows(Path(spec.rows))
    model = AutoModelForSequenceClassification.from_pretrained(
        spec.model, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    model.to(device.torch)
    logits = logits_of(model, rows, spec.pad_token_id, device, report=True)
    partial = Path(spec.output).with_suffix(".partial.npy")
    np.save(partial, logits)
    partial.replace(spec.output)


@torch.inference_mode()
def logits_of(
    model: torch.nn.Module,
    rows: EncodedRows,
    pad_token_id: int,
    device: Device,
    *,
    report: bool = False,
) -> NDArray[np.float32]:
    """Return the model's logits [n_rows, n_labels] on the rows, in their order."""
    model.eval()
    parts: list[NDArray[np.float32]] = []
    order: list[NDArray[np.int64]] = []
    done = 0
    for batch in sorted_batches(rows.lengths, _ROWS_A_BATCH):
        ids, mask, _ = rows.padded(batch, pad_token_id)
        output = model(input_ids=ids.to(device.torch), attention_mask=mask.to(device.torch))
        parts.append(output.logits.float().cpu().numpy())
        order.append(batch)
        done += len(batch)
        if report:
            print(json.dumps({"event": "scored", "done": done, "total": len(rows)}), flush=True)
    logits = np.empty((len(rows), parts[0].shape[1]), dtype=np.float32)
    logits[np.concatenate(order)] = np.concatenate(parts)
    return logits
