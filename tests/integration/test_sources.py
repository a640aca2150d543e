"""Every other source: paths, fsspec file systems and SQL databases, fetched and ingested to rows."""

import os
import re
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket import CREDENTIALS, ENDPOINT, serve_bucket
from loopback import CLOSED, Server, serve_folder
from loopback import listening as serving

from configs.errors import DataError, EkibenError, SourceError
from configs.schema import Data
from tasks.digests import file_digest, folder_digest
from tasks.ingest import read_dataset
from tasks.manifests import DatasetManifest
from tasks.progress import listening
from tasks.sources import fetch

SECRET = "opensesame"
ROWS = [("Lunch at noon?", "ham"), ("WIN a prize NOW", "spam"), ("Grüße, 見て", "ham")]
CSV = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the stand-ins directly on a machine that is set to a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a CSV file with the rows, in a folder of its own."""
    file = tmp_path / "tables" / "mail.csv"
    file.parent.mkdir()
    file.write_text(CSV, encoding="utf-8")
    return file


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return fsspec's file system in memory, emptied at the end."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def write_folder_per_label(folder: Path) -> Path:
    """Write each row as a text file in the folder of its label."""
    for number, (text, label) in enumerate(ROWS):
        file = folder / label / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def write_database(file: Path, *more: tuple[Any, Any]) -> Path:
    """Write the rows, and more, to the table `messages` of an SQLite file."""
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, body, kind, price REAL)")
    rows = [*ROWS, *more]
    connection.executemany("INSERT INTO messages (body, kind, price) VALUES (?, ?, 0.5)", rows)
    connection.commit()
    connection.close()
    return file


def mapped_rows(manifest: DatasetManifest, cache: Path) -> list[tuple[str | None, str | None]]:
    """Return text and label of each row, through a table that `datasets` maps from disk."""
    file = manifest.path("rows.parquet")
    assert manifest.files == {"rows.parquet": file_digest(file)}
    rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(cache / "opened"))
    assert rows.cache_files
    assert rows["row"][:] == list(range(1, manifest.rows + 1))
    return list(zip(rows["text"], rows["label"], strict=True))


def assert_one_line(error: EkibenError, *parts: str) -> None:
    said = str(error)
    assert "\n" not in said
    assert len(said) < 420
    assert SECRET not in said
    for part in parts:
        assert part in said


def test_equal_texts_have_equal_fingerprints_once_cleaned_and_nothing_has_none(homes: Path) -> None:
    table = {"text": ["a  b", "a b", None, "", "c"], "label": ["ham"] * 5}
    pq.write_table(pa.table(table), homes / "x.parquet")
    data = Data.model_validate({"uri": str(homes / "x.parquet"), "labels": ["ham", "spam"]})
    prints = pq.read_table(read_dataset(data).path("rows.parquet"))["fingerprint"].to_pylist()
    assert prints[0] == prints[1]
    assert prints[2] is None
    assert len(set(prints)) == 4


# Paths


@pytest.mark.parametrize(
    "uri",
    ["{table}", "file://{table}", "file://localhost{table}", "${{TABLES}}/mail.csv", "{link}"],
)
def test_a_table_on_this_disk_is_read_where_it_lies(
    uri: str, homes: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLES", str(table.parent))
    link = homes / "link.csv"
    link.symlink_to(table)
    uri = uri.format(table=table, link=link)

    source = fetch(uri)
    manifest = read_dataset(Data(uri=uri, labels=["ham", "spam"]))

    assert source.path in (table, link)
    assert source.digest == file_digest(table)
    assert mapped_rows(manifest, homes) == ROWS
    assert manifest.source == source.uri == uri
    assert manifest.label_counts == {"ham": 2, "spam": 1}
    assert not (homes / "ekiben_home" / "sources").exists()


def test_a_file_uri_may_be_percent_encoded(homes: Path) -> None:
    file = homes / "my mail #1.csv"
    file.write_text(CSV, encoding="utf-8")

    assert fetch(file.as_uri()).path == file


def test_a_folder_per_label_is_read_and_its_digest_covers_every_file(homes: Path) -> None:
    folder = write_folder_per_label(homes / "mail")
    (folder / "README").write_text("not a label")
    before = fetch(str(folder)).digest

    manifest = read_dataset(Data(uri=str(folder), labels=["ham", "spam"]))

    assert sorted(mapped_rows(manifest, homes)) == sorted(ROWS)
    assert before == folder_digest(folder) == manifest.source_digest
    (folder / "spam" / "1.txt").rename(folder / "ham" / "1.txt")
    assert fetch(str(folder)).digest != before


def test_a_home_folder_is_expanded(
    homes: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(table.parent))

    assert fetch("~/mail.csv").path == table


def test_a_pin_holds_for_a_path_a_file_system_and_a_query(
    homes: Path, table: Path, memory: Any
) -> None:
    memory.pipe_file("/mail.csv", table.read_bytes())
    query = {"query": "SELECT body AS text, kind AS label FROM messages"}
    sources: list[dict[str, Any]] = [
        {"uri": str(table)},
        {"uri": "memory://mail.csv"},
        {"uri": f"sqlite:///{write_database(homes / 'mail.db')}", **query},
    ]
    for keys in sources:
        data = Data(labels=["ham", "spam"], **keys)
        digest = read_dataset(data).source_digest
        good = data.model_copy(update={"uri": f"{data.uri}#sha256={digest}"})
        bad = data.model_copy(update={"uri": f"{data.uri}#sha256={'0' * 64}"})

        assert mapped_rows(read_dataset(good), homes) == ROWS
        with pytest.raises(SourceError) as refused:
            read_dataset(bad)
        assert_one_line(refused.value, data.uri, f"its sha256 is {digest}", "pin the new digest")


def test_a_file_larger_than_allowed_is_refused(homes: Path) -> None:
    large = homes / "large.csv"
    large.write_bytes(b"text,label\n" + b"x" * 1_100_000)

    with pytest.raises(SourceError) as refused:
        read_dataset(Data(uri=str(large), labels=["ham", "spam"], max_megabytes=1))

    assert_one_line(refused.value, "large.csv", "data.max_megabytes=1", "raise the limit")


# File systems


@pytest.fixture
def bucket(table: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return the server of `s3://bucket`, which holds the folder of the table."""
    with serve_bucket(table.parent) as server:
        for name, value in {**CREDENTIALS, ENDPOINT: server.url}.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(params=["memory", "http", "zip", "s3"])
