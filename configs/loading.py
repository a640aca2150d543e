"""Load a config file: safe YAML, bounded in size and aliases, every problem told at once."""

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from configs.errors import SECRET_NAME, ConfigError
from configs.schema import PipelineConfig, redact

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
_YAML = "tag:yaml.org,2002:"
# YAML 1.1 reads 010 as 8 and 1:30 as 90.
_VARIABLE = re.compile(r"\$\{\w+\}")
_OPEN_SECRET = re.compile(
    r"(?i)://[^/@:\s]*:[^\s@]+@|https?://[^/@:\s]+@"
    r"|[?&](\w*(token|secret|passw|pwd|api_?key|access_?key)\w*|x-amz-signature|signature|sig)=[^&#\s]"
)
_PLAIN_NUMBER = {_YAML + "int": r"[-+]?(0|[1-9][0-9_]*)", _YAML + "float": r"[^:]*"}


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without tags, merged or repeated keys, numbers other than decimal, or aliases.

    A few lines of aliases unpack to gigabytes; the others say something else than they seem to.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # so the stubs have it
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are refused; write the value out",
                problem_mark=event.start_mark,
            )
        if event.tag is not None:
            raise yaml.MarkedYAMLError(
                problem=f"tag {_short(event.tag)} is refused; write the value without a tag",
                problem_mark=event.start_mark,
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key_node.tag == _YAML + "merge":
                raise yaml.MarkedYAMLError(
                    problem="merge keys (<<) are refused; write the keys out",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {_short(key)} is written twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        plain = _PLAIN_NUMBER.get(node.tag)
        if plain is not None and re.fullmatch(plain, node.value) is None:
            raise yaml.MarkedYAMLError(
                problem=f"number {_short(node.value)} is not decimal; write it so, or put it in "
                "quotes if it is text",
                problem_mark=node.start_mark,
            )
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a date or number that does not exist
            raise yaml.MarkedYAMLError(
                problem=f"{error}; put it in quotes if it is text", problem_mark=node.start_mark
            ) from None

    def refuse_sign(self, node: yaml.Node) -> Any:
        raise yaml.MarkedYAMLError(
            problem="a bare = is no value; put it in quotes", problem_mark=node.start_mark
        )


_StrictLoader.add_constructor(_YAML + "value", _StrictLoader.refuse_sign)


def load_config(path: str | Path, overrides: list[str] | None = None) -> PipelineConfig:
    """Return the checked config in `path` with each `key.path=value` of `overrides` laid over it.

    A relative path in `data.uri`, `training.base_model`, `validation.suite`, `split.frozen_test`,
    `robustness.cases` or `release.signing_key` is taken from the config's own folder.

    Raises:
        ConfigError: naming every problem found, one a line, as `file: key.path: problem, got value`.
    """
    file = Path(path)
    tree = _read_tree(file)
    for override in overrides or []:
        _lay_over(tree, override)
    try:
        config = PipelineConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, str(path))) from None
    return _with_absolute_paths(config, file.resolve().parent)


def require_no_open_secret(config: PipelineConfig) -> None:
    """Check that no address of the config has a password or token written out in it.

    Raises:
        ConfigError: if one has: what runs under Prefect is kept in Prefect's database.
    """
    addresses = {
        "data.uri": config.data.uri,
        "training.base_model": config.training.base_model,
        "split.frozen_test": config.split.frozen_test or "",
    }
    problems = [
        f"{key}: {redact(address)!r} has a secret written out, which Prefect would keep in its "
        "database; write ${NAME} in its place, and set that environment variable"
        for key, address in addresses.items()
        if _OPEN_SECRET.search(_VARIABLE.sub("", address))
    ]
    if problems:
        raise ConfigError(problems)


