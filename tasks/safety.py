"""Take from a base model's folder what is needed of it, once it is known to hold no code.

What is taken goes by an allow-list: config, tokenizer, safetensors weights. What else lies in such a
folder (pickles, other frameworks' weights, code, chat templates) is neither read nor taken. What is
taken is checked for what a library that reads it would run, fetch or allocate.
"""

import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open

from configs.errors import SourceError
from configs.schema import reason
from tasks.patterns import odd_pattern

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_SETTINGS = (_CONFIG, "tokenizer_config.json", "special_tokens_map.json")
_PIECES = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
_MOST_MEGABYTES = {
    **dict.fromkeys(_SETTINGS, 10),
    _TOKENIZER: 100,
    "added_tokens.json": 10,
    "vocab.json": 50,
    "vocab.txt": 50,
    "merges.txt": 50,
    **dict.fromkeys(_PIECES, 50),
}
"""Files that are taken, and the most megabytes of each: several times what known models have."""
_MOST_HEADER_BYTES = 16_000_000
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".joblib", ".npz")
_SHARD = re.compile(r"\w[\w.-]*\.safetensors")
_CLASS = re.compile(r"[A-Za-z]\w*(Tokenizer|TokenizerFast|Backend)")
_FLOATS = re.compile(r"(torch\.)?b?float\d+|auto")
_KERNELS = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_PLAIN_KERNELS = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_OF_KNOWN_CODE = (
    "name a model that transformers has the code of, such as BERT, RoBERTa or ModernBERT"
)
_COUNTED = re.compile(r"layer|group|block|expert|repeat")
_MOST_COUNTED, _MOST = 4096, 2**31
_NOT_TAKEN = {
    *("configuration_files", "transformers_weights", "fusion_config", "trust_remote_code"),
    *("name_or_path", "_name_or_path", "chat_template", "fast_tokenizer_files"),
}
"""Settings that lead to other files, or that nothing here needs."""


def take_base_model(source: Path, target: Path) -> None:
    """Lay config, tokenizer and weights of the model folder `source` into the new folder `target`.

    The weights are linked to. Settings that name other files or kernels are left out of the copies.

    Raises:
        SourceError: if a file is not what it should be, holds code or asks for some, or describes
            what no machine can hold.
    """
    if not source.is_dir():
        _refuse(source, "is no folder", f"name one with {_CONFIG}, {WEIGHTS} and a tokenizer")
    found = [name for name in _MOST_MEGABYTES if _is_there(source / name)]
    for name in found:
        _require_plain(source, name, _MOST_MEGABYTES[name])
    weights = _weights(source, has_config=_CONFIG in found)
    if not {_TOKENIZER, "vocab.json", "vocab.txt", *_PIECES} & {*found}:
        # transformers would make one that knows no word, and say nothing.
        _refuse(source, "holds no tokenizer", f"name a folder with {_CONFIG} and {_TOKENIZER}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in found:
        _take(source / name, target / name)
    _require_known_type(source, json.loads((target / _CONFIG).read_text(encoding="utf-8")))
    for name in weights:
        if name == INDEX:
            shutil.copyfile(source / name, target / name)
        else:
            (target / name).symlink_to((source / name).resolve())


def _refuse(file: Path, found: str, cure: str) -> NoReturn:
    raise SourceError(f"training.base_model: {file} {found}; {cure}")


def _is_there(file: Path) -> bool:
    return file.is_symlink() or file.exists()


def _require_plain(folder: Path, name: str, most_megabytes: int | None = None) -> None:
    """Require a regular file of the folder's own that is not empty, nor larger than is known."""
    file, root = folder / name, folder.resolve()
    around = [root]
    if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--"):
        around.append(root.parents[1] / "blobs")  # the hub's cache keeps the files there
    try:
        real = file.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError):
        _refuse(file, "links to nothing", "copy the whole model anew")
    if not any(real.is_relative_to(place) for place in around):
        _refuse(file, f"links to {real}, outside the folder", "put a copy in the link's place")
    if not stat.S_ISREG(status.st_mode):
        _refuse(file, "is no regular file", "copy the whole model anew")
    if status.st_size == 0:
        _refuse(file, "is empty", "copy the whole model anew")
    if most_megabytes is not None and status.st_size > most_megabytes * 1e6:
        size = f"is {status.st_size / 1e6:,.0f} MB, and no known model's is above {most_megabytes}"
        _refuse(file, size, "name another model")


def _weights(folder: Path, *, has_config: bool) -> list[str]:
    """Return the names of the files that hold the weights, and of their index, all of them checked."""
    if not has_config and (folder / "adapter_config.json").exists():
        _refuse(
            folder,
            f"holds an adapter ({'adapter_config.json'}) and no {_CONFIG}",
            "merge it into its base model, and name the folder of the whole",
        )
    if not has_config:
        _refuse(folder, f"holds no {_CONFIG}", f"name a folder with {_CONFIG} and {WEIGHTS}")
    if _is_there(folder / WEIGHTS):
        names, index = [WEIGHTS], []
    elif _is_there(folder / INDEX):
        _require_plain(folder, INDEX, most_megabytes=50)
        names, index = _shards(folder / INDEX), [INDEX]
    else:
        others = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
        held = f"no {WEIGHTS}" + (
            f", but {others[0]!r:.100}, a kind that can hold code and is never read"
            if others
            else ""
        )
        _refuse(folder, f"holds {held}", "name a model or commit that has safetensors weights")
    for name in names:
        _require_plain(folder, name)
        _require_sound(folder / name)
    return [*index, *names]


