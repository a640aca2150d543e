"""The keys that open the service, known by their hashes alone."""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("ekiben.serve")

_LINE = re.compile(r"([A-Za-z0-9_.-]{1,64}) ([0-9a-f]{64})")
_SECONDS_BETWEEN_LOOKS = 1.0


class KeysError(Exception):
    """A keys file that cannot be used."""


def parse_keys(text: str) -> dict[str, str]:
    """Return hash by name from lines `NAME SHA256-HEX`; empty lines and those with # are left out.

    Raises:
        KeysError: if a line is of another form, a name comes twice, or there is no key.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise KeysError(f"line {number}: expected NAME and 64 small hexadecimal digits")
        if found[1] in keys:
            raise KeysError(f"line {number}: the name {found[1]!r} is there twice; rename one")
        keys[found[1]] = found[2]
    if not keys:
        raise KeysError("holds no key; add one with `ekiben key FILE NAME`")
    return keys


class Keys:
    """The keys of a file, read again when it changes; a broken file leaves the last good keys.

    `on_error` is told of each change that cannot be read.
    """

    def __init__(
        self,
        file: Path,
        on_error: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._on_error, self._clock = file, on_error, clock
        self._seen = self._state()
        self._next_look = clock() + _SECONDS_BETWEEN_LOOKS
        self._keys = self._read()

    def name_of(self, key: bytes) -> str | None:
        """Return the name of a key, in a time that does not tell how much of it is right."""
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + _SECONDS_BETWEEN_LOOKS
            self._look()
        hashed, found = hashlib.sha256(key).hexdigest(), None
        for name, expected in self._keys.items():
            if hmac.compare_digest(hashed, expected):
                found = name
        return found

    def _look(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._keys = self._read()
        except KeysError as error:
            self._on_error()
            log.error("%s; the keys read before stay in force", error)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> dict[str, str]:
        try:
            return parse_keys(self._file.read_text(encoding="utf-8"))
        except KeysError as error:
            raise KeysError(f"{self._file}: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"{self._file}: cannot be read ({type(error).__name__})") from None
