"""The ledger of a test set: each model once, whole lines only, also with several at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import GateError
from tasks.uses import count_use

SET = "ab" * 32


def ledger_of(homes: Path) -> Path:
    return homes / "ekiben_home" / "test_sets" / "abababababababab.jsonl"


def test_each_model_counts_once_and_keeps_its_number(homes: Path) -> None:
    assert [count_use(SET, model, "sms") for model in "xyxzyx"] == [1, 2, 1, 3, 2, 1]
    lines = [json.loads(line) for line in ledger_of(homes).read_text().splitlines()]
    assert [(line["model"], line["pipeline"]) for line in lines] == [
        ("x", "sms"),
        ("y", "sms"),
        ("z", "sms"),
    ]


def test_each_test_set_has_a_ledger_of_its_own(homes: Path) -> None:
    assert count_use(SET, "x", "sms") == count_use("cd" * 32, "y", "sms") == 1


def test_a_line_that_was_torn_counts_for_none(homes: Path) -> None:
    count_use(SET, "x", "sms")
    with ledger_of(homes).open("ab") as stream:
        stream.write(b'{"model": "torn')
    assert [count_use(SET, model, "sms") for model in "xy"] == [1, 2]
    assert "torn" not in ledger_of(homes).read_text()


@pytest.mark.parametrize("line", ["", "x", "[]", "3", '{"models": 1}', "\xff"])
def test_a_line_that_is_no_use_is_refused(homes: Path, line: str) -> None:
    count_use(SET, "x", "sms")
    with ledger_of(homes).open("ab") as stream:
        stream.write(line.encode("latin-1") + b"\n")
    with pytest.raises(GateError, match="line 2 is not a use of a test set; restore the file"):
        count_use(SET, "y", "sms")


COUNT = """
import sys
from tasks.uses import count_use
for model in sys.argv[2:]:
    print(count_use(sys.argv[1], model, "sms"))
"""


def test_models_that_are_decided_at_once_get_numbers_of_their_own(homes: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, SET, *(f"{one} of {four}" for one in range(3))],
            stdout=subprocess.PIPE, text=True,
        )
        for four in range(4)
    ]  # fmt: skip
    numbers = [int(line) for each in started for line in each.communicate(timeout=120)[0].split()]
    assert sorted(numbers) == list(range(1, 13))
