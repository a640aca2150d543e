"""Odd texts and labels, each in CSV, JSON Lines and Parquet."""

from collections.abc import Iterator

import pyarrow as pa

from odd_files import SECRET, TEXT, OddFile, csv_of, json_of, parquet_of, read, refused


def three_formats(id_: str, text: str, cleaned: str, label: str = "ham") -> Iterator[OddFile]:
    """Yield a text as it stands in CSV, JSON Lines and Parquet; each must give the same row."""
    quoted = [value.replace('"', '""') for value in (text, label)]
    line = ",".join(f'"{value}"' for value in quoted)
    pair, labels = (cleaned, label), [label, "other"]
    yield read(f"{id_}, CSV", "x.csv", csv_of(line).encode(), pair, labels=labels)
    yield read(f"{id_}, JSONL", "x.jsonl", json_of(text, label).encode(), pair, labels=labels)
    content = parquet_of(pa.array([text], "string"), [label])
    yield read(f"{id_}, Parquet", "x.parquet", content, pair, labels=labels)


LITERALS = (
    "NA", "N/A", "null", "NULL", "None", "nan", "NaN", "-", "#N/A", "inf", "-Infinity", "TRUE",
    "true", "yes", "off", "007", "00", "1e5", "1.50", "-0", "+1", "1_000", "1,000", "0x1F", "1:30",
    "2024-01-01", "01/02/03", "12:30", "~", "{}", "[]", "\\N", "undefined",
)  # fmt: skip


def literals() -> Iterator[OddFile]:
    """Yield texts and labels that a guesser takes for a gap, number, date or flag."""
    for literal in LITERALS:
        yield from three_formats(f"{literal} as text and label", literal, literal, literal)


CHARACTERS: dict[str, tuple[str, str]] = {
    "a script": ("<script>alert('a')</script>", "<script>alert('a')</script>"),
    "an escaped script": ("&lt;script&gt;", "<script>"),
    "a script escaped twice": ("&amp;lt;script&amp;gt;", "<script>"),
    "a formula that runs a command": ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
    "a formula with a link": ('=HYPERLINK("http://x","y")', '=HYPERLINK("http://x","y")'),
    "a plus formula": ("+1+2", "+1+2"),
    "a minus formula": ("-1+2", "-1+2"),
    "an at formula": ("@SUM(A1)", "@SUM(A1)"),
    "a template": ("{{ 7*7 }} ${HOME} %s {0}", "{{ 7*7 }} ${HOME} %s {0}"),
    "SQL": ("'; DROP TABLE rows; --", "'; DROP TABLE rows; --"),
    "a path that climbs": ("../../etc/passwd", "../../etc/passwd"),
    "a right-to-left override": ("a\u202egpj.exe", "a\u202egpj.exe"),
    "isolates": ("a\u2066b\u2069c", "a\u2066b\u2069c"),
    "a zero-width space": ("a\u200bb", "a\u200bb"),
    "a zero-width joiner": ("\U0001f468\u200d\U0001f469\u200d\U0001f467",) * 2,
    "a flag": ("\U0001f1ef\U0001f1f5", "\U0001f1ef\U0001f1f5"),
    "a skin tone": ("\U0001f44d\U0001f3fd", "\U0001f44d\U0001f3fd"),
    "a variation selector": ("\u2764\ufe0f", "\u2764\ufe0f"),
    "tag characters": ("a\U000e0061\U000e007f", "a\U000e0061\U000e007f"),
    "an accent of its own": ("cafe\u0301", "caf\xe9"),
    "twenty accents": ("e" + "\u0301" * 20, "\xe9" + "\u0301" * 19),
    "jamo": ("\u1112\u1161\u11ab", "\ud55c"),
    "a sign that stands for a letter": ("\u2126 \u212b", "\u03a9 \xc5"),
    "a ligature": ("\ufb01n", "\ufb01n"),
    "full-width letters": ("\uff21\uff11", "\uff21\uff11"),
    "an ideographic space": ("a\u3000b", "a b"),
    "a space that does not break": ("a\xa0b", "a b"),
    "a soft hyphen": ("a\xadb", "a\xadb"),
    "a private letter": ("\ue000\U000f0000", "\ue000\U000f0000"),
    "no characters": ("a\ufffe\ufdd0\U0010ffffb", "a\ufffe\ufdd0\U0010ffffb"),
    "a replacement character": ("a\ufffdb", "a\ufffdb"),
    "a mark within": ("a\ufeffb", "a\ufeffb"),
    "a bell": ("a\x07b", "ab"),
    "an escape": ("\x1b[31mred\x1b[0m", "[31mred[0m"),
    "a delete": ("a\x7fb", "ab"),
    "a C1 control": ("a\x9fb", "ab"),
    "a tab": ("a\tb", "a b"),
    "a line feed": ("a\nb", "a b"),
    "a carriage return": ("a\rb", "a b"),
    "a Windows line end": ("a\r\nb", "a b"),
    "a vertical tab": ("a\x0bb", "a b"),
    "a form feed": ("a\x0cb", "a b"),
    "a file separator": ("a\x1cb", "a b"),
    "a unit separator": ("a\x1fb", "a b"),
    "a next line": ("a\x85b", "a b"),
    "a line separator": ("a\u2028b", "a b"),
    "a paragraph separator": ("a\u2029b", "a b"),
    "nothing but white space": (" \t\u2003 ", ""),
    "nothing": ("", ""),
    "a quote": ('"', '"'),
    "quotes around": ('"a"', '"a"'),
    "a backslash": ("\\", "\\"),
    "a backslash before a quote": ('a\\"b', 'a\\"b'),
    "commas": (",,,", ",,,"),
    "old letters": ("\U00012000\U00010380", "\U00012000\U00010380"),
    "the longest text": ("\u732b" * 1_000_000, "\u732b" * 1_000_000),
}


def characters() -> Iterator[OddFile]:
    """Yield texts of odd characters, which are kept, or changed by cleaning as it says."""
    for id_, (text, cleaned) in CHARACTERS.items():
        yield from three_formats(id_, text, cleaned)
    for id_, control in {"a NUL": "\0", "many NULs": "\0" * 100}.items():
        cure = "row 2 holds a NUL character", "mend the row"
        content = csv_of("a,ham", f"{TEXT}{control},ham").encode()
        yield refused(f"{id_} in CSV", "x.csv", content, *cure)
        content = (json_of("a") + json_of(TEXT + control)).encode()
        yield refused(f"{id_} in JSONL", "x.jsonl", content, *cure)
        content = parquet_of(["a", TEXT + control], ["ham", "ham"])
        yield refused(f"{id_} in Parquet", "x.parquet", content, *cure)
    too_long = SECRET * 125_001
    cure = "1000008 characters", "split or drop it"
    yield refused("a text too long in JSONL", "x.jsonl", json_of(too_long).encode(), "row 1", *cure)
    content = parquet_of([too_long], ["ham"])
    yield refused("a text too long in Parquet", "x.parquet", content, "row 1", *cure)
    yield refused("a text too long in CSV", "x.csv", csv_of(f"{too_long},ham").encode(),
        "line 2: field larger than field limit (1000000)")  # fmt: skip
    yield refused("a label too long", "x.jsonl", json_of("a", too_long).encode(), "row 1", *cure)
