"""The start of a worker by the master: a signal to stop meanwhile, and a fork that fails."""

from __future__ import annotations

import logging
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.server.worker_start import STOPS, accept_stops, install_worker_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The processes that heard a signal to stop. At first, each is one for the master."""
    found: list[str] = []
    before = {number: signal.signal(number, lambda *_: found.append("master")) for number in STOPS}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def start(spawn: Callable[[], int]) -> int | None:
    server = SimpleNamespace(spawn_worker=spawn)
    install_worker_start(server)  # type: ignore[arg-type]
    result: int | None = server.spawn_worker()
    return result


def test_a_worker_that_has_no_handlers_yet_hears_a_signal_to_stop_as_soon_as_it_has_them(
    heard: list[str],
) -> None:
    def become_a_worker() -> int:
        for number in STOPS:
            signal.raise_signal(number)
        for number in STOPS:
            signal.signal(number, lambda *_: heard.append("worker"))
        accept_stops()
        return 1

    assert start(become_a_worker) == 1
    assert heard == ["worker", "worker"]
    signal.raise_signal(signal.SIGTERM)
    assert len(heard) == 3, "the master hears signals again"


def test_a_worker_that_cannot_be_started_is_logged_and_does_not_end_the_server(
    heard: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ridges_proxy").propagate = True

    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    assert start(fail) is None
    (line,) = caplog.records
    assert "Resource temporarily unavailable" in line.__dict__["error"]
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["master"]
