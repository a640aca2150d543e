"""A student: which layers it keeps, that they are the model's own, and how it is told of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import LABELS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from students import STUDENT

from configs.errors import FormError
from configs.schema import PipelineConfig
from configs.serving import Serving, Student
from flows.summary import summary
from tasks.distilling import cut, evenly_spaced
from tasks.forms import make_form
from tasks.manifests import SplitManifest
from tasks.steps import MANIFEST, write_json


@pytest.mark.parametrize(
    ("layers", "count", "kept"),
    [
        (12, 6, (0, 2, 4, 7, 9, 11)),  # as DistilBERT's own script has them
        (12, 12, tuple(range(12))),
        (6, 3, (0, 2, 5)),
        (6, 2, (0, 5)),
        (6, 1, (0,)),
        (1, 1, (0,)),
    ],
)
def test_the_layers_kept_are_evenly_spaced(layers: int, count: int, kept: tuple[int, ...]) -> None:
    assert evenly_spaced(layers, count) == kept


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_layers_kept_are_different_ones_and_in_order(one: int, other: int) -> None:
    layers, count = max(one, other), min(one, other)
    kept = evenly_spaced(layers, count)
    gaps = np.diff(kept)
    assert len(kept) == count and kept[0] == 0
    assert count == 1 or kept[-1] == layers - 1
    assert not len(gaps) or (gaps.min() > 0 and gaps.max() - gaps.min() <= 1)


def saved(folder: Path, layers: int, body: str = "bert") -> Path:
    """Save weights whose numbers tell the layer that they are of."""
    folder.mkdir()
    weights = {
        f"{body}.embeddings.word_embeddings.weight": np.full((4, 3), -1.0, dtype=np.float32),
        "classifier.bias": np.full(2, -2.0, dtype=np.float32),
    }
    for number in range(layers):
        name = f"{body}.encoder.layer.{number}"
        weights[f"{name}.output.dense.weight"] = np.full((3, 3), number, dtype=np.float32)
        weights[f"{name}.output.LayerNorm.bias"] = np.full(3, number + 0.5, dtype=np.float32)
    save_file(weights, folder / "model.safetensors")
    config = {"model_type": body, "num_hidden_layers": layers, "hidden_size": 3}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("body", ["bert", "roberta"])
def test_the_cut_has_the_model_s_own_tensors_with_its_layers_numbered_anew(
    tmp_path: Path, body: str
) -> None:
    source = saved(tmp_path / "model", 12, body)
    kept = evenly_spaced(12, 3)
    parameters = cut(source, kept, tmp_path / "cut")
    own, made = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "cut"))
    expected = {name: tensor for name, tensor in own.items() if ".layer." not in name}
    for place, number in enumerate(kept):
        for part in ("output.dense.weight", "output.LayerNorm.bias"):
            expected[f"{body}.encoder.layer.{place}.{part}"] = own[
                f"{body}.encoder.layer.{number}.{part}"
            ]
    assert made.keys() == expected.keys()
    assert all(np.array_equal(made[name], expected[name]) for name in made)
    assert made[f"{body}.encoder.layer.2.output.dense.weight"][0, 0] == 11
    assert parameters == 12 + 2 + 3 * (9 + 3)
    config = json.loads((tmp_path / "cut" / "config.json").read_text(encoding="utf-8"))
    assert config == {"model_type": body, "num_hidden_layers": 3, "hidden_size": 3}
    with safe_open(tmp_path / "cut" / "model.safetensors", "np") as written:
        assert written.metadata() == {"format": "pt"}  # without which transformers refuses it


def test_a_student_is_told_of_with_its_layers_and_its_own_training() -> None:
    assert summary(STUDENT) == (
        "student: 2 layers (numbers 1, 6 of the model's), 11.0 M parameters, trained to the model's "
        "answers on cpu (fp32), best of 3 epochs is 2, 23 s, 500 rows/s"
    )
    untrained = STUDENT.model_copy(update={"epochs": (), "teacher_layers": (0,)})
    assert summary(untrained) == (
        "student: 1 layer (number 1 of the model's), 11.0 M parameters, left as cut out"
    )


@pytest.mark.parametrize(
    ("kept", "form", "told"),
    [((), "student", "student is made of another"), ((0,), "int8", "int8 is made of another")],
)
def test_a_form_is_made_of_the_model_that_it_is_a_form_of(
    homes: Path, kept: tuple[int, ...], form: Any, told: str
) -> None:
    split_folder, folder = homes / "split", homes / "model"
    step: dict[str, Any] = {"key": "k", "parents": {}, "files": {}}
    split = SplitManifest(**step, folder=split_folder, rows={}, label_counts={})
    model = STUDENT.model_copy(update={"folder": folder, "teacher_layers": kept})
    for manifest in (split, model):
        manifest.folder.mkdir()
        write_json(manifest.folder / MANIFEST, manifest.model_dump(mode="json"))
    config = PipelineConfig.model_validate(
        {
            "name": "formed",
            "data": {"uri": "rows.csv", "labels": list(LABELS)},
            "gate": {"accuracy": {"min": 0.9}},
        }
    )
    with pytest.raises(FormError, match=told):
        make_form(config, split, model, form)


@pytest.mark.parametrize(
    ("section", "settings", "told"),
    [
        (Student, {"num_hidden_layers": 0}, "greater than or equal to 1"),
        (Student, {"num_train_epochs": -1}, "greater than or equal to 0"),
        (Student, {"temperature": 0}, "greater than 0"),
        (Student, {"label_weight": 1.1}, "less than or equal to 1"),
        (Serving, {"student": {"layers": 2}}, "Extra inputs are not permitted"),
        (Serving, {"forms": ["student", "student"]}, "a form is listed twice"),
    ],
)
def test_what_is_no_student_is_refused(section: Any, settings: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        section.model_validate(settings)


def test_all_forms_may_be_asked_for_and_a_student_is_not_by_default() -> None:
    forms = ("baseline", "student", "int8", "fp32")
    assert Serving.model_validate({"forms": forms}).forms == forms
    assert "student" not in Serving().forms
