"""Turn a split's texts into token ids on disk, through `datasets` and the model's own tokenizer."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import SourceError
from tasks.progress import report_progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the fast tokenizer in a model folder.

    Raises:
        SourceError: if the folder has none, or it has no padding token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(
            f"training.base_model: {folder} holds no usable tokenizer ({reason}); name a model "
            "folder with config.json, model.safetensors and tokenizer.json"
        ) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise SourceError(f"training.base_model: the tokenizer in {folder} has no padding token")
    return tokenizer


def encode(
    parquet: Path,
    tokenizer: "PreTrainedTokenizerBase",
    labels: tuple[str, ...],
    max_length: int,
    folder: Path,
) -> int:
    """Write the rows of `parquet` as `EncodedRows` to the folder; return how many were truncated."""
    import datasets

    from tasks.worker.batches import write_rows  # late: it brings torch, which a reused step spares

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.Dataset.from_parquet(str(parquet), cache_dir=cache)
        ids: list[list[int]] = []
        truncated = 0
        for batch in rows.iter(batch_size=1000):
            encoded: dict[str, Any] = tokenizer(
                batch["text"],
                truncation=True,
                max_length=max_length,
                return_overflowing_tokens=True,
            )
            truncated += _append(ids, encoded)
            report_progress("tokenize", len(ids), len(rows), "texts")
        numbers = {label: number for number, label in enumerate(labels)}
        write_rows(folder, ids, [numbers[label] for label in rows["label"]])
    return truncated


def _append(ids: list[list[int]], encoded: dict[str, Any]) -> int:
    """Append the first window of each text; return how many texts had more than one."""
    before: int | None = None
    over: set[int] = set()
    for source, row in zip(
        encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True
    ):
        if source == before:
            over.add(source)
        else:
            ids.append(row)
        before = source
    return len(over)
