"""Base models as an attacker would make them: a tiny model's folder, and one thing about it changed."""

import base64
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"


class Payload:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@dataclass(frozen=True)
class Case:
    """What is done to the folder of a sound model, and what the refusal must name."""

    change: Callable[[Path], object]
    told: tuple[str, ...]


CASES: dict[str, Case] = {}


def case(*told: str, name: str | None = None) -> Callable[[Callable[[Path], object]], None]:
    """Add a case under the name of the function that makes it."""

    def add(change: Callable[[Path], object]) -> None:
        CASES[name or change.__name__.replace("_", " ")] = Case(change, told)

    return add


def changed_json(file: Path, **changes: Any) -> None:
    """Change keys of the object in a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(content), encoding="utf-8")


def marked(folder: Path) -> str:
    """Return Python code that leaves a file behind when it is run."""
    return f"import os; os.system(\"touch '{folder.parent / 'ran'}'\")\n"


def a_pickle(folder: Path) -> bytes:
    """Return a pickle that leaves a file behind when it is read."""
    import pickle

    return pickle.dumps(Payload(folder.parent / "ran"))


# --- Weights --------------------------------------------------------------------------------------


def only(name: str) -> Callable[[Path], None]:
    """Return what puts a pickle of that name in the place of the weights."""

    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(a_pickle(folder))

    return change


for _name in ("pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl", "tf_model.h5",
              "flax_model.msgpack", "model.joblib"):  # fmt: skip
    case(f"holds no {WEIGHTS}, but '{_name}'", name=f"only {_name}")(only(_name))


@case("holds no model.safetensors; name a model")
def only_onnx_with_data_elsewhere(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model.onnx")
    (folder / "model.onnx_data").symlink_to("/etc/passwd")


@case(WEIGHTS, "no sound safetensors file")
def a_pickle_by_the_name_of_weights(folder: Path) -> None:
    content = a_pickle(folder)
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 8) + b"{\x80\x04\x95xxxx" + content)


def sharded(*names: str, **others: Any) -> Callable[[Path], None]:
    """Return what splits the weights by an index that names those files."""

    def change(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).rename(folder / "model-1.safetensors")
        outside = folder.parent / "outside.safetensors"
        save_file(weights, outside)
        save_file(weights, outside.with_suffix(".bin"))
        files = [name.replace("OUTSIDE", str(outside)) for name in names]
        named = {key: files[i % len(files)] for i, key in enumerate(weights)}
        content = {"metadata": {"total_size": 1}, "weight_map": named} | others
        (folder / INDEX).write_text(json.dumps(content), encoding="utf-8")

    return change


for _names, _told in {
    ("../outside.safetensors",): "names '../outside.safetensors' for weights",
    ("OUTSIDE",): "for weights, which is no .safetensors file beside it",
    ("model-1.safetensors", "pytorch_model.bin"): "names 'pytorch_model.bin' for weights",
    ("model-1.safetensors", "a\nb.safetensors"): r"names 'a\nb.safetensors'",
    ("model-1.safetensors", "model-2.safetensors"): "names model-2.safetensors, which is not there",
}.items():
    case(INDEX, _told, name=f"an index that names {_names}")(sharded(*_names))
case(INDEX, "no weight_map", name="an index of numbers")(
    sharded("model-1.safetensors", weight_map={"a": 1})
)
case(INDEX, "or no metadata", name="an index without metadata")(
    sharded("model-1.safetensors", metadata=None)
)


def headed(header: bytes, length: int | None = None) -> Callable[[Path], None]:
    """Return what gives the weights a header, of that length as it says."""

    def change(folder: Path) -> None:
        told = struct.pack("<Q", len(header) if length is None else length)
        (folder / WEIGHTS).write_bytes(told + header + bytes(16))

    return change


def entry(name: str, shape: str, start: int, end: int) -> str:
    """Return a tensor's entry in a header."""
    return f'"{name}": {{"dtype": "F32", "shape": [{shape}], "data_offsets": [{start}, {end}]}}'


def listed(*entries: str) -> Callable[[Path], None]:
    """Return what gives the weights a header of those entries."""
    return headed(f"{{{', '.join(entries)}}}".encode())


