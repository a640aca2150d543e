"""Write a fine-tuned encoder in OpenVINO's packed form, as fp32 or int8, for `tasks.packed` to read.

The graph is built from the config and the weights, without torch. All that is done token by token is
done on rows that lie end to end; attention alone sees a grid of rows. The head reads the first token,
so the last layer is computed for the rows' first tokens alone, and of the others for keys and values.
Both are exact (`tasks.worker.families.bert` trains by the same rules).
"""

import io
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from configs.errors import FormError
from tasks.packed import FILE, Packed, laid_out

KINDS = ("bert", "roberta", "xlm-roberta")
_ACTIVATIONS = {"gelu": "ERF", "gelu_new": "TANH", "gelu_pytorch_tanh": "TANH"}
_ROWS_A_SAMPLE = 4
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Weights = dict[str, NDArray[Any]]
Packable = Literal["fp32", "int8"]


def export_form(
    model_folder: Path,
    form: Packable,
    calibration_texts: Sequence[str],
    output: Path,
    max_length: int,
) -> None:
    """Write the model in that form, with its tokenizer and config, into the new folder `output`.

    int8 is static: the ranges of all numbers are learned from `calibration_texts`, so that an answer
    does not depend on the texts beside it. Every product with a weight is quantised, weights by
    output channel (NNCF's post-training quantisation, symmetric).

    Raises:
        FormError: if the model is of no family that has this form, or differs from its family.
    """
    config = packable_config(model_folder, max_length)
    weights = read_weights(model_folder)
    try:
        graph = _Encoder(config, weights).graph()
    except KeyError as error:
        raise FormError(
            f"a {config['model_type']} model has the weight {error}, and this one has not; serve it "
            "as trained"
        ) from None
    _save(graph, model_folder, output)
    if form == "int8":
        samples = _samples(Packed(output, max_length), calibration_texts)
        _save(_quantised(graph, list(samples)), model_folder, output)
    _require_finite(Packed(output, max_length))


def read_weights(folder: Path) -> Weights:
    """Return a model's weights by name.

    Raises:
        FormError: if they cannot be read, or are of a type that NumPy has not.
    """
    file = folder / "model.safetensors"
    try:
        weights = load_file(file)
    except (OSError, SafetensorError, TypeError) as error:
        raise FormError(f"{file}: cannot be read ({type(error).__name__})") from None
    if odd := {str(w.dtype) for w in weights.values()} - {"float32", "float16", "int64"}:
        raise FormError(f"weights of type {min(odd)} cannot be read; save them as float32")
    return weights


def packable_config(folder: Path, max_length: int) -> dict[str, Any]:
    """Return the model's config.

    Raises:
        FormError: if its family has no packed form, or not for texts of so many tokens.
    """
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind, head = config.get("model_type"), (config.get("architectures") or ["none"])[0]
    problems = []
    if kind not in KINDS or not head.endswith("ForSequenceClassification"):
        problems.append(f"a {head} of type {kind!r} has no packed form; {', '.join(KINDS)} have")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        problems.append("a decoder has no packed form")
    if config.get("position_embedding_type", "absolute") != "absolute":
        problems.append(f"positions are {config['position_embedding_type']!r}, not 'absolute'")
    if config.get("hidden_act", "gelu") not in (*_ACTIVATIONS, "relu"):
        problems.append(f"the activation {config['hidden_act']!r} is not known")
    if not (folder / "tokenizer.json").exists():
        problems.append("its tokenizer has no tokenizer.json, which the packed form reads")
    if not problems and max_length > config["max_position_embeddings"]:
        problems.append(f"it has {config['max_position_embeddings']} positions, not {max_length}")
    if problems:
        raise FormError(f"{'; '.join(problems)}; serve it as trained")
    return config


def _save(graph: Any, source: Path, output: Path) -> None:
    import openvino

    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    openvino.save_model(graph, output / FILE, compress_to_fp16=False)
    for name in ("config.json", *_TOKENIZER):
        if (source / name).exists():
            shutil.copyfile(source / name, output / name)


