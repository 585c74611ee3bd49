"""`POST /v1/embeddings`: OpenAI's form around the vectors of the embed chute."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson
from marshmallow import Schema, ValidationError

from ridges_proxy.errors import UpstreamBrokenError, UpstreamRejectedError
from ridges_proxy.upstream import refusal_words
from ridges_proxy.web.schemas.fields import MESSAGES, name_text, optional, required, run_field
from ridges_proxy.web.schemas.readers import choice, text
from ridges_proxy.web.schemas.shapes import takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.config import Settings

MAX_INPUTS = 2048
"""OpenAI's own. The chute may take fewer at once, and says so."""

BYTES_PER_TOKEN = 4
"""About right for English and code: the chute reports no usage, and none is charged by the token."""

INPUT_WORDS = f"Input should be a string, or a list of 1 to {MAX_INPUTS} strings, none of them empty"


@takes(
    anyOf=[
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS, "items": {"type": "string", "minLength": 1}},
    ]
)
def _texts(value: object) -> object:
    texts = value if isinstance(value, list) else [value]
    if not 1 <= len(texts) <= MAX_INPUTS or not all(isinstance(each, str) and each for each in texts):
        raise ValidationError(INPUT_WORDS)
    return value


class EmbeddingsSchema(Schema):
    """What the call may carry; the vectors' width is the model's."""

    error_messages = {"unknown": MESSAGES["extra_forbidden"]}  # noqa: RUF012 - marshmallow's way

    run_id = run_field()
    input = required(_texts)
    model = optional(name_text)
    encoding_format = optional(choice("float", "base64"))
    user = optional(text(256))


class Form(NamedTuple):
    """What the answer is to have beside the vectors, and how they are written."""

    vectors: int
    tokens: int
    as_base64: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """The form that a request's fields ask for."""
        texts = [fields["input"]] if isinstance(fields["input"], str) else fields["input"]
        tokens = sum(-(-len(each.encode()) // BYTES_PER_TOKEN) for each in texts)
        return cls(len(texts), tokens, fields.get("encoding_format") == "base64")


def embeddings_json(answer: bytes, form: Form, settings: Settings) -> dict[str, Any]:
    """The chute's answer in OpenAI's form. The usage is an estimate.

    Raises UpstreamRejectedError where the answer is the chute's refusal of an input, which it words in a
    200, and UpstreamBrokenError for anything else that is not one vector an input.
    """
    encode = _base64 if form.as_base64 else list
    return {
        "object": "list",
        "model": settings.embedding_model,
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(_vectors(answer, form.vectors, settings))
        ],
        "usage": {"prompt_tokens": form.tokens, "total_tokens": form.tokens},
    }


def _vectors(answer: bytes, count: int, settings: Settings) -> list[list[float]]:
    value = orjson.loads(answer)
    if isinstance(value, dict) and value.get("error"):
        raise UpstreamRejectedError(200, refusal_words(answer, settings.chutes_api_key))
    if not isinstance(value, list) or len(value) != count or not all(map(_is_vector, value)):
        raise UpstreamBrokenError
    return value


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in value
    )


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI's clients read them."""
    try:
        packed = struct.pack(f"<{len(vector)}f", *vector)
    except OverflowError:
        raise UpstreamBrokenError from None
    return base64.b64encode(packed).decode("ascii")
