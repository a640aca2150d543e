"""Cases: rows alike in label and length of text are one, and the first row of each is known."""

import pyarrow as pa

from tasks.row_cases import cases_of, first_rows

TEXTS = ["abc", None, "xyz", " ", "\u3000", "abc", " ", None, "abcd", ""]
LABELS = ["ham", "ham", "ham", "ham", "ham", "spam", "ham", None, "ham", "ham"]


def test_cases_are_numbered_as_they_appear() -> None:
    case = cases_of(pa.array(TEXTS, pa.string()), pa.array(LABELS, pa.string()))
    assert case.tolist() == [0, 1, 0, 2, 3, 4, 2, 5, 6, 7]
    assert first_rows(case).tolist() == [0, 1, 3, 4, 5, 7, 8, 9]


def test_no_rows_have_no_cases() -> None:
    case = cases_of(pa.array([], pa.string()), pa.array([], pa.string()))
    assert len(case) == len(first_rows(case)) == 0
