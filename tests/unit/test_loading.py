"""Load a config: every problem in one line with file, key and value; overrides; paths."""

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.loading import MAX_BYTES, MAX_DEPTH, load_config, require_no_open_secret

LEAST = """\
name: sms
data: {uri: sms.csv, labels: [ham, spam]}
gate: {accuracy: {min: 0.9}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the smallest config that loads."""
    path = tmp_path / "sms.yaml"
    path.write_text(LEAST, encoding="utf-8")
    return path


def problems_of(file: Path, *overrides: str) -> list[str]:
    """Return the problems that loading tells; it must fail, and as a config error."""
    with pytest.raises(ConfigError) as caught:
        load_config(file, list(overrides))
    assert caught.value.exit_code == 2
    assert "\n" not in "".join(caught.value.problems)
    return caught.value.problems


BAD_VALUES = {
    # Unknown, missing and misplaced keys.
    "extra=1": "extra: unknown key; remove it or correct its name, got 1",
    "extra={a: 1}": "extra: unknown key; remove it or correct its name",
    "1=2": "1: unknown key; remove it or correct its name, got 2",
    "training.learnig_rate=1": (
        "training.learnig_rate: unknown key; remove it or correct its name, got 1"
    ),
    "data={labels: [a, b]}": "data.uri: is required; add it",
    "data=": (
        "data: is not a section; write it on a line of its own and indent its keys below, got None"
    ),
    "gate.accuracy=0.9": (
        "gate.accuracy: is not a section; write it on a line of its own and indent its keys below, "
        "got 0.9"
    ),
    # Names and types.
    "name=SMS": "name: string should match pattern '^[a-z][a-z0-9_]{0,62}$', got 'SMS'",
    "name=7": "name: is not text; put it in quotes, got 7",
    "name=2024-01-01": "name: input should be a valid string, got datetime.date(2024, 1, 1)",
    "data.uri=": "data.uri: input should be a valid string, got None",
    "data.uri=''": "data.uri: string should have at least 1 character, got ''",
    "data.header=2": (
        "data.header: input should be a valid boolean, unable to interpret input, got 2"
    ),
    "training.seed=yes": (
        "training.seed: true and false (also yes, no, on, off) are no value for this key, got True"
    ),
    "training.seed=1.5": (
        "training.seed: input should be a valid integer, got a number with a fractional part, "
        "got 1.5"
    ),
    "training.learning_rate=fast": (
        "training.learning_rate: input should be a valid number, unable to parse string as a "
        "number, got 'fast'"
    ),
    # Bounds and closed choices.
    "training.learning_rate=0": "training.learning_rate: input should be greater than 0, got 0",
    "training.learning_rate=.nan": (
        "training.learning_rate: input should be a finite number, got nan"
    ),
    "training.max_grad_norm=.inf": (
        "training.max_grad_norm: input should be a finite number, got inf"
    ),
    "training.device=tpu": "training.device: input should be 'auto', 'cpu' or 'cuda', got 'tpu'",
    "split.test_fraction=0.6": (
        "split.test_fraction: input should be less than or equal to 0.5, got 0.6"
    ),
    "schedule.interval_seconds=0": (
        "schedule.interval_seconds: input should be greater than or equal to 1, got 0"
    ),
    "gate.accuracy.min=1.5": "gate.accuracy.min: input should be less than or equal to 1, got 1.5",
    "validation.expectations=[{type: ExpectX}]": (
        "validation.expectations.0.type: string should match pattern '^expect_[a-z0-9_]+$', "
        "got 'ExpectX'"
    ),
    # Labels.
    "data.labels=[ham]": (
        "data.labels: a classifier needs at least 2 different labels; add the others, got ['ham']"
    ),
    "data.labels={a: x, b: x}": (
        "data.labels: a classifier needs at least 2 different labels; add the others"
    ),
    "data.labels=[ham, ham]": (
        "data.labels: a label is listed twice; list each label once, got ['ham', 'ham']"
    ),
    "data.labels=[macro, micro]": (
        "data.labels: label 'macro' is the name of an average; name it otherwise, "
        "got ['macro', 'micro']"
    ),
    "data.labels=ham": "data.labels: input should be a valid dictionary, got 'ham'",
    "data.labels=[[1], ham]": "data.labels.[1]: input should be a valid string, got [1]",
    # Reading.
    "data.encoding=utf-9": (
        "data.encoding: no such encoding; use a Python codec name such as utf-8, got 'utf-9'"
    ),
    "data.delimiter=';;'": "data.delimiter: string should have at most 1 character, got ';;'",
    "data.text_column=label": (
        "data: text_column and label_column name the same column; name two columns"
    ),
    "data.group_column=text": (
        "data: group_column names the column of the text or label; name another"
    ),
    "data.header=false": "data: header is false, so columns must list the names, in order",
    "data.columns=[text, text]": "data: columns lists a name twice; list each name once",
    "data.columns=[text]": "data: columns does not list 'label', which is read from it",
    # Values that do not fit one another.
    "validation.min_characters=30000": (
        "validation: min_characters is above max_characters; swap or widen them"
    ),
    "gate.accuracy.min=": (
        "gate: no limit is set, so every model would pass; set one, such as accuracy: {min: 0.9}"
    ),
    "gate.recall.min_per_class.eggs=0.5": (
        "the whole file: gate.recall.min_per_class names 'eggs', which is not one of data.labels "
        "['ham', 'spam']"
    ),
    "split={test_fraction: 0.5, validation_fraction: 0.4}": (
        "the whole file: split: test and validation take over 0.8 of the rows; train needs 0.2"
    ),
    "data.slice_columns=[text]": (
        "data: slice_columns names 'text', which is the text, label or group; take it out"
    ),
    "data.slice_columns=[by, by]": "data: slice_columns lists a name twice; list each name once",
    "evaluation.slices=[{by: size}]": (
        "evaluation.slices.0.by: input should be 'length', 'language', 'column' or 'pattern', "
        "got 'size'"
    ),
    "evaluation.slices=[{by: length, edges: [50, 20]}]": (
        "evaluation.slices.0: edges do not ascend; sort them and list each once"
    ),
    "evaluation.slices=[{by: length, edges: [20, 20]}]": (
        "evaluation.slices.0: edges do not ascend; sort them and list each once"
    ),
    "evaluation.slices=[{by: length, edges: [0, 20]}]": (
        "evaluation.slices.0.edges.0: input should be greater than or equal to 1, got 0"
    ),
    "evaluation.slices=[{by: language, edges: [20]}]": (
        "evaluation.slices.0: edges is for by: length, and this is by: language; take it out"
    ),
    "evaluation.slices=[{by: length, pattern: x}]": (
        "evaluation.slices.0: pattern is for by: pattern, and this is by: length; take it out"
    ),
    "evaluation.slices=[{by: column}]": (
        "evaluation.slices.0: by: column needs column, one of data.slice_columns"
    ),
    "evaluation.slices=[{by: pattern, name: x}]": (
        "evaluation.slices.0: by: pattern needs pattern, and a name such as has_url"
    ),
    "evaluation.slices=[{by: pattern, pattern: x}]": (
        "evaluation.slices.0: by: pattern needs pattern, and a name such as has_url"
    ),
    "evaluation.slices=[{by: pattern, name: x, pattern: '('}]": (
        "evaluation.slices.0.pattern: invalid regular expression: missing ): (; write it as RE2 "
        "does, got '('"
    ),
    "evaluation.slices=[{by: pattern, name: x, pattern: '(?=a)'}]": (
        "evaluation.slices.0.pattern: invalid regular expression: invalid perl operator: (?=; write "
        "it as RE2 does, got '(?=a)'"
    ),
    "evaluation.slices=[{by: length}, {by: language, name: length}]": (
        "evaluation.slices: two ways to divide the rows have one name; set another name, got "
        "[{'by': 'length'}, {'by': 'language', 'name': 'length'}]"
    ),
    "evaluation.slices=[{by: column, column: from}]": (
        "the whole file: evaluation.slices names the column 'from', which is not one of "
        "data.slice_columns []; add it there"
    ),
    "gate.slices=[{by: length}]": (
        "gate.slices.0: no limit is set on these slices; set one, or take them out"
    ),
    "gate.slices=[{by: length, accuracy: {min: 0.9}}]": (
        "the whole file: gate.slices names 'length', which is not one of evaluation.slices []"
    ),
    "gate.slices=[{by: a, accuracy: {min: 0.9}}, {by: a, max_gap: {accuracy: 0.1}}]": (
        "the whole file: gate.slices has two entries by the same name; write them as one"
    ),
    "gate.slices=[{by: length, max_gap: {accuracy: 0}}]": (
        "gate.slices.0.max_gap.accuracy: input should be greater than 0, got 0"
    ),
    "schedule={}": "schedule: set exactly one of cron and interval_seconds",
    "schedule={cron: '* * * * *', interval_seconds: 5}": (
        "schedule: set exactly one of cron and interval_seconds"
    ),
    "schedule.cron='99 * * * *'": ("schedule: cron '99 * * * *' is not a cron line: Bad minute"),
    "schedule={interval_seconds: 5, timezone: Mars/Base}": (
        "schedule: timezone 'Mars/Base' is not an IANA name such as Asia/Tokyo"
    ),
    "release.publish=releases": (
        "release.publish: is no SCHEME://BUCKET/PREFIX; leave out user, password, @, ? and #, and "
        "give credentials by the environment, as AWS_ACCESS_KEY_ID, got 'releases'"
    ),
    "release.publish=s3://ann:opensesame@bucket/x": (
        "release.publish: is no SCHEME://BUCKET/PREFIX; leave out user, password, @, ? and #, and "
        "give credentials by the environment, as AWS_ACCESS_KEY_ID, got 's3://ann:***@bucket/x'"
    ),
    "release.publish='s3://bucket/x?token=opensesame'": (
        "release.publish: is no SCHEME://BUCKET/PREFIX; leave out user, password, @, ? and #, and "
        "give credentials by the environment, as AWS_ACCESS_KEY_ID, got 's3://bucket/x?token=***"
    ),
    # What is printed of a value.
    "data.max_rows=postgresql://ann:opensesame@db/sms": (
        "data.max_rows: input should be a valid integer, unable to parse string as an integer, "
        "got 'postgresql://ann:***@db/sms'"
    ),
    "data.password=opensesame": "data.password: unknown key; remove it or correct its name",
    "data.apiKey=opensesame": "data.apiKey: unknown key; remove it or correct its name",
    f"data.format={'x' * 100}": (
        "data.format: input should be 'auto', 'csv', 'tsv', 'jsonl', 'parquet', 'folder' or 'lines', "
        f"got '{'x' * 76}..."
    ),
}


