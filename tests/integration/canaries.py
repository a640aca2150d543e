"""Twenty values that name or unlock a person, and where in a folder's files they come out."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PRIVACY = {
    "mask": ["email", "phone", "card", "iban", "national_id", "ip", "url_secret"],
    "regions": ["US", "GB", "CN"],
}
CANARIES = {
    "canary.one@mail.example": "write to {} today",
    "canary+two@shop-1.example": "我的邮箱{}谢谢",
    "canary_three@a.b.example": "<{}>, or not",
    "+1 212 555 0187": "call {} now",
    "(020) 7946 0958": "ring {} ext. 12 tonight",
    "13812345678": "电话{}随时",
    "212.555.0163": "either {}/212.555.0199",
    "4111 1111 1111 1111": "card {} exp 12/26",
    "5555555555554444": "卡号{}。",
    "3782 822463 10005": "amex {}!",
    "DE89 3704 0044 0532 0130 00": "IBAN {} please",
    "GB82WEST12345698765432": "to {}.",
    "536-90-4399": "ssn {} is mine",
    "360426199101010071": "身份证{}号",
    "943-476-5870": "NHS no. {}",
    "203.0.113.77": "from {}:8080",
    "2001:db8::8a2e:370:7334": "and {}.",
    "canary:pa55word": "https://{}@shop.example/x",
    "cAnArYtOkEn": "http://x.example/?a=1&access_token={}&b=2",
    "c4n4rys1gn4tur3": "见http://x.example/f?X-Amz-Signature={}，谢谢",
}
TEXTS = [text.format(canary) for canary, text in CANARIES.items()]


def canaries_in(text: str, sought: Iterable[str] = CANARIES) -> set[str]:
    """Return the canaries, or other values that are sought, that a text holds."""
    return {canary for canary in sought if canary in text}


def canaries_under(
    folder: Path, *, without: Iterable[Path] = (), sought: Iterable[str] = CANARIES
) -> dict[Path, set[str]]:
    """Return the files of the folder that hold what is sought; Parquet is read as rows.

    Files under the folders `without` are left out, and weights, which hold numbers.
    """
    kept = tuple(without)
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and not any(file.is_relative_to(other) for other in kept)
        and file.suffix != ".safetensors"
    ]
    found = {file: canaries_in(_read(file), sought) for file in files}
    return {file: canaries for file, canaries in found.items() if canaries}


def _read(file: Path) -> str:
    """Return a file's bytes as text, and after them the strings of a Parquet file's rows."""
    text = file.read_bytes().decode("utf-8", errors="replace")
    if file.suffix == ".parquet":
        columns = pq.read_table(file).columns
        strings = [column.to_pylist() for column in columns if pa.types.is_string(column.type)]
        text += "\n".join(value or "" for values in strings for value in values)
    return text
