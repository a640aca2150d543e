"""Forms of a model: exported whole, close to the original, and never dependent on batch-mates."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

from configs.errors import FormError
from configs.schema import PipelineConfig
from flows import pipeline
from tasks.building import SERVICE
from tasks.distilling import cut, evenly_spaced
from tasks.exporting import Packable, export_form
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    SplitManifest,
    ValidationReport,
)
from tasks.packed import FILE, Packed, cores, laid_out
from tasks.reporting import Run
from tasks.requirements import MODULES_OF

WORDS = [f"w{number}" for number in range(200)]
MAX_LENGTH = 48
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64,
    "vocab_size": 210, "max_position_embeddings": 64, "num_labels": 3,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "bert": lambda: BertConfig(**SIZES, pad_token_id=0),
    "bert of another activation": lambda: BertConfig(**SIZES, pad_token_id=0, hidden_act="relu"),
    "roberta": lambda: RobertaConfig(**SIZES, pad_token_id=1),
    "xlm-roberta": lambda: XLMRobertaConfig(**SIZES, pad_token_id=1),
}


def saved(folder: Path, config: Any) -> Path:
    """Save a model of random weights with a tokenizer of words."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    for parameter in model.parameters():  # a new model's are so small that every text is alike
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(
        WordLevel({word: n for n, word in enumerate([*special, *WORDS])}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def texts_of(count: int, seed: int = 0) -> list[str]:
    """Return texts of 1 to 60 words, of which the longest are cut off."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(1, 61))) for _ in range(count)]


@torch.inference_mode()
def own_logits(folder: Path, rows: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Return the logits that transformers' own forward pass gives each row by itself."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    logits = [model(input_ids=torch.tensor(row)[None]).logits[0].numpy() for row in rows]
    return np.stack(logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_gives_the_original_s_logits_and_int8_nearly(tmp_path: Path, family: str) -> None:
    source = saved(tmp_path / "model", FAMILIES[family]())
    texts = texts_of(60)
    forms: tuple[tuple[Packable, float], ...] = (("fp32", 1e-5), ("int8", 0.1))
    for form, most in forms:
        export_form(source, form, texts[:40], tmp_path / form, MAX_LENGTH)
        packed = Packed(tmp_path / form, MAX_LENGTH)
        rows, truncated = packed.tokenize(texts)
        assert truncated == [len(text.split()) + 2 > MAX_LENGTH for text in texts]
        assert any(truncated) and not all(truncated)
        own = own_logits(source, rows)
        assert own.std(axis=0).min() > 0.3  # so that a constant would not pass
        assert np.abs(packed.logits(rows) - own).mean() < most


def refused(folder: Path, change: Callable[[Path], None]) -> str:
    source = saved(folder / "model", FAMILIES["bert"]())
    change(source)
    with pytest.raises(FormError) as told:
        export_form(source, "fp32", [], folder / "out", MAX_LENGTH)
    return str(told.value)


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        (source / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")

    return change


def without(name: str) -> Callable[[Path], None]:
    return lambda source: (source / name).unlink()


def weights(change: Callable[[dict[str, NDArray[Any]]], Any]) -> Callable[[Path], None]:
    def changed(source: Path) -> None:
        held = load_file(source / "model.safetensors")
        change(held)
        save_file(held, source / "model.safetensors")

    return changed


def torn(source: Path) -> None:
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (configured(model_type="distilbert"), "of type 'distilbert' has no packed form"),
        (configured(architectures=["BertModel"]), "a BertModel of type 'bert' has no packed form"),
        (configured(is_decoder=True), "a decoder has no packed form"),
        (configured(position_embedding_type="relative_key"), "positions are 'relative_key'"),
        (configured(hidden_act="silu"), "the activation 'silu' is not known"),
        (configured(max_position_embeddings=40), "it has 40 positions, not 48"),
        (without("tokenizer.json"), "has no tokenizer.json"),
        (without("model.safetensors"), "cannot be read"),
        (torn, "cannot be read"),
        (weights(lambda held: held.pop("bert.pooler.dense.bias")), "pooler.dense.bias"),
        (
            weights(lambda held: held["classifier.bias"].fill(np.nan)),
            "its logits are no finite numbers",
        ),
    ],
)
def test_a_model_that_has_no_such_form_is_refused_in_words(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    assert words in refused(tmp_path, change)


def test_several_reasons_are_told_together(tmp_path: Path) -> None:
    told = refused(tmp_path, configured(model_type="gpt2", is_decoder=True))
    assert "'gpt2'" in told and "a decoder" in told and told.endswith("serve it as trained")


@pytest.mark.parametrize("damage", [without("openvino.bin"), without(FILE)])
def test_a_form_whose_files_are_gone_says_so(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    source = saved(tmp_path / "model", FAMILIES["bert"]())
    export_form(source, "fp32", [], tmp_path / "out", MAX_LENGTH)
    damage(tmp_path / "out")
    with pytest.raises(ValueError, match=r"openvino\.xml: cannot be read; export the model anew"):
        Packed(tmp_path / "out", MAX_LENGTH)


def test_the_layout_of_a_batch_is_whole() -> None:
    rows = [np.arange(1, length + 1) for length in (3, 17, 5)]
    inputs = laid_out(rows)
    assert inputs["grid"].shape == (3, 32) and len(inputs["ids"]) == 32
    for number, row in enumerate(rows):
        grid = inputs["grid"][number]
        assert (inputs["ids"][grid[: len(row)]] == row).all()
        assert (inputs["hidden"][number] == 0).sum() == len(row)
        assert (inputs["positions"][grid[: len(row)]] == np.arange(len(row))).all()
        assert inputs["firsts"][number] == grid[0]
    flat = inputs["grid"].ravel()
    tokens = sum(map(len, rows))
    assert (flat[inputs["cells"][:tokens]] == np.arange(tokens)).all()


def test_a_process_has_a_core() -> None:
    assert cores() >= 1


ALONE_AND_TOGETHER = """
import json, sys
from pathlib import Path
import numpy as np
from engine import Engine

engine = Engine(Path(sys.argv[1]), threads=1)
texts = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
alone = np.array([engine.classify([text])[0].probabilities for text in texts])
draw = np.random.default_rng(0)
order, together, start = draw.permutation(len(texts)), np.empty_like(alone), 0
while start < len(texts):
    some = order[start : start + draw.integers(1, 65)]
    start += len(some)
    answers = engine.classify([texts[number] for number in some])
    together[some] = [answer.probabilities for answer in answers]
labels = int((alone.argmax(axis=1) != together.argmax(axis=1)).sum())
spread = float(alone.std(axis=0).min())
print(json.dumps([len(texts), labels, float(np.abs(alone - together).max()), spread]))
"""


@pytest.mark.parametrize("kind", list(MODULES_OF))
def test_no_answer_depends_on_its_batch_mates(tmp_path: Path, kind: str) -> None:
    """10,000 texts, each alone and in batches of 1 to 64 at random."""
    texts = texts_of(10_000, seed=1)
    folder = tmp_path / "served"
    if kind == "linear":
        _save_linear(folder)
    else:
        source = saved(tmp_path / "model", FAMILIES["bert"]())
        if kind == "transformer":
            source.rename(folder)
        else:
            if kind == "openvino-student":
                source = _cut_to_one_layer(source)
            form: Packable = "fp32" if kind == "openvino-fp32" else "int8"
            export_form(source, form, texts[:40], folder, MAX_LENGTH)
    card = {
        "kind": kind, "labels": ["a", "b", "c"], "max_length": MAX_LENGTH, "pad_token_id": 0,
        "calibration": {"scale": [1.0] * 3, "bias": [0.0] * 3}, "abstention": None,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    command = [sys.executable, "-c", ALONE_AND_TOGETHER, str(folder), str(tmp_path / "texts.json")]
    ended = subprocess.run(command, cwd=SERVICE, capture_output=True, text=True, check=True)
    count, moved, difference, spread = json.loads(ended.stdout.splitlines()[-1])
    assert (count, moved) == (10_000, 0)
    assert difference <= 1e-5
    assert spread > 0.01


def _cut_to_one_layer(source: Path) -> Path:
    student = source.with_name("student")
    cut(source, evenly_spaced(2, 1), student)
    for file in source.glob("*token*.json"):
        (student / file.name).write_bytes(file.read_bytes())
    return student


def _save_linear(folder: Path) -> None:
    from tasks.linear import Linear, hash_of

    draw = np.random.default_rng(0)
    folder.mkdir()
    terms = np.array(sorted(map(hash_of, WORDS)), dtype=np.uint64)
    Linear(
        terms=terms,
        stop_words=np.array([], dtype=np.uint64),
        idf=np.ones(len(terms)),
        weights=draw.normal(size=(len(terms), 3)),
        intercept=np.zeros(3),
    ).write(folder)


def test_a_form_that_cannot_be_made_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step: Any = {"key": "k", "parents": {}, "folder": Path("step"), "files": {}}
    model = CheckpointManifest(
        **step, base_model="m", base_model_digest="d", parameters=1, device="cpu", precision="fp32",
        best_epoch=1, stopped_early=False, seconds=1.0, rows_per_second=1.0, epochs=(), curve=(),
        truncated_rows=0,
    )  # fmt: skip
    config = PipelineConfig.model_validate(
        {
            "name": "formed",
            "data": {"uri": "rows.csv", "labels": ["a", "b"]},
            "gate": {"accuracy": {"min": 0.9}},
        }
    )
    dataset = DatasetManifest(
        **step, source="s", source_digest="d", rows=1, changed_by_cleaning=0, label_counts={}
    )
    validation = ValidationReport(
        **step, passed=True, problems=(), rows=1, rows_quarantined=0, rows_valid=1, rules=(),
        label_counts={}, length_histogram={},
    )  # fmt: skip
    split = SplitManifest(**step, rows={}, label_counts={})
    run = Run(config, dataset, validation, split=split, checkpoint=model, baseline=model)

    def refuse(*_: Any) -> CheckpointManifest:
        raise FormError("a DistilBert of type 'distilbert' has no packed form; serve it as trained")

    monkeypatch.setattr(pipeline, "make_form", refuse)
    rung = pipeline.rung_of(run, "int8", None)
    assert (rung.form, rung.run, rung.passes) == ("int8", None, False)
    assert rung.told is not None and "'distilbert' has no packed form" in rung.told
