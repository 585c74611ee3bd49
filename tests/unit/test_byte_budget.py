"""The memory budget of complete response bodies, and its release by the close of the response."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

import gevent
import orjson
import pytest
import responses
import urllib3
from gevent import get_hub
from gevent.queue import Queue
from werkzeug.test import EnvironBuilder

from ridges_proxy import create_app
from ridges_proxy.errors import AnswerTooLargeError
from ridges_proxy.ledger import Outbox
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.upstream.byte_budget import BUDGET_BYTES, SMALL_BODY_BYTES, BufferedBody, ByteBudget
from ridges_proxy.upstream.client import MAX_JSON_BYTES
from ridges_proxy.upstream.vectors import MAX_VECTOR_BYTES
from ridges_proxy.web.responses import PAUSE_BYTES, json_bytes_response
from tests.support.app import AGENT, settings_of
from tests.support.buffered import buffered
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask, Response


class BodyReader:
    """One body that is read into memory, piece by piece."""

    def __init__(self, budget: ByteBudget, max_bytes: int = 60) -> None:
        self.body = BufferedBody(budget, max_bytes)
        self._pieces: Queue[bytes] = Queue()
        self._greenlet = gevent.spawn(self._read)

    def _read(self) -> None:
        try:
            self.body.read(iter(self._pieces.get, b""))
        except BaseException:
            self.body.release()
            raise

    def receive(self, piece: bytes) -> None:
        self._pieces.put(piece)
        gevent.idle()

    def end(self) -> BufferedBody:
        self.receive(b"")
        self._greenlet.get(timeout=5)
        return self.body

    def kill(self) -> None:
        self._greenlet.kill()

    def is_too_large(self) -> bool:
        return isinstance(self._greenlet.exception, AnswerTooLargeError)


def small_budget() -> ByteBudget:
    return ByteBudget(limit_bytes=100, small_body_bytes=10)


def test_an_ordinary_response_is_small_and_many_large_ones_fit_into_the_budget() -> None:
    assert 1 << 20 <= SMALL_BODY_BYTES < MAX_JSON_BYTES <= BUDGET_BYTES // 8
    assert MAX_VECTOR_BYTES < SMALL_BODY_BYTES


def test_a_body_is_read_up_to_its_limit() -> None:
    def check(size_bytes: int) -> None:
        budget = small_budget()
        reader = BodyReader(budget)
        for _ in range(size_bytes):
            reader.receive(b"x")

        assert reader.is_too_large() == (size_bytes == 61)
        assert reader.body.received_bytes == size_bytes
        assert budget.used_bytes == (0 if reader.is_too_large() else size_bytes)

    check_rows([60, 61], check)


def test_a_body_that_was_not_read_is_empty() -> None:
    body = BufferedBody(small_budget(), 60)
    assert (body.content, body.received_bytes) == (b"", 0)


def test_a_large_body_is_taken_up_to_the_limit_of_the_budget() -> None:
    budget = small_budget()
    budget.acquire(60, 60)
    budget.acquire(40, 40)
    budget.release(1)
    with pytest.raises(AnswerTooLargeError):
        budget.acquire(2, 11)
    budget.acquire(2, 10)
    assert budget.used_bytes == 101


def test_a_used_up_budget_ends_large_bodies_and_still_takes_small_ones() -> None:
    budget = small_budget()
    large, larger, small = BodyReader(budget), BodyReader(budget), BodyReader(budget)
    large.receive(b"x" * 50)
    larger.receive(b"x" * 50)
    small.receive(b"x" * 10)
    larger.receive(b"x")

    assert larger.is_too_large()
    for each in (small, large):
        each.receive(b"x" * 10)
        assert not each.is_too_large(), "the other body has been released"
    bodies = [small.end(), large.end()]
    assert [body.content for body in bodies] == [b"x" * 20, b"x" * 60]
    assert budget.used_bytes == 80, "until they are released"
    bodies[0].release()
    assert budget.used_bytes == 60
    bodies[1].release()
    assert budget.used_bytes == 0


def test_a_body_whose_reader_is_killed_gives_its_bytes_back() -> None:
    budget = small_budget()
    reader = BodyReader(budget)
    reader.receive(b"x" * 50)
    assert budget.used_bytes == 50
    reader.kill()

    assert budget.used_bytes == 0
    assert reader.body.received_bytes == 50


def test_a_body_is_released_exactly_once() -> None:
    budget = small_budget()
    with buffered(b"12345", budget) as body:
        assert budget.used_bytes == 5
    for _ in range(2):
        body.release()
        assert budget.used_bytes == 0


# --- the whole way: from the upstream to the close of the response -----------------------------------------


class Route(NamedTuple):
    """A route, a request to it, and what its upstream sends."""

    path: str
    json: dict[str, Any]
    upstream_url: str
    content: bytes


CHAT = Route(
    "/v1/chat/completions",
    {"run_id": "run", "messages": [{"role": "user", "content": "Hello"}]},
    "http://chutes.test/v1/chat/completions",
    b'{"choices":[{"message":{"content":"Hello"}}]}',
)
EMBEDDING = Route(
    "/agents/embedding", {"run_id": "run", "input": "Hello"}, "http://embed.test/embed", b"[[0.5, 1.5]]"
)
EMBEDDINGS = EMBEDDING._replace(path="/v1/embeddings")
PASSED_ON = [CHAT, EMBEDDING]
"""Routes that send the upstream's JSON unchanged."""

