"""JSON Lines that are odd: what is no JSON, no object, no text, or written twice."""

from collections.abc import Iterator

from odd_files import SECRET, TEXT, OddFile, json_of, read, refused

START = json_of(TEXT).encode()
GOOD = b'"label": "ham"'


def accepted() -> Iterator[OddFile]:
    """Yield odd lines that are good JSON nevertheless."""
    for id_, line, row in (
        ("keys in another order", rb'{"label": "ham", "text": "a"}', ("a", "ham")),
        ("white space around", b' \t{ "text" : "a" , "label" : "ham" } \r', ("a", "ham")),
        ("a null text", b'{"text": null, "label": "ham"}', (None, "ham")),
        ("a null label", b'{"text": "a", "label": null}', ("a", None)),
        ("a whole number", b'{"text": 7, "label": "ham"}', ("7", "ham")),
        ("minus zero", b'{"text": -0, "label": "ham"}', ("-0", "ham")),
        ("a big whole number", b'{"text": 123456789012345678901, "label": "ham"}',
            ("123456789012345678901", "ham")),
        ("a number of thousands of digits", b'{"text": ' + b"9" * 9999 + b', "label": "ham"}',
            ("9" * 9999, "ham")),
        ("a huge fraction that is not read", b'{"text": "a", "x": 1e999, ' + GOOD + b"}",
            ("a", "ham")),
        ("a letter as an escape", rb'{"text": "\u0061\/", "label": "ham"}', ("a/", "ham")),
        ("an emoji as two escapes", rb'{"text": "\ud83d\ude00", "label": "ham"}',
            ("\U0001f600", "ham")),
        ("a key as an escape", rb'{"te\u0078t": "a", "label": "ham"}', ("a", "ham")),
        ("an empty key", b'{"text": "a", "": 1, "label": "ham"}', ("a", "ham")),
        ("a deep value that is not read", b'{"text": "a", "x": ' + b"[" * 500 + b"]" * 500 + b", "
            + GOOD + b"}", ("a", "ham")),
        ("keys of a prototype", b'{"__proto__": {}, "__class__": 1, "text": "a", ' + GOOD + b"}",
            ("a", "ham")),
        ("five thousand keys", b'{"text": "a", ' + b"".join(b'"k%d": 0, ' % n for n in range(5000))
            + GOOD + b"}", ("a", "ham")),
    ):  # fmt: skip
        yield read(f"JSON, {id_}", "x.jsonl", line + b"\n", row)
    blank = b"\n \t\r\n" + json_of("a").encode() + b"\n\n"
    yield read("JSON, blank lines", "x.jsonl", blank, ("a", "ham"))
    yield read("JSON, no line end at the end", "x.jsonl", json_of("a").encode().rstrip(),
        ("a", "ham"))  # fmt: skip
    yield read("JSON, Windows line ends", "x.ndjson", json_of("a").encode().replace(b"\n", b"\r\n"),
        ("a", "ham"))  # fmt: skip
    yield read("JSON, suffix in capitals", "X.JSONL", json_of("a").encode(), ("a", "ham"))


def not_json() -> Iterator[OddFile]:
    """Yield lines that are no JSON; each stands on the second line."""
    body = f'"text": "{TEXT}", "label": "ham"'.encode()
    for id_, line in {
        "cut off in a string": b'{"text": "' + SECRET.encode(),
        "cut off after a key": b'{"text":',
        "cut off before the end": b"{" + body,
        "a comma at the end": b"{" + body + b",}",
        "a comma after the object": b"{" + body + b"},",
        "two objects": b"{" + body + b"}{" + body + b"}",
        "two objects with a space": b"{" + body + b"} {" + body + b"}",
        "two objects with an old Mac line end": b"{" + body + b"}\r{" + body + b"}",
        "single quotes": body.replace(b'"', b"'").join([b"{", b"}"]),
        "keys without quotes": b"{text: 1, label: 2}",
        "a comment": b"// " + TEXT.encode(),
        "a comment within": b"{/* x */" + body + b"}",
        "a line end within a string": b'{"text": "a\n' + SECRET.encode() + b'", "label": "ham"}',
        "a tab within a string": b'{"text": "a\t' + SECRET.encode() + b'", "label": "ham"}',
        "a NUL within a string": b'{"text": "a\0' + SECRET.encode() + b'", "label": "ham"}',
        "a NUL after the object": b"{" + body + b"}\0",
        "an unknown escape": rb'{"text": "\x41", "label": "ham"}',
        "half an escape": rb'{"text": "\u00", "label": "ham"}',
        "a leading zero": b'{"text": 007, "label": "ham"}',
        "a plus sign": b'{"text": +7, "label": "ham"}',
        "a hexadecimal number": b'{"text": 0x1F, "label": "ham"}',
        "a point at the end": b'{"text": 7., "label": "ham"}',
        "Python's None": b'{"text": None, "label": "ham"}',
        "Python's True": b'{"text": True, "label": "ham"}',
        "NaN": b'{"text": NaN, "label": "ham"}',
        "Infinity": b'{"text": Infinity, "label": "ham"}',
        "minus Infinity": b'{"text": -Infinity, "label": "ham"}',
        "NaN where it is not read": b'{"x": [NaN], ' + body + b"}",
        "a mark within the file": b"\xef\xbb\xbf{" + body + b"}",
        "a sequence mark": b"\x1e{" + body + b"}",
        "a line of CSV": f"{TEXT},ham".encode(),
        "a word": SECRET.encode(),
        "HTML": b"<html>",
        "brackets without end": b"[" * 100_000,
        "objects without end": b'{"a":' * 100_000,
    }.items():
        yield refused(f"JSON, {id_}", "x.jsonl", START + line + b"\n",
            "row 2 (line 2): is not a JSON object (", "mend the line")  # fmt: skip


