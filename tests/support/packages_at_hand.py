"""Which packages the project declares, and which of them are installed under which name."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


@cache
def installed() -> Mapping[str, set[str]]:
    """Return the distributions that hold each top-level package, by normalised names."""
    found = packages_distributions()
    return {top: {canonicalize_name(name) for name in names} for top, names in found.items()}


def declared() -> set[str]:
    """Return the normalised names of what pyproject.toml declares, with what is said to be extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        line for name in extras.keys() - {"bench", "test"} for line in extras[name]
    ]
    return {canonicalize_name(Requirement(line).name) for line in lines}
