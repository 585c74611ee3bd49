from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import MemoryLedger, Sweeper
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.telemetry.metrics import Metrics
from tests.contract_http.service import app_of, memory, seen, services_of
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask
    from werkzeug.test import TestResponse

    Clocked = Callable[[MemoryLedger], tuple[Flask, Sweeper, Clock]]

INTERVAL_SECONDS = 300.0
SWEEPING = {"running": True, "last_sweep_seconds_ago": 0.0, "last_error": None}
NO_CALLS = {"in_flight": 0, "waiting": 0, "settled_above_hold": 0}
READY = {
    "status": "ready",
    "ledger": {"answers": True},
    "sweeper": SWEEPING,
    "draining": False,
    "upstream": {"down": []},
    "calls": NO_CALLS,
    "degraded": {},
}
NOT_READY = {**READY, "status": "not_ready"}


class UnavailableLedger(MemoryLedger):
    """A ledger that does not answer."""

    def __init__(self) -> None:
        super().__init__(1200.0)

    def ping(self) -> None:
        raise LedgerUnavailableError


def ready(app: Flask) -> TestResponse:
    return app.test_client().get("/ready")


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    """Makes an app whose sweeper uses a test clock. The sweeper is not started yet."""
    sweepers: list[Sweeper] = []

    def make(ledger: MemoryLedger) -> tuple[Flask, Sweeper, Clock]:
        app, clock = app_of(ledger), Clock()
        sweeper = Sweeper(ledger, INTERVAL_SECONDS, Metrics(), clock)
        app.extensions[EXTENSION] = replace(services_of(app), sweeper=sweeper)
        sweepers.append(sweeper)
        return app, sweeper, clock

    yield make
    for sweeper in sweepers:
        end(sweeper)


def end(sweeper: Sweeper) -> None:
    """Kill the sweeper's greenlet, as an unexpected error would."""
    if sweeper._greenlet is not None:
        sweeper._greenlet.kill()


def test_health_is_answered(app: Flask) -> None:
    reply = app.test_client().get("/health")
    assert reply.status_code == 200
    assert reply.data == b'{"status":"healthy","service":"ridges-ai-proxy"}'
    assert reply.content_type == "application/json"


def test_health_is_answered_even_if_the_process_is_not_ready() -> None:
    app = app_of(UnavailableLedger())
    services_of(app).admission.drain()
    assert app.test_client().get("/health").status_code == 200


def test_workers_without_a_folder_share_nothing_and_say_so(tmp_path: Path) -> None:
    parts = ("metrics", "learned_counts", "history", "recent_calls")
    ledger_url = f"sqlite:///{tmp_path}/ledger.db"

    app = app_of(WORKERS="2", LEDGER_URL=ledger_url)
    assert services_of(app).degraded() == dict.fromkeys(parts, "No folder can be made for shared files")

    app = app_of(WORKERS="1", LEDGER_URL=ledger_url)
    assert services_of(app).degraded() == {}, "there is nothing to share"


def test_without_a_sweeper_it_is_not_ready(app: Flask) -> None:
    idle = {"running": False, "last_sweep_seconds_ago": None, "last_error": None}
    assert seen(ready(app)) == (503, {**NOT_READY, "sweeper": idle})


def test_with_the_sweeper_running_it_is_ready(clocked: Clocked) -> None:
    app, sweeper, _clock = clocked(memory())
    sweeper.start()
    assert seen(ready(app)) == (200, READY)


def test_once_the_sweeper_has_stopped_it_is_not_ready(clocked: Clocked) -> None:
    app, sweeper, clock = clocked(memory())
    sweeper.start()
    sweeper.stop()
    assert sweeper._greenlet is not None
    sweeper._greenlet.join()
    clock.advance(1.26)
    stopped = {"running": False, "last_sweep_seconds_ago": 1.3, "last_error": None}
    assert seen(ready(app)) == (503, {**NOT_READY, "sweeper": stopped})


def test_once_the_sweeper_has_died_it_is_not_ready(clocked: Clocked) -> None:
    app, sweeper, _clock = clocked(memory())
    sweeper.start()
    end(sweeper)
    assert seen(ready(app)) == (503, {**NOT_READY, "sweeper": {**SWEEPING, "running": False}})


def test_a_sweeper_that_is_two_intervals_late_counts_as_not_running(clocked: Clocked) -> None:
    app, sweeper, clock = clocked(memory())
    sweeper.start()
    clock.advance(2 * INTERVAL_SECONDS + 60)
    assert ready(app).status_code == 200
    clock.advance(0.1)
    late = {"running": False, "last_sweep_seconds_ago": 660.1, "last_error": None}
    assert seen(ready(app)) == (503, {**NOT_READY, "sweeper": late})


def test_without_the_ledger_it_is_not_ready(clocked: Clocked) -> None:
    app, sweeper, _clock = clocked(UnavailableLedger())
    sweeper.start()
    assert seen(ready(app)) == (503, {**NOT_READY, "ledger": {"answers": False}})


def test_while_draining_it_is_not_ready_and_reports_the_calls_in_flight(clocked: Clocked) -> None:
    app, sweeper, _clock = clocked(memory())
    sweeper.start()
    with services_of(app).admission.enter("1"):
        services_of(app).admission.drain()
        reply = ready(app)
    assert seen(reply) == (503, {**NOT_READY, "draining": True, "calls": {**NO_CALLS, "in_flight": 1}})
