"""Bad input, config and data alike: a line a problem naming file, place and cure; nothing left."""

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows.cli import LONGEST_PROBLEM, main

ROW_TEXT = "quagmire"
"""A word in the texts of every table here; no message may hold it."""
SECRET = "opensesame"
"""Every password and token here; no message may hold it."""
CLOSED_PORT = "127.0.0.1:9"
GOOD_CONFIG: dict[str, Any] = {
    "name": "letters",
    "data": {"uri": "rows.csv", "labels": ["ham", "spam"]},
    "gate": {"accuracy": {"min": 0.8}},
}

Content = str | bytes | Callable[[Path], object] | None


@dataclass(frozen=True)
class Case:
    """One bad input, and what the line about it on standard error must hold."""

    id: str
    file: str
    place: str
    cure: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Values laid over GOOD_CONFIG by dotted key."""
    files: Mapping[str, Content] = field(default_factory=dict)
    """Files beside config.yaml and rows.csv, or in their place; None leaves one out."""
    command: str = "check config.yaml"
    code: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    """A fragment of each further line, where several problems are told at once."""
    keeps: tuple[str, ...] = ()
    """Stages that had ended before the failure, whose step folders are whole."""
    whole_process: bool = False
    """Start the installed command, to see what a user sees and that nothing else is printed."""
    usage: bool = False
    """The command line itself is wrong, which Typer tells in a form of its own."""


def _config(id_: str, config: Any, place: str, cure: str, **other: Any) -> Case:
    """Return a case of a bad config: values laid over the good one, or the text of its file."""
    if isinstance(config, Mapping):
        return Case(id_, "config.yaml", place, cure, config, code=2, **other)
    return Case(id_, "config.yaml", place, cure, files={"config.yaml": config}, code=2, **other)


def _override(id_: str, override: str, place: str, cure: str, file: str = "--set") -> Case:
    """Return a case of a bad `--set`."""
    return Case(id_, file, place, cure, command=f"check config.yaml --set {override}", code=2)


def _rule(id_: str, type_: str, kwargs: dict[str, Any], place: str, cure: str) -> Case:
    """Return a case of a bad expectation, which is found when the rows have been read."""
    config = {"validation.expectations": [{"type": type_, "kwargs": kwargs}]}
    where = f"validation.expectations: {place}"
    return Case(id_, "validation.expectations", where, cure, config, code=2, keeps=("ingest",))


def _command(id_: str, command: str, *told: str, **other: Any) -> Case:
    """Return a case of a bad command; `told` is file, place and cure."""
    file, place, cure = told
    return Case(id_, file, place, cure, command=command, code=2, **other)


def _table(
    id_: str, content: Content, place: str, cure: str, file: str = "rows.csv", **other: Any
) -> Case:
    """Return a case of a bad data file."""
    config = {"data.uri": file, **other.pop("config", {})}
    return Case(id_, file, place, cure, config, files={file: content}, **other)


def _json(id_: str, line: str, place: str, cure: str, **config: Any) -> Case:
    """Return a case of a JSONL file whose third line is bad."""
    good = [json.dumps({"text": text, "label": label}) for text, label in _rows(2)]
    content = "\n".join([*good, line]) + "\n"
    return _table(id_, content, place, cure, "rows.jsonl", config=config)


def _folder(id_: str, files: Mapping[str, Content], file: str, place: str, cure: str) -> Case:
    """Return a case of a bad folder of texts."""
    return Case(id_, file, place, cure, {"data.uri": "letters"}, files)


def _source(id_: str, uri: str, place: str, cure: str, **other: Any) -> Case:
    """Return a case of a bad `data.uri`; `file` is what the message holds of it."""
    config = {"data.uri": uri, **other.pop("config", {})}
    return Case(id_, other.pop("file", uri), place, cure, config, **other)


def _sql(id_: str, content: Content, query: str, place: str, cure: str, **config: Any) -> Case:
    """Return a case of a bad database or query."""
    config |= {"data.uri": "sqlite:///letters.db", "data.query": query}
    return Case(id_, "letters.db", place, cure, config, {"letters.db": content})


def _invalid(id_: str, content: Content, place: str, cure: str, **other: Any) -> Case:
    """Return a case of a table that can be read and is not fit to train on."""
    keeps = other.pop("keeps", ("ingest", "validate"))
    return _table(id_, content, place, cure, keeps=keeps, **other)


def _rows(count: int = 200, labels: tuple[str, ...] = ("ham", "spam")) -> list[tuple[str, str]]:
    return [(f"{ROW_TEXT} number {i}", labels[i % len(labels)]) for i in range(count)]


def _csv(rows: Iterable[tuple[str, str]], header: str = "text,label") -> str:
    return "".join(f"{line}\n" for line in [header, *(f"{text},{label}" for text, label in rows)])


def _parquet(
    rows: Iterable[tuple[Any, Any]], label_column: str = "label", kind: str = "string"
) -> bytes:
    texts, labels = zip(*rows, strict=True)
    columns = {"text": pa.array(texts, "string"), label_column: pa.array(labels, kind)}
    sink = BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _database(*statements: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE texts (text, label)")
        connection.executemany("INSERT INTO texts VALUES (?, ?)", _rows())
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return write


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letters/rows.csv", _csv(_rows()))


MANY = [f"column{i}" for i in range(500)]
SELECT = "SELECT text, label FROM texts"
SHELF = "shelf/letters-1.0-py3-none-any.whl"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "./shelf", "PIP_CONFIG_FILE": os.devnull}
PREFECT = {"PREFECT_API_URL": f"http://u:{SECRET}@{CLOSED_PORT}/api"}

# A case is a line or two: the bad input first, then what must be told of it.
# fmt: off
CONFIG_FILES = [
    _command("config missing", "check absent.yaml", "absent.yaml", "No such file", "name a YAML"),
    _command("config is a directory", "check folder", "folder", "Is a directory", "name a YAML",
        files={"folder": Path.mkdir}),
    _config("config empty", "", "is empty", "start with `name: ...`"),
    _config("config a list", "- name: letters\n", "is a list", "start with `name: ...`"),
    _config("config a word", "letters\n", "is a str", "start with `name: ...`"),
    _config("config not UTF-8", b"name: caf\xe9\n", "byte 9", "save it as UTF-8"),
    _config("config with a NUL", b"name\0: letters\n", "character 5", "remove it"),
    _config("config too large", "#" * 300_000, "larger than 256 KiB", "a config is a short YAML"),
    _config("config nested too deep", f"name: {'[' * 500}", "line 1", "deeper than 20 levels"),
    _config("YAML bracket left open", "name: [a\n", "line 2, column 1", "expected ',' or ']'"),
    _config("YAML indented by a tab", "data:\n\turi: x\n", "line 2, column 1", "found character"),
    _config("YAML alias", "name: &it a\ndata: *it\n", "line 2, column 7", "write the value out"),
    _config("YAML key twice", "name: a\nname: b\n", "line 2, column 1", "'name' is written twice"),
    _config("YAML tag", "name: !!python/name:os.getcwd\n", "line 1, column 7", "without a tag"),
    _config("YAML of two documents", "a: 1\n---\nb: 1\n", "line 2, column 1", "single document"),
    _config("YAML date that is none", "name: 2025-02-30\n", "line 1, column 7", "put it in quotes"),
]
CONFIG_VALUES = [
    _config("unknown section", {"datas": {}}, "datas", "remove it or correct"),
    _config("unknown key", {"training.epochs": 3}, "training.epochs", "remove it or correct"),
    _config("unknown key, three deep", {"gate.f1.least": 0.5}, "gate.f1.least", "remove it or"),
    _config("unknown key that is no character", 'name: a\n"\\ud800": 1\n', "\\ud800",
        "write the character itself"),
    _config("required key missing", {"data": {"uri": "a.csv"}}, "data.labels", "add it"),
    _config("section is a value", {"data": "rows.csv"}, "data", "indent its keys"),
    _config("section is null", {"gate": None}, "gate", "indent its keys"),
    _config("section is a list", {"gate": [{"min": 0.8}]}, "gate", "indent its keys"),
    _config("word for a number", {"training.num_train_epochs": "three"},
        "training.num_train_epochs", "should be a valid integer"),
    _config("number for a word", {"data.text_column": 7}, "data.text_column", "put it in quotes"),
    _config("flag for a number", {"training.seed": True}, "training.seed", "no value for this key"),
    _config("number for a flag", {"data.header": 7}, "data.header", "should be a valid boolean"),
    _config("fraction for a count", {"split.sample_rows": 99.5}, "split.sample_rows",
        "should be a valid integer"),
    _config("below its bound", {"training.max_length": 1}, "training.max_length", "equal to 8"),
    _config("above its bound", {"split.test_fraction": 0.9}, "split.test_fraction", "to 0.5"),
    _config("infinite", {"training.learning_rate": float("inf")}, "training.learning_rate",
        "should be a finite number"),
    _config("not a number", {"gate.accuracy.min": float("nan")}, "gate.accuracy.min",
        "should be a finite number"),
    _config("several problems at once",
        {"name": "SMS", "training.max_length": 1, "data.format": "xlsx", "gate.colour": "red"},
        "name", "should match", more=("training.max_length", "data.format", "gate.colour")),
    _config("name with a capital and a space", {"name": "SMS spam"}, "name", "should match"),
    _config("name that climbs", {"name": "../letters"}, "name", "should match"),
    _config("no gate limit", {"gate": {}}, "gate", "set one, such as accuracy: {min: 0.9}"),
    _config("limit of zero", {"gate.f1.min_weighted": 0}, "gate.f1.min_weighted", "greater than 0"),
    _config("limit on an unknown label", {"gate.recall.min_per_class": {"egg": 0.9}},
        "gate.recall.min_per_class names 'egg'", "data.labels ['ham', 'spam']"),
    _config("one label", {"data.labels": ["ham"]}, "data.labels", "add the others"),
    _config("two raw values of one label", {"data.labels": {"h": "ham", "H": "ham"}},
        "data.labels", "add the others"),
    _config("label listed twice", {"data.labels": ["ham", "ham", "spam"]}, "data.labels",
        "list each label once"),
    _config("label named as an average", {"data.labels": ["macro", "spam"]}, "data.labels",
        "name it otherwise"),
    _config("label in white space", {"data.labels": ["ham", " spam"]}, "data.labels", "take it off"),
    _config("labels that YAML reads as flags", {"data.labels": [True, False]},
        "data.labels.True", "put it in quotes", more=("data.labels.False",)),
    _config("labels that YAML reads as numbers", {"data.labels": [1, 2]},
        "data.labels.1", "put it in quotes", more=("data.labels.2",)),
    _config("header false without columns", {"data.header": False}, "data", "columns must list"),
    _config("text and label in one column", {"data.text_column": "label"}, "data",
        "name two columns"),
    _config("columns without the text", {"data.columns": ["body", "label"]}, "data",
        "does not list 'text'"),
    _config("columns with a name twice", {"data.columns": ["text", "label", "text"]}, "data",
        "list each name once"),
    _config("unknown encoding", {"data.encoding": "utf-42"}, "data.encoding", "such as utf-8"),
    _config("encoding of no text", {"data.encoding": "base64"}, "data.encoding", "such as utf-8"),
    _config("unknown format", {"data.format": "xlsx"}, "data.format", "'csv', 'tsv', 'jsonl'"),
    _config("delimiter too long", {"data.delimiter": "::"}, "data.delimiter", "at most 1"),
    _config("delimiter a quote", {"data.delimiter": '"'}, "data.delimiter", "set another"),
    _config("delimiter a line end", {"data.delimiter": "\n"}, "data.delimiter", "set another"),
    _config("shortest text above the longest", {"validation.min_characters": 30_000},
        "validation", "swap or widen them"),
    _config("nothing left to train on",
        {"split.test_fraction": 0.5, "split.validation_fraction": 0.4}, "split", "needs 0.2"),
    _config("cron in words", {"schedule.cron": "at three"}, "schedule", "is not a cron line"),
    _config("cron and interval", {"schedule": {"cron": "0 3 * * 1", "interval_seconds": 60}},
        "schedule", "set exactly one"),
    _config("schedule without a time", {"schedule.timezone": "UTC"}, "schedule", "set exactly one"),
    _config("unknown time zone", {"schedule": {"interval_seconds": 60, "timezone": "Mars/Hill"}},
        "schedule", "such as Asia/Tokyo"),
    _config("expectation not in snake case", {"validation.expectations": [{"type": "ExpectX"}]},
        "validation.expectations.0.type", "should match"),
]
OVERRIDES = [
    _override("--set without =", "gate.f1.min", "gate.f1.min", "expected key.path=value"),
    _override("--set without a key", "=0.9", "=0.9", "expected key.path=value"),
    _override("--set with a gap in the key", "gate..min=1", "gate..min", "expected key.path=value"),
    _override("--set through a value", "name.first=x", "'name'", "correct the key"),
    _override("--set through a list", "data.labels.0=x", "'labels'", "correct the key"),
    _override("--set of bad YAML", "gate.f1.min=[0.9", "gate.f1.min=[0.9", "put it in quotes"),
    _override("--set of an alias", "name=*it", "name=*it", "put it in quotes"),
    _override("--set of bad YAML with a password", f"data.uri=[mysql://u:{SECRET}@db/x",
        "data.uri=[mysql://u:***@db/x", "put it in quotes"),
    _override("--set of an unknown key", "gate.acuracy=1", "gate.acuracy", "remove it or correct",
        "config.yaml"),
    _override("--set out of bounds", "gate.f1.min=97", "gate.f1.min", "less than or equal to 1",
        "config.yaml"),
    _override("--set of nothing", "data.uri=", "data.uri", "should be a valid string",
        "config.yaml"),
]
EXPECTATIONS = [
    _rule("unknown expectation", "expect_column_values_to_match_regexp", {"column": "text"},
        "expect_column_values_to_match_regexp: Great Expectations has none",
        "did you mean 'expect_column_values_to_match_regex'?"),
    _rule("expectation unlike any other", "expect_the_unexpected", {},
        "expect_the_unexpected: Great Expectations has none", "take a name from its gallery"),
    _rule("expectation without an argument", "expect_column_pair_values_to_be_equal",
        {"column_A": "text"}, "expect_column_pair_values_to_be_equal: column_B", "correct its"),
    _rule("expectation with an unknown argument", "expect_column_values_to_not_be_null",
        {"column": "text", "pattern": "x"}, "expect_column_values_to_not_be_null: pattern",
        "correct its kwargs"),
    _rule("expectation with an impossible share", "expect_column_values_to_not_be_null",
        {"column": "text", "mostly": 2}, "expect_column_values_to_not_be_null: mostly",
        "correct its kwargs"),
    _rule("expectation on an unknown column", "expect_column_values_to_not_be_null",
        {"column": "body"}, "expect_column_values_to_not_be_null: column 'body'",
        "name one of them"),
    _rule("expectation on an unknown pair", "expect_column_pair_values_to_be_equal",
        {"column_A": "text", "column_B": "body"},
        "expect_column_pair_values_to_be_equal: column_B 'body'", "name one of them"),
    _rule("expectation with an invalid regex", "expect_column_values_to_match_regex",
        {"column": "text", "regex": "("}, "expect_column_values_to_match_regex: cannot be",
        "correct its kwargs"),
    _rule("expectation of a mean of texts", "expect_column_mean_to_be_between",
        {"column": "text", "min_value": 3}, "expect_column_mean_to_be_between: cannot be",
        "correct its kwargs"),
]
COMMANDS = [
    _command("no such command", "bake", "ekiben", "No such command", "--help", usage=True),
    _command("run without a config", "run", "ekiben run", "Missing argument 'CONFIG'", "--help",
        usage=True),
    _command("unknown option", "check a.yaml --fast", "ekiben check", "No such option: --fast",
        "--help", usage=True),
    _command("--set without a value", "check a.yaml --set", "'--set'", "requires", "an argument",
        usage=True),
    _command("deploy without a config", "deploy", "ekiben deploy", "Missing argument 'CONFIG...'",
        "--help", usage=True),
    _command("run of a missing config", "run absent.yaml", "absent.yaml", "No such file",
        "name a YAML file", whole_process=True),
    _command("run with a bad override", "run config.yaml --set gate.f1.min=97", "config.yaml",
        "gate.f1.min", "less than or equal to 1"),
    _command("deploy of a good and a missing config", "deploy config.yaml absent.yaml",
        "absent.yaml", "No such file", "name a YAML file"),
    _command("deploy of two pipelines of one name", "deploy config.yaml config.yaml",
        "config.yaml", "name: 'letters'", "rename one"),
    _command("report of a path", "report ../letters", "../letters", "not the name of a pipeline",
        "in small letters"),
    _command("Ekiben home is a file", "check config.yaml", "ekiben_home", "File exists",
        "set EKIBEN_HOME to a folder", files={"ekiben_home": ""}),
    Case("report before any run", "letters", "no report yet", "run `ekiben run CONFIG` first",
        command="report letters"),
    Case("deploy without a server", f"u:***@{CLOSED_PORT}", "no Prefect server answers",
        "prefect server start", command="deploy config.yaml", env=PREFECT, whole_process=True),
    Case("run on a server that is gone", f"u:***@{CLOSED_PORT}", "no Prefect server answers",
        "prefect server start", command="run config.yaml", env=PREFECT, whole_process=True),
]
FILES = [
    _table("data missing", None, "does not exist", "correct the path"),
    _table("data with a line end and an escape in its name", None, "does not exist",
        "correct the path", "rows\\x1b[31m .csv", config={"data.uri": "rows\x1b[31m\n.csv"}),
    _table("data with a name too long", None, "File name too long", "correct the path",
        config={"data.uri": "x" * 300 + "rows.csv"}),
    _table("data in the home of no user", None, "does not exist", "correct the path",
        config={"data.uri": "~no_such_user/rows.csv"}),
    _table("data a folder where a file was declared", Path.mkdir, "expected a csv file",
        "correct data.uri or data.format", config={"data.format": "csv"}),
    _table("data a file where a folder was declared", "", "expected a folder",
        "correct data.uri or data.format", config={"data.format": "folder"}),
    _table("data a named pipe", os.mkfifo, "neither a file nor a folder", "correct the path"),
    _table("data a device", _link("/dev/zero"), "neither a file nor a folder", "correct the path"),
    _table("data a link to itself", _link("rows.csv"), "does not exist", "correct the path"),
    _table("data that cannot be read", _link("/proc/self/mem"), "Input/output error",
        "check its permissions and the disk"),
    _table("data of an unknown suffix", "x", "suffix '.xlsx'", "set data.format", "rows.xlsx"),
    _table("data without a suffix", "x", "suffix ''", "set data.format", "rows"),
    _table("data with # in its name", "x", "after #", "expected sha256=", "rows#1.csv"),
    _table("data larger than max_megabytes", _csv(_rows(60_000)), "data.max_megabytes=1",
        "raise the limit", config={"data.max_megabytes": 1}),
    _table("data of more rows than max_rows", _csv(_rows()), "data.max_rows=100", "raise it",
        config={"data.max_rows": 100}),
    _table("data empty", "", "is empty", "expected a header line"),
    _table("data of a header alone", "text,label\n", "holds no rows", "add labelled texts"),
]
TABLES = [
    _table("another header", _csv(_rows(), "label,text"), "header is ['label', 'text']",
        "correct one of them", config={"data.columns": ["text", "label"]}),
    _table("no text column", _csv([], "body,label"), "no column 'text'", "set data.text_column"),
    _table("no label column", _csv([], "text,kind"), "no column 'label'", "set data.label_column"),
    _table("no header", _csv(_rows())[len("text,label\n"):], "first line", "data.header: false"),
    _table("no header, and no label either", f"{ROW_TEXT * 9},7\n", "[(72 characters), '7']",
        "set data.text_column"),
    _table("hundreds of columns", ",".join(MANY), "and 492 more", "set data.text_column"),
    _table("column twice", "text,label,text\n", "['text'] appear twice", "rename one of each"),
    _table("another delimiter", "text;label\n", "['text;label']", "or data.delimiter"),
    _table("a field too few", "text,label\na,ham\nb\n", "row 2 (line 3) has 1 fields", "mend the"),
    _table("a field too many", f"text,label\n{ROW_TEXT}, b,ham\n", "row 1 (line 2) has 3 fields",
        "mend the row"),
    _table("quote never closed", f'text,label\n"{ROW_TEXT},ham\n', "line 2", "data.quoting: none"),
    _table("letters after a quote", f'text,label\n"a" {ROW_TEXT},ham\n', "line 2: ',' expected",
        "data.quoting: none"),
    _table("latin-1 read as UTF-8", _csv([(f"{ROW_TEXT} \xe9", "ham")]).encode("latin-1"),
        "byte 0xe9", "set data.encoding"),
    _table("UTF-8 read as UTF-16", _csv(_rows()), "is not utf-16", "set data.encoding",
        config={"data.encoding": "utf-16"}),
    _table("UTF-16 read as latin-1", _csv(_rows()).encode("utf-16-le"), "first line",
        "set data.encoding", config={"data.encoding": "latin-1"}),
    _table("UTF-8 read as host names", _csv([(f"{ROW_TEXT}\x80", "ham")]), "is not idna",
        "set data.encoding", config={"data.encoding": "idna"}),
    _table("NUL in a text", _csv([(f"{ROW_TEXT}\0", "ham")]), "row 1 holds a NUL", "mend the row"),
    _table("field of over a million characters", _csv([(ROW_TEXT * 130_000, "ham")]), "line 2",
        "field larger than field limit (1000000)"),
]
JSON_LINES = [
    _json("JSON cut short", f'{{"text": "{ROW_TEXT}', "row 3 (line 3)", "mend the line"),
    _json("JSON array", f'["{ROW_TEXT}", "ham"]', "row 3 (line 3)", "expected an object"),
    _json("JSON nested too deep", "[" * 100_000, "row 3 (line 3)", "mend the line"),
    _json("JSON NaN", f'{{"text": "{ROW_TEXT}", "label": NaN}}', "NaN is not JSON", "mend the"),
    _json("JSON key twice", f'{{"text": "{ROW_TEXT}", "text": "a", "label": "ham"}}',
        "row 3 (line 3)", "a key is written twice"),
    _json("JSON without the label", f'{{"text": "{ROW_TEXT}"}}', "row 3 (line 3)",
        "set data.label_column"),
    _json("JSON with hundreds of keys", json.dumps(dict.fromkeys(MANY)), "and 492 more",
        "set data.text_column"),
    _json("JSON with an undeclared key", f'{{"text": "{ROW_TEXT}", "label": "ham", "id": 1}}',
        "row 3 (line 3)", "mend the row", **{"data.columns": ["text", "label"]}),
    _json("JSON fraction for a text", '{"text": 1.5, "label": "ham"}', "row 3 (line 3): 'text'",
        "write it as a string"),
    _json("JSON fraction for a label", f'{{"text": "{ROW_TEXT}", "label": 1.0}}',
        "row 3 (line 3): 'label'", "write it as a string"),
    _json("JSON flag for a label", f'{{"text": "{ROW_TEXT}", "label": true}}',
        "row 3 (line 3): 'label'", "write it as a string"),
    _json("JSON with half a surrogate pair", f'{{"text": "{ROW_TEXT} \\ud83d", "label": "ham"}}',
        "row 3", "write the source again as UTF-8"),
    _table("JSON in latin-1", f'{{"text": "{ROW_TEXT} \xe9"}}'.encode("latin-1"), "byte 0xe9",
        "set data.encoding", "rows.jsonl"),
]
PARQUET = [
    _table("Parquet cut short", _parquet(_rows())[:-100], "not a readable Parquet file",
        "write it again", "rows.parquet"),
    _table("Parquet damaged inside", _parquet(_rows()).replace(ROW_TEXT.encode(), b"\xff" * 8),
        "not a readable Parquet file", "write it again", "rows.parquet"),
    _table("Parquet that is text", _csv(_rows()), "not a readable Parquet file", "write it again",
        "rows.parquet"),
    _table("Parquet of no bytes", b"", "not a readable Parquet file", "write it again",
        "rows.parquet"),
    _table("Parquet without the label", _parquet(_rows(), "kind"), "no column 'label'",
        "set data.label_column", "rows.parquet"),
    _table("Parquet in another order", _parquet(_rows()), "columns are ['text', 'label']",
        "correct one of them", "rows.parquet", config={"data.columns": ["label", "text"]}),
    _table("Parquet with fractions for labels", _parquet([(ROW_TEXT, 1.5)], kind="double"),
        "column 'label' is of type double", "write it as strings", "rows.parquet"),
    _table("Parquet that unpacks to too much", _parquet([(ROW_TEXT * 100_000, "ham")] * 3),
        "data.max_megabytes=1", "raise the limit", "rows.parquet",
        config={"data.max_megabytes": 1}),
]
FOLDERS = [
    _folder("folder empty", {"letters": Path.mkdir}, "letters", "no folders", "one folder a label"),
    _folder("folder of empty folders", {"letters/ham": Path.mkdir}, "letters", "holds no rows",
        "add labelled texts"),
    _folder("folder that links to itself", {"letters/ham": _link("ham")}, "letters",
        "holds no folders", "one folder a label"),
    _folder("folder that links to its parent", {"letters/ham": _link("..")}, "letters/ham",
        "is a link", "put the file or folder itself"),
    _folder("folder with a named pipe", {"letters/ham/a.txt": os.mkfifo}, "letters/ham/a.txt",
        "is no file", "remove it"),
    _folder("folder with a folder named as a text", {"letters/ham/a.txt": Path.mkdir},
        "letters/ham/a.txt", "is no file", "remove it"),
    _folder("folder with a broken link", {"letters/ham/a.txt": _link("absent")},
        "letters/ham/a.txt", "is a link", "put the file or folder itself"),
    _folder("folder with a text in latin-1", {"letters/ham/a.txt": b"caf\xe9"},
        "letters/ham/a.txt", "byte 0xe9", "set data.encoding"),
    _folder("folder with a text too long", {"letters/ham/a.txt": ROW_TEXT * 600_000},
        "letters/ham/a.txt", "larger than 4000000 bytes", "split or drop it"),
]
SOURCES = [
    _source("sha256 of other content", f"rows.csv#sha256={'0' * 64}", "its sha256 is",
        "pin the new digest", file="rows.csv"),
    _source("sha256 malformed", "rows.csv#sha256=abc", "after #", "64 hex digits", file="rows.csv"),
    _source("fragment with a token", f"rows.csv#token={SECRET}", "after #", "64 hex digits",
        file="rows.csv"),
    _source("pypi without a version", "pypi://letters/rows.csv", "expected pypi://NAME==VERSION",
        "an exact version"),
    _source("pypi with a range", "pypi://letters>=1/rows.csv", "expected pypi://NAME==VERSION",
        "an exact version"),
    _source("pypi without a path", "pypi://letters==1.0", "expected pypi://NAME==VERSION/path",
        "an exact version"),
    _source("pypi path that climbs out", "pypi://letters==1.0/../rows.csv", "the path must lie",
        "inside the package"),
    _source("pypi path that is absolute", "pypi://letters==1.0//etc/hosts", "the path must lie",
        "inside the package"),
    _source("pypi package unknown", "pypi://letters==1.0/rows.csv", "no such package or version",
        "check both", file="pypi://letters==1.0", env=OFFLINE, files={"shelf": Path.mkdir}),
    _source("pypi package without the file", "pypi://letters==1.0/letters/absent.csv",
        "holds no such file", "list its files", env=OFFLINE, files={SHELF: _wheel}),
    _source("pypi package damaged", "pypi://letters==1.0/letters/rows.csv", "cannot be unpacked",
        "fetch it from another", file="pypi://letters==1.0", env=OFFLINE,
        files={SHELF: "not a wheel"}),
    _source("hub dataset without a commit", "hf://datasets/letters/rows", "expected hf://",
        "40 hex digits"),
    _source("hub dataset at a branch", "hf://datasets/letters/rows@main", "expected hf://",
        "40 hex digits"),
    _source("environment variable not set", "${LETTERS_HOME}/rows.csv", "LETTERS_HOME is not set",
        "set it"),
    _source("unknown scheme", "telegraph://letters/rows.csv", "Protocol not known: telegraph",
        "check the address"),
    _source("host in an open bracket", "http://[letters/rows.csv", "cannot be fetched",
        "check the address"),
    _source("host that does not answer", f"http://u:{SECRET}@{CLOSED_PORT}/rows.csv",
        "cannot be fetched", "check the address", file=f"http://u:***@{CLOSED_PORT}/rows.csv"),
    _source("host behind a token of the environment", f"http://{CLOSED_PORT}/${{TOKEN}}/rows.csv",
        "cannot be fetched", "check the address", env={"TOKEN": SECRET}),
    _source("file of another file system missing", "local://letters/absent.csv",
        "FileNotFoundError", "check the address"),
]
DATABASES = [
    _source("SQL without a query", "sqlite:///a.db", "data.query", "such as SELECT text, label"),
    _source("SQL port that is no number", f"postgresql://u:{SECRET}@db:x/letters", "query failed",
        "check data.uri", file="postgresql://u:***@db:x/letters", config={"data.query": SELECT}),
    _source("SQL driver not installed", f"mysql://u:{SECRET}@{CLOSED_PORT}/letters", "MySQLdb",
        "add it with pip", file=f"mysql://u:***@{CLOSED_PORT}", config={"data.query": SELECT}),
    _source("SQL driver unknown", f"sqlite+telegraph:///:memory:?password={SECRET}",
        "query failed", "check data.uri", file="?password=***", config={"data.query": SELECT}),
    _sql("SQL database missing", None, SELECT, "no such database file", "correct data.uri"),
    _sql("SQL database that is text", _csv(_rows()), SELECT, "file is not a database",
        "check data.uri and data.query"),
    _sql("SQL table missing", _database(), "SELECT text FROM absent", "no such table: absent",
        "check data.uri and data.query"),
    _sql("SQL query of bad syntax", _database(), "SELEKT text", "syntax error",
        "check data.uri and data.query"),
    _sql("SQL query that returns nothing", _database(), "DELETE FROM texts",
        "does not return rows", "check data.uri and data.query"),
    _sql("SQL query without the label", _database(), "SELECT text FROM texts",
        "no column 'label'", "set data.label_column"),
    _sql("SQL table empty", _database("DELETE FROM texts"), SELECT, "holds no rows",
        "add labelled texts"),
    _sql("SQL table of too many rows", _database(), SELECT, "data.max_rows=100", "raise it",
        **{"data.max_rows": 100}),
    _sql("SQL bytes for a text", _database("UPDATE texts SET text = x'00ff'"), SELECT,
        "row 1: 'text'", "as a string"),
    _sql("SQL text that is not UTF-8",
        _database(f"UPDATE texts SET text = CAST('{ROW_TEXT}' || x'ff' AS TEXT)"), SELECT,
        "Could not decode to UTF-8 column 'text'", "check data.uri and data.query"),
]
VALIDATION = [
    _invalid("every text blank", _csv([(" ", label) for _, label in _rows()]),
        "none of its 200 rows is valid", "check data.text_column"),
    _invalid("every text null", _parquet([(None, label) for _, label in _rows()]),
        "none of its 200 rows is valid", "check data.text_column", file="rows.parquet"),
    _invalid("every label null", _parquet([(text, None) for text, _ in _rows()]),
        "none of its 200 rows is valid", "check data.text_column", file="rows.parquet"),
    _invalid("one label in all rows", _csv(_rows(labels=("ham",))),
        "the rarest label has a share of 0 ", "add rows of it or drop the label"),
    _invalid("a label too rare", _csv(_rows(labels=("ham",) * 199 + ("spam",))),
        "the rarest label has a share of 0.005 ", "add rows of it or drop the label"),
    _invalid("a third of the labels unknown", _csv(_rows(labels=("ham", "spam", "egg"))),
        "66 of 200 rows (33.0%)", "mend the rows or the config"),
    _invalid("too few rows", _csv(_rows(50)), "50 valid rows", "add rows or lower it"),
    _invalid("too many duplicates", _csv(_rows(50) * 4), "the share of distinct texts is 0.25",
        "raise it if meant"),
    _invalid("two table rules not met", _csv(_rows(40) * 2), "80 valid rows", "add rows",
        config={"validation.max_duplicate_fraction": 0.1}, more=("distinct texts is 0.5",)),
    _invalid("own table expectation not met", _csv(_rows()),
        "expect_column_unique_value_count_to_be_between on label", "mend the data or",
        config={"validation.expectations": [{
            "type": "expect_column_unique_value_count_to_be_between",
            "kwargs": {"column": "label", "min_value": 3}}]}),
    _invalid("a label that falls into no test split", _csv(_rows(20)), "test split",
        "add rows of it", config={"validation.min_rows": 10},
        keeps=("ingest", "validate", "deduplicate", "profile", "audit")),
    _invalid("every text under two labels", _csv([*_rows(), *_rows(labels=("spam", "ham"))]),
        "every text stands under two labels", "mend the labels"),
    _invalid("too few rows, in a run of Prefect's", _csv(_rows(50)), "50 valid rows", "add rows or",
        command="run config.yaml", whole_process=True),
]
# fmt: on
CASES = [
    *(CONFIG_FILES + CONFIG_VALUES + OVERRIDES + EXPECTATIONS + COMMANDS),
    *(FILES + TABLES + JSON_LINES + PARQUET + FOLDERS + SOURCES + DATABASES + VALIDATION),
]


@pytest.mark.timeout(300)  # a case that hangs is a defect
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_input_is_told_in_a_line_and_leaves_nothing(
    case: Case,
    homes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(homes)
    _lay_out(case, homes)
    before = _entries(homes)

    if case.whole_process:
        code, printed, errors = _run_whole(case.command)
    else:
        code, printed, errors = _run_here(case.command, monkeypatch, capfd)

    assert code == case.code, errors
    _check_lines(case, errors)
    for text in ("Traceback", ROW_TEXT, SECRET):
        assert text not in printed + errors
    _check_leftovers(case, before, homes)


def _lay_out(case: Case, folder: Path) -> None:
    """Write the config, the table, and whatever else the case brings."""
    files: dict[str, Content] = {
        "config.yaml": yaml.safe_dump(_laid_over(GOOD_CONFIG, case.config)),
        "rows.csv": _csv(_rows()),
        **case.files,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            content(path)


def _laid_over(tree: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the config with each value of `values` set at its dotted key."""
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    for key, value in values.items():
        *sections, last = key.split(".")
        node = copy
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return copy