ALL = [*PASSED_ON, EMBEDDINGS]


class Exchange:
    """A fresh app whose upstream sends one response; requests are made as a WSGI server makes them."""

    def __init__(self, route: Route, content: bytes | None = None) -> None:
        self._route = route
        self.content = route.content if content is None else content
        self.app: Flask = create_app(settings_of())
        self.statuses: list[str] = []
        self.headers: dict[str, str] = {}

    @property
    def budget(self) -> ByteBudget:
        calls = self.app.extensions[EXTENSION].calls
        return cast("ByteBudget", calls.upstream.body_budget)

    def start(self) -> Any:  # noqa: ANN401 - a WSGI response
        """Make the request and return what the server sends and then closes."""
        environ = EnvironBuilder(
            method="POST", path=self._route.path, json=self._route.json, headers=list(AGENT.items())
        ).get_environ()
        with responses.RequestsMock() as upstream:
            upstream.post(self._route.upstream_url, body=self.content)
            return self.app(environ, self._start_response)

    def _start_response(self, status: str, headers: list[tuple[str, str]], *_: object) -> Any:  # noqa: ANN401 - unused
        self.statuses.append(status)
        self.headers = dict(headers)

    def finish(self) -> str:
        """Make the request, send everything, close the response, and return its status."""
        response = self.start()
        b"".join(response)
        response.close()
        return self.statuses[-1]


def test_the_bytes_of_a_body_are_given_back_when_its_response_is_closed() -> None:
    def check(route: Route) -> None:
        exchange = Exchange(route)
        response = exchange.start()
        assert exchange.budget.used_bytes == len(exchange.content)
        assert b"".join(response) == exchange.content
        assert exchange.budget.used_bytes == len(exchange.content), "a client may read slowly"
        response.close()
        assert (exchange.budget.used_bytes, exchange.statuses) == (0, ["200 OK"])

    check_rows(PASSED_ON, check)


def test_the_bytes_of_a_body_are_given_back_when_the_client_leaves_before_it_is_sent() -> None:
    def check(route: Route) -> None:
        exchange = Exchange(route)
        response = exchange.start()
        response.close()
        assert exchange.budget.used_bytes == 0

    check_rows(PASSED_ON, check)


def test_the_bytes_of_a_body_that_is_converted_are_given_back_when_its_response_is_closed() -> None:
    exchange = Exchange(EMBEDDINGS)
    response = exchange.start()
    b"".join(response)
    assert (exchange.budget.used_bytes, exchange.statuses) == (len(exchange.content), ["200 OK"])
    response.close()
    assert exchange.budget.used_bytes == 0
    refused = Exchange(EMBEDDINGS, b'{"error":"too long"}')
    assert refused.finish() == "400 BAD REQUEST"
    assert refused.budget.used_bytes == 0


