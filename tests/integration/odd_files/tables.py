"""CSV and TSV files of an odd build: quotes, line ends, headers, ragged rows, other delimiters."""

from collections.abc import Iterator
from typing import Any

from odd_files import SECRET, TEXT, OddFile, csv_of, read, refused

A, B, C = ("a", "ham"), ("b", "spam"), ("c", "ham")
COLUMNS: dict[str, Any] = {"header": False, "columns": ["text", "label"]}


def line_ends() -> Iterator[OddFile]:
    """Yield files whose lines end in every way, or whose fields hold what ends a line."""
    for id_, end in {"Unix": "\n", "Windows": "\r\n", "old Mac": "\r"}.items():
        content = csv_of("a,ham", "b,spam", end=end).encode()
        yield read(f"{id_} line ends", "x.csv", content, A, B)
        yield read(f"{id_} line ends, none at the end", "x.csv", content.rstrip(), A, B)
        yield read(f"{id_} line ends and empty lines", "x.csv",
            csv_of("", "a,ham", "", "", "b,spam", "", end=end).encode(), A, B)  # fmt: skip
        content = csv_of(f'"1{end}2{end}{end}3",ham', "b,spam").encode()
        yield read(f"{id_} line ends in a field", "x.csv", content, ("1 2 3", "ham"), B)
    yield read("mixed line ends", "x.csv", b"text,label\r\na,ham\nb,spam\rc,ham\r\n", A, B, C)
    yield read("empty lines before the header", "x.csv", b"\n\r\n\rtext,label\na,ham\n", A)
    for id_, letter in {
        "a next line": "\x85", "a line separator": "\u2028", "a form feed": "\x0c",
        "a vertical tab": "\x0b", "a record separator": "\x1e",
    }.items():  # fmt: skip
        content = csv_of(f"1{letter}2,ham", "b,spam").encode()
        yield read(f"{id_} ends no record", "x.csv", content, ("1 2", "ham"), B)
        line = f'{{"text": "1{letter}2", "label": "ham"}}\n'.encode()
        if letter > "\x1f":  # JSON takes no raw C0 control
            yield read(f"{id_} ends no JSON line", "x.jsonl", line, ("1 2", "ham"))
    yield read("the end-of-file mark of DOS is a field of its own row", "x.csv",
        b"text,label\na,ham\n\x1a,ham\n", A, ("", "ham"))  # fmt: skip
    yield refused("the end-of-file mark of DOS", "x.csv", csv_of(f"{TEXT},ham").encode() + b"\x1a",
        "row 2 (line 3) has 1 fields where 2 were expected", "mend the row")  # fmt: skip
    yield refused("a line of white space", "x.csv", csv_of(f"{TEXT},ham", " ").encode(),
        "row 2 (line 3) has 1 fields where 2", "mend the row")  # fmt: skip


def quotes() -> Iterator[OddFile]:
    """Yield files with quotes where they belong and where they do not."""
    for id_, line, text in (
        ("around everything", '"a","ham"', "a"),
        ("around a comma", '"a,b",ham', "a,b"),
        ("doubled", '"say ""a""",ham', 'say "a"'),
        ("and nothing else", '"""",ham', '"'),
        ("around nothing", '"",ham', ""),
        ("in the middle of a bare field", 'a"b,ham', 'a"b'),
        ("at the end of a bare field", 'a",ham', 'a"'),
        ("after a space", ' "a",ham', '"a"'),
        ("that are single", "'a',ham", "'a'"),
        ("that are typographic", "\u201ca\u201d,ham", "\u201ca\u201d"),
    ):
        yield read(f"quotes {id_}", "x.csv", csv_of(line).encode(), (text, "ham"))
    bare = csv_of('"a,ham', 'b",spam', '""c"",ham').encode()
    rows = ('"a', "ham"), ('b"', "spam"), ('""c""', "ham")
    yield read("quotes as plain letters", "x.csv", bare, *rows, quoting="none")
    cure = "data.quoting: none"
    for id_, lines, place in (
        ("left open in the last row", ("b,ham", f'"{TEXT},ham'), "line 3: unexpected end"),
        ("left open in the first row", (f'"{TEXT},ham', "b,ham", "c,ham"), "lines 2 to 4: unexp"),
        ("left open in the label", (f'{TEXT},"ham', "b,ham"), "lines 2 to 3: unexpected end"),
        ("closed too early", (f'"a" {TEXT},ham',), "line 2: ',' expected after '\"'"),
        ("escaped by a backslash", (f'"a \\"{TEXT}\\"",ham',), "line 2: ',' expected after '\"'"),
        ("before a space", (f'"{TEXT}" ,ham',), "line 2: ',' expected after '\"'"),
        ("three at the start", (f'"""{TEXT},ham',), "line 2: unexpected end"),
    ):
        yield refused(f"a quote {id_}", "x.csv", csv_of(*lines).encode(), place, cure)
    yield refused("a quote left open in the header", "x.csv", f'text,"label\n{TEXT},ham\n'.encode(),
        "lines 1 to 2: unexpected end", cure)  # fmt: skip
    yield refused("a quote that takes the next row in", "x.csv",
        csv_of(f'"{TEXT},ham', '"b",ham').encode(), "lines 2 to 3: ',' expected", cure)  # fmt: skip
    bomb = csv_of('"' + f"{TEXT}\n" * 200_000).encode()
    yield refused("a quote left open over megabytes", "x.csv", bomb, "lines 2 to ",
        "field larger than field limit (1000000)", cure)  # fmt: skip