_A = entry("a", "4", 0, 16)
for _name, _change, _told in (
    ("a header of 2^63 bytes", headed(b"{}", 2**63), "says its header has 9,223,372,036,854,775,808"),
    ("a header larger than the file", headed(b"{}", 10**6), "says its header has 1,000,000 bytes"),
    ("overlapping tensors", listed(_A, entry("b", "4", 0, 16)), "no sound"),
    ("a tensor past the end", listed(entry("a", "8", 0, 32)), "no sound"),
    ("a tensor named twice", listed(_A, entry("a", "2", 0, 8)), "no sound"),
    ("a header that is no text", headed(b'{"\xff": 1}'), "no sound"),
    ("a shape beyond 64 bits", listed(entry("a", "4611686018427387904, 8", 0, 16)), "no sound"),
    ("a shape below nothing", listed(entry("a", "-4", 0, 16)), "no sound"),
    ("a header nested 100,000 deep", headed(b'{"a":' + b"[" * 100_000), "no sound"),
    ("a header without tensors", headed(b"{}"), "no sound"),
):  # fmt: skip
    case(WEIGHTS, _told, name=_name)(_change)


@case(WEIGHTS, "says its header has 100,000,000 bytes", "16,000,000 at most")
def a_header_of_100_megabytes(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.write(struct.pack("<Q", 100_000_000))
        stream.truncate(200_000_000)


@case(WEIGHTS, "is empty")
def weights_of_no_bytes(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


@case(WEIGHTS, "no sound safetensors file")
def weights_cut_off(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])


def reweighed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    """Return what changes the weights, in a sound file."""

    def do(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})

    return do


_LAST = "bert.encoder.layer.1.output.dense.weight"
for _value in (np.nan, np.inf):
    case(f"the weight {_LAST} is no number", name=f"weights of {_value}")(
        reweighed(lambda weights, value=_value: weights | {_LAST: weights[_LAST] * value})  # type: ignore[misc]
    )
case("lack 37 of the 37 weights of a BertForSequenceClassification", name="weights of others")(
    reweighed(lambda weights: {f"other.{name}": values for name, values in weights.items()})
)
case("or have them in another shape", name="weights of other shapes")(
    reweighed(lambda weights: {name: values.reshape(-1) for name, values in weights.items()})
)

# --- Config ---------------------------------------------------------------------------------------


def set_in(file: str, **changes: Any) -> Callable[[Path], None]:
    """Return what changes keys of a JSON file."""

    def change(folder: Path) -> None:
        (folder / "evil.py").write_text(marked(folder) + "class Evil: pass\n", encoding="utf-8")
        changed_json(folder / file, **changes)

    return change