def not_rows() -> Iterator[OddFile]:
    """Yield lines that are JSON and no row; each stands on the third line, after a blank one."""
    for id_, line, *told in (
        ("an array", f'["{TEXT}", "ham"]', "is a JSON list"),
        ("a string", f'"{TEXT}"', "is a JSON str"),
        ("a number", "7.5", "is a JSON float"),
        ("a null", "null", "is a JSON NoneType"),
        ("a flag", "true", "is a JSON bool"),
        ("an empty object", "{}", "has no key 'text', only []", "set data.text_column"),
        ("no label", f'{{"text": "{TEXT}"}}', "no key 'label'", "set data.label_column"),
        ("a key in capitals", f'{{"TEXT": "{TEXT}", "label": "ham"}}', "no key 'text'"),
        ("a key with a space", f'{{"text ": "{TEXT}", "label": "ham"}}', "no key 'text'"),
        ("a fraction", '{"text": 0.5, "label": "ham"}', "'text' is of type float"),
        ("a huge fraction", '{"text": 1e999, "label": "ham"}', "'text' is of type float"),
        ("a flag for a text", '{"text": true, "label": "ham"}', "'text' is of type bool"),
        ("a flag for a label", f'{{"text": "{TEXT}", "label": false}}', "'label' is of type bool"),
        ("a list for a text", f'{{"text": ["{TEXT}"], "label": "ham"}}', "'text' is of type list"),
        ("a list for a label", f'{{"text": "{TEXT}", "label": ["ham"]}}', "'label' is of type list"),
        ("an object for a text", '{"text": {"text": "a"}, "label": "ham"}', "'text' is of type dict"),
        ("the text twice", f'{{"text": "{TEXT}", "text": "b", "label": "ham"}}', "written twice"),
        ("the text twice, once escaped", r'{"text": "a", "\u0074ext": "b", "label": "ham"}',
            "a key is written twice"),
        ("a key twice that is not read", '{"text": "a", "label": "ham", "x": 1, "x": 1}',
            "a key is written twice"),
        ("a key twice deep within", '{"text": "a", "label": "ham", "x": [{"y": 1, "y": 2}]}',
            "a key is written twice"),
        ("a high surrogate", r'{"text": "a\ud83d", "label": "ham"}', "surrogate pair"),
        ("a low surrogate", r'{"text": "\ude00a", "label": "ham"}', "surrogate pair"),
        ("surrogates in the wrong order", r'{"text": "\ude00\ud83d", "label": "ham"}',
            "surrogate pair"),
        ("a surrogate in the label", r'{"text": "a", "label": "\ud800"}', "surrogate pair"),
        ("a NUL as an escape", r'{"text": "a\u0000", "label": "ham"}', "NUL character"),
    ):  # fmt: skip
        content = START + b"\n" + line.encode() + b"\n"
        yield refused(f"JSON, {id_}", "x.jsonl", content, "row 2", *told)
    declared = ["text", "label"]
    for id_, line in {"a key too many": '{"text": "a", "label": "b", "c": 1}'}.items():
        yield refused(f"JSON, {id_}", "x.jsonl", START + line.encode(), "row 2 (line 2): keys are "
            "['c', 'label', 'text']", "mend the row", columns=declared)  # fmt: skip
    yield refused("JSON, an array over the whole file", "x.jsonl",
        b'[\n{"text": "a", "label": "ham"}\n]', "row 1 (line 1): is not a JSON")  # fmt: skip
    yield refused("JSON, an object over many lines", "x.jsonl",
        b'{\n"text": "a",\n"label": "ham"\n}', "row 1 (line 1): is not a JSON")  # fmt: skip
    yield refused("JSON, nothing", "x.jsonl", b"", "holds no rows", "add labelled texts")
    yield refused("JSON, only blank lines", "x.jsonl", b"\n \n\t\n", "holds no rows")
    yield refused("JSON, more rows than allowed", "x.jsonl", START * 3, "data.max_rows=2",
        max_rows=2)  # fmt: skip
