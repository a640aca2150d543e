"""The reason to release a model that its gate does not pass: given for one run, by its name.

It is no parameter of the flow, so that neither a config, nor a deployment, nor a schedule can set it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from configs.errors import ConfigError

LONGEST_REASON = 500
_reason: ContextVar[str | None] = ContextVar("reason", default=None)


def checked_reason(force: bool, reason: str | None) -> str | None:
    """Return the reason of a forced release, or None where none is forced.

    Raises:
        ConfigError: if one of the two is given without the other, or the reason says nothing.
    """
    if force != (reason is not None):
        raise ConfigError('--force and --reason belong together: --force --reason "why"')
    if reason is None:
        return None
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise ConfigError(
            f"--reason: expected one line of 1 to {LONGEST_REASON} characters; say why the model is "
            "released though its gate does not pass it"
        )
    return reason


@contextmanager
def forcing(reason: str | None) -> Iterator[None]:
    """Release what is decided on within the block, for that reason, if there is one."""
    token = _reason.set(reason)
    try:
        yield
    finally:
        _reason.reset(token)


def forced_reason() -> str | None:
    """Return the reason to release the model of this run in any case, if one was given."""
    return _reason.get()
