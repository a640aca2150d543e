"""Propose a config for a source: look at it, ask where a human can answer, write the YAML."""

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from configs.errors import ConfigError, DataError
from configs.loading import explain
from configs.schema import NAME, PipelineConfig
from flows.drafting import FEWEST_TEXTS, Draft, Line, construct_data, counted
from tasks.columns import LONGEST_NAME, MAX_MEGABYTES, Table, read_table
from tasks.dialects import Layout
from tasks.inspecting import FORMATS, inspect_layout
from tasks.sources import Source, fetch, is_sql, split_pin
from tasks.surveying import survey_rows

Ask = Callable[[str, str | None, list[str]], str]
"""Question, default, and the answers allowed (any where there are none); returns the answer."""
_HUB_DATASET = re.compile(r"hf://(?:datasets/)?[^/]+/([^/@]+)@[^/]+")
_MOST_SHOWN = 8


@dataclass(frozen=True)
class Wishes:
    """What the user set on the command line in place of what would be inferred."""

    name: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    encoding: str | None = None
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class Proposal:
    """A config that is ready to be written, and what it was drafted from."""

    draft: Draft
    output: Path
    text: str

    def write(self, *, force: bool) -> None:
        """Write the config.

        Raises:
            ConfigError: if it cannot be written, or is there already and `force` is not set.
        """
        try:
            with self.output.open("w" if force else "x", encoding="utf-8") as stream:
                stream.write(self.text)
        except FileExistsError:
            raise _exists(self.output) from None
        except OSError as error:
            raise ConfigError(
                f"{self.output}: cannot be written ({error.strerror}); give another --output"
            ) from None


def propose(uri: str, wishes: Wishes, ask: Ask | None = None) -> Proposal:
    """Return a config for the source at `uri` that `ekiben check` accepts; write nothing.

    Raises:
        ConfigError: if a wish does not fit, or the output exists.
        SourceError, DataError: if the source cannot be read, or something cannot be inferred.
    """
    _check_wishes(wishes)
    uri = _full_uri(uri)
    source = fetch(uri, max_megabytes=MAX_MEGABYTES)
    layout = inspect_layout(source.path, wishes.encoding)
    roles = _role_lines(source.path, layout, wishes, ask)
    name = _name(uri, source.path, wishes, ask)
    output = wishes.output or _place(name)
    if output.exists() and not wishes.force:
        raise _exists(output)
    lines = [_uri_line(uri, source, output), *_layout_lines(source.path, layout), *roles]
    survey = survey_rows(source.path, construct_data(lines))
    draft = Draft(name, lines, survey)
    if len(draft.kept) < 2:
        raise DataError(_too_few_labels(source.path, draft))
    text = draft.text(output)
    try:
        PipelineConfig.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise ConfigError(explain(error, f"{source.path}: for {output}")) from None
    return Proposal(draft, output, text)


def _check_wishes(wishes: Wishes) -> None:
    if wishes.name is not None:
        _checked_name(wishes.name)
    if wishes.encoding is not None:
        try:
            "".encode(wishes.encoding)
        except (LookupError, UnicodeError):
            raise ConfigError(
                f"--encoding {wishes.encoding}: no such encoding of text; use a Python codec name "
                "such as gb18030"
            ) from None


def _checked_name(name: str) -> str:
    if re.fullmatch(NAME, name) is None:
        raise ConfigError(
            f"{name}: is no name for a pipeline; use small letters, digits and underscores, "
            "a letter first"
        )
    return name


def _full_uri(uri: str) -> str:
    """Return the URI; `hf://OWNER/NAME@COMMIT` is taken to be a dataset."""
    if is_sql(uri):
        raise ConfigError(
            "a database cannot be looked at; write its config with data.query by hand"
        )
    if _HUB_DATASET.fullmatch(uri):
        return f"hf://datasets/{uri.removeprefix('hf://').removeprefix('datasets/')}"
    return uri


def _exists(output: Path) -> ConfigError:
    return ConfigError(f"{output}: exists already; give --force to replace it, or another --output")


def _role_lines(path: Path, layout: Layout, wishes: Wishes, ask: Ask | None) -> list[Line]:
    """Return the lines of `data` that say where the text and the label stand."""
    if layout.format == "folder":
        if wishes.text_column or wishes.label_column:
            raise ConfigError(f"{path}: is a folder, which has no columns; leave the option out")
        return []
    table = read_table(path, layout)
    label = _column(path, "label", table, wishes.label_column, table.label_columns(), ask)
    texts = [name for name in table.text_columns() if name != label]
    text = _column(path, "text", table, wishes.text_column, texts[:1], ask)
    if text == label:
        raise ConfigError(
            f"{path}: {text!r} cannot be both text and label; name two columns by --text-column and "
            "--label-column"
        )
    if not table.has_header:
        renamed = {text: "text", label: "label"}
        columns = [renamed.get(name, name) for name in table.names]
        return [
            Line("header", False, "the first line is a row, since its label occurs again"),
            Line("columns", columns, "named here, since the file does not"),
            Line("text_column", "text", "the longest"),
            Line("label_column", "label", "few and short values"),
        ]
    return [
        Line("text_column", text, "as asked" if wishes.text_column else "the longest"),
        Line("label_column", label, "as asked" if wishes.label_column else "few and short values"),
    ]


