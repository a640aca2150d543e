"""What stands where a file or folder of texts should: links, devices, pipes, odd names."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from odd_files import SECRET, TEXT, OddFile, csv_of, read, refused

TABLE = csv_of("a,ham").encode()
ROW = ("a", "ham")


def link(target: str, **files: bytes) -> Callable[[Path], None]:
    """Return what makes a link to a target, with files beside it."""

    def make(path: Path) -> None:
        for name, content in files.items():
            (path.parent / name).write_bytes(content)
        path.symlink_to(target)

    return make


def loop(path: Path) -> None:
    """Make two links to one another."""
    path.symlink_to("y")
    (path.parent / "y").symlink_to(path)


def linked_pipe(path: Path) -> None:
    """Make a link to a link to a named pipe."""
    os.mkfifo(path.parent / "p")
    (path.parent / "y").symlink_to("p")
    path.symlink_to("y")


def linked_link(path: Path) -> None:
    """Make a link to a link to a table."""
    link("y", y=TABLE)(path.parent / "z")
    path.symlink_to("z")


def nothing(path: Path) -> None:
    """Leave the place empty."""


def listening(path: Path) -> None:
    """Make a socket, by a short name since a long one does not fit."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def files() -> Iterator[OddFile]:
    """Yield what stands in the place of a file; none of it may be waited for."""
    neither = "is neither a file nor a folder"
    for id_, make, told in (
        ("a named pipe", os.mkfifo, neither),
        ("a socket", listening, neither),
        ("a link to endless zeros", link("/dev/zero"), neither),
        ("a link to a full device", link("/dev/full"), neither),
        ("a link to nothing", link("/dev/null"), neither),
        ("a link to the terminal", link("/dev/tty"), neither),
        ("a link to itself", link("x.csv"), "does not exist"),
        ("links in a loop", loop, "does not exist"),
        ("a broken link", link("absent.csv"), "does not exist"),
        ("a link to a link to a pipe", linked_pipe, neither),
        ("nothing there", nothing, "does not exist"),
    ):  # fmt: skip
        yield refused(id_, "x.csv", make, told, "correct the path")
    yield refused("a folder named as CSV", "x.csv", Path.mkdir, "holds no folders")
    yield refused("a folder named and declared as CSV", "x.csv", Path.mkdir, "expected a csv file",
        "correct data.uri or data.format", format="csv")  # fmt: skip
    yield refused("a folder named as Parquet", "x.parquet", Path.mkdir, "expected a parquet file",
        format="parquet")  # fmt: skip
    yield refused("a file declared a folder", "x.csv", TABLE, "expected a folder", format="folder")
    yield refused("a name too long", "x" * 300 + ".csv", nothing, "cannot be reached")
    yield read("a link to a file", "x.csv", link("y", y=TABLE), ROW)
    yield read("a link to a link", "x.csv", linked_link, ROW)
    for id_, name in {
        "spaces": "a b .csv", "Chinese": "\u6570\u636e.csv", "an emoji": "\U0001f600.csv",
        "quotes": "a'b\"c.csv", "a percent sign": "a%20b.csv", "braces": "{a}.csv",
        "a dash first": "-rf.csv", "a point first": ".x.csv", "a star": "*.csv",
        "a semicolon": "a;b.csv", "a suffix in capitals": "X.CSV", "dots": "a..b.csv",
        "a backslash": "a\\b.csv", "an accent of its own": "cafe\u0301.csv",
    }.items():  # fmt: skip
        yield read(f"{id_} in the name", name, TABLE, ROW)
    for id_, name in {"a line end": "a\nb.csv", "a right-to-left override": "a\u202eb.csv",
                      "an escape": "a\x1b[31m.csv"}.items():  # fmt: skip
        content = csv_of(TEXT).encode()
        yield refused(f"{id_} in the name", name, content, "row 1 (line 2) has 1 fields",
            place=ascii(name)[1:-1])  # fmt: skip


