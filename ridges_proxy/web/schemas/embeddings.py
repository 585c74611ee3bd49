"""Schema of `POST /v1/embeddings`, and the embed chute's answer in OpenAI's form."""

from __future__ import annotations

import base64
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, Unpack

import orjson
from marshmallow import ValidationError

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream import NoVectorsError, error_of_object, error_status, parsed_vectors
from ridges_proxy.web.schemas.containers import List, OneMessage, StringOr
from ridges_proxy.web.schemas.field_table import EMBEDDINGS, Place
from ridges_proxy.web.schemas.problems import RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.usage_option import asks_for_cost, usage_option
from ridges_proxy.web.schemas.values import Choice, Name, Options, RunId, String, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ridges_proxy.config import Settings
    from ridges_proxy.errors import UpstreamError

MAX_INPUTS = 2048
"""The limit of OpenAI's API. The upstream takes EMBEDDING_BATCH of them at once."""

PIECE_BYTES = 65_536
"""Minimum size of a piece of the answer, except for its end: many small ones would take longer to send."""

BYTES_PER_TOKEN = 4
"""A rough average for English and code. The chute reports no usage, and no cost depends on the estimate."""

TOKENS_MESSAGE = (
    "Input is a list of token numbers: send the text itself. LangChain does so with"
    " OpenAIEmbeddings(check_embedding_ctx_length=False), LangChain.js by default"
)
INPUT_MESSAGE = f"Input should be a string, or a list of 1 to {MAX_INPUTS} strings, none of them empty"


class EmbeddingInput(OneMessage):
    """A text or a list of texts. Token numbers in their place have a message of their own."""

    def __init__(self, **options: Unpack[Options]) -> None:
        texts = StringOr(String(min_length=1), List(String(min_length=1), 1, MAX_INPUTS))
        super().__init__(texts, INPUT_MESSAGE, **options)

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """The text or the texts, unchanged."""
        if _are_tokens(value) or (isinstance(value, list) and value and all(map(_are_tokens, value))):
            raise ValidationError(TOKENS_MESSAGE)
        return super().read(value)


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


class EmbeddingsSchema(RequestSchema):
    """`POST /v1/embeddings`. There is no `dimensions`: the model alone decides the vectors' length."""

    place: ClassVar[Place] = EMBEDDINGS

    run_id = RunId(required=True, error_messages=RUN_MISSING)
    input = EmbeddingInput(required=True)
    model = Name()
    encoding_format = Choice("float", "base64")
    user = Text(256)
    usage = usage_option()


class Form(NamedTuple):
    """Properties of the answer: estimated tokens of the input, encoding, and whether the cost is shown."""

    tokens: int
    as_base64: bool
    shows_cost: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """The form that a request asks for."""
        texts = [fields["input"]] if isinstance(fields["input"], str) else fields["input"]
        tokens = sum(-(-len(each.encode()) // BYTES_PER_TOKEN) for each in texts)
        return cls(tokens, fields.get("encoding_format") == "base64", asks_for_cost(fields))


def embeddings_json(
    answers: list[bytes], counts: tuple[int, ...], form: Form, cost_nanousd: int, settings: Settings
) -> list[bytes]:
    """The chute's answers in OpenAI's form, as JSON in pieces. The tokens of the usage are an estimate.

    Each vector is parsed and written alone, and then dropped. All at once, 40 MB keep other threads from
    running for 0.2 s.

    Raises the error of an error object, which the chute sends with the status 200 too.
    Raises UpstreamBrokenError if an answer does not have one vector for each of its inputs.
    """
    vectors = (
        vector
        for answer, count in zip(answers, counts, strict=False)  # the last answer may be an error
        for vector in vectors_of(answer, count, settings)
    )
    pieces, piece = list[bytes](), bytearray(b'{"object":"list","data":[')
    for index, vector in enumerate(vectors):
        piece += b"," if index else b""
        piece += _item(index, vector, as_base64=form.as_base64)
        if len(piece) >= PIECE_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    cost = {"cost": usd_from_nanousd(cost_nanousd)} if form.shows_cost else {}
    usage = {"prompt_tokens": form.tokens, "total_tokens": form.tokens, **cost}
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
    status = error_status(orjson.loads(answer), HTTPStatus.BAD_REQUEST)  # its errors are about its input
    if status is None:
        return UpstreamBrokenError()
    return error_of_object(status, answer, settings.chutes_api_key)


def _base64(vector: list[float]) -> str:
    """Base64 of little-endian 32-bit floats, as OpenAI's clients expect."""
    try:
        packed = struct.pack(f"<{len(vector)}f", *vector)
    except OverflowError:
        raise UpstreamBrokenError from None
    return base64.b64encode(packed).decode("ascii")
