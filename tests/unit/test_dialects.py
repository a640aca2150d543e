"""Delimiters and quoting: the one reading under which every row is alike, and no row is swallowed."""

from pathlib import Path

import pytest

from configs.errors import DataError
from tasks.dialects import Layout, dialect_of, read_records

PLAIN = [("a text", "ham"), ("another, with a comma", "spam"), ("a third; and more", "ham")] * 4
CASES: dict[str, tuple[list[str], str, str, int]] = {
    "tabs": ([f"{text}\t{label}" for text, label in PLAIN], "\t", "minimal", 12),
    "bars": ([f"{text}|{label}" for text, label in PLAIN], "|", "minimal", 12),
    "commas in quotes": ([f'"{text}",{label}' for text, label in PLAIN], ",", "minimal", 12),
    "a comma in every text": ([f'"a, {n}",ham' for n in range(9)], ",", "minimal", 9),
    "quotes for letters": (['ham\tsay "x" now', "spam\tplain"] * 3, "\t", "none", 6),
    "a lone quote": (["ham\thello"] * 3 + ['ham\t"hello'], "\t", "none", 4),
    "two lone quotes, which would swallow rows": (
        ["spam\tone", 'ham\t"hello', "spam\ttwo", 'ham\tbye"', "ham\tthree", "spam\tfour"],
        "\t", "none", 6,
    ),
    "line ends in quotes, as many fields on each line": (
        [f'"text {n}, and more\r\nmore",ham\r\n"text {n}",spam' for n in range(6)],
        ",", "minimal", 12,
    ),
    "doubled quotes": ([f'"say ""{n}""";ham' for n in range(6)], ";", "minimal", 6),
    "empty lines between": (["a,ham", "", "b,spam", ""], ",", "minimal", 2),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_delimiter_and_quoting_are_those_under_which_all_rows_are_alike(
    tmp_path: Path, case: str
) -> None:
    lines, delimiter, quoting, rows = CASES[case]
    file = tmp_path / "rows.csv"
    file.write_bytes("\r\n".join(lines).encode())
    assert dialect_of(file, "utf-8") == (delimiter, quoting)
    assert len(list(read_records(file, Layout("csv", "utf-8", delimiter, quoting)))) == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("one\ntwo\n", "its first line is one field"),
        ("a,b\nc,d,e\n", "with a comma, record 2 is amiss: 3 fields where 2 were expected"),
        ("a;b\nc;d\ne\n", "with a semicolon, record 3 is amiss: 1 fields where 2 were expected"),
        ('"a","b"\n"c","d"x\n"e","f"\n', "with a comma, record 2 is amiss"),
    ],
)
def test_a_file_of_no_one_shape_is_refused_naming_the_row(
    tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    with pytest.raises(DataError) as told:
        dialect_of(file, "utf-8")
    assert words in str(told.value)