def test_the_bytes_of_a_body_that_is_not_understood_are_given_back() -> None:
    def check(row: tuple[Route, bytes]) -> None:
        exchange = Exchange(*row)
        assert exchange.finish().startswith("50")
        assert exchange.budget.used_bytes == 0

    check_rows([(route, content) for route in ALL for content in (b"", b"[", b"x" * 1_000_000)], check)


@pytest.mark.parametrize("error", [urllib3.exceptions.ProtocolError("cut"), ZeroDivisionError()])
def test_the_bytes_of_a_body_that_breaks_off_are_given_back(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(route: Route) -> None:
        exchange, used = Exchange(route), list[int]()

        def pieces() -> Iterator[bytes]:
            yield b"[1"
            used.append(exchange.budget.used_bytes)
            raise error

        arriving = pieces()
        monkeypatch.setattr(urllib3.HTTPResponse, "read1", lambda *_args, **_kwargs: next(arriving))
        assert exchange.finish().startswith("50")
        assert used == [2]
        assert exchange.budget.used_bytes == 0

    check_rows(ALL, check)


def fail(*_: object) -> NoReturn:
    raise ZeroDivisionError


def test_the_bytes_of_a_body_are_given_back_when_settling_the_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Outbox, "resolve", fail)

    def check(route: Route) -> None:
        exchange = Exchange(route)
        assert exchange.finish() == "500 INTERNAL SERVER ERROR"
        assert exchange.budget.used_bytes == 0

    check_rows(ALL, check)


def test_the_bytes_of_a_body_are_given_back_when_its_response_is_dropped() -> None:
    def check(route: Route) -> None:
        exchange, used = Exchange(route), list[int]()

        @exchange.app.after_request
        def fail_once(response: Response) -> Response:
            used.append(exchange.budget.used_bytes)
            if len(used) == 1:
                raise ZeroDivisionError
            return response

        assert exchange.finish() == "500 INTERNAL SERVER ERROR"
        assert used == [len(exchange.content)] * 2
        assert exchange.budget.used_bytes == 0

    check_rows(ALL, check)


def test_others_run_while_a_large_response_is_sent_to_a_client_that_reads_fast() -> None:
    text = b"x" * (3 * PAUSE_BYTES)
    vectors = orjson.dumps([[0.5] * 50_000] * 12)
    texts = EMBEDDINGS.json | {"input": ["a"] * 12}

    def check(row: tuple[Route, bytes, int]) -> None:
        exchange, pauses = Exchange(*row[:2]), list[int]()
        pieces = []
        response = exchange.start()
        for piece in response:
            pieces.append(piece)
            pauses.append(get_hub().loop.iteration)
        response.close()
        assert exchange.statuses == ["200 OK"]
        assert max(map(len, pieces)) <= PAUSE_BYTES
        assert len(set(pauses)) == row[2], "turns of the loop"
        assert int(exchange.headers["Content-Length"]) == len(b"".join(pieces))

    check_rows(
        [
            (CHAT, CHAT.content.replace(b"Hello", text), 4),
            (CHAT, CHAT.content, 1),
            (EMBEDDINGS._replace(json=texts), vectors, 3),
        ],
        check,
    )


def test_a_release_that_is_forgotten_is_seen() -> None:
    """Nothing but the close gives bytes back: a response that the server never closes stays counted."""

    def check(route: Route) -> None:
        exchange = Exchange(route)
        b"".join(exchange.start())
        gc.collect()
        assert exchange.budget.used_bytes == len(exchange.content)

    check_rows(PASSED_ON, check)


def test_a_reply_has_the_length_of_its_body() -> None:
    app = create_app(settings_of())
    with app.test_request_context():
        headers = json_bytes_response(buffered(b"12345")).get_wsgi_headers({})
    assert headers["Content-Length"] == "5"
