"""Waiting calls of real processes on one ledger: order, large calls, a killed process."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import contextmanager
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.errors import RunBusyError
from ridges_proxy.ledger import Kind, Ledger, Run, Ticket, open_ledger
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import SpawnProcess
    from multiprocessing.queues import Queue
    from pathlib import Path

BUDGET_NANOUSD = 1_000
RUN = Run("run", BUDGET_NANOUSD)
POLL_SECONDS = 0.01
PATIENCE_SECONDS = 30.0

SPAWN = multiprocessing.get_context("spawn")


def opened(url: str) -> Ledger:
    return open_ledger(load_settings(LedgerSettings, {"LEDGER_URL": url}))


def wait_and_settle(url: str, name: str, amount: int, events: Queue[tuple[str, str]]) -> None:
    """Wait for a hold as a worker does, and settle it at no cost."""
    ledger, ticket = opened(url), Ticket(name, RUN.id)
    waits = False
    while True:
        try:
            hold = ledger.reserve(RUN, Kind.INFERENCE, amount, amount, PATIENCE_SECONDS, ticket)
        except RunBusyError:
            if not waits:
                waits = True
                events.put(("waits", name))
            time.sleep(POLL_SECONDS)
        else:
            events.put(("held", name))
            events.close()
            events.join_thread()  # a thread writes it: before the next call can be served, and write its own
            ledger.settle(hold, 0)
            return


class Waiters:
    """Processes that wait for the holds of one run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ledger = opened(url)
        self.events: Queue[tuple[str, str]] = SPAWN.Queue()
        self.processes: dict[str, SpawnProcess] = {}

    def start(self, name: str, amount: int = BUDGET_NANOUSD) -> None:
        """Start a process, and return once it waits."""
        process = SPAWN.Process(target=wait_and_settle, args=(self.url, name, amount, self.events))
        process.start()
        self.processes[name] = process
        assert self.next() == ("waits", name)

    def next(self) -> tuple[str, str]:
        return self.events.get(timeout=PATIENCE_SECONDS)

    def held(self, number: int) -> list[str]:
        """Return the names of the next calls that get their holds."""
        events = [self.next() for _ in range(number)]
        assert {event for event, _ in events} == {"held"}
        return [name for _, name in events]


@pytest.fixture(params=["sqlite", "redis"])
def waiters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Waiters]:
    with url_of(request.param, tmp_path) as url:
        found = Waiters(url)
        yield found
        for process in found.processes.values():
            process.kill()
            process.join()
        found.ledger.disconnect()


@contextmanager
def url_of(store: str, folder: Path) -> Iterator[str]:
    if store == "sqlite":
        yield f"sqlite:///{folder}/ledger.db"
        return
    with RedisServer() as server:
        yield server.url


def test_processes_are_served_in_order_and_a_killed_one_loses_its_place(waiters: Waiters) -> None:
    """A small call that came later does not overtake the large ones."""
    hold = waiters.ledger.reserve(RUN, Kind.INFERENCE, BUDGET_NANOUSD, 1, PATIENCE_SECONDS)
    for name in ("first", "killed", "third"):
        waiters.start(name)
    waiters.start("small", 1)
    killed = waiters.processes["killed"].pid
    assert killed
    os.kill(killed, Signals.SIGKILL)
    waiters.ledger.settle(hold, 0)
    assert waiters.held(1) == ["first"]
    assert waiters.held(2) == ["third", "small"]
    for name in ("first", "third", "small"):
        waiters.processes[name].join(PATIENCE_SECONDS)
    usage = waiters.ledger.usage(RUN.id)
    assert usage
    assert (usage.in_flight, usage.held_nanousd, usage.spent_nanousd) == (0, 0, 0)
    assert waiters.ledger.reserve(RUN, Kind.INFERENCE, 1, 1, PATIENCE_SECONDS), "nothing waits any more"
