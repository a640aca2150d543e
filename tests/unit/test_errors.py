"""An error's words hold no secret of the environment, in whatever form a library has it."""

import pytest

from configs.errors import ConfigError, EkibenError
from tasks.sources import conceal


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("HF_TOKEN", "hf_0pensesame", "hf_0pensesame"),
        ("AWS_SECRET_ACCESS_KEY", "open/ses+ame==", "open%2Fses%2Bame%3D%3D"),
        ("MAIL_PASSWORD", "open%2Fsesame", "open/sesame"),
        ("AZURE_STORAGE_KEY", "0pensesame", "0pensesame"),
    ],
)
def test_a_secret_is_told_of_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, form: str
) -> None:
    monkeypatch.setenv(name, value)
    error = EkibenError([f"refused: {form}", "and a second problem"])
    assert error.problems == [f"refused: ${{{name}}}", "and a second problem"]
    assert str(error) == f"refused: ${{{name}}}\nand a second problem"
    assert ConfigError(f"refused: {form}").problems == [f"refused: ${{{name}}}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),  # short
        ("MAIL_PASSWORD", "password"),  # a word, which may stand anywhere
        ("HOSTNAME", "host-01.example"),  # no secret by its name
    ],
)
def test_other_values_are_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert str(EkibenError(f"got {value}")) == f"got {value}"


def test_a_variable_of_an_address_is_concealed_in_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALT", "p%40ss-word")
    said = conceal("no login for p@ss-word, p%40ss-word or p%2540ss-word", "db://a:${SALT}@b")
    assert said == "no login for ${SALT}, ${SALT} or ${SALT}"
