"""Load the base model as a classifier of the labels, with what is not to be trained frozen."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification

from tasks.worker.spec import TrainSpec

_MOST_TIMES, _ROOM = (
    2,
    100_000_000,
)  # heads are drawn anew, masks computed; a tiny model's are larger
_MOST_ABSENT = 0.1


def load_model(spec: TrainSpec) -> Any:
    """Return the base model with a head for the labels, in float32, on the CPU.

    Raises:
        SystemExit: if config and weights do not belong together, a weight is no number, more layers
            are to be frozen than there are, or the model cannot compute its activations again; in
            one line.
    """
    depth = {} if spec.num_hidden_layers is None else {"num_hidden_layers": spec.num_hidden_layers}
    config, rest = AutoConfig.from_pretrained(
        spec.base_model,
        num_labels=len(spec.labels),
        id2label=dict(enumerate(spec.labels)),
        label2id={label: number for number, label in enumerate(spec.labels)},
        local_files_only=True,
        trust_remote_code=False,
        return_unused_kwargs=True,
        **depth,
    )
    _require_that_it_fits(config, Path(spec.base_model))
    model, told = AutoModelForSequenceClassification.from_pretrained(
        spec.base_model,
        config=config,
        ignore_mismatched_sizes=True,  # a base model's own head for other labels is drawn anew
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        **rest,
    )
    _require_weights(model, {*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])})
    model.config.pad_token_id = spec.pad_token_id
    if spec.freeze_layers:
        _freeze(model, spec.freeze_layers)
    if spec.gradient_checkpointing:
        _recompute_activations(model)
    return model


def _require_that_it_fits(config: Any, folder: Path) -> None:
    """Refuse a config of a model far larger than its weights, before memory is asked for."""
    held = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            held += sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    try:
        with torch.device("meta"):
            made: Any = AutoModelForSequenceClassification  # which transformers leaves untyped
            model = made.from_config(config, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  (a model checks nothing, so that anything may come)
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise SystemExit(
            f"training.base_model: config.json describes no model that can be made ({said:.200}); "
            "name another"
        ) from None
    described = sum(each.numel() for each in (*model.parameters(), *model.buffers()))
    if described > _MOST_TIMES * held + _ROOM:
        raise SystemExit(
            f"training.base_model: config.json describes {described:,} numbers, and the safetensors "
            f"files hold {held:,}; name a folder whose config and weights belong together"
        )


def _require_weights(model: Any, absent: set[str]) -> None:
    """Require finite weights, and of the body all but a few; a head or pooler may be absent."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SystemExit(f"training.base_model: the weight {name} is no number; name another")
    body = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name
    }
    lost = sorted(absent & body.keys())
    if sum(body[name] for name in lost) > _MOST_ABSENT * sum(body.values()):
        raise SystemExit(
            f"training.base_model: the safetensors files lack {len(lost)} of the {len(body)} weights "
            f"of a {type(model).__name__}, or have them in another shape, such as {lost[0]}; name a "
            "folder whose config and weights belong together"
        )


def require_vocabulary(model: Any, *ids: NDArray[np.int32]) -> None:
    """Require that the model has an embedding for every token id.

    Raises:
        SystemExit: if the tokenizer knows tokens that the model does not; in one line.
    """
    known = model.get_input_embeddings().weight.shape[0]
    highest = max(int(some.max(initial=0)) for some in ids)
    if highest >= known:
        raise SystemExit(
            f"training.base_model: its tokenizer gives the token {highest}, and the model has "
            f"embeddings for {known}; name a folder whose tokenizer and model belong together"
        )


def layers_of(model: Any) -> torch.nn.ModuleList:
    """Return the list of the model's layers."""
    return max(
        (
            module
            for module in model.base_model.modules()
            if isinstance(module, torch.nn.ModuleList)
        ),
        key=len,
    )


def _freeze(model: Any, count: int) -> None:
    """Freeze the first layers and all that comes before them: the embeddings."""
    layers = layers_of(model)
    if count > len(layers):
        raise SystemExit(
            f"training.freeze_layers is {count}, but the base model has {len(layers)} layers"
        )
    last = list(layers[count - 1].parameters())[-1]
    for parameter in model.base_model.parameters():  # in the order of computation
        parameter.requires_grad_(False)
        if parameter is last:
            return


def _recompute_activations(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise SystemExit(
            f"training.gradient_checkpointing: {type(model).__name__} cannot do it; set it to false"
        )
    model.activation_checkpointing_enable()
    model.disable_input_require_grads()  # else the backward pass goes through frozen layers too
    model.config.use_cache = False
