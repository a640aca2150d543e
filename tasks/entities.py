"""Swap the entities of a text for others of the same kind: numbers, hosts, names, cities."""

import re
from random import Random

# Short lists of our own: what is not in them is left alone, which is safer than to guess.
_KINDS = (
    ("Alice", "Anna", "Carol", "Emma", "Grace", "Julia", "Laura", "Maria", "Nina", "Sarah"),
    ("Adam", "Daniel", "David", "Jack", "James", "John", "Mark", "Peter", "Robert", "Thomas"),
    ("Berlin", "Boston", "Chicago", "Dublin", "London", "Madrid", "Paris", "Rome", "Sydney"),
    (
        "\u5317\u4eac",
        "\u4e0a\u6d77",
        "\u5e7f\u5dde",
        "\u6df1\u5733",
        "\u6210\u90fd",
        "\u5357\u4eac",
    ),
)
_KIND_OF = {name: kind for kind in _KINDS for name in kind}
_SURNAMES = tuple("\u738b\u674e\u5f20\u5218\u9648\u6768\u8d75\u9ec4\u5468\u5434")
_TITLES = "\u5148\u751f|\u5973\u58eb|\u5c0f\u59d0|\u8001\u5e08|\u7ecf\u7406|\u533b\u751f"
_HOSTS = ("bluebird", "fairfield", "lantern", "maplewood", "northgate", "silverlake")
_LATIN = "|".join(name for name in _KIND_OF if name.isascii())
_HAN = "|".join(name for name in _KIND_OF if not name.isascii())
_ENTITY = re.compile(
    r"(?P<host>(?:(?<=@)|(?<=://www\.)|(?<=://)(?!www\.)|(?<=\bwww\.))[A-Za-z0-9-]+(?=\.[A-Za-z]))"
    rf"|(?<![A-Za-z])(?P<latin>{_LATIN})(?![A-Za-z])"
    rf"|(?P<han>{_HAN})"
    rf"|(?P<surname>[{''.join(_SURNAMES)}])(?={_TITLES})"
    r"|(?<![A-Za-z0-9])(?P<number>[0-9]+)(?![A-Za-z0-9])"
)
# A number up to each of these may be a month, a day or a year, and stays one.
_RANGES = ((1, 12), (13, 28), (1990, 2029))


def swap_entities(text: str, draw: Random) -> str:
    """Return the text with every number, host, name and city that is known swapped for another."""

    def swapped(match: re.Match[str]) -> str:
        found, group = match[0], match.lastgroup
        if group == "number":
            return _number(found, draw)
        others = {"host": _HOSTS, "surname": _SURNAMES}.get(str(group)) or _KIND_OF[found]
        return draw.choice([other for other in others if other != found])

    return _ENTITY.sub(swapped, text)


def _number(found: str, draw: Random) -> str:
    """Return another number with as many digits, which can be a month, day or year where it could."""
    if len(found) <= 4:
        for low, high in _RANGES:
            if low <= int(found) <= high:
                most = min(high, 10 ** len(found) - 1)
                others = [number for number in range(low, most + 1) if number != int(found)]
                return str(draw.choice(others)).zfill(len(found))
    first = draw.choice([digit for digit in "123456789" if digit != found[0]])
    return first + "".join(draw.choices("0123456789", k=len(found) - 1))
