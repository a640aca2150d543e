"""Load the base model as a classifier of the labels, with what is not to be trained frozen."""

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from tasks.worker.spec import TrainSpec


def load_model(spec: TrainSpec) -> Any:
    """Return the base model with a head for the labels, in float32, on the CPU.

    Raises:
        SystemExit: if more layers are to be frozen than there are, or the model cannot compute its
            activations again; in one line.
    """
    depth = {} if spec.num_hidden_layers is None else {"num_hidden_layers": spec.num_hidden_layers}
    model = AutoModelForSequenceClassification.from_pretrained(
        spec.base_model,
        num_labels=len(spec.labels),
        id2label=dict(enumerate(spec.labels)),
        label2id={label: number for number, label in enumerate(spec.labels)},
        ignore_mismatched_sizes=True,  # a base model's own head for other labels is drawn anew
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        **depth,
    )
    model.config.pad_token_id = spec.pad_token_id
    if spec.freeze_layers:
        _freeze(model, spec.freeze_layers)
    if spec.gradient_checkpointing:
        _recompute_activations(model)
    return model


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
