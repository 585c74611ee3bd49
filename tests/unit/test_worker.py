"""The life of a worker whose master may be gone."""

from __future__ import annotations

import os
import signal
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest
from gevent import get_hub
from gunicorn.workers.ggevent import GeventWorker

from ridges_proxy.runtime.shared_lookups import SharedLookups
from ridges_proxy.server.other_servers import OtherServerError, mark_master, refuse_other_servers
from ridges_proxy.server.worker import HEARTBEAT_SECONDS, ORPHAN_SECONDS, Worker
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator


class Heartbeat:
    def __init__(self) -> None:
        self.beats = 0

    def notify(self) -> None:
        self.beats += 1


@pytest.fixture
def alarm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The seconds of each alarm that is set. None is really set in the process of the tests."""
    seconds: list[int] = []
    monkeypatch.setattr(signal, "alarm", seconds.append)
    yield seconds
    seconds.clear()


def beating(ppid: int, *, alive: bool = True) -> Worker:
    worker = Worker.__new__(Worker)
    worker.tmp, worker.ppid, worker.alive = Heartbeat(), ppid, alive  # type: ignore[assignment]
    worker.notify()
    assert worker.tmp.beats == 1  # type: ignore[attr-defined]
    return worker


def test_a_worker_that_hangs_is_killed_by_the_kernel_after_its_master_would_have(alarm: list[int]) -> None:
    assert beating(os.getppid()).alive
    assert alarm == [ORPHAN_SECONDS]
    assert ORPHAN_SECONDS > HEARTBEAT_SECONDS + 2, "the master looks once a second, and aborts first"


@each_row("alive", [True, False])
def test_a_worker_without_its_master_drains(alarm: list[int], *, alive: bool) -> None:
    alarm.clear()
    assert not beating(os.getppid() + 1, alive=alive).alive
    assert len(alarm) == alive, "a worker that drains keeps its last alarm"


def test_a_worker_that_still_starts_when_its_master_ends_is_not_mistaken_for_one_of_another_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/27.0.0")
    with pytest.raises(OtherServerError):
        refuse_other_servers()
    context = copy_context()
    context.run(mark_master)
    monkeypatch.setattr(os, "getpid", lambda: 1001)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    context.run(refuse_other_servers)


def test_a_started_worker_shares_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    hub: Any = get_hub()
    for name in ("handle_error", "resolver"):
        monkeypatch.setattr(hub, name, getattr(hub, name))  # restored at the end
    monkeypatch.setattr(GeventWorker, "init_process", lambda _: None)
    Worker.__new__(Worker).init_process()
    assert isinstance(hub.resolver, SharedLookups)