def remote(
    request: pytest.FixtureRequest, table: Path, memory: Any, bucket: Server
) -> Iterator[str]:
    """Return the URI of the table on another file system."""
    if request.param == "s3":
        yield "s3://bucket/mail.csv"
    elif request.param == "http":
        with serve_folder(table.parent) as server:
            yield f"{server.url}/mail.csv?version=2"
    elif request.param == "memory":
        memory.pipe_file("/tables/mail.csv", table.read_bytes())
        yield "memory://tables/mail.csv"
    else:
        with zipfile.ZipFile(table.with_name("tables.zip"), "w") as archive:
            archive.write(table, "in/mail.csv")
        yield f"zip://in/mail.csv::file://{table.with_name('tables.zip')}"


def test_a_table_on_another_file_system_is_copied_and_ingested(
    remote: str, homes: Path, table: Path
) -> None:
    told: list[str] = []

    with listening(lambda stage, done, total, note: told.append(f"{stage} {note}")):
        source = fetch(remote)
        manifest = read_dataset(Data(uri=remote, labels=["ham", "spam"]))

    assert source.path.name == "mail.csv"
    assert source.digest == file_digest(table) == manifest.source_digest
    assert mapped_rows(manifest, homes) == ROWS
    assert manifest.source == remote
    assert told[0] == f"fetch {remote}"


def test_what_may_change_is_fetched_anew_each_time(homes: Path, memory: Any) -> None:
    memory.pipe_file("/mail.csv", b"first")
    first = fetch("memory://mail.csv")
    memory.pipe_file("/mail.csv", b"second")

    second = fetch("memory://mail.csv")

    assert second.path.read_bytes() == b"second"
    assert second.digest != first.digest


def test_a_folder_on_another_file_system_is_copied_whole(homes: Path, memory: Any) -> None:
    for number, (text, label) in enumerate(ROWS):
        memory.pipe_file(f"/mail/{label}/{number}.txt", text.encode())

    manifest = read_dataset(Data(uri="memory://mail", labels=["ham", "spam"]))

    assert sorted(mapped_rows(manifest, homes)) == sorted(ROWS)
    memory.rm("/mail/spam", recursive=True)
    assert [path.name for path in fetch("memory://mail").path.iterdir()] == ["ham"]


