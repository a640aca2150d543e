"""Turn a split's texts into token ids on disk, through `datasets` and the model's own tokenizer."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import SourceError
from configs.schema import reason
from tasks.progress import report_progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path, source: Path | None = None) -> "PreTrainedTokenizerBase":
    """Return the fast tokenizer in a model folder; errors call it by its `source`.

    Raises:
        SourceError: if the folder has none that is usable, or it has no padding token.
    """
    from transformers import AutoTokenizer

    named = source or folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, use_fast=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001  (each tokenizer's class raises its own library's)
        raise SourceError(
            f"training.base_model: {named} holds no usable tokenizer ({reason(error)}); name a model "
            "folder with config.json, model.safetensors and tokenizer.json"
        ) from None
    if not tokenizer.is_fast:
        raise SourceError(
            f"training.base_model: {named} has no fast tokenizer but a {type(tokenizer).__name__}, "
            "which does not tell what it cuts off; name a model with tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise SourceError(f"training.base_model: the tokenizer in {named} has no padding token")
    return tokenizer


def encode(
    parquet: Path,
    tokenizer: "PreTrainedTokenizerBase",
    labels: tuple[str, ...],
    max_length: int,
    folder: Path,
) -> int:
    """Write the rows of `parquet` as `EncodedRows` to the folder; return how many were truncated.

    Raises:
        SourceError: if the tokenizer fails on a text.
    """
    import datasets

    from tasks.worker.batches import RowWriter  # late: it brings torch, which a reused step spares

    datasets.disable_progress_bars()
    numbers = {label: number for number, label in enumerate(labels)}
    writer, truncated = RowWriter(folder), 0
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        rows = datasets.Dataset.from_parquet(str(parquet), cache_dir=cache)
        for batch in rows.iter(batch_size=1000):
            ids, over = _first_windows(_encoded(tokenizer, batch["text"], max_length))
            writer.add(ids, [numbers[label] for label in batch["label"]])
            truncated += over
            report_progress("tokenize", len(writer.labels), len(rows), "texts")
    writer.close()
    return truncated


def _encoded(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], max_length: int
) -> dict[str, Any]:
    try:
        encoded: dict[str, Any] = tokenizer(
            texts, truncation=True, max_length=max_length, return_overflowing_tokens=True
        )
    except BaseException as error:
        # What its Rust gives up on is no Exception; what it says might hold a text.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SourceError(
            "training.base_model: its tokenizer gives up on one of the texts "
            f"({type(error).__name__}); name another model"
        ) from None
    return encoded


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
