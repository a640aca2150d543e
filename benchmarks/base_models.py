"""Compare the base models at hand for Chinese reviews, on the same rows of zh_reviews.

`python -m benchmarks.base_models` trains the packed multilingual encoder whole and with its first
six layers, and a small encoder from random weights that reads single characters; `--quick` trains
the last one on the few rows of smoke. Each runs the whole line up to the decision.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, measured, surroundings
from benchmarks.texts import shipped

ROWS = 3000
FIGURES = ("accuracy", "precision.macro", "recall.macro")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def contenders(folder: Path, config: str) -> dict[str, list[str]]:
    """Return the overrides of a shipped config that make each contender."""
    write_character_model(folder, list(shipped(config)))
    own = [f"training.base_model={folder}", "training.num_hidden_layers=null"]
    return {
        "multilingual-e5-small, 12 layers": [],
        "multilingual-e5-small, 6 layers": ["training.num_hidden_layers=6"],
        "characters, from random weights": [
            *own, "training.learning_rate=0.0005", "training.num_train_epochs=6",
        ],
    }  # fmt: skip


def write_character_model(folder: Path, texts: list[str]) -> None:
    """Write a BERT of 4 layers of 256 with random weights, and a tokenizer of single characters."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    counted = Counter(letter for text in texts for letter in text if not letter.isspace())
    known = [letter for letter, count in counted.most_common(6000) if count > 1]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106  (no password)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token")
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=1024,
            max_position_embeddings=512,
        )
    )
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer, model_max_length=512, **dict(zip(names, SPECIAL, strict=True))
    ).save_pretrained(folder)


def main(arguments: list[str]) -> None:
    """Train each contender, print a table, and write `benchmarks/results/base_models.json`."""
    quick = "--quick" in arguments
    file = RESULTS / ("base_models_quick.json" if quick else "base_models.json")
    results: dict[str, Any] = {**surroundings(), "models": {}}
    results["command"] = " ".join(["python", "-m", "benchmarks.base_models", *arguments])
    with tempfile.TemporaryDirectory(prefix="ekiben-characters-") as folder:
        config = "smoke" if quick else "zh_reviews"
        chosen = list(contenders(Path(folder), config).items())[-1 if quick else 0 :]
        for name, overrides in chosen:
            size = "training.num_train_epochs=1" if quick else f"split.sample_rows={ROWS}"
            shared = ["gate.accuracy.min=1", "label_errors.action=none"]
            results["models"][name] = measured(config, [*overrides, *shared, size])
            file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(results["models"])


def _print(found: dict[str, Any]) -> None:
    table = Table("base model", *FIGURES, "n", "training, s")
    for name, line in found.items():
        cells = [
            f"{line['model'][key]['value']:.4f} ({line['baseline'][key]['value']:.4f})"
            for key in FIGURES
        ]
        n, seconds = line["model"]["accuracy"]["n"], line["training_seconds"]
        table.add_row(name, *cells, str(n), str(seconds))
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