def test_a_folder_in_a_bucket_is_copied_whole(homes: Path, table: Path, bucket: Server) -> None:
    folder = write_folder_per_label(table.parent / "mail box")

    manifest = read_dataset(Data(uri="s3://bucket/mail box", labels=["ham", "spam"]))

    assert sorted(mapped_rows(manifest, homes)) == sorted(ROWS)
    assert manifest.source_digest == folder_digest(folder)


@pytest.mark.parametrize(
    ("settings", "uri", "part"),
    [
        ({}, "s3://bucket/absent.csv", "s3://bucket/absent.csv: cannot be fetched"),
        (
            {"AWS_ACCESS_KEY_ID": "other"},
            "s3://bucket/mail.csv",
            "check the address, its credential",
        ),
    ],
)
def test_an_object_that_cannot_be_had_is_told_in_one_line(
    settings: dict[str, str],
    uri: str,
    part: str,
    homes: Path,
    bucket: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SourceError) as refused:
        fetch(uri)

    assert_one_line(refused.value, part)
    assert bucket.requests


def test_a_table_with_links_in_its_texts_is_no_folder(homes: Path) -> None:
    """The HTTP file system takes a page's links for a listing; a table sent as one is a table."""
    content = "text,label\n<a href='/other.csv'>see</a>,spam\n<a href='here'>this</a>,ham\n"
    (homes / "tables").mkdir()
    (homes / "tables" / "pages.html").write_text(content)

    with serve_folder(homes / "tables") as server:
        source = fetch(f"{server.url}/pages.html")

    assert source.path.read_text() == content
    assert set(server.paths) == {"/pages.html"}


def test_a_transfer_that_breaks_off_leaves_the_former_copy_and_no_part(homes: Path) -> None:
    whole = [True]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CSV.encode())))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(CSV.encode() if whole[0] else CSV.encode()[:20])

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base's name)
            pass

    with serving(Server(), Handler) as server:
        uri = f"{server.url}/mail.csv"
        copy = fetch(uri).path
        whole[0] = False
        with pytest.raises(SourceError) as refused:
            fetch(uri)

    assert_one_line(refused.value, uri, "cannot be fetched", "check the address")
    assert copy.read_text(encoding="utf-8") == CSV
    names = [path.name for path in copy.parents[1].iterdir() if path.suffix != ".lock"]
    assert names == [copy.parent.name]


