"""Mask what names or unlocks a person, the same way in training and in the service.

The Bento carries this file, so that a text is masked there by the same code as the rows the model
was trained on. The libraries that know the numbers are imported where a config asks for them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import ip_address
from sys import maxunicode
from typing import Any
from unicodedata import category, decimal

Span = tuple[int, int]
Finder = Callable[[str, Sequence[str]], Iterable[Span]]

_MAY_HOLD = re.compile(r"[\d@\uff20]|[:\uff1a][/\uff0f]{2}")  # without one of these, nothing does

# Chinese, Japanese and Thai write no space between a word and a number, so that only letters of
# alphabets that do (Latin, Greek, Cyrillic) may not stand beside one.
_WORD = r"[0-9A-Za-z_\u00c0-\u052f]"
_START = rf"(?<!{_WORD})(?<!\d[.-])"
_END = rf"(?!{_WORD})(?![.-]\d)"


def mask(text: str, settings: Mapping[str, Any]) -> tuple[str, Counter[str]]:
    """Return the text with each value of `data.privacy` replaced, and how many there were by kind.

    A card becomes `[CARD]`, and so on; of a URL only the secret is replaced. Masking repeats until
    nothing is found, so that a text that was masked before passes through unchanged.
    """
    counts: Counter[str] = Counter()
    kinds = [kind for kind in _FINDERS if kind in settings["mask"]]
    found = bool(kinds) and _MAY_HOLD.search(text) is not None
    while found:
        found = False
        for kind in kinds:
            spans = _apart(_FINDERS[kind](_plain(text), settings["regions"]))
            if spans:
                text = _replace(text, spans, f"[{kind.upper()}]")
                counts[kind] += len(spans)
                found = True
    return text, counts


def _apart(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, without those that begin inside an earlier or longer one."""
    apart: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not apart or start >= apart[-1][1]:
            apart.append((start, end))
    return apart


def _replace(text: str, spans: list[Span], placeholder: str) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], placeholder]
        done = end
    return "".join([*parts, text[done:]])


@cache
def _plain_letters() -> dict[int, str]:
    """Return the ASCII digit, dash, space or full-width form's letter for each that has one."""
    letters = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    for code in range(0x80, maxunicode + 1):
        letter = chr(code)
        if (digit := decimal(letter, None)) is not None:
            letters[code] = str(digit)
        elif category(letter) == "Pd":
            letters[code] = "-"
        elif category(letter) == "Zs":
            letters[code] = " "
    return letters


def _plain(text: str) -> str:
    """Return the text with odd digits, dashes, spaces and full-width letters as plain ones.

    Every letter stays at its place, so that what is found in the plain text is replaced in the
    original.
    """
    return text if text.isascii() else text.translate(_plain_letters())


def _checked(
    pattern: re.Pattern[str], text: str, is_valid: Callable[[str], bool]
) -> Iterator[Span]:
    """Yield where group 1 matches and is valid; within a lookahead, matches may overlap."""
    return (found.span(1) for found in pattern.finditer(text) if is_valid(found[1]))


# --- E-mail addresses and secrets of URLs --------------------------------------------------------

_LOCAL = r"[0-9A-Za-z_.%+'\u00c0-\u052f-]"
_EMAIL = re.compile(
    rf"(?<!{_LOCAL})[.%+'-]*+({_LOCAL}++@(?:[0-9A-Za-z\u00c0-\u052f-]++\.)+"
    rf"(?:xn--[0-9a-z-]+|[A-Za-z\u00c0-\u052f]{{2,63}})(?!{_WORD}))"
)
_IN_URL = r"[^\s\u2e80-\U0010ffff]"  # ideographs end a URL in running text
_URL = re.compile(rf"(?<=://){_IN_URL}+")
_USER = re.compile(r"([^/?#@:]*+:[^/?#]*)@")
_PARAMETER = re.compile(
    r"[?&;#]"
    r"(?:[\w.-]*(?:token|secret|password|passwd|pwd|signature|credential)"
    r"|(?:[\w.-]*(?:[_.-]|api|access|auth|secret|private))?key|(?:[\w.-]*[_.-])?(?:sig|auth))"
    r"=(?!\[URL_SECRET\])([^&#\"'<>]*[\w%+/=~$*-])",
    re.IGNORECASE,
)


def _emails(text: str, _: Sequence[str]) -> Iterator[Span]:
    return _checked(_EMAIL, text, bool)


