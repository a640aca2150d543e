"""Config files that attack whoever reads them, or say something else than they seem to."""

from collections.abc import Iterator

from odd_files import OddFile, read, refused

LEAST = "name: sms\ndata: {uri: sms.csv, labels: [ham, spam]}\ngate: {accuracy: {min: 0.9}}\n"
JSON = """{"name": "sms", "data": {"uri": "a", "labels": ["ham", "spam"]},
"gate": {"accuracy": {"min": 0.9}}}"""


def configs() -> Iterator[OddFile]:
    """Yield configs; the row of one that is accepted holds its name and its second label."""
    sms = ("sms", "spam")
    for id_, text, row in (
        ("the least", LEAST, sms),
        ("a mark", "\ufeff" + LEAST, sms),
        ("Windows line ends", LEAST.replace("\n", "\r\n"), sms),
        ("old Mac line ends", LEAST.replace("\n", "\r"), sms),
        ("JSON", JSON, sms),
        ("a document mark", f"---\n{LEAST}...\n", sms),
        ("a version", f"%YAML 1.1\n---\n{LEAST}", sms),
        ("a comment in Chinese", f"# \u732b\n{LEAST}", sms),
        ("an anchor that nothing names", LEAST.replace("name: sms", "name: &a sms"), sms),
        ("a label of script", LEAST.replace("spam", "<script>"), ("sms", "<script>")),
        ("a label of a formula", LEAST.replace("spam", "'=1+1'"), ("sms", "=1+1")),
        ("a label in quotes", LEAST.replace("spam", "'007'"), ("sms", "007")),
        ("a label that is NO in quotes", LEAST.replace("spam", "'NO'"), ("sms", "NO")),
        ("a label in Chinese", LEAST.replace("spam", "\u5783\u573e"), ("sms", "\u5783\u573e")),
    ):  # fmt: skip
        yield read(f"YAML, {id_}", "x.yaml", text.encode(), row)
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in ("ab", "bc", "cd"))
    place = "line 1, column "
    tag, alias = "write the value without a tag", "write the value out"
    for id_, content, *told in (
        ("a bomb of aliases", bomb, "line 2, column 8", alias),
        ("an alias", "name: &a sms\ndata: *a\n", "line 2, column 7", alias),
        ("an alias of itself", "a: &a [*a]\n", place, alias),
        ("an alias as a key", "&a a: 1\n*a : 2\n", "line 2, column 1", alias),
        ("an alias of nothing", "a: *b\n", place, alias),
        ("a merge key", f"{LEAST}split: {{<<: {{salt: a}}, salt: b}}\n", "line 4", "merge keys (<<)"),
        ("a merge key of an alias", "a: &a {b: 1}\nc: {<<: *a}\n", "line 2, column 9", alias),
        ("an object", "name: !!python/object/apply:os.system [id]\n", place, tag),
        ("an object to be made", "name: !!python/object/new:os.path {}\n", place, tag),
        ("a function", "name: !!python/name:os.system\n", place, tag),
        ("a module", "name: !!python/module:os\n", place, tag),
        ("a tuple", "name: !!python/tuple [1]\n", place, tag),
        ("a tag of one's own", "name: !include /etc/passwd\n", place, tag),
        ("a tag for a string", "name: !!str 7\n", place, tag),
        ("a tag for bytes", "name: !!binary c21z\n", place, tag),
        ("a tag for a set", "data: !!set {a, b}\n", place, tag),
        ("a tag for pairs", "data: !!omap [a: 1]\n", place, tag),
        ("a tag for a number", f"{LEAST}split: {{salt: !!int 7}}\n", "line 4, column ", tag),
        ("a tag at the top", f"!!map\n{LEAST}", place, tag),
        ("a tag written out", "name: !<tag:yaml.org,2002:str> sms\n", place, tag),
        ("a tag without a name", "name: ! sms\n", place, tag),
        ("a tag of a handle", "%TAG !e! tag:x,2000:\n---\nname: !e!a sms\n", "line 3", tag),
        ("a tag of an unknown handle", "name: !e!a sms\n", place, "undefined tag handle"),
        ("a long tag", f"name: !{'a' * 5000} sms\n", place, tag),
        ("an equals sign", f"{LEAST}split: {{salt: =}}\n", "line 4, column ", "put it in quotes"),
        ("a key twice", "name: a\nname: b\n", "line 2, column 1", "'name' is written twice"),
        ("a key twice, once in quotes", "name: a\n'name': b\n", "line 2", "is written twice"),
        ("a key twice, once escaped", 'name: a\n"n\\u0061me": b\n', "line 2", "is written twice"),
        ("a key twice within", "data: {uri: a, uri: b}\n", place, "'uri' is written twice"),
        ("a long key twice", f"{'a' * 900}: 1\n" * 2, "line 2, column 1", "is written twice"),
        ("a number with a leading zero", f"{LEAST}training: {{seed: 010}}\n", "line 4", "010"),
        ("a number in base 60", f"{LEAST}training: {{seed: 1:30}}\n", "line 4", "1:30"),
        ("a fraction in base 60", f"{LEAST}training: {{learning_rate: 0:0.5}}\n", "line 4", "0:0.5"),
        ("a huge number", f"{LEAST}training: {{seed: {'9' * 4000}}}\n", "training.seed", "got 999"),
        ("a huger number", f"{LEAST}training: {{seed: {'9' * 5000}}}\n", "line 4", "quotes"),
        ("a huge number in base 16", f"{LEAST}training: {{seed: 0x{'f' * 9999}}}\n", "line 4"),
        ("a huge number in base 2", f"{LEAST}training: {{seed: 0b{'1' * 20000}}}\n", "line 4"),
        ("a huge number for a key", f"{LEAST}{'9' * 900}: 1\n", "keys should be strings"),
        ("an infinite number", f"{LEAST}training: {{learning_rate: .inf}}\n", "finite number"),
        ("no number", f"{LEAST}training: {{learning_rate: .nan}}\n", "finite number"),
        ("a moment", f"{LEAST}split: {{salt: 2001-12-14t21:59:43.10-05:00}}\n", "split.salt"),
        ("a date that is none", "name: 2024-02-30\n", place, "put it in quotes"),
        ("an offset that is none", "name: 2001-12-14t21:59:43+99:99\n", place, "put it in quotes"),
        ("brackets without end", "[" * 100_000, place, "nested deeper than 20 levels"),
        ("braces without end", "{" * 100_000, place, "nested deeper than 20 levels"),
        ("objects without end", "{a: " * 60_000, place, "nested deeper than 20 levels"),
        ("lists without end", "- " * 100_000, place, "nested deeper than 20 levels"),
        ("question marks without end", "? " * 100_000, place, "nested deeper than 20 levels"),
        ("indents without end", "".join(f"{' ' * n}a:\n" for n in range(600)), "deeper than 20"),
        ("a NUL", "name: s\0ms\n", "character 8", "remove it"),
        ("a bell", "name: s\x07ms\n", "character 8", "remove it"),
        ("a bell as an escape", f'{LEAST}"a\\ab": 1\n', "unknown key"),
        ("a line end in a key", f'{LEAST}"a\\nb": 1\n', "unknown key"),
        ("a line end in a value", f'{LEAST}split: {{test_fraction: "a\\nb"}}\n', "split.test_fr"),
        ("a long key", f"{LEAST}{'a' * 900}: 1\n", "unknown key"),
        ("a surrogate as an escape", f'{LEAST}split: {{salt: "\\ud83d"}}\n', "surrogate pair"),
        ("a surrogate in a key", f'{LEAST}"\\ud83d": 1\n', "surrogate pair"),
        ("no character as an escape", 'name: "\\U00110000"\n', "names no character"),
        ("no number of a character", 'name: "\\UFFFFFFFF"\n', "names no character"),
        ("tabs", "data:\n\turi: x\n", "line 2, column 1", "found character '\\t'"),
        ("latin-1", "name: caf\xe9\n".encode("latin-1"), "byte 9", "save it as UTF-8"),
        ("UTF-16", LEAST.encode("utf-16"), "byte 0", "save it as UTF-8"),
        ("UTF-32", LEAST.encode("utf-32"), "save it as UTF-8"),
        ("UTF-16 without a mark", LEAST.encode("utf-16-le"), "character 2", "remove it"),
        ("a half character", LEAST.encode() + b"\xe7\x8c", "save it as UTF-8"),
        ("nothing", "", "is empty", "start with `name: ...`"),
        ("only a mark", "\ufeff", "is empty", "start with"),
        ("a word", "sms\n", "is a str", "start with `name: ...`"),
        ("a number alone", "7\n", "is a int", "start with `name: ...`"),
        ("two documents", f"{LEAST}---\n{LEAST}", "line 4, column 1", "another document"),
        ("another version", f"%YAML 3.0\n---\n{LEAST}", "line 1", "incompatible"),
        ("a list for a key", "[a]: 1\n", place, "unhashable"),
        ("a mapping for a key", "{a: b}: 1\n", place, "unhashable"),
        ("null for a key", f"{LEAST}~: 1\n", "None"),
        ("an open quote", 'name: "sms\n', "line 2", "found unexpected end"),
        ("too many bytes", "#" * 300_000, "larger than 256 KiB", "a config is a short YAML"),
        ("a template", "name: {{ name }}\n", place),
    ):  # fmt: skip
        encoded = content.encode() if isinstance(content, str) else content
        yield refused(f"YAML, {id_}", "x.yaml", encoded, *told)
