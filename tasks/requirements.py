"""The exact Python requirements that serving needs, read from what is installed here."""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from configs.errors import BentoError
from configs.schema import Data

_SERVICE = (
    "bentoml",
    "httptools",  # uvicorn parses requests with it
    "numpy",
    "orjson",
    "prometheus-client",
    "pydantic",
    "uvloop",  # uvicorn's event loop
)
_PACKED = (*_SERVICE, "openvino", "tokenizers")
SERVING_ROOTS = {
    "transformer": (*_SERVICE, "torch", "transformers", "safetensors"),
    "linear": (*_SERVICE, "safetensors", "rjieba"),  # which cuts Chinese
    "openvino-fp32": _PACKED,
    "openvino-int8": _PACKED,
    "openvino-student": _PACKED,
}
"""What serving a model of each kind needs, whatever its texts are."""
MODULES_OF = {
    "transformer": ("transformer.py",),
    "linear": ("linear.py", "words.py"),
    "openvino-fp32": ("packed.py",),
    "openvino-int8": ("packed.py",),
    "openvino-student": ("packed.py",),
}
"""Modules of the service that models of one kind need alone."""


def serving_roots(data: Data, kind: str, *, signed: bool = False) -> tuple[str, ...]:
    """Return what serving needs, with the libraries that cleaning, masking and a signature call."""
    masked = set(data.privacy.mask)
    needed = {
        "opencc": data.cleaning.chinese != "none",
        "model-signing": signed,
        "phonenumbers": "phone" in masked,
        "pyopenssl": signed,  # model-signing imports it, and does not say so
        "pypinyin": data.cleaning.pinyin,
        "python-stdnum": bool(masked & {"card", "iban", "national_id"}),
    }
    return (*SERVING_ROOTS[kind], *(name for name, is_needed in needed.items() if is_needed))


def serving_requirements(roots: tuple[str, ...]) -> tuple[str, ...]:
    """Return `name==version` for the roots and all they need here, sorted; no index is asked.

    A build's local label (`2.13.0+cpu`) is left out, since an index holds the plain version.

    Raises:
        BentoError: if one of them is not installed.
    """
    found: dict[str, str] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in asked:
            continue
        asked.add((name, frozenset(requirement.extras)))
        if name not in found:
            try:
                found[name] = version(name).partition("+")[0]
            except PackageNotFoundError:
                raise BentoError(
                    f"serving needs {name!r}, which is not installed; run `pip install -c "
                    "constraints.txt -e .` again"
                ) from None
        extras = requirement.extras or {""}
        for line in requires(name) or []:
            needed = Requirement(line)
            applies = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            )
            if applies:
                waiting.append(needed)
    return tuple(f"{name}=={number}" for name, number in sorted(found.items()))
