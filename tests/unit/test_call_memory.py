"""A call leaves nothing in memory, however it ends: a body may have megabytes.

A cycle would keep it until the next garbage collection, which may come many calls later.
"""

from __future__ import annotations

import gc
import logging
import sqlite3
import weakref
from contextlib import closing, contextmanager, suppress
from socket import gaierror
from types import SimpleNamespace
from typing import TYPE_CHECKING

import gevent
import pytest

from ridges_proxy.calls.call import Call
from ridges_proxy.errors import (
    BudgetExhaustedError,
    LedgerUnavailableError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamUnreachableError,
)
from ridges_proxy.ledger import Kind, Run, SqliteLedger
from ridges_proxy.ledger.factory import open_ledger
from ridges_proxy.ledger.redis import client as redis_client
from ridges_proxy.ledger.sqlite import database
from ridges_proxy.runtime import shared_lookups
from ridges_proxy.runtime.shared_lookups import SharedLookups
from ridges_proxy.upstream import Attempt, ChutesClient
from ridges_proxy.web import event_stream
from tests.support.app import settings_of
from tests.support.call_fixture import BUDGET_NANOUSD, CallFixture, GoneClient, PatientClient, hang
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ridges_proxy.ledger import Ledger
    from tests.support.call_fixture import Put


class Body:
    """Stands for the body of a request, to which the frames of a call refer."""


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def begin(bodies: list[weakref.ref[Body]], attempt: Attempt, put: Put) -> Body:
    """Send a request and put its first event. Returns its body, which the caller's frame keeps."""
    body = Body()
    bodies.append(weakref.ref(body))
    attempt.sent = True
    put(b"data: 1\n\n")
    return body


def infer(calls: CallFixture, call: Call) -> None:
    calls.infer(call)


def relay(calls: CallFixture, call: Call) -> None:
    for _ in calls.relay(call):
        pass


def leave(calls: CallFixture, call: Call) -> None:
    """Leave a stream whose reader has failed in the meantime."""
    pieces = calls.relay(call)
    next(pieces)
    gevent.sleep(0.2)
    pieces.close()


@pytest.mark.parametrize("end", ["the client hangs up", "the deadline passes", "the worker stops"])
@pytest.mark.parametrize("way", [infer, relay, leave])
def test_an_interrupted_call_leaves_no_cycle(way: Callable[[CallFixture, Call], None], end: str) -> None:
    calls = CallFixture(DEADLINE_SECONDS="0.1")
    bodies: list[weakref.ref[Body]] = []

    def script(attempt: Attempt, put: Put) -> None:
        _body = begin(bodies, attempt, put)
        if end == "the worker stops":
            calls.admission.cut_all()
        hang()

    calls.upstream.script = script
    client = GoneClient() if end == "the client hangs up" else PatientClient()
    with suppress(ProxyError):
        way(calls, Call(Run("run", BUDGET_NANOUSD), client))
    gevent.sleep(0.01)
    (body,) = bodies
    assert body() is None
    assert calls.admission.in_flight == 0


class KeptAttempt(Attempt):
    """An attempt to which a weak reference can point. It has a `__dict__`."""


@pytest.mark.parametrize("call", [ChutesClient.text, ChutesClient.complete_json])
def test_an_upstream_that_refuses_connections_leaves_no_cycle(
    call: Callable[[ChutesClient, bytes, Attempt], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "urllib3")  # the records of pytest would keep urllib3's errors
    client = ChutesClient(settings_of(CHUTES_BASE_URL=f"http://127.0.0.1:{free_port()}/v1"))

    def fail() -> weakref.ref[Attempt]:
        attempt = KeptAttempt()
        with suppress(UpstreamUnreachableError):
            call(client, b"{}", attempt)
        return weakref.ref(attempt)

    assert fail()() is None


def test_a_stream_that_fails_behind_its_status_leaves_no_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    state = SimpleNamespace(request_id="id", request=SimpleNamespace(path="/v1/chat/completions"))
    monkeypatch.setattr(event_stream, "request_state", lambda: state)
    calls = CallFixture()
    bodies: list[weakref.ref[Body]] = []

    def script(attempt: Attempt, put: Put) -> None:
        _body = begin(bodies, attempt, put)
        gevent.sleep(0.01)
        raise UpstreamBrokenError

    calls.upstream.script = script
    call = calls.call()
    response = event_stream.stream_response(call, calls.relay(call))
    pieces = list(response.iter_encoded())
    assert b"error" in pieces[-1]
    response.close()
    assert isinstance(call.failure, UpstreamBrokenError)
    del call, response
    (body,) = bodies
    assert body() is None


# --- the errors of steps that calls share


def failed(step: Callable[[], object], error: type[Exception]) -> Body | None:
    """Return what is left of the caller of a step that has failed."""

    def call() -> weakref.ref[Body]:
        body = Body()
        with pytest.raises(error):
            step()
        return weakref.ref(body)

    return call()()


def reserve(ledger: Ledger) -> object:
    return ledger.reserve(Run("run", 1), Kind.INFERENCE, 10, 10, 60.0)


@contextmanager
def sqlite(folder: Path) -> Iterator[Ledger]:
    yield SqliteLedger(folder / "ledger.db", 600.0)


@contextmanager
def locked_sqlite(folder: Path) -> Iterator[Ledger]:
    ledger = SqliteLedger(folder / "ledger.db", 600.0)
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield ledger


@contextmanager
def absent_redis(_folder: Path) -> Iterator[Ledger]:
    yield open_ledger(settings_of(LEDGER_URL=f"redis://127.0.0.1:{free_port()}/0"))


@pytest.mark.parametrize(
    ("ledger", "error"),
    [
        (sqlite, BudgetExhaustedError),
        (locked_sqlite, LedgerUnavailableError),
        (absent_redis, LedgerUnavailableError),
    ],
)
def test_a_hold_that_a_ledger_does_not_make_leaves_no_cycle(
    ledger: Callable[[Path], AbstractContextManager[Ledger]],
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(redis_client, "RETRY_SECONDS", 0.0)  # the Redis is asked each time
    with ledger(tmp_path) as opened:
        assert [failed(lambda: reserve(opened), error) for _ in range(3)] == [None] * 3


def test_a_host_name_that_is_not_found_leaves_no_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise gaierror(-2, "Name or service not known")

    monkeypatch.setattr(shared_lookups, "_getaddrinfo", unknown)
    lookups = SharedLookups()
    assert failed(lambda: lookups.getaddrinfo("unknown", 443), gaierror) is None
