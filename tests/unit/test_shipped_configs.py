"""The configs that come with Ekiben load, and say what they train, need and run."""

import re
import shlex
from pathlib import Path

import pytest

from configs.loading import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def heading_of(file: Path) -> dict[str, str]:
    """Return the comment lines that open a config, by their first word."""
    lines = file.read_text(encoding="utf-8").splitlines()[:4]
    found = [re.fullmatch(r"# (\w+): +(\S.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def test_the_configs_of_the_readme_are_shipped() -> None:
    assert {"smoke", "sms_spam", "tweet_sentiment", "zh_reviews"} <= {file.stem for file in CONFIGS}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_config_loads_under_the_name_of_its_file(file: Path) -> None:
    assert load_config(file).name == file.stem


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_config_pins_what_it_trains_on(file: Path) -> None:
    config = load_config(file)
    for uri in (config.data.uri, config.training.base_model):
        assert re.fullmatch(r"pypi://[\w-]+==[\d.]+/\S+#sha256=[0-9a-f]{64}", uri)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_config_opens_with_what_to_know(file: Path) -> None:
    heading = heading_of(file)
    assert list(heading) == ["Trains", "Needs", "Run", "Change"]
    assert heading["Run"] == f"ekiben run {file.relative_to(ROOT)}"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_override_that_a_shipped_config_shows_changes_it(file: Path) -> None:
    command, path, option, override = shlex.split(heading_of(file)["Change"])[1:]
    assert (command, path, option) == ("run", str(file.relative_to(ROOT)), "--set")
    assert load_config(file, [override]) != load_config(file)
