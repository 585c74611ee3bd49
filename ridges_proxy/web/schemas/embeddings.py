"""Schema of `POST /v1/embeddings`, and the embed chute's answer in OpenAI's form."""

from __future__ import annotations

import base64
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import orjson

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream import NoVectorsError, error_of_object, error_status, parsed_vectors
from ridges_proxy.web.schemas.containers import List, OneMessage, StringOr
from ridges_proxy.web.schemas.field_table import EMBEDDINGS, Place
from ridges_proxy.web.schemas.problems import RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.values import Choice, Name, RunId, String, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.config import Settings

MAX_INPUTS = 2048
"""The limit of OpenAI's API. The chute may take fewer inputs at once, and then its answer says so."""

BYTES_PER_TOKEN = 4
"""A rough average for English and code. The chute reports no usage, and no cost depends on the estimate."""

INPUT_MESSAGE = f"Input should be a string, or a list of 1 to {MAX_INPUTS} strings, none of them empty"


class EmbeddingsSchema(RequestSchema):
    """`POST /v1/embeddings`. There is no `dimensions`: the model alone decides the vectors' length."""

    place: ClassVar[Place] = EMBEDDINGS

    run_id = RunId(required=True, error_messages=RUN_MISSING)
    input = OneMessage(
        StringOr(String(min_length=1), List(String(min_length=1), 1, MAX_INPUTS)),
        INPUT_MESSAGE,
        required=True,
    )
    model = Name()
    encoding_format = Choice("float", "base64")
    user = Text(256)


class Form(NamedTuple):
    """Properties of the answer: number of vectors, estimated tokens of the input, and encoding."""

    vectors: int
    tokens: int
    as_base64: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """The form that a request asks for."""
        texts = [fields["input"]] if isinstance(fields["input"], str) else fields["input"]
        tokens = sum(-(-len(each.encode()) // BYTES_PER_TOKEN) for each in texts)
        return cls(len(texts), tokens, fields.get("encoding_format") == "base64")


def embeddings_json(answer: bytes, form: Form, settings: Settings) -> dict[str, Any]:
    """The chute's answer in OpenAI's form. The usage is an estimate.

    Raises the error of an error object, which the chute sends with the status 200 too.
    Raises UpstreamBrokenError if the answer does not have one vector for each input.
    """
    encode = _base64 if form.as_base64 else _json
    return {
        "object": "list",
        "model": settings.embedding_model,
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors_of(answer, form.vectors, settings))
        ],
        "usage": {"prompt_tokens": form.tokens, "total_tokens": form.tokens},
    }


def vectors_of(answer: bytes, count: int, settings: Settings) -> list[list[float]]:
    """The vectors in the chute's answer, one for each input. Raises as `embeddings_json` does."""
    try:
        value: Any = list(parsed_vectors(answer))
    except NoVectorsError:
        value = orjson.loads(answer)
    status = error_status(value, HTTPStatus.BAD_REQUEST)  # the chute's errors are about its input
    if status is not None:
        raise error_of_object(status, answer, settings.chutes_api_key)
    if not isinstance(value, list) or len(value) != count or not all(map(_is_vector, value)):
        raise UpstreamBrokenError
    return value


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in value
    )


def _json(vector: list[float]) -> orjson.Fragment:
    """The vector as JSON by itself: to write 40 MB at once takes 0.3 s, in which no other thread runs."""
    return orjson.Fragment(orjson.dumps(vector))


def _base64(vector: list[float]) -> str:
    """Base64 of little-endian 32-bit floats, as OpenAI's clients expect."""
    try:
        packed = struct.pack(f"<{len(vector)}f", *vector)
    except OverflowError:
        raise UpstreamBrokenError from None
    return base64.b64encode(packed).decode("ascii")