def test_a_copy_is_not_called_by_what_a_variable_holds(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (homes / "served").mkdir()
    (homes / "served" / f"{SECRET}.csv").write_text(CSV, encoding="utf-8")
    monkeypatch.setenv("PASS", SECRET)
    with serve_folder(homes / "served") as server:
        copy = fetch(f"{server.url}/${{PASS}}.csv").path
    assert copy.name == "source.csv"
    assert copy.read_text(encoding="utf-8") == CSV


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        (f"{CLOSED}/mail.csv", ("http://127.0.0.1:9/mail.csv", "Cannot connect", "the network")),
        (f"http://user:{SECRET}@127.0.0.1:9/mail.csv", ("http://user:***@127.0.0.1:9/mail.csv",)),
        (f"http://{SECRET}@127.0.0.1:9/mail.csv", ("http://***@127.0.0.1:9/mail.csv",)),
        (f"{CLOSED}/mail.csv?sig={SECRET}", ("mail.csv?sig=***", "cannot be fetched")),
        ("http://127.0.0.1:9/${PASS}/mail.csv", ("127.0.0.1:9/${PASS}/mail.csv",)),
        ("${URL}/mail.csv", ("cannot be fetched", "check the address")),
        ("{server}/absent.csv", ("/absent.csv", "404", "check the address")),
        ("memory://absent.csv", ("memory://absent.csv", "FileNotFoundError", "the address")),
        ("telegraph://mail.csv", ("telegraph", "cannot be fetched", "check the address")),
        ("gs://bucket/mail.csv", ("gs://bucket/mail.csv", "install gcsfs", "with pip")),
        ("${ABSENT}/mail.csv", ("variable ABSENT is not set; set it",)),
        (f"{CLOSED}/mail.csv#token={SECRET}", ("after # expected sha256=", "64 hex digits")),
        ("{folder}/absent.csv", ("absent.csv: does not exist; correct the path",)),
        ("file://{folder}/absent.csv", ("absent.csv: does not exist; correct the path",)),
        ("${FOLDER}/absent.csv", ("{folder}/absent.csv: does not exist; correct the path",)),
        ("{folder}/pipe", ("pipe: is neither a file nor a folder; correct the path",)),
    ],
)
def test_a_source_out_of_reach_is_told_in_one_line_with_a_cure(
    uri: str,
    parts: tuple[str, ...],
    homes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(homes / "pipe")
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    for name, value in {"PASS": SECRET, "URL": f"{CLOSED}/{SECRET}", "FOLDER": str(homes)}.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []

    with serve_folder(homes) as server, listening(lambda *event: told.append(event[3])):
        places = {"{server}": server.url, "{folder}": str(homes)}
        for mark, place in places.items():
            uri = uri.replace(mark, place)
            parts = tuple(part.replace(mark, place) for part in parts)
        with pytest.raises(SourceError) as refused:
            fetch(uri)

    assert_one_line(refused.value, *parts)
    assert SECRET not in "".join(told)
    assert SECRET not in "".join(capfd.readouterr())
    assert not list((homes / "ekiben_home").rglob("*.csv"))


# Databases


def test_a_query_is_ingested_with_its_columns_mapped(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = write_database(homes / "mail.db", (None, "ham"), ("no label", None), ("whole", 7))
    monkeypatch.setenv("DATABASE", f"sqlite:///{database}")
    data = Data(
        uri="${DATABASE}",
        query="SELECT id, kind, body FROM messages ORDER BY id",
        text_column="body",
        label_column="kind",
        labels={"ham": "ham", "spam": "spam", "7": "seven"},
    )

    manifest = read_dataset(data)

    more = [(None, "ham"), ("no label", None), ("whole", "seven")]
    assert mapped_rows(manifest, homes) == [*ROWS, *more]
    assert manifest.source == "${DATABASE}"
    assert (manifest.rows, manifest.label_counts) == (6, {"ham": 3, "spam": 1, "seven": 1})


def test_a_query_that_answers_the_same_is_the_same_source(homes: Path) -> None:
    database = write_database(homes / "mail.db")
    query = "SELECT body AS text, kind AS label FROM messages ORDER BY id"
    data = Data(uri=f"sqlite:///{database}", query=query, labels=["ham", "spam"])

    first, again = read_dataset(data), read_dataset(data)
    connection = sqlite3.connect(database)
    connection.execute("UPDATE messages SET kind = 'spam' WHERE id = 1")
    connection.commit()
    connection.close()
    changed = read_dataset(data)

    assert first.folder == again.folder
    assert re.fullmatch(r"[0-9a-f]{64}", first.source_digest)
    assert changed.source_digest != first.source_digest
    assert changed.label_counts == {"ham": 1, "spam": 2}


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"query": "SELECT body FROM absent"}, ("no such table: absent", "check data.uri")),
        ({"query": "SELEKT"}, ("syntax error", "data.query")),
        ({"query": "SELECT body FROM messages"}, ("no column 'text'", "data.text_column")),
        (
            {"query": "SELECT body AS text, price AS label FROM messages"},
            ("row 1", "float", "as a string"),
        ),
        ({"uri": "sqlite:///{folder}/absent.db"}, ("no such database file", "correct data.uri")),
        ({"uri": f"mysql://user:{SECRET}@127.0.0.1:9/mail"}, ("user:***@", "pip install")),
        (
            {"uri": f"postgresql+asyncpg://user:{SECRET}@127.0.0.1:9/mail?nope=1"},
            ("user:***@", "query failed", "unexpected keyword argument 'nope'"),
        ),
        ({"uri": "{folder}/mail.csv"}, ("mail.csv", "query failed", "check data.uri")),
        ({"query": None}, ("a SQL source needs data.query",)),
    ],
)
def test_a_query_that_fails_is_told_in_one_line_with_a_cure(
    keys: dict[str, str | None],
    parts: tuple[str, ...],
    homes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "MySQLdb", None)  # as where it is not installed
    write_database(homes / "mail.db")
    (homes / "mail.csv").write_text(CSV, encoding="utf-8")
    good = {"uri": "sqlite:///{folder}/mail.db", "query": "SELECT body AS text FROM messages"}
    laid_over = {**good, **keys}
    uri = str(laid_over["uri"]).format(folder=homes)

    with pytest.raises((DataError, SourceError)) as refused:
        read_dataset(Data(uri=uri, query=laid_over["query"], labels=["ham", "spam"]))

    assert_one_line(refused.value, *parts)
    assert not (homes / "absent.db").exists()