def _url_secrets(text: str, _: Sequence[str]) -> Iterator[Span]:
    """Yield `user:password` before the host, and the value of each parameter that unlocks."""
    for url in _URL.finditer(text):
        secrets = [*_PARAMETER.finditer(url[0])]
        if user := _USER.match(url[0]):
            secrets.append(user)
        yield from ((url.start() + s.start(1), url.start() + s.end(1)) for s in secrets)


# --- Addresses of machines -----------------------------------------------------------------------

# "version 1.2.3.4" is no address, and neither is "v1.2.3.4", whose v is a letter beside it.
_RELEASE = re.compile(
    r"(?:\bver(?:sion|\.)?|\bv\.?|\brelease|\bbuild|版本号?)[ :=]*$", re.IGNORECASE
)
_IPV4 = re.compile(rf"{_START}((?:\d{{1,3}}\.){{3}}\d{{1,3}}){_END}")
_IPV6 = re.compile(
    rf"(?<!{_WORD})(?<![:.])((?:[0-9A-Fa-f]{{0,4}}:){{2,7}}"
    rf"(?:(?:\d{{1,3}}\.){{3}}\d{{1,3}}|[0-9A-Fa-f]{{1,4}}|(?<=::)))(?!:?{_WORD})(?!\.\d)"
)


def _ips(text: str, _: Sequence[str]) -> Iterator[Span]:
    for start, end in _checked(_IPV4, text, _is_ip):
        if _RELEASE.search(text[max(0, start - 12) : start]) is None:
            yield start, end
    yield from _checked(_IPV6, text, lambda found: _is_ip(found) and _names_a_machine(found))


def _is_ip(found: str) -> bool:
    try:
        ip_address(found)
    except ValueError:
        return False
    return True


def _names_a_machine(ipv6: str) -> bool:
    """Tell an address from `::` and `a::b` of a program: two groups, and a digit in them."""
    return len([part for part in ipv6.split(":") if part]) > 1 and any(map(str.isdigit, ipv6))


# --- Numbers that carry a check ------------------------------------------------------------------

_IBAN = re.compile(rf"(?<!{_WORD})(?=([A-Za-z]{{2}}\d{{2}}(?:[ -]?[0-9A-Za-z]){{11,30}}))")
_BOUNDARY = re.compile(_END)
_CARD_GROUPS = re.compile(rf"{_START}\d{{3,19}}(?:[ -]\d{{3,19}})*{_END}")
_CARD = re.compile(  # by issuer, as ISO/IEC 7812 gives out first digits and lengths
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12,15}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}|62\d{14,17}|220[0-4]\d{12}"
)


def _ibans(text: str, _: Sequence[str]) -> Iterator[Span]:
    """Yield each IBAN; the words after it look like more groups, so the longest valid one counts."""
    from stdnum import iban

    for found in _IBAN.finditer(text):
        start, last = found.span(1)
        for end in range(last, start + 14, -1):
            whole = text[end - 1].isalnum() and _BOUNDARY.match(text, end)
            if whole and iban.is_valid(text[start:end]):
                yield start, end
                break


def _cards(text: str, _: Sequence[str]) -> Iterator[Span]:
    """Yield runs of whole groups of digits that an issuer gives out and Luhn's check passes."""
    from stdnum import luhn

    for run in _CARD_GROUPS.finditer(text):
        groups = [group.span() for group in re.compile(r"\d+").finditer(text, *run.span())]
        for first, (start, _end) in enumerate(groups):
            for _start, end in groups[first : first + 6]:
                number = re.sub(r"\D", "", text[start:end])
                if _CARD.fullmatch(number) and luhn.is_valid(number):
                    yield start, end


