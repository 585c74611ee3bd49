from __future__ import annotations

import io
import socket
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import responses
from flask.testing import FlaskClient

from ridges_proxy.upstream import attempt
from tests.contract_http.documented import Documented, operation_of
from tests.contract_http.pipe import Pipe
from tests.contract_http.service import CHAT_URL, app_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask


@pytest.fixture(autouse=True)
def upstream() -> Iterator[responses.RequestsMock]:
    """The faked upstream. A call that the test has not arranged fails."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of attempts: a pause before an answer breaks off is charged, on a slow machine too."""
    monkeypatch.setattr(attempt, "time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.fixture
def app() -> Flask:
    return app_of()


@pytest.fixture
def refusing_url(upstream: responses.RequestsMock) -> Iterator[str]:
    """A URL that refuses connections. The fake is off, so that a real connection is tried."""
    upstream.stop(allow_assert=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    upstream.start()


@pytest.fixture
def pipe(upstream: responses.RequestsMock) -> Pipe:
    pipe = Pipe()
    upstream.post(CHAT_URL, body=io.BufferedReader(pipe))
    return pipe


@cache
def the_document() -> Documented:
    """Created in a test, not at import, because creating an app configures logging."""
    return Documented(app_of())


@pytest.fixture
def documented() -> Documented:
    return the_document()


@pytest.fixture(autouse=True)
def every_answer_is_documented(monkeypatch: pytest.MonkeyPatch, documented: Documented) -> None:
    """Check every response of a test against `/openapi.json`."""
    ask = FlaskClient.open

    def checked(client: FlaskClient, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Flask's
        reply = ask(client, *args, **kwargs)
        operation = operation_of(client.application, reply)
        if operation is not None:
            documented.check(operation, reply)
        return reply

    monkeypatch.setattr(FlaskClient, "open", checked)
