"""Errors a user can act on: each says what failed, where, what was expected, and the cure."""

from collections.abc import Sequence


class EkibenError(Exception):
    """Carry one or more problems that the command line prints one a line, without a traceback.

    `exit_code` is what `ekiben` ends with: 2 for bad usage or config, 1 for anything else.
    """

    exit_code = 1

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
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


class FormError(EkibenError):
    """A model cannot be brought into another form."""


class GateError(EkibenError):
    """The gate cannot judge an evaluation, because it contradicts itself."""


class BentoError(EkibenError):
    """The Bento cannot be built, does not start, or does not answer as the evaluation did."""
