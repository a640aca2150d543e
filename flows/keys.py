"""`ekiben key`: make a key of the service, and keep its hash alone."""

import hashlib
import os
import re
import secrets
from pathlib import Path

from configs.errors import ConfigError

_NAME = r"[A-Za-z0-9_.-]{1,64}"  # what bentos/text_classifier/keys.py reads


def make_key(file: Path, name: str, *, replace: bool) -> str:
    """Add a line `NAME SHA256-HEX` to the file, readable by its owner alone; return the key.

    Raises:
        ConfigError: if the name cannot be used or is there already, or the file cannot be written.
    """
    if re.fullmatch(_NAME, name) is None:
        raise ConfigError(f"{name!r}: expected 1 to 64 letters, digits and _ . -")
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        others = [line for line in lines if line.split(" ")[0] != name]
        if len(others) < len(lines) and not replace:
            raise ConfigError(
                f"{file}: holds a key named {name!r}; give another name, or --replace to end that key"
            )
        key = secrets.token_urlsafe(32)
        _write(file, [*others, f"{name} {hashlib.sha256(key.encode()).hexdigest()}"])
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: is no keys file that can be read and written ({error})"
        ) from None
    return key


def _write(file: Path, lines: list[str]) -> None:
    """Replace the file at once: a service reads the old one or the whole new one."""
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
