"""Databases and queries that are odd."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from odd_files import SECRET, TEXT, OddFile, csv_of, read, refused

SELECT = "SELECT text, label FROM texts"


def database(*values: tuple[object, object]) -> Callable[[Path], None]:
    """Return what makes a SQLite database with a table of texts."""

    def make(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE texts (text, label)")
        connection.executemany("INSERT INTO texts VALUES (?, ?)", values)
        connection.commit()
        connection.close()

    return make


def cut_off(path: Path) -> None:
    """Make a database whose last half is not there."""
    database(*[(TEXT * 100, "ham")] * 100)(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def queries() -> Iterator[OddFile]:
    """Yield queries; the source is a SQLite database."""
    for id_, value, text in (
        ("a text", "a", "a"), ("a gap", None, None), ("a number", 7, "7"), ("nothing", "", ""),
        ("NA", "NA", "NA"), ("a leading zero", "007", "007"), ("a formula", "=1+1", "=1+1"),
        ("a script", "<script>", "<script>"), ("an emoji", "\U0001f600", "\U0001f600"),
        ("the largest number", 2**63 - 1, "9223372036854775807"),
    ):  # fmt: skip
        yield read(f"SQL, {id_}", "x.db", database((value, "ham")), (text, "ham"), query=SELECT)
    good = database((TEXT, "ham"))
    for id_, make, query, *told in (
        ("a fraction", database((0.5, "ham")), SELECT, "row 1: 'text' is of type float"),
        ("bytes", database((b"a", "ham")), SELECT, "row 1: 'text' is of type bytes"),
        ("a NUL", database((f"{TEXT}\0", "ham")), SELECT, "row 1 holds a NUL character"),
        ("a text too long", database((SECRET * 125_001, "ham")), SELECT, "1000008 characters"),
        ("bytes that are no UTF-8", good, "SELECT CAST(x'ff' AS TEXT) AS text, label FROM texts",
            "Could not decode"),
        ("no such table", good, "SELECT * FROM post", "no such table", "check data.uri and"),
        ("no such column", good, "SELECT body FROM texts", "no such column"),
        ("another column", good, "SELECT text AS body, label FROM texts", "no column 'text'"),
        ("a column twice", good, "SELECT text, label, text FROM texts", "['text'] appear twice"),
        ("no rows", good, SELECT + " WHERE 0", "holds no rows"),
        ("two statements", good, f"{SELECT}; DROP TABLE texts", "query failed"),
        ("a change", good, "DELETE FROM texts", "query failed"),
        ("no query", good, "-- nothing", "query failed"),
        ("half a query", good, "SELECT", "query failed"),
        ("a database of another kind", lambda path: path.write_bytes(csv_of(TEXT).encode() * 99),
            SELECT, "file is not a database"),
        ("a database cut off", cut_off, SELECT, "malformed"),
        ("no database", lambda path: None, SELECT, "no such database file", "correct data.uri"),
        ("a folder for a database", Path.mkdir, SELECT, "no such database file"),
    ):  # fmt: skip
        yield refused(f"SQL, {id_}", "x.db", make, *told, query=query)
    yield refused("SQL, more rows than allowed", "x.db", database(*[(TEXT, "ham")] * 3),
        "data.max_rows=2", query=SELECT, max_rows=2)  # fmt: skip
    yield refused("SQL, no group", "x.db", good, "no column 'by'", "set data.group_column",
        query=SELECT, group_column="by")  # fmt: skip