def _samples(model: Packed, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield inputs of the graph, a few rows each."""
    rows, _ = model.tokenize(texts)
    for start in range(0, len(rows), _ROWS_A_SAMPLE):
        yield laid_out(rows[start : start + _ROWS_A_SAMPLE])


def _quantised(graph: Any, samples: list[dict[str, Any]]) -> Any:
    """Return the graph with int8 products."""
    import nncf  # late: it takes two seconds, and most steps need none

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # its own bars of progress
        return nncf.quantize(
            graph,
            nncf.Dataset(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
            # Without zero points and scales between the layers, their sums stay whole numbers from
            # layer to layer: a fifth to a half less time, for logits that differ by 0.02, not 0.01.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1)
            ),
            # Products of states with states are a hundredth of the work, and none of the gain.
            ignored_scope=nncf.IgnoredScope(names=_products_of_states(graph)),
        )


def _products_of_states(graph: Any) -> list[str]:
    """Return the names of the products that have no weight in them, those of attention."""
    return [
        node.get_friendly_name()
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "MatMul"
        and all(
            put.get_source_output().get_node().get_type_name() != "Constant"
            for put in node.inputs()
        )
    ]


def _require_finite(model: Packed) -> None:
    rows, _ = model.tokenize(["Are we still on for lunch?", "1"])
    if not np.isfinite(model.logits(rows)).all():
        raise FormError("its logits are no finite numbers in this form; serve it as trained")


class _Encoder:
    """Builds the graph of one encoder; every state is [n_tokens, hidden_size] or of the firsts."""

    def __init__(self, config: dict[str, Any], weights: Weights) -> None:
        from openvino import opset13

        self.ops: Any = opset13
        self.config, self.weights = config, weights
        self.body = "bert" if config["model_type"] == "bert" else "roberta"
        self.hidden: int = config["hidden_size"]
        self.heads: int = config["num_attention_heads"]

    def graph(self) -> Any:
        """Return the model: its inputs are those of `laid_out`, its output the logits."""
        import openvino

        ops = self.ops
        inputs = {
            name: ops.parameter([-1], np.int64, name=name)
            for name in ("ids", "positions", "cells", "firsts")
        }
        inputs["grid"] = ops.parameter([-1, -1], np.int64, name="grid")
        inputs["hidden"] = ops.parameter([-1, -1], np.float32, name="hidden")
        self.inputs = inputs
        self.mask = ops.unsqueeze(inputs["hidden"], np.array([1, 2]))
        states = self._embedded()
        last = self.config["num_hidden_layers"] - 1
        for number in range(last + 1):
            states = self._layer(number, states, of_firsts=number == last)
        logits = self._head(states)
        logits.output(0).get_tensor().set_names({"logits"})
        for name, node in inputs.items():
            node.output(0).get_tensor().set_names({name})
        return openvino.Model([logits], list(inputs.values()), "packed")

    def _weight(self, name: str) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.weights[name].astype(np.float32))

    def _embedded(self) -> Any:
        ops, prefix = self.ops, f"{self.body}.embeddings"
        words = self._weight(f"{prefix}.word_embeddings.weight")
        places = self._weight(f"{prefix}.position_embeddings.weight")
        if self.body == "roberta":  # which counts places from behind its padding token
            places = places[self.config["pad_token_id"] + 1 :]
        places = places + self._weight(f"{prefix}.token_type_embeddings.weight")[0]
        axis = np.int64(0)
        added = ops.add(
            ops.gather(words, self.inputs["ids"], axis),
            ops.gather(places, self.inputs["positions"], axis),
        )
        return self._normed(added, f"{prefix}.LayerNorm")

    def _normed(self, states: Any, name: str) -> Any:
        ops = self.ops
        spread = self.config.get("layer_norm_eps", 1e-12)
        unit = ops.mvn(states, np.array([-1]), True, spread, "inside_sqrt")
        scaled = ops.multiply(unit, self._weight(f"{name}.weight"))
        return ops.add(scaled, self._weight(f"{name}.bias"))

    def _linear(self, states: Any, *names: str) -> Any:
        """Return the product with the weights of those names side by side, and their biases."""
        weight = np.concatenate([self._weight(f"{name}.weight") for name in names])
        bias = np.concatenate([self._weight(f"{name}.bias") for name in names])
        return self.ops.add(self.ops.matmul(states, weight, False, True), bias)

    def _layer(self, number: int, states: Any, *, of_firsts: bool) -> Any:
        ops, prefix = self.ops, f"{self.body}.encoder.layer.{number}"
        asking = self._firsts(states) if of_firsts else states
        mixed = self._attention(f"{prefix}.attention.self", states, asking, of_firsts=of_firsts)
        said = self._linear(mixed, f"{prefix}.attention.output.dense")
        after = self._normed(ops.add(said, asking), f"{prefix}.attention.output.LayerNorm")
        wide = self._activated(self._linear(after, f"{prefix}.intermediate.dense"))
        fed = self._linear(wide, f"{prefix}.output.dense")
        return self._normed(ops.add(fed, after), f"{prefix}.output.LayerNorm")

    def _firsts(self, states: Any) -> Any:
        return self.ops.gather(states, self.inputs["firsts"], np.int64(0))

    def _activated(self, states: Any) -> Any:
        name = self.config.get("hidden_act", "gelu")
        if name == "relu":
            return self.ops.relu(states)
        return self.ops.gelu(states, _ACTIVATIONS[name])

    def _attention(self, name: str, states: Any, asking: Any, *, of_firsts: bool) -> Any:
        """Return what each asking token takes of its row's values."""
        ops = self.ops
        if of_firsts:
            query = self._by_head(ops.unsqueeze(self._linear(asking, f"{name}.query"), np.array(1)))
            both = self._linear(states, f"{name}.key", f"{name}.value")
            key, value = self._heads_on_grid(both, 2)
        else:
            names = [f"{name}.{part}" for part in ("query", "key", "value")]
            query, key, value = self._heads_on_grid(self._linear(states, *names), 3)
        scale = np.float32((self.hidden // self.heads) ** -0.5)
        scores = ops.multiply(ops.matmul(query, key, False, True), scale)
        shares = ops.softmax(ops.add(scores, self.mask), -1)
        mixed = ops.transpose(ops.matmul(shares, value, False, False), np.array([0, 2, 1, 3]))
        flat = ops.reshape(mixed, np.array([-1, self.hidden]), False)
        return flat if of_firsts else ops.gather(flat, self.inputs["cells"], np.int64(0))

    def _heads_on_grid(self, states: Any, parts: int) -> list[Any]:
        """Return parts of [n_tokens, parts * hidden_size], each [n_rows, n_heads, width, head_size].

        One transposition for all parts, which are then cut off along the outermost axis.
        """
        ops = self.ops
        grid = ops.gather(states, self.inputs["grid"], np.int64(0))
        shape = np.array([0, 0, parts, self.heads, self.hidden // self.heads])
        apart = ops.transpose(ops.reshape(grid, shape, True), np.array([2, 0, 3, 1, 4]))
        return [
            ops.squeeze(part, np.array(0))
            for part in ops.split(apart, np.int64(0), parts).outputs()
        ]

    def _by_head(self, states: Any) -> Any:
        """Return [n_rows, n_heads, width, head_size] of [n_rows, width, hidden_size]."""
        shape = np.array([0, 0, self.heads, self.hidden // self.heads])
        return self.ops.transpose(self.ops.reshape(states, shape, True), np.array([0, 2, 1, 3]))

    def _head(self, firsts: Any) -> Any:
        if self.body == "bert":
            return self._linear(
                self.ops.tanh(self._linear(firsts, "bert.pooler.dense")), "classifier"
            )
        dense = self.ops.tanh(self._linear(firsts, "classifier.dense"))
        return self._linear(dense, "classifier.out_proj")
