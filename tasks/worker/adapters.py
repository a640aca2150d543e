"""Adapters: few new weights beside frozen ones, through peft, merged into the model at the end."""

from typing import Any

from tasks.worker.spec import TrainSpec

Adapted = Any
"""A peft model around the base model, or the base model itself where there is no adapter."""


def adapt(model: Any, spec: TrainSpec) -> Adapted:
    """Return the model with the spec's adapter in its layers; its head is trained whole.

    Raises:
        SystemExit: if peft is not installed, or finds no layer to adapt; in one line.
    """
    if spec.adapter is None:
        return model
    try:
        import peft
    except ModuleNotFoundError:
        raise SystemExit(
            "training.adapter needs the package peft, which is not installed; "
            "run: pip install 'ekiben[adapters]'"
        ) from None
    settings = {name: value for name, value in spec.adapter.items() if value is not None}
    config = peft.get_peft_config({"task_type": "SEQ_CLS", **settings})
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        modules = settings["target_modules"]
        where = modules if isinstance(modules, str) else ", ".join(modules)
        raise SystemExit(f"training.adapter on {where}: {str(error).splitlines()[0]}") from None


def inner(adapted: Adapted) -> Any:
    """Return the transformers model that computes, with the adapter's layers in it."""
    return adapted.get_base_model() if hasattr(adapted, "peft_config") else adapted


def merge(adapted: Adapted) -> Any:
    """Return a plain transformers model, with the adapter's weights added to those beside them."""
    return adapted.merge_and_unload() if hasattr(adapted, "peft_config") else adapted
