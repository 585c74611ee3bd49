"""The size and the framing of request bodies: 413, 400, 408."""

from __future__ import annotations

from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import pytest
from gevent.event import Event
from gunicorn.http import errors as gunicorn_errors

from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    HEADERS,
    TEXT,
    answer_of,
    app_of,
    envelope,
    problem,
    seen,
    untouched,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

LIMIT_BYTES = 1024
TOO_LARGE = (413, envelope("The request body is too large", "body_too_large"))
TRUNCATED = (
    400,
    envelope("The request body is incomplete or its chunks are malformed", "body_truncated"),
)
MISSING = (422, envelope([problem(["body"], "Field required", "missing")], "invalid_request"))
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
ROUTES = ("/agents/inference", "/agents/embedding")


class Readable(Protocol):
    def read(self, size_bytes: int = -1, /) -> bytes: ...


class Failing:
    """A body whose `read` raises an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, _size_bytes: int = -1, /) -> bytes:
        raise self._error


class Stalled:
    """A body that never arrives."""

    def read(self, _size_bytes: int = -1, /) -> bytes:
        Event().wait()
        raise AssertionError


class Counting(BytesIO):
    """A body that counts the bytes read."""

    read_bytes = 0
    largest_read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.read_bytes += len(piece)
        self.largest_read_bytes = max(self.largest_read_bytes, len(piece))
        return piece


@pytest.fixture
def app() -> Flask:
    return app_of(MAX_BODY_BYTES=str(LIMIT_BYTES), BODY_TIMEOUT_SECONDS="0.1")


def body_of(size_bytes: int) -> bytes:
    """A valid body, padded to a size."""
    return orjson.dumps({**CHAT, **TEXT}).ljust(size_bytes)


def announce(app: Flask, length: str, body: Readable, path: str = ROUTES[0]) -> TestResponse:
    """Post a body with a Content-Length."""
    return _open(app, path, {"CONTENT_LENGTH": length, "wsgi.input": body})


def chunk(app: Flask, body: Readable, path: str = ROUTES[0], **environ: str) -> TestResponse:
    """Post a body in chunks, in the form in which gunicorn passes it on."""
    return _open(app, path, {**CHUNKED, "wsgi.input": body, **environ})


def _open(app: Flask, path: str, environ: dict[str, Any]) -> TestResponse:
    environ["CONTENT_TYPE"] = "application/json"
    return app.test_client().post(path, headers=HEADERS, environ_overrides=environ)


def test_a_body_exactly_at_the_limit_is_accepted(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = body_of(LIMIT_BYTES)
    assert seen(announce(app, str(len(body)), BytesIO(body))) == (200, "Hi")
    assert seen(chunk(app, BytesIO(body))) == (200, "Hi")


def test_a_chunked_body_is_read_in_small_pieces() -> None:
    """Its chunks may have one byte each. Then gunicorn's parser takes 3 µs a byte, and all others wait."""
    body = Counting(b"{" + b" " * 100_000)
    assert chunk(app_of(), body).status_code == 422
    assert body.largest_read_bytes == 1_024


def test_a_content_length_above_the_limit_is_refused_without_reading(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        path, length = row
        body = Counting(b"{}")
        assert seen(announce(app, length, body, path)) == TOO_LARGE
        assert body.read_bytes == 0
        assert untouched(app)

    lengths = [str(LIMIT_BYTES + 1), str(10**12), "9" * 18, "9" * 19, "9" * 5000]
    check_rows(product(ROUTES, lengths), check)


def test_a_chunked_body_above_the_limit_is_refused_after_one_byte_above_it(app: Flask) -> None:
    def check(row: tuple[str, int]) -> None:
        path, size_bytes = row
        body = Counting(body_of(size_bytes))
        assert seen(chunk(app, body, path)) == TOO_LARGE
        assert body.read_bytes == LIMIT_BYTES + 1

    check_rows(product(ROUTES, [LIMIT_BYTES + 1, 1 << 20]), check)


def test_a_content_length_beside_chunks_is_ignored(app: Flask) -> None:
    reply = chunk(app, BytesIO(body_of(LIMIT_BYTES + 1)), CONTENT_LENGTH="2")
    assert seen(reply) == TOO_LARGE


def test_chunked_is_recognized_in_any_case(app: Flask) -> None:
    def check(coding: str) -> None:
        reply = chunk(app, BytesIO(b"[]"), HTTP_TRANSFER_ENCODING=coding)
        assert reply.status_code == 422
        assert seen(reply)[1]["detail"][0]["type"] == "model_attributes_type"

    check_rows(["chunked", "Chunked", "CHUNKED"], check)


def test_a_body_shorter_than_its_content_length_is_refused_even_if_it_parses(app: Flask) -> None:
    body = orjson.dumps(CHAT)

    def check(received: bytes) -> None:
        length = len(body) + 1 if received == body else len(body)
        assert seen(announce(app, str(length), BytesIO(received))) == TRUNCATED
        assert untouched(app)

    check_rows([body, b"", body[:1], body[:50]], check)


def test_a_body_is_read_only_up_to_its_content_length(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = orjson.dumps(CHAT)
    assert seen(announce(app, str(len(body)), BytesIO(body + b"GET / HTTP/1.1"))) == (200, "Hi")


def test_an_invalid_content_length_is_refused_without_reading(app: Flask) -> None:
    def check(length: str) -> None:
        body = Counting(b"{}")
        assert seen(announce(app, length, body)) == TRUNCATED
        assert body.read_bytes == 0

    check_rows(["-1", "+5", "5.0", "0x5", "1e3", "5, 5", "five", "\xb2", "\u0665", " 5"], check)


def test_a_content_length_of_zero_or_none_is_a_missing_body(app: Flask) -> None:
    def check(length: str) -> None:
        body = Counting(b"{}")
        assert seen(announce(app, length, body)) == MISSING
        assert body.read_bytes == 0

    check_rows(["", "0", "00"], check)


def test_a_chunked_body_without_chunks_is_a_missing_body(app: Flask) -> None:
    assert seen(chunk(app, BytesIO(b""))) == MISSING


def test_a_body_that_cannot_be_read_is_refused(app: Flask) -> None:
    def check(error: Exception) -> None:
        assert seen(chunk(app, Failing(error))) == TRUNCATED
        assert seen(announce(app, "5", Failing(error))) == TRUNCATED
        assert untouched(app)

    errors = [
        gunicorn_errors.NoMoreData(b"canary"),
        gunicorn_errors.InvalidChunkSize(b"canary"),
        gunicorn_errors.ChunkMissingTerminator(b"canary"),
        gunicorn_errors.InvalidChunkExtension("canary"),
        gunicorn_errors.InvalidHeader("canary"),
        gunicorn_errors.InvalidHeaderName("canary"),
        gunicorn_errors.LimitRequestHeaders("canary"),
        gunicorn_errors.ObsoleteFolding("canary"),
        OSError("canary"),
        ConnectionResetError("canary"),
        BrokenPipeError("canary"),
        TimeoutError("canary"),
    ]
    check_rows(errors, check)


def test_a_body_that_does_not_arrive_in_time_is_refused(app: Flask) -> None:
    reply = announce(app, "5", Stalled())
    assert seen(reply) == (408, envelope("The request body did not arrive in time", "body_timeout"))


def test_another_exception_while_reading_is_a_bug(app: Flask) -> None:
    assert chunk(app, Failing(KeyError("canary"))).status_code == 500