def ragged() -> Iterator[OddFile]:
    """Yield files with a field too many or too few, in every place."""
    good = [f"{TEXT} {number},ham" for number in range(8)]
    for id_, bad, count in (
        ("a field too many", f"a,{TEXT},ham", 3), ("a field too few", TEXT, 1),
        ("ten fields too many", f"{TEXT},ham" + "," * 10, 12),
        ("a comma alone at the end", "a,ham,", 3),
        ("an empty quoted field alone", '""', 1),
    ):  # fmt: skip
        for place, at in (("first", 0), ("middle", 4), ("last", 8)):
            content = csv_of(*good[:at], bad, *good[at:]).encode()
            yield refused(f"{id_} in the {place} row", "x.csv", content, f"row {at + 1} (line "
                f"{at + 2}) has {count} fields where 2 were expected", "mend the row")  # fmt: skip
    content = csv_of('"a\nb\nc",ham', TEXT).encode()
    yield refused("a field too few after a field of lines", "x.csv", content,
        "row 2 (line 5) has 1 fields", "mend the row")  # fmt: skip
    content = csv_of("a,ham,", "b,spam,", header="text,label,").encode()
    yield read("a comma at the end of every line", "x.csv", content, A, B)
    content = csv_of("a,ham,", header="text,label,x").encode()
    yield read("an empty last field", "x.csv", content, A)
    yield refused("a comma too many after a header without one", "x.csv", csv_of("a,ham,").encode(),
        "row 1 (line 2) has 3 fields", "mend the row")  # fmt: skip
    yield refused("a decimal comma", "x.csv",
        csv_of(f"{TEXT},ham,0,5", header="text,label,score").encode(), "has 4 fields")  # fmt: skip
    yield refused("a TSV row with spaces for a tab", "x.tsv", f"text\tlabel\n{TEXT}    ham".encode(),
        "row 1 (line 2) has 1 fields", "data.delimiter")  # fmt: skip