_OWN_CODE = {"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}
_HUB = "kernels-community/evil"
for _name, _file, _changes, _told in (
    ("own code", CONFIG, {"auto_map": _OWN_CODE}, "brings its own code, which is never run"),
    ("own kind", CONFIG, {"auto_map": _OWN_CODE, "model_type": "evil"}, "own code"),
    ("code of another repository", CONFIG, {"auto_map": {"AutoConfig": "x/y--evil.Evil"}}, "own code"),
    ("own words", SETTINGS, {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}, "own code"),
    ("its tokenizer's own code", SETTINGS, {"auto_map": ["evil.Evil", "evil.Evil"]}, "own code"),
    ("a kernel", CONFIG, {"attn_implementation": _HUB}, "would be fetched and run"),
    ("a private one", CONFIG, {"_attn_implementation": f"{_HUB}@main:go"}, "and run"),
    ("an internal kernel", CONFIG, {"_attn_implementation_internal": "mallory/x"}, "and run"),
    ("a paged kernel", CONFIG, {"attn_implementation": f"paged|{_HUB}"}, "and run"),
    ("kernels by part", CONFIG, {"attn_implementation": {"": "sdpa", "text": _HUB}}, "and run"),
    ("a kernel further down", CONFIG, {"text_config": {"attn_implementation": _HUB}}, "and run"),
    ("a kernel of experts", CONFIG, {"experts_implementation": _HUB}, "and run"),
    ("a kernel that is a list", CONFIG, {"attn_implementation": [_HUB]}, "and run"),
    ("few bits", CONFIG, {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "into few bits"),
    ("compressed", CONFIG, {"compression_config": {"format": "pack-quantized"}}, "into few bits"),
    ("a dtype that is a function", CONFIG, {"dtype": "load"}, "no type of"),
    ("a dtype that is code", CONFIG, {"torch_dtype": "__import__('os').system('x')"}, "no type of"),
    ("an unknown kind", CONFIG, {"model_type": "evil"}, "model_type 'evil'"),
    ("a kind that is a list", CONFIG, {"model_type": ["bert"]}, "model_type ['bert']"),
    ("a kind of images", CONFIG, {"model_type": "vit"}, "model_type 'vit'"),
    ("no kind", CONFIG, {"model_type": None}, "model_type None"),
    ("a million layers", CONFIG, {"num_hidden_layers": 10**6}, "beyond 4,096"),
    ("a vocabulary of 10^12", CONFIG, {"vocab_size": 10**12}, "beyond 2,147,483,648"),
    ("layers below nothing", CONFIG, {"num_hidden_layers": -(10**6)}, "beyond 4,096"),
    ("a tokenizer that is a function", SETTINGS, {"tokenizer_class": "pipeline"}, "no class of"),
    ("a tokenizer that is a path", SETTINGS, {"tokenizer_class": "../../evil"}, "no class of"),
    ("a tokenizer that is a list", SETTINGS, {"tokenizer_class": ["X"]}, "no class of"),
):  # fmt: skip
    case(_file, _told, name=_name)(set_in(_file, **_changes))

for _name, _changes, _several in (
    ("states of 10^9", {"hidden_size": 10**9}, ("config.json describes", "hold 35,234")),
    ("states below nothing", {"hidden_size": -32}, ("config.json describes no model",)),
    ("heads of nothing", {"num_attention_heads": 0}, ("config.json describes no model",)),
    ("two billion places", {"max_position_embeddings": 2 * 10**9}, ("config.json describes",)),
    ("a billion words", {"vocab_size": 10**9}, ("config.json describes", "belong together")),
    ("an unknown activation", {"hidden_act": "os.system"}, ("config.json describes no model",)),
    ("a number for a word", {"hidden_size": "32"}, ("no usable tokenizer", "hidden_size")),
):
    case(*_several, name=_name)(set_in(CONFIG, **_changes))


def written(file: str, content: bytes) -> Callable[[Path], int]:
    """Return what writes a file."""
    return lambda folder: (folder / file).write_bytes(content)


for _name, _file, _content, _told in (
    ("a config nested 100,000 deep", CONFIG, b'{"a":' + b"[" * 100_000, "is nested too deeply"),
    ("a key twice", CONFIG, b'{"model_type": "bert", "model_type": "evil"}', "a key stands twice"),
    ("NaN in the config", CONFIG, b'{"model_type": "bert", "initializer_range": NaN}', "NaN"),
    ("a config that is a list", CONFIG, b"[]", "holds a list, not an object"),
    ("a config that is no JSON", CONFIG, b"import os", "is no sound JSON"),
    ("a config that is no text", CONFIG, b"\xff\xfe{}", "is no sound JSON"),
    ("a config of no bytes", CONFIG, b"", "is empty"),
    ("a config of 11 MB", CONFIG, b" " * 11_000_000, "is 11 MB"),
    ("a number of 10,000 digits", CONFIG, b'{"vocab_size": ' + b"9" * 10_000 + b"}", "no sound JSON"),
    ("a tokenizer that is a list", TOKENIZER, b"[1]", "holds a list"),
    ("a tokenizer nested 100,000 deep", TOKENIZER, b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ("a tokenizer of no known kind", TOKENIZER, b'{"model": {"type": "Evil"}}', "no usable tokenizer"),
    ("a pickle for a vocabulary", "vocab.json", b"\x80\x04\x95", "is no sound JSON"),
):  # fmt: skip
    case(_told, *([] if "usable" in _told else [_file]), name=f"{_name} ({_file})")(
        written(_file, _content)
    )


# --- Tokenizers -----------------------------------------------------------------------------------


def part(**parts: Any) -> Callable[[Path], None]:
    """Return what changes a part of tokenizer.json."""
    return lambda folder: changed_json(folder / TOKENIZER, **parts)


def split_by(pattern: str) -> dict[str, Any]:
    """Return a step that splits texts by a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace_by(pattern: str, content: str) -> dict[str, Any]:
    """Return a step that replaces what a pattern finds."""
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


_CHARSMAP = base64.b64encode(struct.pack("<I", 4) + bytes(4) + b"a" * 10**5 + b"\0").decode()
_TOKENS = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 1000
for _name, _parts, _told in (
    ("a pattern without end", {"pre_tokenizer": split_by("(a+)+$")}, "pattern '(a+)+$'"),
    ("a pattern of choices", {"pre_tokenizer": split_by("(a|aa)+$")}, "may take for ever"),
    (
        "a pattern further down",
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split_by(r"([a-z]+\.)*@")]}},
        "may take for ever",
    ),
    ("a pattern that replaces", {"normalizer": replace_by("(a*)*b", "")}, "may take for ever"),
    ("a pattern of 100,000 signs", {"normalizer": replace_by("a" * 10**5, "")}, "may take for ever"),
    ("a text for a sign", {"normalizer": replace_by("a", "b" * 10**6)}, "characters for one"),
    (
        "two for one, forty times",
        {"normalizer": {"type": "Sequence", "normalizers": [replace_by("a", "aa")] * 40}},
        "characters for one",
    ),
    (
        "1,000 tokens added",
        {
            "post_processor": {
                "type": "TemplateProcessing", "single": _TOKENS, "pair": _TOKENS,
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}},
            }
        },
        "adds more than 64 tokens",
    ),
    (
        "a map that writes 100,000 bytes",
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": _CHARSMAP}},
        "writes more than 256 bytes",
    ),
):  # fmt: skip
    case(TOKENIZER, _told, name=_name)(part(**_parts))


@case(TOKENIZER, "is 101 MB, and no known model's is above 100")
def a_vocabulary_of_101_megabytes(folder: Path) -> None:
    os.truncate(folder / TOKENIZER, 101_000_000)


case("has no fast tokenizer but a ByT5Tokenizer", name="a slow tokenizer")(
    set_in(SETTINGS, tokenizer_class="ByT5Tokenizer")
)


@case("its tokenizer gives the token ", "the model has embeddings for 50")
def a_tokenizer_of_another_model(folder: Path) -> None:
    changed_json(folder / CONFIG, vocab_size=50)
    name = "bert.embeddings.word_embeddings.weight"
    reweighed(lambda weights: weights | {name: weights[name][:50]})(folder)


# --- Files that are none --------------------------------------------------------------------------


def linked(name: str, target: str) -> Callable[[Path], None]:
    """Return what puts a link in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


for _file, _target, _told in (
    ("vocab.txt", "/etc/passwd", "links to /etc/passwd, outside the folder"),
    (WEIGHTS, "../../sound/model.safetensors", "outside the folder"),
    (CONFIG, "/dev/zero", "outside the folder"),
    (CONFIG, CONFIG, "links to nothing"),
    ("merges.txt", "absent", "links to nothing"),
):
    case(_file, _told, name=f"{_file} that links to {_target}")(linked(_file, _target))


@case(TOKENIZER, "is no regular file")
def a_pipe_for_a_tokenizer(folder: Path) -> None:
    (folder / TOKENIZER).unlink()
    os.mkfifo(folder / TOKENIZER)


@case(WEIGHTS, "is no regular file")
def a_folder_for_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


@case("holds an adapter", "merge it into its base model")
def an_adapter_of_another_model(folder: Path) -> None:
    (folder / CONFIG).unlink()
    content = {"base_model_name_or_path": "mallory/evil", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")


@case("holds no config.json")
def nothing_but_weights(folder: Path) -> None:
    (folder / CONFIG).unlink()


# --- What does no harm ----------------------------------------------------------------------------

HARMLESS = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def with_other_files(folder: Path) -> None:
    """Put beside a sound model what hubs have beside one, made to run if anything read it."""
    adapter = {"base_model_name_or_path": "mallory/evil", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter), encoding="utf-8")
    for name in (
        *("pytorch_model.bin", "tf_model.h5", "training_args.bin", "adapter_model.bin"),
        *("onnx/model.onnx", "optimizer.pt", "a\nname.pkl"),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(a_pickle(folder))
    for name in ("modeling_evil.py", "sitecustomize.py", "transformers.py", "__init__.py"):
        (folder / name).write_text(marked(folder), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os }}")
    (folder / "README.md").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    changed_json(folder / CONFIG, _attn_implementation="sdpa", _name_or_path="mallory/evil")
    changed_json(
        folder / SETTINGS,
        chat_template="{% for a in range(10**9) %}x{% endfor %}",
        vocab_file="/etc/passwd",
        tokenizer_file="/etc/passwd",
        name_or_path="mallory/evil",
    )
