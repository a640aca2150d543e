"""What every test may rely on: homes of its own, and telemetry off."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tasks.quiet import switch_off_telemetry

switch_off_telemetry()
# The same examples in every run, and no clock, since machines may be busy.
settings.register_profile("ekiben", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("ekiben")
ROOT = Path(__file__).resolve().parent.parent
SHARE_A_RELEASE = {
    "test_decisions",
    "test_line",
    "test_no_outside_connection",
    "test_postgres",
    "test_prefect_ui",
    "test_raw_text",
    "test_student",
}


class ByRelease(LoadFileScheduling):
    """Give a file's tests to one process, and so the files that share a release."""

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).stem
        return "released" if name in SHARE_A_RELEASE else name


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Replace the scheduler of `--dist loadfile`."""
    return ByRelease(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point Ekiben, BentoML and Prefect at folders of this test's own; return their parent."""
    for name in ("EKIBEN_HOME", "BENTOML_HOME", "PREFECT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder: a BERT of two narrow layers with random weights, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["are we still on for lunch at home later friend meeting"] * 2
        + ["win a free prize claim your cash now urgent offer txt"] * 2,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=400,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
        )
    )
    folder = tmp_path_factory.mktemp("tiny-model")
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "cls_token", "sep_token", "unk_token")
    settings = dict(zip(names, special, strict=True)) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 128,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bento_on_path() -> Iterator[None]:
    """Let the modules of the service be imported as the Bento imports them."""
    service = str(ROOT / "bentos" / "text_classifier")
    sys.path.insert(0, service)
    yield
    sys.path.remove(service)
