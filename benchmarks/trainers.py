"""One contender of `benchmarks.training`, in a process of its own, which trains by turns.

For each line that it reads, it does so many updates and prints what they took, as a line of JSON.
It needs torch, transformers, safetensors and numpy; where accelerate is missing, which the Trainer
needs, the Trainer's arithmetic is done by a plain loop.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.turns import Ended, Job, Judge, Turns
from tasks.worker.adapters import adapt, inner
from tasks.worker.batches import EncodedRows
from tasks.worker.devices import Device, choose_device
from tasks.worker.families import padded
from tasks.worker.figures import validation_figures
from tasks.worker.loading import load_model
from tasks.worker.optimizing import make_optimizer
from tasks.worker.parallel import Classifier
from tasks.worker.scoring import logits_of
from tasks.worker.spec import TrainSpec
from tasks.worker.training import prepare, train_one_epoch

PADDED_TO = 128
"""`max_seq_length` of transformers' own text-classification example, which pads to it by default."""
HAS_TRAINER = find_spec("accelerate") is not None


class Texts(Dataset[dict[str, Any]]):
    """Encoded rows as the example has them: lists of ids, padded to `width` if there is one."""

    def __init__(self, rows: EncodedRows, pad_token_id: int, width: int | None) -> None:
        self.rows, self.pad_token_id, self.width = rows, pad_token_id, width

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        start, stop = self.rows.offsets[row], self.rows.offsets[row + 1]
        ids = self.rows.ids[start:stop].tolist()[: self.width]
        missing = 0 if self.width is None else self.width - len(ids)
        return {
            "input_ids": ids + [self.pad_token_id] * missing,
            "attention_mask": [1] * len(ids) + [0] * missing,
            "labels": int(self.rows.labels[row]),
        }


def ours(spec: TrainSpec, device: Device, turns: Turns) -> None:
    """Train as the worker does."""
    trainer = prepare(spec, device)

    def judge() -> dict[str, float]:
        logits = logits_of(trainer.classifier, trainer.held_out, device)
        trainer.classifier.train()
        return validation_figures(logits, trainer.held_out.labels)

    trainer.classifier.register_forward_pre_hook(turns.count_batch)
    trainer.optimizer.register_step_post_hook(turns.after_update)
    turns.start(trainer.classifier.model, judge, trainer.forward)
    while True:
        train_one_epoch(trainer)


def theirs(spec: TrainSpec, device: Device, turns: Turns, *, grouped: bool) -> None:
    """Train with the Trainer: padded to a fixed length, or to the longest of rows alike in length."""
    from transformers import DataCollatorWithPadding, default_data_collator

    torch.manual_seed(spec.seed)
    adapted = adapt(load_model(spec), spec)
    model = inner(adapted).to(device.torch)
    width = None if grouped else PADDED_TO
    texts = Texts(EncodedRows(Path(spec.train)), spec.pad_token_id, width)
    collate: Any = default_data_collator
    if grouped:
        collate = DataCollatorWithPadding(_padder(spec.pad_token_id))
    held_out = EncodedRows(Path(spec.validation))

    def judge() -> dict[str, float]:
        logits = logits_of(Classifier(model, padded), held_out, device)
        model.train()
        return validation_figures(logits, held_out.labels)

    model.register_forward_pre_hook(turns.count_grid, with_kwargs=True)
    train = _trainer if HAS_TRAINER else _loop
    train(adapted, spec, device, texts, collate, grouped, turns, judge)


def _padder(pad_token_id: int) -> Any:
    """Return a tokenizer that can do nothing but pad."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    # The "passwords" are tokens, and transformers leaves its constructor untyped.
    words = Tokenizer(models.WordLevel({"[PAD]": pad_token_id}, unk_token="[PAD]"))  # noqa: S106
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")  # type: ignore[no-untyped-call]  # noqa: S106


def _trainer(
    model: Any, spec: TrainSpec, device: Device, texts: Texts, collate: Any, grouped: bool,
    turns: Turns, judge: Judge,
) -> None:  # fmt: skip
    """Train with transformers' Trainer, its defaults but for what the spec says."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Turning(TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            turns.start(inner(model), judge, "transformers' Trainer")

        def on_step_end(self, *_: object, **__: object) -> None:
            turns.after_update()

    arguments = TrainingArguments(
        output_dir=spec.output,
        per_device_train_batch_size=spec.train_batch_size,
        num_train_epochs=spec.num_train_epochs,
        learning_rate=spec.learning_rate,
        warmup_steps=spec.warmup_ratio,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        seed=spec.seed,
        train_sampling_strategy="group_by_length" if grouped else "random",
        use_cpu=device.torch.type == "cpu",
        dataloader_pin_memory=device.torch.type != "cpu",
        bf16=device.precision == "bf16",
        fp16=device.precision == "fp16",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, arguments, data_collator=collate, train_dataset=texts, callbacks=[Turning()]
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _loop(
    model: Any, spec: TrainSpec, device: Device, texts: Texts, collate: Any, grouped: bool,
    turns: Turns, judge: Judge,
) -> None:  # fmt: skip
    """Do the Trainer's arithmetic, and none of its other work."""
    from transformers import get_linear_schedule_with_warmup
    from transformers.trainer_pt_utils import LengthGroupedSampler

    size = spec.train_batch_size
    lengths = texts.rows.lengths.tolist()
    sampler = LengthGroupedSampler(size, lengths=lengths) if grouped else RandomSampler(texts)
    pinned = device.torch.type != "cpu"
    loader = DataLoader(texts, size, sampler=sampler, collate_fn=collate, pin_memory=pinned)
    optimizer = make_optimizer(model, spec)
    for group in optimizer.param_groups:
        group["lr"] = spec.learning_rate
    total = len(loader) * spec.num_train_epochs
    warmup = math.ceil(total * spec.warmup_ratio)
    # transformers leaves it untyped, too.
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, total)  # type: ignore[no-untyped-call]
    scaler = torch.amp.GradScaler(device.torch.type, enabled=device.precision == "fp16")
    model.train()
    turns.start(inner(model), judge, "plain loop with the Trainer's arithmetic")
    while True:
        for batch in loader:
            on_device = {k: v.to(device.torch, non_blocking=True) for k, v in batch.items()}
            with device.autocast():
                loss = model(**on_device).loss
            torch.autograd.backward(scaler.scale(loss))
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), spec.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            turns.after_update()


CONTENDERS: dict[str, Callable[[TrainSpec, Device, Turns], None]] = {
    "padded": partial(theirs, grouped=False),
    "grouped": partial(theirs, grouped=True),
    "ours": ours,
}


def main(argument: str) -> None:
    """Do the job; standard output is for what it took, and all else goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = Job(**json.loads(argument))
    spec = TrainSpec(**job.spec)
    device = choose_device(spec.device, spec.precision)
    torch.manual_seed(spec.seed)
    with suppress(Ended):
        CONTENDERS[job.contender](spec, device, Turns(job, device, channel))


if __name__ == "__main__":
    main(sys.argv[1])
