"""Errors a user can act on: each says what failed, where, what was expected, and the cure."""

import os
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote

SECRET_NAME = re.compile(
    r"(?i)token|secret|passw|pwd|credential|(api|access|private|account|storage)_?key"
)
_SHORTEST_SECRET = 8


def without_secrets(text: str) -> str:
    """Return the text with `${NAME}` in the place of each environment variable that is a secret.

    One is by its name, such as HF_TOKEN or AWS_SECRET_ACCESS_KEY. A value that is short, or one word
    of letters, is left: it says nothing, and may stand anywhere.
    """
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET and not value.isalpha():
            text = replaced(text, value, f"${{{name}}}")
    return text


def replaced(text: str, secret: str, name: str) -> str:
    """Return the text with the name for the secret, as it is, or as a URL or a library has it."""
    for form in {secret, unquote(secret), quote(secret, safe=""), quote(secret)}:
        text = text.replace(form, name)
    return text


class EkibenError(Exception):
    """Carry one or more problems that the command line prints one a line, without a traceback.

    They pass through libraries' words, so no secret of the environment is left in them.
    `exit_code` is what `ekiben` ends with: 2 for bad usage or config, 1 for anything else.
    """

    exit_code = 1

    def __init__(self, problems: str | Sequence[str]) -> None:
        told = [problems] if isinstance(problems, str) else problems
        self.problems = [without_secrets(problem) for problem in told]
        super().__init__("\n".join(self.problems))


class ConfigError(EkibenError):
    """The config file, or an override of it, cannot be used."""

    exit_code = 2


class SourceError(EkibenError):
    """A source (data or base model) cannot be fetched, or is not what was pinned."""


class DataError(EkibenError):
    """The rows cannot be read, or do not pass validation."""


class TrainingError(EkibenError):
    """The worker process that fine-tunes or scores ended without its result."""


class StepError(EkibenError):
    """What a step made was changed behind its back."""


class MachineError(EkibenError):
    """The machine refuses: the disk is full, fails or is read-only, or the memory is used up."""


class FormError(EkibenError):
    """A model cannot be brought into another form."""


class GateError(EkibenError):
    """The gate cannot judge an evaluation, because it contradicts itself."""


class BentoError(EkibenError):
    """The Bento cannot be built, does not start, or does not answer as the evaluation did."""
