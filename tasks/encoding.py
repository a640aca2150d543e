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

    from tasks.worker.batches import RowWriter  # late: it brings torch, which a reused step spares

    datasets.disable_progress_bars()
    numbers = {label: number for number, label in enumerate(labels)}
    writer, truncated = RowWriter(folder), 0
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        rows = datasets.Dataset.from_parquet(str(parquet), cache_dir=cache)
        for batch in rows.iter(batch_size=1000):
            encoded: dict[str, Any] = tokenizer(
                batch["text"],
                truncation=True,
                max_length=max_length,
                return_overflowing_tokens=True,
            )
            ids, over = _first_windows(encoded)
            writer.add(ids, [numbers[label] for label in batch["label"]])
            truncated += over
            report_progress("tokenize", len(writer.labels), len(rows), "texts")
    writer.close()
    return truncated


def _first_windows(encoded: dict[str, Any]) -> tuple[list[list[int]], int]:
    """Return the first window of each text, and how many texts had more than one."""
    ids: list[list[int]] = []
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
    return ids, len(over)