def headers() -> Iterator[OddFile]:
    """Yield files with an odd header, or with none."""
    yield read("more columns than asked for", "x.csv",
        csv_of("1,a,,ham", header="id,text,,label").encode(), A)  # fmt: skip
    yield read("column names in Chinese", "x.csv",
        csv_of("a,ham", header="\u6587\u672c,\u6807\u7b7e").encode(), A,
        text_column="\u6587\u672c", label_column="\u6807\u7b7e")  # fmt: skip
    yield read("a quoted header", "x.csv", csv_of("a,ham", header='"text","label"').encode(), A)
    yield read("a header with a line end in it", "x.csv",
        csv_of("a,ham", header='"text\nlong",label').encode(), A, text_column="text\nlong")  # fmt: skip
    yield read("a header again as a row", "x.csv", csv_of("text,label", "a,ham").encode(),
        ("text", "label"), A)  # fmt: skip
    yield read("no header", "x.csv", b"a,ham\nb,spam\n", A, B, **COLUMNS)
    wide = csv_of(",".join(["a", "ham", *["x"] * 5000]),
        header=",".join(["text", "label", *(f"c{n}" for n in range(5000))])).encode()  # fmt: skip
    yield read("thousands of columns", "x.csv", wide, A)
    missing = "no column 'text' among"
    for id_, header in (
        ("white space in the header", " text ,label"), ("capitals in the header", "TEXT,label"),
        ("another name", "body,label"), ("an accent in the name", "te\u0301xt,label"),
        ("a mark twice", "\ufeff\ufefftext,label"), ("a comment for a header", "# text,label"),
        ("a zero-width space in the name", "text\u200b,label"), ("an empty name", ",label"),
    ):  # fmt: skip
        content = csv_of(f"{TEXT},ham", header=header).encode()
        yield refused(id_, "x.csv", content, missing, "set data.text_column")
    many = ",".join(["label", *(f"column{number}" for number in range(5000))])
    yield refused("thousands of columns, none of them it", "x.csv", many.encode(), missing,
        "and 4993 more", "set data.text_column")  # fmt: skip
    for id_, header, doubled in (
        ("the text column twice", "text,label,text", "['text']"),
        ("another column twice", "text,label,id,id", "['id']"),
        ("two columns without a name", "text,label,,", "['']"),
        ("every column twice", "text,label,text,label", "['label', 'text']"),
    ):
        content = csv_of(f"{TEXT},ham,c", header=header).encode()
        yield refused(
            id_, "x.csv", content, f"columns {doubled} appear twice", "rename one of each"
        )
    for id_, content in {
        "nothing": b"", "only line ends": b"\n\r\n\r", "only a mark": b"\xef\xbb\xbf",
    }.items():  # fmt: skip
        yield refused(id_, "x.csv", content, "is empty; expected a header line and rows")
    for id_, content in {
        "only a header": b"text,label\n", "only a header without its end": b"text,label",
        "only a header and empty lines": b"text,label\n\n\n",
    }.items():  # fmt: skip
        yield refused(id_, "x.csv", content, "holds no rows", "add labelled texts")
    yield refused("nothing where no header is declared", "x.csv", b"", "holds no rows", **COLUMNS)
    yield refused("no header where one is declared", "x.csv", f"{TEXT},ham\n".encode(),
        "first line is a row", "set data.header: false")  # fmt: skip
    yield refused("another order than declared", "x.csv", b"label,text\nham,a\n",
        "header is ['label', 'text']", columns=["text", "label"])  # fmt: skip
    yield refused("a long text for a header", "x.csv", f"{TEXT * 9}\n".encode(), "(90 characters)",
        "set data.text_column")  # fmt: skip


def delimiters() -> Iterator[OddFile]:
    """Yield files with another delimiter than a comma, declared and not."""
    for id_, delimiter in {
        "a semicolon": ";", "a bar": "|", "a tab": "\t", "a caret": "^", "a tilde": "~",
        "a unit separator": "\x1f", "a broken bar": "\xa6", "a full-width comma": "\uff0c",
        "a colon": ":", "a space": " ",
    }.items():  # fmt: skip
        content = f"text{delimiter}label\n1,2{delimiter}ham\n".encode()
        row = ("1,2", "ham")
        yield read(f"{id_} between fields", "x.csv", content, row, delimiter=delimiter)
        content = f"text{delimiter}label\n{SECRET}{delimiter}ham\n".encode()
        yield refused(f"{id_} that is not declared", "x.csv", content, "no column 'text' among",
            "data.delimiter if they are not split")  # fmt: skip
    yield refused("a comma in a TSV", "x.tsv", csv_of(f"{TEXT},ham").encode(),
        "no column 'text'", "data.delimiter")  # fmt: skip
    yield refused("commas and semicolons mixed", "x.csv", csv_of("a,ham", f"{TEXT};ham").encode(),
        "row 2 (line 3) has 1 fields", "data.delimiter")  # fmt: skip
    yield refused("the line that names a delimiter to Excel", "x.csv",
        b"sep=,\n" + csv_of(f"{TEXT},ham").encode(), "no column 'text' among")  # fmt: skip
    yield refused("more rows than allowed", "x.csv", csv_of(*[f"{TEXT},ham"] * 3).encode(),
        "more than data.max_rows=2 rows", "raise it", max_rows=2)  # fmt: skip