@pytest.mark.parametrize(("override", "problem"), BAD_VALUES.items(), ids=BAD_VALUES)
def test_a_bad_value_is_told_with_file_key_and_value(
    file: Path, override: str, problem: str
) -> None:
    assert problems_of(file, override) == [f"{file}: {problem}"]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://ann:opensesame@db/sms", "postgresql://ann:***@db/sms"),
        ("https://opensesame@host/x.csv", "https://***@host/x.csv"),
        ("https://host/x.csv?a=1&token=opensesame", "https://host/x.csv?a=1&token=***"),
        ("https://host/x.csv?X-Amz-Signature=opensesame", "?X-Amz-Signature=***"),
        ("mysql://ann:${NAME}x@db/sms", "mysql://ann:***@db/sms"),
    ],
)
def test_a_secret_written_out_in_an_address_is_refused(file: Path, uri: str, shown: str) -> None:
    config = load_config(file, [f"data.uri='{uri}'", f"training.base_model='{uri}'"])
    with pytest.raises(ConfigError) as told:
        require_no_open_secret(config)
    assert [problem.partition(":")[0] for problem in told.value.problems] == [
        "data.uri",
        "training.base_model",
    ]
    for problem in told.value.problems:
        assert shown in problem
        assert "opensesame" not in problem
        assert problem.endswith("write ${NAME} in its place, and set that environment variable")


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://ann:${PASSWORD}@db/sms",
        "postgresql://ann@db/sms",  # a name alone is none
        "https://${TOKEN}@host/x.csv?sig=${SIGNATURE}&sort_key=a",
        "abfs://container@account/x.csv",
        "hf://acme/tiny@" + "a" * 40,
        "rows.csv",
    ],
)
def test_an_address_without_a_secret_written_out_is_taken(file: Path, uri: str) -> None:
    require_no_open_secret(load_config(file, [f"data.uri='{uri}'"]))


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            "{by: length, recall: {min_per_class: {eggs: 0.5}}}",
            (
                "gate.slices: min_per_class names 'eggs', which is not one of data.labels "
                "['ham', 'spam']"
            ),
        ),
        (
            "{by: length, max_gap: {recall.eggs: 0.5}}",
            (
                "gate.slices: max_gap names 'recall.eggs', which is no figure; expected accuracy, "
                "or precision, recall or f1 with .macro, .weighted or a label"
            ),
        ),
        (
            "{by: language, accuracy: {min: 0.5}}",
            "gate.slices names 'language', which is not one of evaluation.slices ['length']",
        ),
    ],
)
def test_a_rule_on_slices_names_what_there_is(file: Path, rule: str, problem: str) -> None:
    overrides = ("evaluation.slices=[{by: length}]", f"gate.slices=[{rule}]")
    assert problems_of(file, *overrides) == [f"{file}: the whole file: {problem}"]


