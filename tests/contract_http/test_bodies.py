"""A body's size and framing: 413, 400, 408."""

from __future__ import annotations

from io import BytesIO
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
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
ROUTES = ("/agents/inference", "/agents/embedding")


class Readable(Protocol):
    def read(self, size_bytes: int = -1, /) -> bytes: ...


class Failing:
    """A body whose reading fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, _size_bytes: int = -1, /) -> bytes:
        raise self._error


class Stalled:
    """A body that never comes."""

    def read(self, _size_bytes: int = -1, /) -> bytes:
        Event().wait()
        raise AssertionError


class Counting(BytesIO):
    """A body that knows how much of it was read."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.read_bytes += len(piece)
        return piece


@pytest.fixture
def app() -> Flask:
    return app_of(MAX_BODY_BYTES=str(LIMIT_BYTES), BODY_TIMEOUT_SECONDS="0.1")


def body_of(size_bytes: int) -> bytes:
    """A body that is fine but for its size."""
    return orjson.dumps({**CHAT, **TEXT}).ljust(size_bytes)


def announce(app: Flask, length: str, body: Readable, path: str = ROUTES[0]) -> TestResponse:
    """Post a body with a Content-Length."""
    return _open(app, path, {"CONTENT_LENGTH": length, "wsgi.input": body})


def chunk(app: Flask, body: Readable, path: str = ROUTES[0], **environ: str) -> TestResponse:
    """Post a body in chunks, as gunicorn hands one on."""
    return _open(app, path, {**CHUNKED, "wsgi.input": body, **environ})


def _open(app: Flask, path: str, environ: dict[str, Any]) -> TestResponse:
    environ["CONTENT_TYPE"] = "application/json"
    return app.test_client().post(path, headers=HEADERS, environ_overrides=environ)


def test_a_body_exactly_at_the_limit_passes(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = body_of(LIMIT_BYTES)
    assert seen(announce(app, str(len(body)), BytesIO(body))) == (200, "Hi")
    assert seen(chunk(app, BytesIO(body))) == (200, "Hi")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("length", [str(LIMIT_BYTES + 1), str(10**12), "9" * 18, "9" * 19, "9" * 5000])
def test_a_body_announced_above_the_limit_is_refused_unread(app: Flask, path: str, length: str) -> None:
    body = Counting(b"{}")
    assert seen(announce(app, length, body, path)) == TOO_LARGE
    assert body.read_bytes == 0
    assert untouched(app)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("size_bytes", [LIMIT_BYTES + 1, 1 << 20])
def test_a_chunked_body_above_the_limit_is_refused_and_read_no_further(
    app: Flask, path: str, size_bytes: int
) -> None:
    body = Counting(body_of(size_bytes))
    assert seen(chunk(app, body, path)) == TOO_LARGE
    assert body.read_bytes == LIMIT_BYTES + 1


def test_the_length_announced_beside_chunks_counts_for_nothing(app: Flask) -> None:
    reply = chunk(app, BytesIO(body_of(LIMIT_BYTES + 1)), CONTENT_LENGTH="2")
    assert seen(reply) == TOO_LARGE


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED"])
def test_chunks_are_known_in_any_case(app: Flask, coding: str) -> None:
    reply = chunk(app, BytesIO(b"[]"), HTTP_TRANSFER_ENCODING=coding)
    assert reply.status_code == 422
    assert seen(reply)[1]["detail"][0]["type"] == "model_attributes_type"


@pytest.mark.parametrize("got_bytes", [0, 1, 50])
def test_a_body_shorter_than_announced_is_refused_even_if_it_parses(app: Flask, got_bytes: int) -> None:
    body = orjson.dumps(CHAT)
    assert seen(announce(app, str(len(body) + 1), BytesIO(body))) == TRUNCATED
    assert seen(announce(app, str(len(body)), BytesIO(body[:got_bytes]))) == TRUNCATED
    assert untouched(app)


def test_of_a_body_longer_than_announced_only_what_was_announced_is_read(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = orjson.dumps(CHAT)
    assert seen(announce(app, str(len(body)), BytesIO(body + b"GET / HTTP/1.1"))) == (200, "Hi")


@pytest.mark.parametrize("length", ["-1", "+5", "5.0", "0x5", "1e3", "5, 5", "five", "\xb2", "\u0665", " 5"])
def test_a_length_that_is_no_number_is_refused_unread(app: Flask, length: str) -> None:
    body = Counting(b"{}")
    assert seen(announce(app, length, body)) == TRUNCATED
    assert body.read_bytes == 0


@pytest.mark.parametrize("length", ["", "0", "00"])
def test_no_length_is_no_body(app: Flask, length: str) -> None:
    missing = envelope([problem(["body"], "Field required", "missing")], "invalid_request")
    body = Counting(b"{}")
    assert seen(announce(app, length, body)) == (422, missing)
    assert body.read_bytes == 0


def test_no_chunks_are_no_body(app: Flask) -> None:
    missing = envelope([problem(["body"], "Field required", "missing")], "invalid_request")
    assert seen(chunk(app, BytesIO(b""))) == (422, missing)


@pytest.mark.parametrize(
    "error",
    [
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
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_body_whose_reading_fails_is_refused(app: Flask, error: Exception) -> None:
    assert seen(chunk(app, Failing(error))) == TRUNCATED
    assert seen(announce(app, "5", Failing(error))) == TRUNCATED
    assert untouched(app)


def test_a_body_that_does_not_come_in_time_is_refused(app: Flask) -> None:
    reply = announce(app, "5", Stalled())
    assert seen(reply) == (408, envelope("The request body did not arrive in time", "body_timeout"))


def test_a_bug_in_reading_is_told_from_a_fault_of_the_body(app: Flask) -> None:
    assert chunk(app, Failing(KeyError("canary"))).status_code == 500
