"""Turn the body of a request into cleaned texts, or into words on why it cannot be."""

from collections.abc import Mapping
from typing import Any

import orjson
from cleaning import clean
from privacy import mask
from replies import Refusal

_MOST_TOLD = 20


class Texts:
    """What a model's card says of the texts that it takes."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.most, self.longest = card["max_texts"], card["max_characters"]
        self._cleaning, self._privacy = card["cleaning"], card["privacy"]

    def read(self, body: bytes) -> list[str]:
        """Return the cleaned and masked texts of `{"texts": [...]}`.

        No text is in the words of a refusal. Of a key that is there twice, the last counts.

        Raises:
            Refusal: 422, with every problem that was found.
        """
        asked = parse(body)
        if not isinstance(asked, dict):
            raise unprocessable("body", 'should be an object; send {"texts": ["..."]}')
        if "texts" not in asked:
            raise unprocessable("texts", 'is missing; send {"texts": ["..."]}')
        if len(asked) > 1:
            raise unprocessable("body", 'should hold "texts" alone; leave the other keys out')
        texts = asked["texts"]
        if not isinstance(texts, list):
            raise unprocessable("texts", "should be an array of strings")
        if not 1 <= len(texts) <= self.most:
            raise unprocessable(
                "texts",
                f"should have 1 to {self.most} items, and has {len(texts)}; send fewer"
                if texts
                else f"should have 1 to {self.most} items, and has none",
            )
        cleaned, details = [], []
        for number, text in enumerate(texts):
            try:
                cleaned.append(self.clean(text))
            except ValueError as error:
                details.append({"at": f"texts[{number}]", "problem": str(error)})
        if details:
            count = len(details)
            raise Refusal(
                422,
                "unprocessable",
                f"{count} of {len(texts)} texts cannot be classified",
                details[:_MOST_TOLD],
            )
        return cleaned

    def clean(self, text: Any) -> str:
        """Return a text cleaned and masked as those of training were.

        Raises:
            ValueError: if it is no string, too long, empty, or blank once cleaned.
        """
        if not isinstance(text, str):
            raise ValueError("should be a string")
        if not text:
            raise ValueError("is empty; send a text")
        if len(text) > self.longest:
            raise ValueError(
                f"should have at most {self.longest} characters, and has {len(text)}; shorten it"
            )
        cleaned, _ = mask(clean(text, self._cleaning), self._privacy)
        if not cleaned.strip():
            raise ValueError("is blank once cleaned; send a text")
        return cleaned


def parse(body: bytes) -> Any:
    """Return what a JSON says: strict UTF-8, no NaN, no half of a surrogate pair.

    Raises:
        Refusal: 422, with the place in the body.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise unprocessable("body", f"is no JSON in UTF-8: {error.msg} ({place})") from None


def unprocessable(at: str, problem: str) -> Refusal:
    """Return a 422 with one problem."""
    return Refusal(422, "unprocessable", f"{at} {problem}", [{"at": at, "problem": problem}])