def _column(
    path: Path, role: str, table: Table, wish: str | None, likely: list[str], ask: Ask | None
) -> str:
    """Return the column that was wished for, answered, or is the only one that looks like it."""
    if wish is not None:
        if wish not in table.names:
            raise ConfigError(f"{path}: no column {wish!r} among {_listed(table.names)}")
        return wish
    if ask is not None:
        return ask(f"Column of the {role}", likely[0] if likely else None, table.names)
    if len(likely) == 1:
        return likely[0]
    found = f"columns {_listed(likely)} each look" if likely else "no column looks"
    raise DataError(
        f"{path}: {found} like a {role}; name it by --{role}-column, one of {_listed(table.names)}"
    )


def _listed(names: list[str]) -> str:
    shown = [repr(name[:LONGEST_NAME]) for name in names[:_MOST_SHOWN]]
    return f"[{', '.join(shown)}]" + (
        f" and {len(names) - len(shown)} more" * (len(names) > len(shown))
    )


def _name(uri: str, path: Path, wishes: Wishes, ask: Ask | None) -> str:
    """Return the name of the pipeline: as wished, answered, or made of the source's."""
    if wishes.name is not None:
        return wishes.name
    address = split_pin(uri)[0].rstrip("/")
    stem = path.stem if "://" not in address else re.split(r"[/@]", address)[-1]
    if hub := _HUB_DATASET.fullmatch(address):
        stem = hub[1]
    made = re.sub(r"[^a-z0-9]+", "_", _in_ascii(Path(stem).stem).lower()).strip("_")
    made = f"data_{made}" if made[:1].isdigit() else made
    made = made[:60]
    if ask is not None:
        return _checked_name(ask("Name of the pipeline", made or None, []))
    if not made:
        raise DataError(f"{path}: no name can be made of the file's; give one by --name")
    return made


def _in_ascii(words: str) -> str:
    """Return words with accents taken off, Chinese characters as pinyin, other letters left out."""
    if words.isascii():
        return words
    from pypinyin import lazy_pinyin  # late: most names are ASCII

    plain = unicodedata.normalize("NFKD", "_".join(lazy_pinyin(words)))
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _layout_lines(path: Path, layout: Layout) -> list[Line]:
    """Return the lines of `data` that say how the source is written."""
    of_suffix = FORMATS.get(path.suffix.lower(), layout.format)
    why = f"in spite of the suffix {path.suffix}" if layout.format != of_suffix else ""
    lines = [Line("format", layout.format, why)]
    if layout.encoding != "utf-8":
        lines.append(
            Line("encoding", layout.encoding, "every byte decodes, and the letters make sense")
        )
    if layout.format == "csv" and layout.delimiter != ",":
        lines.append(Line("delimiter", layout.delimiter, "it gives every row as many fields"))
    if layout.quoting == "none":
        lines.append(Line("quoting", "none", 'a " is a letter here: as quotes they do not pair'))
    return lines


def _uri_line(uri: str, source: Source, output: Path) -> Line:
    """Return where the source is, as seen from the config, pinned unless it is near or a commit."""
    if "://" not in uri:
        near = os.path.relpath(source.path.resolve(), output.resolve().parent)
        return Line("uri", near, "from the folder of this file")
    if uri.startswith("hf://datasets/") and source.path.suffix == ".parquet":
        return Line("uri", uri, "the commit pins it")
    return Line(
        "uri", f"{uri.partition('#')[0]}#sha256={source.digest}", "pinned to today's content"
    )


def _place(name: str) -> Path:
    folder = Path("configs")
    return (folder if folder.is_dir() else Path()) / f"{name}.yaml"


def _too_few_labels(path: Path, draft: Draft) -> str:
    counts = draft.survey.texts
    if len(counts) == 1:
        return f"{path}: has the one label {next(iter(counts))!r}; a classifier needs two or more"
    return (
        f"{path}: has {counted(counts)} distinct texts, and a label needs {FEWEST_TEXTS} to be "
        "trained and tested on; add rows, or name the column of the labels by --label-column"
    )
