"""Text files in many encodings, as declared and not as declared."""

from collections.abc import Iterator

from odd_files import SECRET, TEXT, OddFile, csv_of, read, refused

# What an encoding is for, in the letters of its language.
LETTERS = {
    "ascii": "plain",
    "utf-8": "caf\xe9 \u732b \U0001f600",
    "utf-8-sig": "caf\xe9 \u732b",
    "utf-7": "caf\xe9 \u732b",
    "utf-16": "caf\xe9 \u732b \U0001f600",
    "utf-16-le": "\u732b \U0001f600",
    "utf-16-be": "\u732b \U0001f600",
    "utf-32": "\u732b \U0001f600",
    "utf-32-le": "\u732b \U0001f600",
    "utf-32-be": "\u732b \U0001f600",
    "latin-1": "caf\xe9 \xdf",
    "cp1252": "caf\xe9 \u20ac \u201cso\u201d",
    "iso8859-15": "caf\xe9 \u20ac",
    "mac-roman": "caf\xe9 \u2020",
    "cp437": "caf\xe9 \u2592",
    "cp850": "caf\xe9 \xd0",
    "iso8859-2": "\u0142\xf3d\u017a",
    "cp1250": "\u0142\xf3d\u017a",
    "iso8859-4": "\u0101bols",
    "cp1251": "\u043a\u043e\u0442",
    "koi8-r": "\u043a\u043e\u0442",
    "koi8-u": "\u0457\u0436\u0430\u043a",
    "cp866": "\u043a\u043e\u0442",
    "iso8859-5": "\u043a\u043e\u0442",
    "cp1253": "\u03b3\u03ac\u03c4\u03b1",
    "iso8859-7": "\u03b3\u03ac\u03c4\u03b1",
    "cp1254": "kedi \u0131\u015f\u0131k",
    "iso8859-9": "\u0131\u015f\u0131k",
    "cp1255": "\u05d7\u05ea\u05d5\u05dc",
    "iso8859-8": "\u05d7\u05ea\u05d5\u05dc",
    "cp1256": "\u0642\u0637\u0629",
    "iso8859-6": "\u0642\u0637\u0629",
    "tis-620": "\u0e41\u0e21\u0e27",
    "cp874": "\u0e41\u0e21\u0e27",
    "gb2312": "\u732b\u548c\u72d7",
    "gbk": "\u8c93\u548c\u72d7",
    "gb18030": "\u732b\U00020000\U0001f600",
    "hz": "\u732b\u548c\u72d7",
    "big5": "\u8c93\u548c\u72d7",
    "big5hkscs": "\u8c93\u548c\u72d7",
    "cp950": "\u8c93\u548c\u72d7",
    "shift_jis": "\u732b\u3068\u30c6\u30b9\u30c8",
    "cp932": "\u732b\u2460",
    "euc-jp": "\u732b\u3068\u72ac",
    "iso2022-jp": "\u732b\u3068\u72ac",
    "euc-kr": "\uace0\uc591\uc774",
    "cp949": "\uace0\uc591\uc774 \ub620",
    "johab": "\uace0\uc591\uc774",
    "iso2022-kr": "\uace0\uc591\uc774",
}


def encodings() -> Iterator[OddFile]:
    """Yield files in many encodings, declared as they are, and with and without their marks."""
    for encoding, letters in LETTERS.items():
        content = csv_of(f"{letters},ham", "b,spam").encode(encoding)
        rows = ((letters, "ham"), ("b", "spam"))
        yield read(f"{encoding} as declared", "x.csv", content, *rows, encoding=encoding)
    for encoding in ("utf-16", "latin-1", "gb18030", "shift_jis", "koi8-r"):
        letters = LETTERS[encoding]
        line = f'{{"text": "{letters}", "label": "ham"}}\n'.encode(encoding)
        yield read(f"{encoding} in JSONL", "x.jsonl", line, (letters, "ham"), encoding=encoding)
        content = csv_of(f"{letters}\tham", header="text\tlabel").encode(encoding)
        yield read(f"{encoding} in TSV", "x.tsv", content, (letters, "ham"), encoding=encoding)
        yield read(f"{encoding} in a folder", "mail/ham/1.txt", letters.encode(encoding),
            (letters, "ham"), encoding=encoding)  # fmt: skip
    for codec, declared in (
        ("utf-8", "utf-8"), ("utf-8", "U8"), ("utf-8", "utf-8-sig"),
        ("utf-16-le", "utf-16"), ("utf-16-be", "utf-16"), ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"), ("utf-16-be", "utf-16-le"), ("utf-32-le", "utf-32"),
        ("utf-32-be", "utf-32"), ("utf-32-le", "utf-32-le"), ("gb18030", "gb18030"),
    ):  # fmt: skip
        content = ("\ufeff" + csv_of("caf\xe9,ham")).encode(codec)
        id_ = f"{codec} with its mark, declared {declared}"
        yield read(id_, "x.csv", content, ("caf\xe9", "ham"), encoding=declared)
        line = f'\ufeff{{"text": "{SECRET}", "label": "ham"}}'.encode(codec)
        yield read(f"{id_}, in JSONL", "x.jsonl", line, (SECRET, "ham"), encoding=declared)
    yield read("a mark without a header", "x.csv", "\ufeffa,ham\n".encode("utf-16-le"),
        ("a", "ham"), encoding="utf-16-le", header=False, columns=["text", "label"])  # fmt: skip
    yield read("a mark in a folder", "mail/ham/1.txt", b"\xef\xbb\xbfa", ("a", "ham"))
    for declared in ("latin-1", "cp1252"):  # every byte is a letter there: what is said counts
        content = csv_of("caf\xe9,ham").encode()
        row = ("caf\xc3\xa9", "ham")
        yield read(f"UTF-8 declared {declared}", "x.csv", content, row, encoding=declared)