def test_rules_on_slices_alone_make_a_gate(file: Path) -> None:
    slices = "gate.slices=[{by: length, max_gap: {recall.spam: 0.2, f1.macro: 0.1}}]"
    config = load_config(file, ["evaluation.slices=[{by: length}]", "gate.accuracy={}", slices])
    assert config.gate.slices[0].max_gap == {"recall.spam": 0.2, "f1.macro": 0.1}


def test_all_problems_are_told_together(file: Path) -> None:
    assert problems_of(file, "name=", "data.labels=[yes, no]", "split.salt=1", "x=1") == [
        f"{file}: name: input should be a valid string, got None",
        f"{file}: data.labels.True: is not text; put it in quotes, got True",
        f"{file}: data.labels.False: is not text; put it in quotes, got False",
        f"{file}: split.salt: is not text; put it in quotes, got 1",
        f"{file}: x: unknown key; remove it or correct its name, got 1",
    ]


NESTED = "[" * MAX_DEPTH + "]" * MAX_DEPTH
BAD_FILES: dict[str, tuple[str | bytes, str, str]] = {
    "empty": ("", "is empty", "start with `name: ...`"),
    "only a comment": ("# sms\n", "is empty", "start with `name: ...`"),
    "a list": ("- a\n", "is a list, not a mapping of sections", "start with `name: ...`"),
    "a word": ("sms\n", "is a str, not a mapping of sections", "start with `name: ...`"),
    "too large": ("#" * (MAX_BYTES + 1), "is larger than 256 KiB", "a config is a short YAML"),
    "latin-1": ("name: caf\xe9".encode("latin-1"), "is not UTF-8 (byte 9)", "save it as UTF-8"),
    "UTF-16": ("name: sms".encode("utf-16"), "is not UTF-8 (byte 0)", "save it as UTF-8"),
    "a control character": ("name: \x00", "character 7:", "special characters are not allowed"),
    "an open bracket": ("name: [a\n", "line 2, column 1:", "expected ',' or ']'"),
    "a tab": ("name:\n\tx: 1", "line 2, column 1:", "found character '\\t'"),
    "two documents": ("a: 1\n---\nb: 1\n", "line 2, column 1:", "found another document"),
    "no such date": ("name: 2024-13-45", "line 1, column 7:", "month must be in 1..12"),
    "an endless number": (f"name: {'1' * 5000}", "line 1, column 7:", "Exceeds the limit (4300"),
    "an alias": ("a: &a 1\nb: *a\n", "line 2, column 4:", "aliases (*name) are refused"),
    "a bomb of aliases": (
        "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in ("ab", "bc", "cd")),
        "line 2, column 8:",
        "aliases (*name) are refused; write the value out",
    ),
    "an alias of itself": ("a: &a {b: *a}\n", "line 1, column 11:", "aliases (*name) are refused"),
    "a doubled key": ("name: a\nname: b\n", "line 2, column 1:", "key 'name' is written twice"),
    "a doubled key within": (
        "data: {uri: a, 'uri': b}", "line 1, column 16:", "key 'uri' is written twice",
    ),
    "a key that is a list": ("[a]: 1\n", "line 1, column 1:", "found unhashable key"),
    "too deep": (f"name: {NESTED}", f"line 1, column {6 + MAX_DEPTH}:", "nested deeper than 20"),
    "much too deep": ("[" * 100_000, f"line 1, column {MAX_DEPTH + 1}:", "nested deeper than 20"),
    "an object": (
        "name: !!python/object/apply:os.system [id]", "line 1, column 7:", "os.system' is refused",
    ),
    "a module": ("name: !!python/module:os x", "line 1, column 7:", "module:os' is refused"),
    "a tag of one's own": ("name: !include x", "line 1, column 7:", "tag '!include' is refused"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "place", "problem"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_config_is_refused(
    tmp_path: Path, content: str | bytes, place: str, problem: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (told,) = problems_of(file)
    assert told.startswith(f"{file}: {place}")
    assert problem in told


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    for path, reason in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        assert problems_of(path) == [f"{path}: cannot be read ({reason}); name a YAML file"]


def test_the_largest_file_and_the_deepest_value_still_load(file: Path) -> None:
    # Five levels lead to the value: the file, validation, expectations, its item, its kwargs.
    value = "[" * (MAX_DEPTH - 5) + "]" * (MAX_DEPTH - 5)
    text = LEAST + f"validation: {{expectations: [{{type: expect_x, kwargs: {{a: {value}}}}}]}}\n#"
    file.write_text(text + "x" * (MAX_BYTES - len(text)), encoding="utf-8")
    assert file.stat().st_size == MAX_BYTES
    assert load_config(file).validation.expectations[0].type == "expect_x"


def test_a_byte_order_mark_is_no_part_of_the_first_key(file: Path) -> None:
    file.write_text(LEAST, encoding="utf-8-sig")
    assert load_config(file).name == "sms"


OVERRIDES: list[tuple[list[str], str, Any]] = [
    (["gate.accuracy.min=0.99"], "gate.accuracy.min", 0.99),
    (["gate.f1.min_per_class.spam=0.8"], "gate.f1.min_per_class", {"spam": 0.8}),
    (["training.num_train_epochs=7"], "training.num_train_epochs", 7),
    (["training.learning_rate=1e-5"], "training.learning_rate", 1e-5),
    (["training.num_hidden_layers=2"], "training.num_hidden_layers", 2),
    (["training.num_hidden_layers="], "training.num_hidden_layers", None),
    (["training.num_hidden_layers=2", "training.num_hidden_layers=3"],
     "training.num_hidden_layers", 3),
    (["data.header=no", "data.columns=[label, text]"], "data.columns", ("label", "text")),
    (["data.labels={h: ham, s: spam}"], "data.labels", {"h": "ham", "s": "spam"}),
    (["data.uri=https://host/x.csv?a=b"], "data.uri", "https://host/x.csv?a=b"),
    (["schedule.cron=0 3 * * 1"], "schedule.cron", "0 3 * * 1"),
    ([" split.salt =again"], "split.salt", "again"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "key", "value"), OVERRIDES)
def test_an_override_is_laid_over_the_file(
    file: Path, overrides: list[str], key: str, value: Any
) -> None:
    found: Any = load_config(file, overrides)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("noequals", "expected key.path=value, as gate.accuracy.min=0.9"),
        ("=1", "expected key.path=value, as gate.accuracy.min=0.9"),
        ("data..uri=x", "expected key.path=value, as gate.accuracy.min=0.9"),
        ("data.=x", "expected key.path=value, as gate.accuracy.min=0.9"),
        ("name.first=x", "'name' is a value, not a section with keys"),
        ("data.labels.0=x", "'labels' is a value, not a section with keys"),
        ("data.labels=[a", "is not a YAML value"),
        ("name=*a", "is not a YAML value"),
        ("name=!!python/none x", "is not a YAML value"),
        ("name=2024-13-45", "is not a YAML value"),
        ("data.uri=a: b: c", "is not a YAML value"),
    ],
)
def test_an_override_in_bad_form_is_refused(file: Path, override: str, problem: str) -> None:
    (told,) = problems_of(file, override)
    assert told.startswith(f"--set {override!r}: ")
    assert problem in told


@pytest.mark.parametrize("key", ["data.uri", "training.base_model"])
@pytest.mark.parametrize(
    ("written", "absolute"),
    [
        ("rows.csv", "{folder}/rows.csv"),
        ("./a/../rows.csv#sha256=00", "{folder}/rows.csv#sha256=00"),
        ("../rows", "{parent}/rows"),
        ("/data/rows.csv", "/data/rows.csv"),
        ("~/rows.csv", "{home}/rows.csv"),
        ("~nosuchuser/rows.csv", "{folder}/~nosuchuser/rows.csv"),
        ("s3://bucket/../rows.csv", "s3://bucket/../rows.csv"),
        ("'${DATABASE_URL}'", "${{DATABASE_URL}}"),
    ],
)
def test_a_relative_path_is_taken_from_the_config_s_own_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch, key: str, written: str, absolute: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir("/")
    config = load_config(file, [f"{key}={written}"])
    section, _, name = key.partition(".")
    wanted = absolute.format(folder=file.parent, parent=file.parent.parent, home="/home/ann")
    assert getattr(getattr(config, section), name) == wanted


def test_a_config_named_by_a_relative_path_has_absolute_sources(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert load_config(file.name).data.uri == str(file.parent / "sms.csv")
