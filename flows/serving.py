"""`ekiben serve`: the champion of a pipeline on a socket, with safe defaults."""

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import typer

from configs.errors import BentoError, ConfigError
from configs.schema import NAME
from flows.supervising import Release, Supervisor
from tasks.releases import (
    bento_store,
    champion,
    record_file,
    require_signed_release,
    require_whole_release,
)

_BACKLOG = 2048
_DRAIN_SECONDS = "EKIBEN_SERVE_DRAIN_SECONDS"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


@dataclass(frozen=True)
class Network:
    """Where the service listens, and what guards it there."""

    host: str
    port: int
    keys_file: Path | None
    certificate: Path | None
    key_of_certificate: Path | None
    allow_plaintext: bool
    public_key: Path | None = None

    @property
    def scheme(self) -> str:
        """Return `https` where there is a certificate."""
        return "https" if self.certificate else "http"

    def options(self) -> list[str]:
        """Return the arguments of BentoML's worker."""
        if self.certificate is None:
            return []
        return [
            *("--ssl-certfile", str(self.certificate.resolve())),
            *("--ssl-keyfile", str(Path(self.key_of_certificate or "").resolve())),
        ]

    def variables(self) -> dict[str, str]:
        """Return the variables that the service reads."""
        keys = {"EKIBEN_SERVE_KEYS_FILE": str(self.keys_file.resolve())} if self.keys_file else {}
        plain = {"EKIBEN_SERVE_ALLOW_PLAINTEXT": "true"} if self.allow_plaintext else {}
        signed = (
            {"EKIBEN_SERVE_PUBLIC_KEY": str(self.public_key.resolve())} if self.public_key else {}
        )
        return keys | plain | signed


def serve_pipeline(pipeline: str, network: Network) -> None:
    """Serve the champion of a pipeline, or `PIPELINE:VERSION`, until a signal ends it.

    Raises:
        ConfigError: if an option cannot be used, all problems told together.
        BentoError: if there is no such release, or it does not start.
    """
    name, colon, version = pipeline.partition(":")
    if re.fullmatch(NAME, name) is None or (colon and re.fullmatch(_VERSION, version) is None):
        raise ConfigError(
            f"{pipeline!r} names no pipeline; expected PIPELINE or PIPELINE:VERSION, with `name` of "
            "its config, in small letters, digits and underscores"
        )
    seconds = _drain_seconds()
    _check(network)

    def find() -> Release:
        return _release(name, version or "latest")

    release = find()
    with _listening(network) as listening:
        port = listening.getsockname()[1]
        host = f"[{network.host}]" if ":" in network.host else network.host
        typer.echo(f"starting {release.tag} on {network.scheme}://{host}:{port}")
        supervisor = Supervisor(
            find, listening, network.options(), network.variables(), seconds, tell=typer.echo,
            check=lambda release: _require_sound(release, network.public_key),
        )  # fmt: skip
        asyncio.run(supervisor.run())


def _release(pipeline: str, version: str) -> Release:
    """Return the champion, or the version that is asked for."""
    store = bento_store() / "bentos" / pipeline
    if version == "latest":
        record = champion(pipeline)
        if record is None:
            raise BentoError(
                f"{pipeline}: no release of Ekiben is the latest in {store}; release one with "
                "`ekiben run CONFIG`"
            )
        tag = record.tag
    else:
        tag = f"{pipeline}:{version}"
        if not record_file(tag).exists():
            raise BentoError(
                f"{tag}: Ekiben released no such version; expected a record at {record_file(tag)}"
            )
    place = store / tag.partition(":")[2]
    if not place.is_dir():
        raise BentoError(f"{tag}: was released, but is not in the store at {place}; run it anew")
    return Release(tag, place)


def _require_sound(release: Release, public_key: Path | None) -> None:
    """Look at a release from outside before it is started: one that was changed may pass itself."""
    require_whole_release(release.tag)
    if public_key is not None:
        require_signed_release(release.tag, public_key)


def _drain_seconds() -> int:
    """Return how long the service may drain; it reads the same variable."""
    given = os.environ.get(_DRAIN_SECONDS, "30")
    if not given.isdecimal():
        raise ConfigError(
            f"{_DRAIN_SECONDS}: {given!r} is no number of seconds; expected 1 to 3600"
        )
    return int(given)


def _check(network: Network) -> None:
    problems = [
        f"--{option} {str(file)!r}: is no file that can be read"
        for option, file in (
            ("keys-file", network.keys_file),
            ("certificate", network.certificate),
            ("key-of-certificate", network.key_of_certificate),
            ("public-key", network.public_key),
        )
        if file is not None and not file.is_file()
    ]
    if (network.certificate is None) != (network.key_of_certificate is None):
        problems.append("--certificate and --key-of-certificate: give both or neither")
    elif not problems and network.certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                network.certificate, network.key_of_certificate, password=lambda: ""
            )
        except (OSError, ValueError) as error:  # SSLError is an OSError
            problems.append(
                f"--certificate {str(network.certificate)!r}: cannot be used with its key ({error}); "
                "expected PEM files that belong together, the key without a password"
            )
    problems += _exposed(network)
    if problems:
        raise ConfigError(problems)


def _exposed(network: Network) -> list[str]:
    """Return what an address that others can reach lacks."""
    if ipaddress.ip_address(_address(network)[1][0]).is_loopback:
        return []
    where = f"--host {network.host!r} can be reached from other machines"
    lacking = []
    if network.keys_file is None:
        lacking.append(f"{where}: give --keys-file, so that only who has a key is answered")
    if network.certificate is None and not network.allow_plaintext:
        lacking.append(
            f"{where}: give --certificate and --key-of-certificate, or --allow-plaintext where "
            "something in front of it ends TLS"
        )
    return lacking


def _address(network: Network) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(network.host, network.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(
            f"--host {network.host!r}: is no address of this machine ({error.strerror}); expected an "
            "IP address or a name of one"
        ) from None
    return found[0][0], (str(found[0][4][0]), network.port)


def _listening(network: Network) -> socket.socket:
    family, address = _address(network)
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno or 0)  # its own words name the address again
        raise ConfigError(
            f"{network.host}:{network.port}: cannot be listened on ({why}); stop what listens there, "
            "or give another --port"
        ) from None
