"""The service's WSGI application in this process, called as gunicorn calls it."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from bench.servers import proxy_settings
from ridges_proxy import create_app
from ridges_proxy.config import Settings, load_settings
from ridges_proxy.ledger import open_ledger
from ridges_proxy.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from flask import Flask

    from bench.http_request import Request
    from ridges_proxy.ledger import Ledger


def application(
    upstream_url: str, fill: Callable[[Ledger], object] = lambda _: None, **settings: str
) -> Flask:
    """The service with a ledger that `fill` has prepared. Its log lines are discarded."""
    loaded = load_settings(Settings, {**proxy_settings(upstream_url), **settings})
    ledger = open_ledger(loaded)
    fill(ledger)
    app = create_app(loaded, ledger)
    discard_log_lines()
    gc.collect()
    gc.freeze()
    return app


def discard_log_lines() -> None:
    """Let the service format its log lines in full, and write them to /dev/null."""
    (handler,) = logging.getLogger(logs.ROOT).handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end


class _Input(io.BytesIO):
    """A body with the attribute that gunicorn's worker adds."""

    failed = False


def call(app: Flask, request: Request, client: socket | None = None) -> bytes:
    """Make a request and return the body of its response, which must be a 200."""
    status, body = respond(app, request, client)
    assert status == "200 OK", (status, body)
    return body


def respond(app: Flask, request: Request, client: socket | None = None) -> tuple[str, bytes]:
    """Make a request and return the status and the body of its response.

    `client` is the connection that gunicorn would have received the request from.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": request.path,
        "QUERY_STRING": "",
        "SERVER_NAME": "bench",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": _Input(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(request.body)),
        "REMOTE_ADDR": "127.0.0.1",
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()},
    }
    if client is not None:
        environ["gunicorn.socket"] = client
    statuses: list[str] = []

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    response: Any = app(environ, start_response)
    try:
        body = b"".join(response)
    finally:
        response.close()
    return statuses[-1], body
