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
    from collections.abc import Iterator, Mapping

    from ridges_proxy.config import Settings
    from ridges_proxy.errors import UpstreamError

MAX_INPUTS = 2048
"""The limit of OpenAI's API. The chute may take fewer inputs at once, and then its answer says so."""

PIECE_BYTES = 65_536
"""Minimum size of a piece of the answer, except for its end: many small ones would take longer to send."""

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


def embeddings_json(answer: bytes, form: Form, settings: Settings) -> list[bytes]:
    """The chute's answer in OpenAI's form, as JSON in pieces. The usage is an estimate.

    Each vector is parsed and written alone, and then dropped. All at once, 40 MB keep other threads from
    running for 0.2 s.

    Raises the error of an error object, which the chute sends with the status 200 too.
    Raises UpstreamBrokenError if the answer does not have one vector for each input.
    """
    pieces, piece = list[bytes](), bytearray(b'{"object":"list","data":[')
    for index, vector in enumerate(vectors_of(answer, form.vectors, settings)):
        piece += b"," if index else b""
        piece += _item(index, vector, as_base64=form.as_base64)
        if len(piece) >= PIECE_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    usage = {"prompt_tokens": form.tokens, "total_tokens": form.tokens}
    rest = orjson.dumps({"model": settings.embedding_model, "usage": usage})
    return [*pieces, bytes(piece), b"]," + rest[1:]]


def vectors_of(answer: bytes, count: int, settings: Settings) -> Iterator[list[float]]:
    """Yield the vectors in the chute's answer, one for each input. Raises as `embeddings_json` does."""
    found = 0
    try:
        for vector in parsed_vectors(answer):
            if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in vector):
                raise UpstreamBrokenError
            found += 1
            yield vector
    except NoVectorsError:
        raise _error_of(answer, settings) from None
    if found != count:
        raise UpstreamBrokenError


def _item(index: int, vector: list[float], *, as_base64: bool) -> bytes:
    encoded = _base64(vector) if as_base64 else vector
    return orjson.dumps({"object": "embedding", "index": index, "embedding": encoded})


def _error_of(answer: bytes, settings: Settings) -> UpstreamError:
    """The error of an answer that is no list of vectors."""
    status = error_status(
        orjson.loads(answer), HTTPStatus.BAD_REQUEST
    )  # the chute's errors are about its input
    return (
        UpstreamBrokenError() if status is None else error_of_object(status, answer, settings.chutes_api_key)
    )


def _base64(vector: list[float]) -> str:
    """Base64 of little-endian 32-bit floats, as OpenAI's clients expect."""
    try:
        packed = struct.pack(f"<{len(vector)}f", *vector)
    except OverflowError:
        raise UpstreamBrokenError from None
    return base64.b64encode(packed).decode("ascii")