def explain(error: ValidationError, where: str) -> list[str]:
    """Return one line a problem: `where: key.path: problem, got value`."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"]) or "the whole file"
        key = key if key.isprintable() and len(key) <= 80 else _short(key)
        problem = item["msg"].removeprefix("Value error, ")
        problem = problem[0].lower() + problem[1:]
        if item["type"] == "extra_forbidden":
            problem = "unknown key; remove it or correct its name"
        if item["type"] == "model_type":
            problem = "is not a section; write it on a line of its own and indent its keys below"
        if item["type"] == "string_type" and isinstance(item["input"], int | float):
            problem = "is not text; put it in quotes"
        if item["type"] == "string_unicode":
            problem = "holds half of a surrogate pair; write the character itself"
        if item["type"] == "missing":
            lines.append(f"{where}: {key}: is required; add it")
        elif isinstance(item["input"], dict | BaseException) or (
            item["type"] == "extra_forbidden" and SECRET_NAME.search(key)
        ):
            lines.append(f"{where}: {key}: {problem}")
        else:
            lines.append(f"{where}: {key}: {problem}, got {_short(item['input'])}")
    return lines


def _short(value: Any) -> str:
    text = redact(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _read_tree(file: Path) -> dict[str, Any]:
    try:
        if file.is_fifo():  # it may have no end, and no beginning
            raise ConfigError(f"{file}: is a named pipe; name a YAML file")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a YAML file") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{file}: is larger than {MAX_BYTES // 1024} KiB; a config is a short YAML"
        )
    try:
        tree = yaml.load(content.decode("utf-8-sig"), Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        said = ", ".join(part for part in (error.context, error.problem) if part)
        said = said if len(said) <= 200 else f"{said[:200]}..."
        raise ConfigError(f"{file}: {place}: not usable YAML: {said}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{file}: character {error.position + 1}: not usable YAML: {error.reason}; remove it"
        ) from None
    except (ValueError, OverflowError):  # PyYAML's own, of "\U00110000"
        raise ConfigError(
            f"{file}: not usable YAML: an escape names no character; correct it"
        ) from None
    except RecursionError:
        raise ConfigError(f"{file}: not usable YAML: nested too deep; write it flat") from None
    if not isinstance(tree, dict):
        kind = "empty" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(f"{file}: is {kind}, not a mapping of sections; start with `name: ...`")
    return tree


def _lay_over(tree: dict[str, Any], override: str) -> None:
    """Set `key.path=value` in the tree; the value is read as YAML."""
    key, sign, raw = override.partition("=")
    shown = _short(override)
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise ConfigError(f"--set {shown}: expected key.path=value, as gate.accuracy.min=0.9")
    try:
        value = yaml.load(raw, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise ConfigError(
            f"--set {shown}: what follows = is not a YAML value; put it in quotes"
        ) from None
    node: Any = tree
    for part in parts[:-1]:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise ConfigError(
                f"--set {shown}: {part!r} is a value, not a section with keys; set {part!r} as a "
                "whole, or correct the key"
            )
    node[parts[-1]] = value


def _with_absolute_paths(config: PipelineConfig, folder: Path) -> PipelineConfig:
    def absolute(uri: str) -> str:
        if "://" in uri or uri.startswith("${"):  # the variable may hold any URI
            return uri
        return os.path.normpath(folder / os.path.expanduser(uri))  # noqa: PTH111  (refuses no user)

    data = config.data.model_copy(update={"uri": absolute(config.data.uri)})
    training = config.training.model_copy(
        update={"base_model": absolute(config.training.base_model)}
    )
    suite = config.validation.suite and absolute(config.validation.suite)
    validation = config.validation.model_copy(update={"suite": suite})
    cases = config.robustness.cases and absolute(config.robustness.cases)
    robustness = config.robustness.model_copy(update={"cases": cases})
    frozen = config.split.frozen_test and absolute(config.split.frozen_test)
    split = config.split.model_copy(update={"frozen_test": frozen})
    key = config.release.signing_key and absolute(config.release.signing_key)
    release = config.release.model_copy(update={"signing_key": key})
    return config.model_copy(
        update={
            "data": data, "training": training, "validation": validation, "split": split,
            "robustness": robustness, "release": release,
        }
    )  # fmt: skip
