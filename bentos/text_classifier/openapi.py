"""The OpenAPI document of our routes."""

from collections.abc import Mapping
from typing import Any

_EXAMPLES = [
    "Are we still on for lunch?",
    "Free entry! Text WIN to 80086 now to claim your prize.",
]
_REFUSALS = {
    "400": "The body did not come whole.",
    "401": "A key is needed.",
    "403": "The service answers on loopback alone as it is set.",
    "405": "The path takes another method; `Allow` says which.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The body is no JSON by its Content-Type.",
    "421": "The name in Host is not known.",
    "422": "The body cannot be used; `details` say where and why.",
    "429": "The key made too many requests; `Retry-After` says when to try again.",
    "500": "The model failed on these texts.",
    "503": "Too many texts wait, or the service stops; `Retry-After` says when to try again.",
}


def document(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the service answers, with examples that work."""
    return {
        "openapi": "3.0.3",
        "info": {"title": f"Classifier {card['pipeline']}", "version": card["tag"]},
        "security": [{}, {"bearer": []}, {"header": []}],
        "paths": _paths(card),
        "components": {
            "schemas": _schemas(card),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _paths(card: Mapping[str, Any]) -> dict[str, Any]:
    request = {"schema": _ref("Request"), "example": {"texts": _EXAMPLES[: card["max_texts"]]}}
    answer = {"type": "array", "items": _ref("Classification")}
    lines = '{"text": "Are we still on for lunch?", "id": 1}\n'
    return {
        "/classify": {
            "post": _operation("classify", "Classify texts.", {"schema": answer})
            | {"requestBody": {"required": True, "content": {"application/json": request}}}
        },
        "/bulk": {
            "post": _operation(
                "bulk",
                "Classify a text a line. Read the answers while you send: no more is read than is "
                "answered. A line that cannot be used is answered by one with `line` and `error`.",
                {"schema": {"type": "string"}},
                "application/x-ndjson",
            )
            | {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-ndjson": {"schema": {"type": "string"}, "example": lines}
                    },
                }
            }
        },
        "/model": _get("model", "The card of the model.", "application/json", {"type": "object"}),
        "/metrics": _get("metrics", "Metrics for Prometheus.", "text/plain"),
        "/livez": _get("livez", "Whether the process is alive.", "text/plain"),
        "/readyz": _get("readyz", "Whether requests are answered.", "text/plain"),
    }


def _schemas(card: Mapping[str, Any]) -> dict[str, Any]:
    # No more characters than before cleaning, so no pattern says what is blank after it.
    text = {"type": "string", "minLength": 1, "maxLength": card["max_characters"]}
    texts = {"type": "array", "minItems": 1, "maxItems": card["max_texts"], "items": text}
    detail = {"at": {"type": "string"}, "problem": {"type": "string"}}
    return {
        "Request": _object({"texts": texts}),
        "Classification": _object(
            {
                "label": {
                    "type": "string",
                    "enum": card["labels"],
                    "description": "The most probable label.",
                },
                "probabilities": {
                    "type": "object",
                    "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
                    "description": "The probability of every label, calibrated on rows that were not "
                    "trained on.",
                },
                "unsure": {"type": "boolean", "description": _unsure(card)},
                "truncated": {"type": "boolean", "description": _truncated(card)},
                "model": {
                    "type": "string",
                    "example": card["tag"],
                    "description": "Tag of the Bento that answered.",
                },
                "forced": {
                    "type": "boolean",
                    "description": "Whether a person released the model though its gate did not pass.",
                },
            }
        ),
        "Refusal": _object(
            {"error": {"type": "string"}, "details": {"type": "array", "items": _object(detail)}}
        ),
    }


def _unsure(card: Mapping[str, Any]) -> str:
    """Return what `unsure` means in this Bento."""
    if card["abstention"] is None:
        return "Always false: this model was released without a threshold."
    threshold = card["abstention"]["threshold"]
    if threshold is None:
        return "Always true: no probability was shown to be enough. The label is the likeliest."
    return (
        f"Whether the label's probability is below {threshold:.4f}: then it is the likeliest one, "
        "and not to be relied on."
    )


def _truncated(card: Mapping[str, Any]) -> str:
    if card["max_length"]:
        return f"Whether the text was longer than the {card['max_length']} tokens that are read."
    return "Always false: every text is read whole."


def _get(
    name: str, summary: str, media_type: str, schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    content = {"schema": schema or {"type": "string"}}
    return {"get": _operation(name, summary, content, media_type)}


def _operation(
    name: str, description: str, content: dict[str, Any], media_type: str = "application/json"
) -> dict[str, Any]:
    refused = {"application/json": {"schema": _ref("Refusal")}}
    return {
        "operationId": name,
        "description": description,
        "responses": {"200": {"description": "Answered.", "content": {media_type: content}}}
        | {status: {"description": why, "content": refused} for status, why in _REFUSALS.items()},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
