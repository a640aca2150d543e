"""Masking: what is found, what must stay, that masking twice is masking once, and the config."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.schema import ID_REGIONS, Cleaning, Data, Privacy
from tasks.cleaning import clean
from tasks.privacy import NATIONAL_IDS, mask
from tasks.requirements import SERVING_ROOTS, serving_roots

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("email", "phone", "card", "iban", "national_id", "ip", "url_secret")
ALL = {"mask": KINDS, "regions": ("US", "GB", "CN")}

FOUND = [
    # e-mail
    ("write to ann@shop.example today", "write to [EMAIL] today"),
    ("<Ann.Lee+news@mail.shop-1.example>,", "<[EMAIL]>,"),
    ("mailto:ann@shop.example.", "mailto:[EMAIL]."),
    ("...ann@shop.example...", "...[EMAIL]..."),
    ("o'brien@shop.example", "[EMAIL]"),
    ("a@b.example;c@d.example", "[EMAIL];[EMAIL]"),
    ("邮箱ann@shop.example联系我", "邮箱[EMAIL]联系我"),
    ("ａｎｎ＠ｓｈｏｐ．ｅｘａｍｐｌｅ", "[EMAIL]"),
    ("josé@bücher.example", "[EMAIL]"),
    ("ann@xn--bcher-kva.xn--p1ai", "[EMAIL]"),
    # phone
    ("call +1 212 555 0123 now", "call [PHONE] now"),
    ("call (212) 555-0123.", "call [PHONE]."),
    ("212.555.0123/212.555.0124", "[PHONE]/[PHONE]"),
    ("2125550123", "[PHONE]"),
    ("tel:+442079460958", "tel:[PHONE]"),
    ("020 7946 0958 ext. 12", "[PHONE]"),
    ("电话13812345678，谢谢", "电话[PHONE]，谢谢"),
    ("（０１０）１２３４－５６７８", "[PHONE]"),
    ("+８６ 138 1234 5678", "[PHONE]"),
    ("phone \u0662\u0661\u0662-\u0665\u0665\u0665-\u0660\u0661\u0662\u0663", "phone [PHONE]"),
    ("212\u2013555\u20130123", "[PHONE]"),
    ("my phone number 212-555-0123", "my phone number [PHONE]"),
    ("2024-01-15 212-555-0123", "2024-01-15 [PHONE]"),
    ("Tel-2125550123 电话-13812345678", "Tel-[PHONE] 电话-[PHONE]"),
    # card
    ("card 4111111111111111", "card [CARD]"),
    ("4111 1111 1111 1111 exp 12/26", "[CARD] exp 12/26"),
    ("4111-1111-1111-1111,5555555555554444", "[CARD],[CARD]"),
    ("pay 3 with 3782 822463 10005!", "pay 3 with [CARD]!"),
    ("卡号6011111111111117。", "卡号[CARD]。"),
    ("４１１１　１１１１　１１１１　１１１１", "[CARD]"),
    ("30569309025904 3530111333300000", "[CARD] [CARD]"),
    # IBAN
    ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN [IBAN] please"),
    ("GB82WEST12345698765432.", "[IBAN]."),
    ("gb82 west 1234 5698 7654 32 IS MINE", "[IBAN] IS MINE"),
    ("no12 GB82 WEST 1234 5698 7654 32", "no12 [IBAN]"),
    ("账号FR1420041010050500013M02606。", "账号[IBAN]。"),
    # national ids
    ("ssn 536-90-4399", "ssn [NATIONAL_ID]"),
    ("itin 912-90-3456.", "itin [NATIONAL_ID]."),
    ("身份证360426199101010071号", "身份证[NATIONAL_ID]号"),
    ("身份证号：１１０１０５１９４９１２３１００２Ｘ", "身份证号：[NATIONAL_ID]"),
    ("11010519491231002x", "[NATIONAL_ID]"),
    ("NHS 943 476 5870", "NHS [NATIONAL_ID]"),
    # addresses of machines
    ("from 203.0.113.9, port 80", "from [IP], port 80"),
    ("203.0.113.9:8080 and 10.0.0.0/8", "[IP]:8080 and [IP]/8"),
    ("地址192.168.0.1登录", "地址[IP]登录"),
    ("2001:db8::8a2e:370:7334.", "[IP]."),
    ("[2001:0db8:0000:0000:0000:ff00:0042:8329]:443", "[[IP]]:443"),
    ("fe80::1: no route", "[IP]: no route"),
    ("::ffff:192.0.2.128", "[IP]"),
    # secrets of URLs
    ("https://ann:pa55@shop.example/x", "https://[URL_SECRET]@shop.example/x"),
    ("redis://:pa55@cache.example:6379", "redis://[URL_SECRET]@cache.example:6379"),
    ("https://ann:p@ss@shop.example", "https://[URL_SECRET]@shop.example"),
    ("http://x.example/?a=1&token=abc&b=2", "http://x.example/?a=1&token=[URL_SECRET]&b=2"),
    (
        "http://x.example/?X-Amz-Signature=ab12&sig=a%2Fb&api_key=k",
        "http://x.example/?X-Amz-Signature=[URL_SECRET]&sig=[URL_SECRET]&api_key=[URL_SECRET]",
    ),
    ("(http://x.example/#access_token=ab.cd).", "(http://x.example/#access_token=[URL_SECRET])."),
    ("见http://x.example/?key=abc，谢谢", "见http://x.example/?key=[URL_SECRET]，谢谢"),
    # several at once
    (
        "ann@shop.example from 203.0.113.9 paid 4111111111111111",
        "[EMAIL] from [IP] paid [CARD]",
    ),
]

STAYS = [
    # no address
    "meet @ann at 5@home",
    "me@localhost or a@b",
    "pip install package@1.2.3",
    "2 apples @ 1.50",
    # dates and times
    "2024-01-15 10:30:00",
    "on 15.01.2024 and 15/01/2024 at 10.30",
    "20240115 and 2024/01/15-2024/02/15",
    "1999年12月31日23:59",
    "unix time 1700000000",
    # prices, decimals and counts
    "$1,234,567.89 or 4111.50",
    "£25.50, 1 000 000 and 12.345.678",
    "pi is 3.1415926535",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    # order numbers and ids
    "order 2125550123",
    "Order number: 2125550123",
    "ticket #2125550123",
    "INV-2125550123",
    "订单号：13812345678",
    "order 1234567890123452 and 9999999999999995",
    "isbn 9780306406157",
    "sku A2125550123B",
    "text WIN to 80086",
    "1234567",
    # fails its check
    "4111111111111112",
    "4111 1111 1111 1112",
    "41111111111111111111111",
    "DE89 3704 0044 0532 0130 01",
    "GB82WEST1234569876543",
    "360426199101010072",
    "000-12-3456 or 666-12-3456",
    "536904399",
    "123 456 7890",
    "+99 000 111 2222",
    # no machine
    "version 1.2.3.4 and v1.2.3.4",
    "版本1.2.3.4",
    "1.2.3 and 1.2.3.4.5",
    "256.1.1.1 or 01.02.03.04",
    "10:30:45 and 00:1a:2b:3c:4d:5e",
    "std::vector, a::b and ::",
    # no secret
    "https://shop.example/x?page=2&keyword=tea&monkey=1",
    "https://shop.example:8080/a",
    "token=abc without an address",
    "https://x.example/?token=",
    # what has been masked
    "[EMAIL] [PHONE] [CARD] [IBAN] [NATIONAL_ID] [IP] [URL_SECRET]",
    "https://[URL_SECRET]@x.example/?token=[URL_SECRET]",
]


@pytest.mark.parametrize(("text", "masked"), FOUND)
def test_what_names_or_unlocks_a_person_is_masked(text: str, masked: str) -> None:
    got, counts = mask(text, ALL)
    assert got == masked
    assert counts == {
        k: masked.count(f"[{k.upper()}]") for k in KINDS if f"[{k.upper()}]" in masked
    }


@pytest.mark.parametrize("text", STAYS)
def test_what_only_looks_so_stays(text: str) -> None:
    assert mask(text, ALL) == (text, {})


# A number of each region that is no person's: python-stdnum's own examples.
IDS = {
    "AT": "1237 010180",
    "AU": "123 456 782",
    "BE": "85 07 30 033 28",
    "BR": "390.533.447-05",
    "CA": "123-456-782",
    "CH": "756.9217.0769.85",
    "CN": "360426199101010071",
    "CZ": "710319/2745",
    "DE": "36 574 261 809",
    "DK": "211062-5629",
    "ES": "X-2482300W",
    "FI": "131052-308T",
    "FR": "295109912611193",
    "GB": "943-476-5870",
    "IE": "6433435F",
    "IN": "2341 2341 2346",
    "IT": "RCCMNL83S18D969H",
    "JP": "6214 9832 0257",
    "KR": "971013-9019902",
    "MX": "BOXW310820HNERXN09",
    "MY": "770305-02-1234",
    "NO": "151086 95088",
    "PL": "44051401359",
    "RO": "1630615123457",
    "SE": "880320-0016",
    "TR": "17291716060",
    "US": "536-90-4399",
    "ZA": "7503305044089",
}


@pytest.mark.parametrize("region", NATIONAL_IDS)
def test_the_national_id_of_a_declared_region_is_masked_and_of_another_stays(region: str) -> None:
    text = f"id: {IDS[region]}, thanks"
    assert mask(text, {"mask": ["national_id"], "regions": [region]}) == (
        "id: [NATIONAL_ID], thanks",
        {"national_id": 1},
    )
    other = "KR" if region != "KR" else "CN"
    assert mask(text, {"mask": ["national_id"], "regions": [other]}) == (text, {})


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_kinds_that_are_declared_are_masked(kind: str) -> None:
    text = (
        "ann@shop.example +12125550123 4111111111111111 GB82WEST12345698765432 536-90-4399 "
        "203.0.113.9 http://x.example/?token=abc"
    )
    masked, counts = mask(text, {"mask": [kind], "regions": ["US"]})
    assert counts == {kind: 1}
    assert masked.count("[") == 1 and f"[{kind.upper()}]" in masked


def test_without_a_region_only_a_phone_number_with_its_country_is_known() -> None:
    masked, counts = mask("212-555-0123 or +1 212-555-0124", {"mask": ["phone"], "regions": []})
    assert (masked, counts) == ("212-555-0123 or [PHONE]", {"phone": 1})


PARTS = [
    *(text for text, _ in FOUND),
    *STAYS,
    *("@", "://", ":", ".", "-", " ", "+", "(", "[", "]", "=", "?", "&", "#", "\u0661", "\uff11"),
    *("[EMAIL]", "[URL_SECRET]", "token", "4111", "GB82", "::", "&amp;", "\u0130", "\u017f"),
]
TEXTS = st.one_of(
    st.text(),
    st.text("0123456789 -+().:/@a[]", max_size=60),
    st.lists(st.sampled_from(PARTS), max_size=5).map("".join),
)


@given(TEXTS)
def test_masking_twice_is_masking_once(text: str) -> None:
    once, _ = mask(text, ALL)
    assert mask(once, ALL) == (once, {})


@given(TEXTS)
def test_a_stored_row_passes_through_the_service_unchanged(text: str) -> None:
    switches = Cleaning(unicode="NFKC").model_dump()
    stored, _ = mask(clean(text, switches), ALL)
    assert mask(clean(stored, switches), ALL) == (stored, {})


@given(TEXTS, st.sets(st.sampled_from(KINDS)))
def test_every_value_counted_has_its_placeholder_and_nothing_else_is_lost(
    text: str, kinds: set[str]
) -> None:
    masked, counts = mask(text, {"mask": tuple(kinds), "regions": ("US",)})
    assert set(counts) <= kinds
    for kind in KINDS:
        placeholder = f"[{kind.upper()}]"
        assert masked.count(placeholder) == text.count(placeholder) + counts[kind]


@given(TEXTS)
def test_by_default_nothing_is_masked(text: str) -> None:
    assert mask(text, Privacy().model_dump()) == (text, {})


def test_the_service_masks_by_the_same_file() -> None:
    stage, service = ROOT / "tasks" / "privacy.py", ROOT / "bentos/text_classifier/privacy.py"
    assert service.is_symlink() and service.resolve() == stage.resolve()


def test_the_config_knows_the_same_regions() -> None:
    assert set(ID_REGIONS) == set(NATIONAL_IDS) == set(IDS)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"mask": ["name"]}, "Input should be"),
        ({"mask": ["national_id"]}, "national_id needs regions"),
        ({"mask": ["national_id"], "regions": ["TW"]}, "no national id is known of 'TW'"),
        ({"mask": ["phone"], "regions": ["XX"]}, "no phone numbers are known of 'XX'"),
        ({"mask": ["phone"], "regions": ["us"]}, "String should match pattern"),
        ({"mask": ["phone"], "regions": [False]}, "Input should be a valid string"),
    ],
)
def test_what_cannot_be_masked_is_refused(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Privacy.model_validate(section)


@pytest.mark.parametrize(
    ("cleaning", "privacy", "roots"),
    [
        ({}, {}, set()),
        ({}, {"mask": ["email", "ip", "url_secret"]}, set()),
        ({}, {"mask": ["phone"]}, {"phonenumbers"}),
        ({}, {"mask": ["card"]}, {"python-stdnum"}),
        ({}, {"mask": ["iban"]}, {"python-stdnum"}),
        ({}, {"mask": ["national_id"], "regions": ["US"]}, {"python-stdnum"}),
        ({"chinese": "simplified"}, {}, {"opencc"}),
        ({"pinyin": True}, {}, {"pypinyin"}),
    ],
)
def test_a_bento_requires_only_what_its_own_cleaning_and_masking_call(
    cleaning: dict[str, Any], privacy: dict[str, Any], roots: set[str]
) -> None:
    labels = ["ham", "spam"]
    data = Data.model_validate(
        {"uri": "rows.csv", "labels": labels, "cleaning": cleaning, "privacy": privacy}
    )
    for kind, own in SERVING_ROOTS.items():
        assert set(serving_roots(data, kind)) == {*own, *roots}