def wrong_encodings() -> Iterator[OddFile]:
    """Yield files that are not in the encoding that is declared, utf-8 if not said otherwise."""
    cure = "set data.encoding"
    for encoding in ("latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc-kr", "euc-jp",
                     "koi8-r", "cp1251", "iso8859-7", "cp1256", "tis-620", "mac-roman"):  # fmt: skip
        content = csv_of(f"{TEXT},ham", f"{TEXT} {LETTERS[encoding]},ham").encode(encoding)
        yield refused(f"{encoding} declared utf-8", "x.csv", content, "is not utf-8 (line 3", cure)
    line = f'{{"text": "{TEXT} caf\xe9", "label": "ham"}}'.encode("latin-1")
    yield refused("latin-1 declared utf-8, JSONL", "x.jsonl", line, "is not utf-8 (line 1", cure)
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        family = codec[:6]
        content = csv_of(f"{TEXT},ham").encode(codec)
        marked = "\ufeff".encode(codec) + content
        yield refused(f"{codec} declared utf-8", "x.csv", content, "NUL character", cure)
        for declared in ("utf-8", "latin-1", "gb18030"):
            yield refused(f"{codec} with its mark declared {declared}", "x.csv", marked,
                f"starts with the mark of {family}", cure, encoding=declared)  # fmt: skip
        yield refused(f"{codec} without a mark declared {family}", "x.csv", content,
            f"is not {family} (it starts with no byte order mark)",
            f"set data.encoding to {family}-le", encoding=family)  # fmt: skip
    content = b"\xef\xbb\xbf" + csv_of(f"{TEXT},ham").encode()
    for declared in ("latin-1", "cp1252", "gb18030", "utf-16", "utf-16-le", "ascii"):
        yield refused(f"utf-8 with its mark declared {declared}", "x.csv", content,
            "starts with the mark of utf-8", cure, encoding=declared)  # fmt: skip
    content = csv_of(f"{TEXT},ham", f"caf\xe9 \u732b {TEXT},ham").encode()
    for declared in ("ascii", "big5", "gb2312", "euc-jp", "johab"):
        yield refused(f"utf-8 declared {declared}", "x.csv", content, f"is not {declared} (line 3",
            cure, encoding=declared)  # fmt: skip
    for declared in ("utf-16", "utf-32"):
        yield refused(f"utf-8 declared {declared}", "x.csv", content, "no byte order mark", cure,
            encoding=declared)  # fmt: skip
    yield refused("utf-8 declared utf-16-le", "x.csv", csv_of(f"{TEXT},ham").encode() + b"\n",
        "is not utf-16-le (line 1", cure, encoding="utf-16-le")  # fmt: skip
    faults = {
        "a lone continuation byte": b"\x80",
        "an overlong slash": b"\xc0\xaf",
        "an overlong NUL": b"\xc0\x80",
        "half of a surrogate pair": b"\xed\xa0\x80",
        "a pair of surrogates as CESU-8": b"\xed\xa0\xbd\xed\xb8\x80",
        "a sequence of five bytes": b"\xf8\x88\x80\x80\x80",
        "a byte that UTF-8 never has": b"\xff",
        "what is above the last character": b"\xf4\x90\x80\x80",
        "a character cut in two": b"\xe7\x8c",
    }
    for id_, fault in faults.items():
        start = csv_of(f"{TEXT},ham", f"{TEXT},spam").encode()
        yield refused(f"{id_} in UTF-8", "x.csv", start + fault + b",ham\n", "(line 4, byte", cure)
    yield refused("UTF-8 cut off in a character", "x.csv", csv_of(f"{TEXT},\u732b").encode()[:-2],
        "(line 2, byte 0xe7", cure)  # fmt: skip
    many = csv_of(*(f"{TEXT},ham" for _ in range(5000))).encode()
    yield refused("a fault after 5000 rows", "x.csv", many + b"\xff,ham\n", "(line 5002", cure)
    yield refused("a fault after old Mac lines", "x.csv",
        b"text,label\ra,ham\r\xff,ham\r", "(line 3", cure)  # fmt: skip
    yield refused("a fault in the header", "x.csv", b"text,label,\xff\n", "(line 1", cure)
    utf_16 = csv_of(f"{TEXT},ham").encode("utf-16")
    yield refused("UTF-16 of an odd number of bytes", "x.csv", utf_16 + b"a", "is not utf-16",
        encoding="utf-16")  # fmt: skip
    yield refused("half of a surrogate pair in UTF-16", "x.csv", utf_16 + b"\x00\xdc,\0a\0\n\0",
        "is not utf-16 (line 3", encoding="utf-16")  # fmt: skip
    yield refused("no character in UTF-32", "x.csv", csv_of("a").encode("utf-32") + b"\xff" * 4,
        "is not utf-32 (line 3", encoding="utf-32")  # fmt: skip
    yield refused("half of a surrogate pair in UTF-7", "x.csv", csv_of("+2AA-,ham").encode(),
        "row 1", "surrogate pair", encoding="utf-7")  # fmt: skip