def _run_here(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    """Run the command line in this process, where the heavy imports are paid for once."""
    monkeypatch.setattr(sys, "argv", ["ekiben", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capfd.readouterr()


def _run_whole(command: str) -> tuple[object, str, str]:
    """Run the installed command, as a user does."""
    ekiben = str(Path(sys.executable).with_name("ekiben"))
    ended = subprocess.run(
        [ekiben, *command.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def _check_lines(case: Case, errors: str) -> None:
    """Assert that standard error holds the lines of the case and no other."""
    told = (case.file, case.place, case.cure)
    if case.usage:
        assert all(part in " ".join(errors.split()) for part in told), errors
        return
    lines = errors.splitlines()
    assert len(lines) == 1 + len(case.more), errors
    assert all(line.startswith("error: ") for line in lines), errors
    assert all(len(line) <= LONGEST_PROBLEM + 20 for line in lines), errors
    assert any(all(part in line for part in told) for line in lines), errors
    assert all(any(part in line for line in lines) for part in case.more), errors


def _check_leftovers(case: Case, before: set[str], homes: Path) -> None:
    """Assert that nothing was written but whole steps, and the report of a validation."""
    new = _entries(homes) - before
    assert not [path for path in new if Path(path).name.startswith(".")], "staging or partial"
    whole = [path for path in new if fnmatch(path, "ekiben_home/steps/*/*/manifest.json")]
    assert {Path(path).parts[2] for path in whole} == set(case.keeps)
    allowed = [str(Path(path).parent) for path in whole]
    if "validate" in case.keeps:
        allowed.append("ekiben_home/reports/letters")
    database = (homes / "prefect_home").rglob("*")
    assert not [file for file in database if file.is_file() and _holds_a_text(file)]
    files = [path for path in new if not (homes / path).is_dir()]
    assert not [path for path in files if str(Path(path).parent) not in allowed]


def _holds_a_text(file: Path) -> bool:
    return ROW_TEXT.encode() in file.read_bytes()


def _entries(folder: Path) -> set[str]:
    """Return the relative path of all that lies under the folder; locks and Prefect's aside."""
    paths = (path for path in folder.rglob("*") if path.suffix != ".lock")
    relative = (path.relative_to(folder) for path in paths)
    return {path.as_posix() for path in relative if path.parts[0] != "prefect_home"}
