"""The application in this process, called as gunicorn calls it."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from bench.processes import PROXY_KEY
from ridges_proxy import create_app
from ridges_proxy.config import Settings, load_settings
from ridges_proxy.ledger import open_ledger
from ridges_proxy.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Flask

    from ridges_proxy.ledger import Ledger


def application(upstream: str, fill: Callable[[Ledger], object] = lambda _: None, **settings: str) -> Flask:
    """The service over a ledger that is filled first, its log lines written to nowhere."""
    values = {
        "CHUTES_API_KEY": "bench-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "CHUTES_BASE_URL": f"{upstream}/v1",
        "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
        "MAX_COST_PER_RUN": "100000",
        **settings,
    }
    read = load_settings(Settings, values)
    ledger = open_ledger(read)
    fill(ledger)
    app = create_app(read, ledger)
    log_to_nowhere()
    gc.collect()
    gc.freeze()
    return app


def log_to_nowhere() -> None:
    """Have the service's own log lines formatted in full, and written to /dev/null."""
    (handler,) = logging.getLogger(logs.ROOT).handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open to the end


class _Input(io.BytesIO):
    """A body as gunicorn gives it."""

    failed = False


def call(app: Flask, path: str, body: bytes, headers: Mapping[str, str], client: object = None) -> bytes:
    """Make a request, and return the body of its answer, which must be a 200.

    `client` is the socket that gunicorn would have it from.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "bench",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": _Input(body),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }
    if client is not None:
        environ["gunicorn.socket"] = client
    statuses: list[str] = []

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    answer: Any = app(environ, start_response)
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    assert statuses == ["200 OK"], (statuses, content)
    return content
