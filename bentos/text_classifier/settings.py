"""What may be set of the service, by variables that begin with EKIBEN_SERVE_."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "EKIBEN_SERVE_"


class SettingsError(Exception):
    """Variables that cannot be used, all told together."""


def _number(default: int, least: int, most: int, doc: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """A field is set by its name in capitals: EKIBEN_SERVE_BODY_BYTES sets `body_bytes`."""

    keys_file: Path | None = field(
        default=None, metadata={"doc": "file of keys, a line `NAME SHA256-HEX` each"}
    )
    public_key: Path | None = field(
        default=None, metadata={"doc": "PEM file of the key by which the Bento must be signed"}
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(), metadata={"doc": "names, apart by commas, by which the service may be called"}
    )
    allow_plaintext: bool = field(
        default=False, metadata={"doc": "true where something in front of the service ends TLS"}
    )
    rate_per_minute: int = _number(60_000, 1, 10_000_000, "requests that a key may make a minute")
    body_bytes: int = _number(8 << 20, 1024, 1 << 30, "bytes of a body, or of a line of /bulk")
    read_seconds: int = _number(10, 1, 600, "seconds in which a body must have come")
    deadline_ms: int = _number(10_000, 10, 600_000, "milliseconds that a request may take")
    queue_tokens: int = _number(16_384, 1, 100_000_000, "tokens that may wait")
    queue_ms: int = _number(100, 1, 600_000, "milliseconds that a new request may have to wait")
    batch_tokens: int = _number(512, 1, 10_000_000, "tokens that are computed together")
    threads: int = _number(0, 0, 1024, "threads that compute; 0 for as many as cores")
    drain_seconds: int = _number(30, 1, 3600, "seconds that accepted requests may take to finish")
    hand_over_seconds: int = _number(
        600, 1, 86_400, "seconds that they may take where another release is served already"
    )
    refuse_ms: int = _number(1000, 0, 60_000, "milliseconds of refusals in words before the end")


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that the variables ask for.

    Raises:
        SettingsError: if one is not known or has no value that can be used.
    """
    known = {PREFIX + each.name.upper(): each for each in fields(Settings)}
    values: dict[str, Any] = {}
    problems = []
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        if name not in known:
            problems.append(f"{name}: is not known; expected one of {', '.join(known)}")
            continue
        try:
            values[known[name].name] = _value(known[name], environ[name].strip())
        except ValueError as error:
            problems.append(f"{name}: {error}; got {environ[name]!r}")
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(**values)


def _value(setting: Any, text: str) -> Any:
    if setting.name in ("keys_file", "public_key"):
        if not Path(text).is_file():
            raise ValueError("expected a file that can be read")
        return Path(text)
    if setting.name == "allowed_hosts":
        hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
        if not hosts or any(set(host) & set("/*@ ") for host in hosts):
            raise ValueError("expected names without port, apart by commas")
        return hosts
    if setting.name == "allow_plaintext":
        if text.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return text.lower() == "true"
    least, most = setting.metadata["least"], setting.metadata["most"]
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise ValueError(f"expected a whole number from {least} to {most}")
    return int(text)
