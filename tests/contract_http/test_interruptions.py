"""Calls in flight that end early, because the client hangs up or the process shuts down."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    HEADERS,
    WHOLE_HOLD_NANOUSD,
    answer_of,
    envelope,
    infer,
    seen,
    services_of,
    spent_nanousd,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import responses
    from flask import Flask
    from requests import PreparedRequest
    from werkzeug.test import TestResponse


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


def infer_over(app: Flask, connection: socket.socket) -> TestResponse:
    environ = {"gunicorn.socket": connection}
    return app.test_client().post("/agents/inference", json=CHAT, headers=HEADERS, environ_overrides=environ)


def test_a_client_that_hangs_up_ends_its_call_and_the_hold_is_settled(
    app: Flask, upstream: responses.RequestsMock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    server, client = sockets

    def hang_up(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        client.close()
        Event().wait()
        raise AssertionError

    upstream.add_callback("POST", CHAT_URL, hang_up)
    reply = infer_over(app, server)
    assert seen(reply) == (499, envelope("The client closed the connection", "client_gone"))
    assert spent_nanousd(app) == WHOLE_HOLD_NANOUSD
    assert reply.headers["X-Run-Cost-USD"] == "0.000359370"
    assert services_of(app).admission.in_flight == 0


def test_a_client_that_sends_its_next_request_early_has_not_hung_up(
    app: Flask, upstream: responses.RequestsMock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    server, client = sockets
    client.send(b"GET /health")

    def answer_later(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        for _ in range(3):
            gevent.idle()  # until all other greenlets have run
        return 200, {}, answer_of("Hi")

    upstream.add_callback("POST", CHAT_URL, answer_later)
    assert seen(infer_over(app, server)) == (200, "Hi")
    assert server.recv(64) == b"GET /health"


def test_sending_a_response_has_a_time_limit(
    app: Flask, upstream: responses.RequestsMock, sockets: tuple[socket.socket, socket.socket]
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer_over(app, sockets[0])
    assert sockets[0].gettimeout() == 30.0


def test_a_call_that_is_cut_off_at_shutdown_is_a_503_and_the_hold_is_settled(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    def cut(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        services_of(app).admission.close()
        services_of(app).admission.cut_all()
        Event().wait()
        raise AssertionError

    upstream.add_callback("POST", CHAT_URL, cut)
    reply = infer(app)
    assert seen(reply) == (503, envelope("The proxy is shutting down", "shutting_down"))
    assert reply.headers["Retry-After"] == "5"
    assert spent_nanousd(app) == WHOLE_HOLD_NANOUSD
    assert services_of(app).admission.in_flight == 0
