"""Great Expectations suites: built from a config, exported as its JSON, read from a user's own."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.errors import ConfigError
from configs.schema import Expectation, Validation

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation as GxExpectation

COLUMNS = ("row", "text", "label")
_MOST_BYTES = 1_000_000
_MOST_EXPECTATIONS = 200
_COLUMN_KEYS = ("column", "column_A", "column_B")
# Releases before 1.0 wrote into the arguments how a run reports; the run decides that now.
_RUN_KEYS = ("result_format", "include_config", "catch_exceptions", "batch_id", "auto")


def build_expectation(item: Expectation, where: str = "validation.expectations") -> "GxExpectation":
    """Return the Great Expectations object that a line of the config or suite names.

    Raises:
        ConfigError: if there is none of this name, or it refuses its arguments.
    """
    from great_expectations import expectations as gxe

    classes = (getattr(gxe, name) for name in dir(gxe) if name.startswith("Expect"))
    known = {kind.expectation_type: kind for kind in classes if hasattr(kind, "expectation_type")}
    where = f"{where}: {item.type}"
    if item.type not in known:
        near = difflib.get_close_matches(item.type, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "take a name from its gallery"
        raise ConfigError(f"{where}: Great Expectations has none of this name; {hint}")
    if any(isinstance(value, dict) and "$PARAMETER" in value for value in item.kwargs.values()):
        raise ConfigError(f"{where}: a $PARAMETER has no value here; write the value itself")
    try:
        expectation: GxExpectation = known[item.type](**item.kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {_one_line(error)}; correct its kwargs") from None
    return expectation


def with_suite(validation: Validation) -> Validation:
    """Return the section with the expectations of its suite written out among its own.

    Raises:
        ConfigError: if the suite or an expectation cannot be used.
    """
    items = [("validation.expectations", item) for item in validation.expectations]
    if validation.suite is not None:
        items += [(validation.suite, item) for item in load_suite(validation.suite)]
    for where, item in items:
        _require_columns(item, where)
        build_expectation(item, where)
    expectations = tuple(item for _, item in items)
    return validation.model_copy(update={"expectations": expectations, "suite": None})


def export_suite(name: str, expectations: "Iterable[GxExpectation]") -> str:
    """Return the suite as Great Expectations' own JSON, the same text for the same expectations."""
    import great_expectations as gx

    entries = [expectation.configuration.to_json_dict() for expectation in expectations]
    for entry in entries:
        entry.pop("id", None)  # drawn anew whenever a context takes the suite in
    suite = {**gx.ExpectationSuite(name=name).to_json_dict(), "expectations": entries}
    return json.dumps(suite, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def load_suite(path: str | Path) -> tuple[Expectation, ...]:
    """Return the expectations of a suite file, as Great Expectations 1.x or 0.x writes it.

    Raises:
        ConfigError: if it cannot be read, is no suite, or holds what cannot be an expectation.
    """
    entries = _entries(Path(path))
    if not entries:
        raise ConfigError(f"{path}: holds no expectations; add one, or leave validation.suite out")
    if len(entries) > _MOST_EXPECTATIONS:
        raise ConfigError(
            f"{path}: holds {len(entries)} expectations, above {_MOST_EXPECTATIONS}; leave some out"
        )
    return tuple(
        _expectation(f"{path}: expectation {number}", entry)
        for number, entry in enumerate(entries, start=1)
    )


def _entries(path: Path) -> list[Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); correct validation.suite"
        ) from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path}: is larger than {_MOST_BYTES // 1000} kB; a suite is short")
    try:
        suite = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: is not JSON; export the suite with to_json_dict()") from None
    entries = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(entries, list):
        raise ConfigError(
            f"{path}: has no list `expectations`, so it is no suite of Great Expectations; export "
            "the suite with to_json_dict()"
        )
    return entries


def _expectation(where: str, entry: Any) -> Expectation:
    """Read `type` (1.x) or `expectation_type` (0.x), and the arguments."""
    if not isinstance(entry, dict):
        raise ConfigError(
            f"{where}: is a {type(entry).__name__}, not an object with type and kwargs"
        )
    kind, kwargs = entry.get("type", entry.get("expectation_type")), entry.get("kwargs", {})
    if isinstance(kwargs, dict):
        kwargs = {key: value for key, value in kwargs.items() if key not in _RUN_KEYS}
    try:
        return Expectation(type=kind, kwargs=kwargs)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(
            f"{where}: {problem['loc'][0]}: {problem['msg']}; write type (a name such as "
            "expect_column_values_to_not_be_null) and kwargs (an object)"
        ) from None


def _require_columns(item: Expectation, where: str) -> None:
    for key, column in _columns(item):
        if column not in COLUMNS:
            raise ConfigError(
                f"{where}: {item.type}: {key} {column!r} is not one of {', '.join(COLUMNS)}, which "
                "every dataset has after ingest; name one of them"
            )


def _columns(item: Expectation) -> list[tuple[str, Any]]:
    named = [(key, item.kwargs[key]) for key in _COLUMN_KEYS if key in item.kwargs]
    listed = item.kwargs.get("column_list")
    return named + [("column_list", name) for name in (listed if isinstance(listed, list) else [])]


def _one_line(error: Exception) -> str:
    listed = getattr(error, "errors", None)
    if listed is None:
        return str(error).splitlines()[0]
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in listed())
