"""What a Bento requires: exact versions of what serving needs, and nothing of training."""

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from configs.errors import BentoError
from tasks.requirements import SERVING_ROOTS, serving_requirements

Install = Callable[..., None]
TRAINING_ALONE = {
    "accelerate",
    "datasets",
    "ekiben",
    "evaluate",
    "fastapi",
    "great-expectations",
    "matplotlib",
    "pandas",
    "prefect",
    "pyarrow",
    "pytest",
    "scikit-learn",
    "scipy",
    "sqlalchemy",
    "unearth",
}


@pytest.fixture(params=SERVING_ROOTS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of model."""
    return str(request.param)


def test_every_requirement_is_one_exact_version_of_an_index(kind: str) -> None:
    requirements = serving_requirements(SERVING_ROOTS[kind])
    assert [line for line in requirements if not re.fullmatch(r"[a-z0-9-]+==[\w.!]+", line)] == []
    names = [line.partition("==")[0] for line in requirements]
    assert names == sorted(set(names))
    assert set(SERVING_ROOTS[kind]) <= set(names)


def test_the_versions_are_those_installed_here(kind: str) -> None:
    for line in serving_requirements(SERVING_ROOTS[kind]):
        name, _, number = line.partition("==")
        assert version(name).partition("+")[0] == number


def names_for(kind: str) -> set[str]:
    return {line.partition("==")[0] for line in serving_requirements(SERVING_ROOTS[kind])}


def test_no_requirement_serves_training_alone(kind: str) -> None:
    assert names_for(kind) & TRAINING_ALONE == set()


def test_the_baseline_is_served_without_what_a_transformer_needs() -> None:
    heavy = {"torch", "transformers", "tokenizers", "huggingface-hub"}
    assert heavy <= names_for("transformer")
    assert heavy & names_for("linear") == set()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs an empty distribution for this test alone."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, number: str = "1.0", needs: tuple[str, ...] = ()) -> None:
        folder = tmp_path / f"{name}-{number}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    return install


def test_all_that_is_needed_is_found_at_any_depth(install: Install) -> None:
    install("Box_Lunch", "2.0", ("rice>=1", "ekiben-fish"))
    install("rice", "1.5", ("water (>=0.1)",))
    install("ekiben.Fish", "0.3", ("water",))
    install("water", "0.2")
    assert serving_requirements(("box-lunch",)) == (
        "box-lunch==2.0",
        "ekiben-fish==0.3",
        "rice==1.5",
        "water==0.2",
    )


def test_a_local_build_is_required_by_its_public_version(install: Install) -> None:
    install("rice", "2.13.0+cpu")
    assert serving_requirements(("rice",)) == ("rice==2.13.0",)


def test_what_does_not_apply_here_is_left_out(install: Install) -> None:
    install(
        "rice",
        needs=(
            'fork; python_version < "3"',
            'spoon; sys_platform == "plan9"',
            'sauce; extra == "soy"',
            'water; python_version >= "3"',
        ),
    )
    install("water")
    assert serving_requirements(("rice",)) == ("rice==1.0", "water==1.0")


def test_an_extra_that_is_asked_for_is_followed(install: Install) -> None:
    install("lunch", needs=("rice", "rice[soy]"))
    install("rice", needs=('sauce; extra == "soy"', 'fork; extra == "cutlery"'))
    install("sauce")
    assert serving_requirements(("lunch",)) == ("lunch==1.0", "rice==1.0", "sauce==1.0")


def test_packages_that_need_one_another_s_extras_come_to_an_end(install: Install) -> None:
    install("rice", needs=('fish[raw]; extra == "sushi"',))
    install("fish", needs=('rice[sushi]; extra == "raw"',))
    assert serving_requirements(("rice[sushi]",)) == ("fish==1.0", "rice==1.0")


def test_what_is_needed_and_not_installed_is_an_error_in_words(install: Install) -> None:
    install("rice", needs=("no-such-water",))
    with pytest.raises(BentoError, match="serving needs 'no-such-water', which is not installed"):
        serving_requirements(("rice",))