def _shards(index: Path) -> list[str]:
    """Return the names of the files that an index of weights names; each lies beside it."""
    content = _read_json(index)
    named = content.get("weight_map")
    files = set(named.values()) if isinstance(named, dict) and _are_names(named) else set()
    if not files or not isinstance(content.get("metadata"), dict):
        _refuse(index, "has no weight_map from weights to files, or no metadata", "fetch it anew")
    if odd := [name for name in files if not _SHARD.fullmatch(name)]:
        _refuse(
            index,
            f"names {min(odd)!r:.100} for weights, which is no .safetensors file beside it",
            "name another model",
        )
    if missing := [name for name in files if not _is_there(index.with_name(name))]:
        _refuse(index, f"names {min(missing)}, which is not there", "copy the whole model anew")
    return sorted(files)


def _are_names(named: dict[str, Any]) -> bool:
    return all(isinstance(name, str) for name in named.values())


def _require_sound(weights: Path) -> None:
    """Require a header of known size that covers the file exactly, as the library checks."""
    with weights.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    room = weights.stat().st_size - 8
    if length > min(room, _MOST_HEADER_BYTES):
        told = f"says its header has {length:,} bytes, of {room:,} in the file"
        _refuse(weights, f"{told} and {_MOST_HEADER_BYTES:,} at most", "copy the model anew")
    try:
        with safe_open(weights, "np") as tensors:
            names = tensors.keys()
    except (SafetensorError, OSError, ValueError) as error:
        _refuse(weights, f"is no sound safetensors file ({reason(error)})", "copy the model anew")
    if not names:
        _refuse(weights, "holds no weights", "copy the model anew")


def _take(file: Path, target: Path) -> None:
    """Copy a file of the allow-list, settings without what is not taken."""
    if file.suffix != ".json":
        shutil.copyfile(file, target)
        return
    content = _read_json(file)
    if file.name == _TOKENIZER and (odd := odd_pattern(content)):
        _refuse(file, odd, "save the tokenizer anew without it, or name another model")
    if file.name in _SETTINGS:
        target.write_text(json.dumps(_kept(content, file)), encoding="utf-8")
    else:
        shutil.copyfile(file, target)


def _read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; what two readers could read differently is refused."""
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text, object_pairs_hook=_once, parse_constant=_number)
    except RecursionError:
        _refuse(file, "is nested too deeply", "copy the model anew")
    except ValueError as error:  # and so are bytes that are no text
        _refuse(file, f"is no sound JSON ({reason(error)})", "copy the model anew")
    if not isinstance(content, dict):
        _refuse(file, f"holds a {type(content).__name__}, not an object", "copy the model anew")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _number(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)  # Mamba 2 has a limit of Infinity


def _kept(settings: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the settings that are taken, at any depth; refuse those that no model should have."""
    kept = {}
    for key, value in settings.items():
        if odd := _odd(key, value) or (_odd_size(key, value) if file.name == _CONFIG else None):
            found, cure = odd
            _refuse(file, f"has {key!r:.60} {value!r:.80}: {found}", cure)
        if key in _NOT_TAKEN or key.endswith("_file") or _KERNELS.fullmatch(key):
            continue
        nested = isinstance(value, dict) and key not in ("id2label", "label2id")
        kept[key] = _kept(value, file) if nested else value
    return kept


def _odd(key: str, value: Any) -> tuple[str, str] | None:
    """Return why a setting is refused, and the cure, if it is."""
    if key == "auto_map" and value:
        return "the model brings its own code, which is never run", _OF_KNOWN_CODE
    if key in ("quantization_config", "compression_config") and value:
        return (
            "its weights are packed into few bits, which cannot be trained",
            "name the model with its weights as floats",
        )
    if _KERNELS.fullmatch(key):
        asked = list(value.values()) if isinstance(value, dict) else [value]
        if any(name not in _PLAIN_KERNELS for name in asked):
            return "code for its attention, which would be fetched and run", "remove the setting"
    if key in ("dtype", "torch_dtype") and not _fits(_FLOATS, value):
        return "no type of float", "write float32"
    if key == "tokenizer_class" and not _fits(_CLASS, value):
        return "no class of tokenizers", "write PreTrainedTokenizerFast beside a tokenizer.json"
    return None


def _fits(pattern: re.Pattern[str], value: Any) -> bool:
    return value is None or (isinstance(value, str) and pattern.fullmatch(value) is not None)


def _odd_size(key: str, value: Any) -> tuple[str, str] | None:
    """Return why a number in config.json is refused, and the cure, if it is."""
    numbers = [
        number
        for number in (value if isinstance(value, list) else [value])
        if isinstance(number, int) and not isinstance(number, bool)
    ]
    counted = _COUNTED.search(key) is not None and not re.search("size$|size_per", key)
    most = _MOST_COUNTED if counted else _MOST
    if any(abs(number) > most for number in numbers):
        return f"beyond {most:,}, more than any known model has", "name another model"
    return None


def _require_known_type(folder: Path, config: dict[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN,
    )

    if config.get("model_type") not in list(KNOWN):  # of a list, anything may be asked
        _refuse(
            folder / _CONFIG,
            f"has the model_type {config.get('model_type')!r:.80}, which transformers does not "
            "classify texts with",
            _OF_KNOWN_CODE,
        )
