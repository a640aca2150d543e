"""What the config's sections on training refuse, and what the adapter's hands to peft."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.section import Section
from configs.training import Adapter, Launch, Tracking, Training

ADAPTER: dict[str, Any] = {"adapter": {}}


@pytest.mark.parametrize(
    ("section", "settings", "told"),
    [
        (Adapter, {"peft_type": "IA3", "r": 4}, "r is no setting of IA3"),
        (Adapter, {"peft_type": "VERA", "use_dora": True}, "use_dora is a setting of LORA, not of"),
        (Adapter, {"peft_type": "LOHA", "lora_alpha": 8}, "lora_alpha is a setting of LORA, not"),
        (Adapter, {"peft_type": "OFT", "lora_dropout": 0.1}, "lora_dropout is a setting of LORA"),
        (Adapter, {"peft_type": "IA3", "use_rslora": True}, "use_rslora is a setting of LORA"),
        (Adapter, {"peft_type": "lora"}, "Input should be 'LORA'"),
        (Adapter, {"target_modules": [""]}, "at least 1 character"),
        (Training, {"adapter": {"rank": 4}}, "Extra inputs are not permitted"),
        (Training, {**ADAPTER, "freeze_layers": 1}, "does not go together with an adapter"),
        (Training, {**ADAPTER, "parallel": "fsdp"}, "fsdp does not go together with an adapter"),
        (Training, {"optim": "adamw_8bit", "parallel": "fsdp"}, "together with optim: adamw_8bit"),
        (Launch, {"nnodes": 2}, "nnodes above 1 and master_addr go together"),
        (Launch, {"master_addr": "10.0.0.1"}, "nnodes above 1 and master_addr go together"),
        (Launch, {"nnodes": 2, "master_addr": "a b"}, "should match pattern"),
        (Tracking, {"energy": True}, "energy needs country_iso_code, such as DEU"),
        (Tracking, {"country_iso_code": "de"}, "should match pattern"),
    ],
)
def test_what_does_not_go_together_is_refused(
    section: type[Section], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        section.model_validate(settings)


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (Training, {"parallel": "fsdp"}),
        (Training, {"optim": "adamw_8bit", **ADAPTER}),
        (Launch, {"nnodes": 2, "master_addr": "train-1.example"}),
        (Launch, {"nnodes": 2, "master_addr": "fd00::1"}),
        (Tracking, {"energy": True, "country_iso_code": "DEU"}),
    ],
)
def test_what_goes_together_is_taken(section: type[Section], settings: dict[str, Any]) -> None:
    assert section.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "handed"),
    [
        ({}, {"peft_type": "LORA", "target_modules": "all-linear"}),
        ({"peft_type": "IA3"}, {"peft_type": "IA3", "target_modules": "all-linear"}),
        (
            {"r": 4, "use_dora": True, "target_modules": ["query"]},
            {"peft_type": "LORA", "r": 4, "use_dora": True, "target_modules": ["query"]},
        ),
    ],
)
def test_what_is_not_set_of_an_adapter_is_peft_s_to_choose(
    settings: dict[str, Any], handed: dict[str, Any]
) -> None:
    assert Adapter.model_validate(settings).settings() == handed
