"""Perturbations: each changes a text as declared or says that it cannot, and always alike."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.section import Perturbation
from tasks.perturbations import CHARACTERS_A_TYPO, perturb

ROOT = Path(__file__).resolve().parents[2]
NAMES: tuple[Perturbation, ...] = get_args(Perturbation)
ENGLISH = "Dear John, call 555 0142 before 12/05/2024 or mail ann@shop.example.com, London"
CHINESE = "王先生在北京说，这家餐厅的菜很好吃。下次我们还会来！"
SEEDS = range(40)
mixed = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(ENGLISH + CHINESE))
)


def all_of(name: Perturbation, text: str) -> set[str]:
    """Return what many seeds make of a text."""
    return {changed for seed in SEEDS if (changed := perturb(name, text, seed)) is not None}


def edits(one: str, other: str) -> int:
    """Return the fewest letters put in, taken out or replaced between two texts."""
    line = list(range(len(other) + 1))
    for at, letter in enumerate(one, start=1):
        before, line[0] = line[0], at
        for place, against in enumerate(other, start=1):
            least = min(line[place] + 1, line[place - 1] + 1, before + (letter != against))
            before, line[place] = line[place], least
    return line[-1]


@pytest.mark.parametrize("name", NAMES)
@given(text=mixed, seed=st.integers(0, 2**31 - 1))
def test_a_text_is_changed_or_there_is_none_and_always_alike(
    name: Perturbation, text: str, seed: int
) -> None:
    changed = perturb(name, text, seed)
    assert changed is None or (changed != text and changed.strip())
    assert perturb(name, text, seed) == changed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_each_perturbation_knows_english_and_chinese(name: Perturbation, text: str) -> None:
    expected = not (name == "case" and text == CHINESE)
    assert bool(all_of(name, text)) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", " \n", "-- ?!"[:2]])
def test_nothing_comes_of_a_text_without_letters(name: Perturbation, text: str) -> None:
    if name != "full_width":
        assert all_of(name, text) == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_placeholder_stays_as_the_service_makes_it(name: Perturbation) -> None:
    for changed in all_of(name, f"[EMAIL] {ENGLISH} [NATIONAL_ID]"):
        assert changed.startswith("[EMAIL]")
        assert changed.endswith("[NATIONAL_ID]")
    assert all_of(name, "[PHONE]") == set()


def test_another_process_perturbs_alike() -> None:
    made = f"[perturb(name, {ENGLISH!r}, 3) for name in {NAMES!r}]"
    asked = f"from tasks.perturbations import perturb\nprint(ascii({made}))"
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert told.strip() == ascii([perturb(name, ENGLISH, 3) for name in NAMES])


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_a_typo_stands_in_each_stretch_and_is_one_edit_or_one_swap(text: str) -> None:
    stretches = -(-len(text) // CHARACTERS_A_TYPO)
    for changed in all_of("typos", text):
        assert 1 <= edits(text, changed) <= 2 * stretches


def test_typos_of_a_word_are_those_of_a_keyboard() -> None:
    made = all_of("typos", "Ho")
    assert made <= {"Go", "Jo", "Hi", "Hp", "HHo", "Hoo", "oH", "o", "H"}
    assert len(made) > 5


def test_typos_of_chinese_are_homophones_and_dropped_characters() -> None:
    from pypinyin import lazy_pinyin

    made = all_of("typos", "菜很好")
    kept = {text for text in made if len(text) == 3}
    swaps = {text for text in kept if sorted(text) == sorted("菜很好")}
    assert {"菜很", "很好", "菜好"} <= made
    assert kept - swaps
    for text in kept - swaps:
        assert lazy_pinyin(text) == ["cai", "hen", "hao"]


def test_homophones_of_traditional_characters_are_of_their_own_set() -> None:
    made = {text for text in all_of("typos", "書") if text != "書"}
    assert made
    for text in made:
        text.encode("big5")


def test_case_is_small_large_or_that_of_a_title() -> None:
    assert all_of("case", "Don't call me") == {"don't call me", "DON'T CALL ME", "Don't Call Me"}
    assert all_of("case", "don't") == {"DON'T", "Don't"}


def test_white_space_is_doubled_exchanged_lost_or_added() -> None:
    assert all_of("white_space", "a, b") == {"a,  b", "a,\tb", "a,\u3000b", "a,b"}
    assert all_of("white_space", "很好，再来") == {"很好， 再来", "很 好，再来"}
    assert all_of("white_space", "word") == set()


def test_full_width_forms_go_both_ways() -> None:
    assert all_of("full_width", "Win 9!") == {"Ｗｉｎ ９！"}
    assert all_of("full_width", "很好，ok。") == {"很好，ｏｋ。", "很好,ok."}


def test_entities_become_others_of_their_kind() -> None:
    for changed in all_of("entities", "Anna pays 45 to b@shop.example in Paris on 12/05/2024"):
        name, _, amount, _, mail, _, city, _, day = changed.split()
        assert name in {
            "Alice",
            "Carol",
            "Emma",
            "Grace",
            "Julia",
            "Laura",
            "Maria",
            "Nina",
            "Sarah",
        }
        assert len(amount) == 2 and amount != "45"
        assert mail.startswith("b@") and mail.endswith(".example") and "shop" not in mail
        assert city != "Paris" and city.istitle()
        one, other, year = map(int, day.split("/"))
        assert 1 <= one <= 12 and 1 <= other <= 12 and 1990 <= year <= 2029
        assert {one, other, year}.isdisjoint({2024}) and (one, other) != (12, 5)


def test_chinese_entities_become_others_of_their_kind() -> None:
    for changed in all_of("entities", "王先生去北京，王子没去"):
        assert changed[1:4] == "先生去" and changed[0] in "李张刘陈杨赵黄周吴"
        assert changed[4:6] in {"上海", "广州", "深圳", "成都", "南京"}
        assert changed.endswith("，王子没去")


def test_hosts_are_swapped_and_words_with_digits_are_not() -> None:
    made = all_of("entities", "https://www.shop.example/a and B2B mp3 www.shop.example")
    assert made
    for changed in made:
        assert "shop" not in changed and "www" in changed and "B2B mp3" in changed


def test_a_number_too_long_to_count_is_another_as_long() -> None:
    digits = "7" * 5000
    for changed in list(all_of("entities", digits))[:3]:
        assert len(changed) == 5000 and changed[0] != "7"