# By region, the module of python-stdnum and how the number is written. A single check digit passes
# a tenth of all numbers of its length: where there is no more, only the grouped form counts.
NATIONAL_IDS = {
    "AT": {"vnr": r"\d{4} \d{6}"},
    "AU": {"tfn": r"\d{3} \d{3} \d{3}"},
    "BE": {"nn": r"\d{2}[. ]?\d{2}[. ]?\d{2}[ -]?\d{3}[. ]?\d{2}"},
    "BR": {"cpf": r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}"},
    "CA": {"sin": r"\d{3}[ -]\d{3}[ -]\d{3}"},
    "CH": {"ssn": r"756\.?\d{4}\.?\d{4}\.?\d{2}"},
    "CN": {"ric": r"\d{17}[\dX]"},
    "CZ": {"rc": r"\d{6}/\d{3,4}"},
    "DE": {"idnr": r"\d{2} ?\d{3} ?\d{3} ?\d{3}"},
    "DK": {"cpr": r"\d{6}-\d{4}"},
    "ES": {"dni": r"\d{8}-?[A-Z]", "nie": r"[XYZ]-?\d{7}-?[A-Z]"},
    "FI": {"hetu": r"\d{6}[-+A-F]\d{3}[0-9A-Y]"},
    "FR": {"nir": r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}"},
    "GB": {"nhs": r"\d{3}[ -]\d{3}[ -]\d{4}"},
    "IE": {"pps": r"\d{7}[A-W][A-IW]?"},
    "IN": {"aadhaar": r"\d{4}[ -]\d{4}[ -]\d{4}", "pan": r"[A-Z]{5}\d{4}[A-Z]"},
    "IT": {"codicefiscale": r"[A-Z]{6}[0-9A-Z]{2}[A-Z][0-9A-Z]{2}[A-Z][0-9A-Z]{3}[A-Z]"},
    "JP": {"in_": r"\d{4}[ -]\d{4}[ -]\d{4}"},
    "KR": {"rrn": r"\d{6}-\d{7}"},
    "MX": {"curp": r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d"},
    "MY": {"nric": r"\d{6}-\d{2}-\d{4}"},
    "NO": {"fodselsnummer": r"\d{6} ?\d{5}"},
    "PL": {"pesel": r"\d{11}"},
    "RO": {"cnp": r"[1-9]\d{12}"},
    "SE": {"personnummer": r"(?:\d{2})?\d{6}[-+]\d{4}"},
    "TR": {"tckimlik": r"[1-9]\d{10}"},
    "US": {"ssn": r"\d{3}-\d{2}-\d{4}", "itin": r"9\d{2}-\d{2}-\d{4}"},
    "ZA": {"idnr": r"\d{13}"},
}


@cache
def _known_ids(region: str) -> list[tuple[re.Pattern[str], Callable[[str], bool]]]:
    """Return how each national id of the region is written, and what checks it."""
    from stdnum.util import get_cc_module

    known: list[tuple[re.Pattern[str], Callable[[str], bool]]] = []
    for name, form in NATIONAL_IDS[region].items():
        pattern = re.compile(rf"{_START}(?=({form}){_END})", re.ASCII | re.IGNORECASE)
        number = get_cc_module(region, name)
        if number is None:
            raise LookupError(f"python-stdnum has no {region}.{name}")
        known.append((pattern, number.is_valid))
    return known


def _national_ids(text: str, regions: Sequence[str]) -> Iterator[Span]:
    for region in regions:
        for pattern, is_valid in _known_ids(region):
            yield from _checked(pattern, text, is_valid)


# --- Phone numbers -------------------------------------------------------------------------------

_PHONE = re.compile(
    rf"(?<!{_WORD})[+(]{{0,2}}\d(?:[ ()./-]{{0,3}}\d){{6,}}"
    r"(?:[ ,;]{0,2}(?:ext|extn|x|分机|转)[.:]? ?\d{1,6})?"
)
_DECIMAL = re.compile(r"\d+\.\d+")
_DATE = re.compile(
    r"(?<![\d+])(?:(?:19|20)\d\d([./-]?)(?:0?[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])([./-])(?:0[1-9]|1[0-2])\2(?:19|20)\d\d)(?!\d)"
)
_COUNTED = re.compile(  # what stands before a number that counts things, not phones
    r"(?:#|№|(?<![0-9a-z])(?!tel|ph|mob|cell|fax|call)[0-9a-z]+-"
    r"|(?:\b(?:order|invoice|claim|ticket|tracking|case|item|ref|reference|id|isbn|sku)"
    r"(?: (?:number|no|id|nr))?|订单号?|单号|编号|編號|訂單號?)[.:#= ]{0,3})$",
    re.IGNORECASE,
)


def _phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Yield valid numbers: those that begin with + and a country, and those of the regions."""
    from phonenumbers import PhoneNumberMatcher

    text = _DATE.sub(lambda date: ":" * len(date[0]), text)
    for run in _PHONE.finditer(text):
        before = text[max(0, run.start() - 24) : run.start()]
        if _DECIMAL.fullmatch(run[0]) or _COUNTED.search(before):
            continue
        begin = max(0, run.start() - 1)  # the matcher looks at the letters on either side
        window = text[begin : run.end() + 1]
        for region in regions or (None,):
            for found in PhoneNumberMatcher(window, region):
                yield begin + found.start, begin + found.end


# In this order: a password may look like an address, an IBAN or id may hold a phone number.
_FINDERS: dict[str, Finder] = {
    "url_secret": _url_secrets,
    "email": _emails,
    "ip": _ips,
    "iban": _ibans,
    "national_id": _national_ids,
    "card": _cards,
    "phone": _phones,
}
