"""Sign a Bento, and hold it against a key: OpenSSF model signing, by a key pair, without a network."""

import os
import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

# model-signing takes no argument to make a Config and has no type for that, hence the three ignores.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class SignatureError(Exception):
    """A key cannot be used, or a Bento is not signed by it."""


def require_private_key(file: Path) -> None:
    """Check that a file holds a key that can sign.

    Raises:
        SignatureError: if it does not.
    """
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: it has a password
        raise SignatureError(_told(file, "private", error)) from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise SignatureError(_told(file, "private", None))


def require_public_key(file: Path) -> None:
    """Check that a file holds a key that signatures can be held against.

    Raises:
        SignatureError: if it does not.
    """
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError) as error:
        raise SignatureError(_told(file, "public", error)) from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise SignatureError(_told(file, "public", None))


def public_key_of(private_key: Path) -> bytes:
    """Return the public key of a private one, as PEM.

    Raises:
        SignatureError: if the private key cannot be used.
    """
    require_private_key(private_key)
    key = load_pem_private_key(private_key.read_bytes(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(bento: Path, signature: Path, private_key: Path) -> None:
    """Write the signature over all files of a Bento but itself.

    Raises:
        SignatureError: if the key cannot be used.
    """
    from model_signing import signing

    require_private_key(private_key)
    signature.unlink(missing_ok=True)
    signer = signing.Config()  # type: ignore[no-untyped-call]
    signer.use_elliptic_key_signer(private_key=private_key)
    signer.set_hashing_config(_all_but(bento, signature)).sign(bento, signature)


def require_signed(bento: Path, signature: Path, public_key: Path) -> None:
    """Check that a Bento's files are those that the key's owner signed.

    Raises:
        SignatureError: if there is no signature, it is of another key or of other files.
    """
    from model_signing import verifying

    require_public_key(public_key)
    if not signature.is_file():
        raise SignatureError(
            f"{bento}: is not signed, and {public_key} is required; expected {signature.name!r} "
            "beside its manifest"
        )
    verifier = verifying.Config()  # type: ignore[no-untyped-call]
    verifier.use_elliptic_key_verifier(public_key=public_key)
    try:
        verifier.set_hashing_config(_all_but(bento, signature)).verify(bento, signature)
    except InvalidSignature:
        why = "the signature is not that of this key"
    except Exception as error:  # noqa: BLE001  (a damaged signature may raise from four libraries)
        other = re.findall(r"Hash mismatch for '([^']*)'", str(error))
        told = f"{', '.join(other[:5])} differ from what was signed" if other else str(error)
        why = " ".join(told.split())[:200] or type(error).__name__
    else:
        return
    raise SignatureError(f"{bento}: is not signed by the owner of {public_key}: {why}")


def _all_but(bento: Path, signature: Path) -> Any:
    """Return what is hashed: all but the signature and Python's caches, which the manifest judges."""
    from model_signing import hashing

    caches = [
        Path(folder, "__pycache__").relative_to(bento)
        for folder, inner, _ in os.walk(bento)
        if "__pycache__" in inner
    ]
    paths = [signature.relative_to(bento), *caches]
    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=paths, ignore_git_paths=False)


def _told(file: Path, kind: str, error: Exception | None) -> str:
    why = getattr(error, "strerror", None) or "it is none"
    return (
        f"{file}: cannot be used as a {kind} key ({why}); expected a PEM file of an elliptic-curve "
        "key without a password, as `openssl ecparam -name prime256v1 -genkey` makes"
    )
