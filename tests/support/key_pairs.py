"""Key pairs that sign releases, made as a user makes them."""

import subprocess
from pathlib import Path


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair as a user would, by openssl; return the private and the public key's file."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
    subprocess.run(make, check=True, capture_output=True)
    show = ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)]
    subprocess.run(show, check=True, capture_output=True)
    return private, public