def folders() -> Iterator[OddFile]:
    """Yield folders of texts, with what does not belong in one."""
    yield read("a folder", "mail/ham/1.txt", b"a", ROW)
    yield read("a folder, the suffix in capitals", "mail/ham/1.TXT", b"a", ROW)
    yield read("a folder, an empty text", "mail/ham/1.txt", b"", ("", "ham"))
    yield read("a folder, a label with spaces", "mail/ ham /1.txt", b"a", ROW)
    yield read("a folder, a label that climbs in name alone", "mail/..ham/1.txt", b"a",
        ("a", "..ham"), labels=["..ham", "spam"])  # fmt: skip
    yield read("a folder, a formula for a label", "mail/=1+1/1.txt", b"a", ("a", "=1+1"),
        labels=["=1+1", "spam"])  # fmt: skip
    yield read("a folder, texts of many lines", "mail/ham/1.txt", b"1\r\n2\r3\n", ("1 2 3", "ham"))
    text = "mail/ham/1.txt"
    for id_, make, told in (
        ("a link out of the folder", link("../../outside"), "is a link"),
        ("a link to the passwords", link("/etc/passwd"), "is a link"),
        ("a broken link", link("absent"), "is a link"),
        ("a link to itself", link("1.txt"), "is a link"),
        ("a link to endless zeros", link("/dev/zero"), "is a link"),
        ("a link to its own folder", link("."), "is a link"),
        ("a link within the folder", link("y", y=TEXT.encode()), "is a link"),
        ("a named pipe", os.mkfifo, "is no file that holds a text"),
        ("a socket", listening, "is no file that holds a text"),
        ("a folder named as a text", Path.mkdir, "is no file that holds a text"),
    ):
        yield refused(f"in a folder, {id_}", text, make, told, place="mail/ham/1.txt")
    for id_, target in {"out of it": "/etc", "to itself": "ham", "to its parent": "..",
                        "to nothing": "absent", "to a device": "/dev/zero"}.items():  # fmt: skip
        told = (
            "holds no folders" if id_ in ("to itself", "to nothing", "to a device") else "is a link"
        )
        yield refused(f"a label that is a link {id_}", "mail/ham", link(target), told, place="mail")
    yield refused("a text deeper than its label", "mail/ham/old/1.txt", TEXT.encode(),
        "lies deeper than one folder a label", "move it up", place="mail/ham/old/1.txt")  # fmt: skip
    yield refused("a text that is too large", text, SECRET.encode() * 600_000,
        "is larger than 4000000 bytes", place=text)  # fmt: skip
    yield refused("a text of too many characters", text, SECRET.encode() * 125_001,
        "row 1 has a field of 1000008 characters", place="mail")  # fmt: skip
    yield refused(
        "a text with a NUL", text, TEXT.encode() + b"\0", "row 1 holds a NUL", place="mail"
    )
    yield refused("a text in latin-1", text, f"{TEXT}\n\xe9".encode("latin-1"),
        "is not utf-8 (line 2, byte 0xe9", place=text)  # fmt: skip
    yield refused("no label folders", "mail/1.txt", TEXT.encode(), "holds no folders", place="mail")
    yield refused("an empty label folder", "mail/ham", Path.mkdir, "holds no rows", place="mail")
    yield refused("texts of another suffix", "mail/ham/1.md", b"a", "holds no rows", place="mail")
    yield refused("a group in a folder", text, b"a", "a folder of texts has no columns",
        "remove data.group_column", place="mail", group_column="by")  # fmt: skip
    yield refused("a name that is no text", os.fsdecode(b"mail/ham\xff/1.txt"), b"a",
        "surrogate pair", place="mail")  # fmt: skip


def lined(ham: bytes) -> Callable[[Path], None]:
    """Return what makes a folder with those lines of ham, and one line of spam beside it."""

    def make(path: Path) -> None:
        path.write_bytes(ham)
        (path.parent / "spam.txt").write_bytes(b"b\n")

    return make


def without_spam(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what makes spam's file so, and a line of ham."""

    def both(path: Path) -> None:
        path.write_bytes(b"a\n")
        make(path.parent / "spam.txt")

    return both


def lines() -> Iterator[OddFile]:
    """Yield folders with one file of lines a label."""
    name = "mail/ham.txt"
    for id_, content, texts in (
        ("CRLF and LF", b"1\r\n2\n", ["1", "2"]),
        ("no last line end", b"1\n2", ["1", "2"]),
        ("a carriage return alone", b"1\r2\n", ["1 2"]),
        ("blank lines", b"\n \n1\n", ["", "", "1"]),
        ("a mark", b"\xef\xbb\xbf1\n", ["1"]),
        ("quotes and delimiters", b'"1,2"\t3\n', ['"1,2" 3']),
        ("a form feed and a line separator", "1\x0c2\u20283\n".encode(), ["1 2 3"]),
        ("a script", b"<script>1</script>\n=1+1\n", ["<script>1</script>", "=1+1"]),
        ("what a guesser takes for a gap", b"NA\nnull\n007\n", ["NA", "null", "007"]),
        ("nothing", b"", []),
    ):
        rows = [(text, "ham") for text in texts]
        yield read(f"lines, {id_}", name, lined(content), *rows, ("b", "spam"), format="lines")
    yield read("lines, a label with spaces", "mail/a b.txt", lined(b"1\n"), ("1", "a b"),
        ("b", "spam"), format="lines", labels=["a b", "spam"])  # fmt: skip
    makers: dict[str, Callable[[Path], object]] = {
        "is not there": nothing, "is a folder": Path.mkdir, "is a pipe": os.mkfifo,
        "is a socket": listening, "is a link": link("ham.txt"), "is a broken link": link("absent"),
        "is endless zeros": link("/dev/zero"), "is the passwords": link("/etc/passwd"),
    }  # fmt: skip
    for id_, make in makers.items():
        yield refused(f"lines, a label's file {id_}", name, without_spam(make),
            "holds no plain file 'spam.txt'", "correct data.labels", place="mail",
            format="lines")  # fmt: skip
    for label in ("../ham", "/etc/passwd", "a/b"):
        yield refused(f"lines, the label {label}", name, lined(b"1\n"), "holds no plain file",
            place="mail", format="lines", labels=["spam", label])  # fmt: skip
    for id_, content, told in (
        ("another encoding", f"1\n{SECRET} \xe9\n".encode("latin-1"), "is not utf-8 (line 2, byte"),
        ("UTF-16", f"{SECRET}\n".encode("utf-16"), "starts with the mark of utf-16"),
        ("a line too long", b"1\n" + SECRET.encode() * 130_000, "line 2 is longer than 1000000"),
    ):
        yield refused(f"lines, {id_}", name, lined(content), told, place=name, format="lines")
    yield refused("lines, a NUL", name, lined(f"1\n{SECRET}\0\n".encode()), "row 2 holds a NUL",
        place="mail", format="lines")  # fmt: skip
    yield refused("lines, a group", name, lined(b"1\n"), "a folder of lines has no columns",
        place="mail", format="lines", group_column="by")  # fmt: skip
    yield refused("lines, a file", "x.csv", TABLE, "expected a folder with one file a label",
        format="lines")  # fmt: skip
