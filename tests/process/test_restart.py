"""Restarts under systemd, which keeps the socket: old calls end while the next server serves new ones."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.runtime.shared_memory import shared_memory_folder
from ridges_proxy.server.metrics_folder import METRICS_PREFIX
from ridges_proxy.server.readiness import READY
from tests.process import kernel
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import INFERENCE, Proxy, chat, wait_until
from tests.process.systemd import Systemd
from tests.process.wire import PATIENCE_SECONDS
from tests.support.app import ADMIN_KEY, PROXY_KEY
from tests.support.redis_server import RedisServer
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESTARTS = 3
GATE = directive(gate="restart")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with Systemd(tmp_path) as started:
        yield started


def folders_of(proxy: Proxy) -> list[Path]:
    """The folders in shared memory that a server has made."""
    return list(shared_memory_folder().glob(f"{METRICS_PREFIX}-{proxy.pid}-*"))


@contextmanager
def callers(*call: Callable[[], int]) -> Iterator[list[int]]:
    """Let each caller call again and again, in a thread of its own. Yields the statuses of all answers."""
    over = threading.Event()
    statuses: list[int] = []

    def call_until_over(one: Callable[[], int]) -> None:
        while not over.is_set():
            statuses.append(one())

    with ThreadPoolExecutor(len(call)) as pool:
        running = [pool.submit(call_until_over, one) for one in call]
        try:
            yield statuses
        finally:
            over.set()
        for each in running:
            each.result()


@contextmanager
def kept_connection(port: int, run: str) -> Iterator[Callable[[], int]]:
    """Yields a caller that keeps its connection until the server closes it."""
    headers = {"Authorization": f"Bearer {PROXY_KEY}", "Content-Type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:

        def call() -> int:
            connection.request("POST", INFERENCE, json.dumps(chat(run, "hi")), headers)
            with closing(connection.getresponse()) as response:
                response.read()
                return response.status

        yield call


def test_no_call_is_lost_in_restarts_and_several_old_servers_drain_side_by_side(
    systemd: Systemd, chutes: Upstream, run: str
) -> None:
    runs = [f"{run}-{number}" for number in range(RESTARTS + 3)]
    with ExitStack() as stack:
        first = server = stack.enter_context(systemd.server(chutes))
        pool = stack.enter_context(ThreadPoolExecutor(RESTARTS))
        kept = [stack.enter_context(kept_connection(first.port, name)) for name in runs[-3:-1]]
        long_calls = []
        with callers(*kept, lambda: first.infer(runs[-1]).status) as statuses:
            for number in range(RESTARTS):
                long_calls.append(pool.submit(first.infer, runs[number], GATE))
                chutes.wait(at_gate=number + 1)
                server.signal(Signals.SIGUSR2)
                assert server.end() == 0
                server = stack.enter_context(systemd.server(chutes))
            served = len(statuses)
            wait_until(lambda: len(statuses) > served + 8, "calls at the last server")
        assert not any(call.done() for call in long_calls)
        chutes.release("restart")
        assert [call.result().status for call in long_calls] == [200] * RESTARTS
        assert set(statuses) == {200}
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert sum(server.usage(name).spent for name in runs) == billed > 0


def test_a_killed_main_process_loses_no_call(systemd: Systemd, chutes: Upstream, run: str) -> None:
    with systemd.server(chutes) as old, ThreadPoolExecutor(1) as pool:
        workers = old.workers()
        (folder,) = folders_of(old)
        call = pool.submit(old.infer, run, GATE)
        chutes.wait(at_gate=1)
        old.signal(Signals.SIGKILL)
        with systemd.server(chutes) as new:
            old.lines.wait(event="draining")
            assert new.infer(run).status == 200
            assert folder.exists(), "the workers still use it"
            chutes.release("restart")
            assert call.result().status == 200
            wait_until(lambda: not any(map(kernel.alive, workers)), "the end of the old workers")
            assert not folder.exists(), "the last worker removes it"
            assert new.usage(run).calls == 2


@each_row("store", ["sqlite", "redis"])
def test_no_later_server_resolves_the_hold_of_a_call_that_an_old_worker_finishes(
    chutes: Upstream, tmp_path_factory: pytest.TempPathFactory, run: str, store: str
) -> None:
    """Neither their starts nor a kill nor a sweep: the hold has not expired."""
    chutes.reset()
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("systemd")
        ledger = f"sqlite:///{folder}/ledger.db"
        if store == "redis":
            ledger = stack.enter_context(RedisServer()).url
        systemd = stack.enter_context(Systemd(folder))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        oldest = stack.enter_context(systemd.server(chutes, LEDGER_URL=ledger))
        call = pool.submit(oldest.infer, run, GATE)
        chutes.wait(at_gate=1)
        held = oldest.usage(run).held
        oldest.signal(Signals.SIGUSR2)
        second = stack.enter_context(systemd.server(chutes, LEDGER_URL=ledger))
        second.stop(Signals.SIGKILL)
        last = stack.enter_context(systemd.server(chutes, LEDGER_URL=ledger))
        swept = last.ask("POST", "/admin/sweep", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).json
        assert swept["overdue_holds"] == 0
        assert (last.usage(run).held, last.usage(run).spent) == (held, 0)
        chutes.release("restart")
        assert call.result().status == 200
        billed = chutes.wait(idle=1)["billed_nanousd"]
        wait_until(lambda: last.usage(run).held == 0, "the settlement")
        assert last.usage(run).spent == billed > 0


@each_row("settings", [{"LEDGER_URL": "memory://", "WORKERS": "1"}, None])
def test_without_a_successor_that_may_serve_beside_it_a_server_stops_when_its_calls_have_ended(
    chutes: Upstream, tmp_path_factory: pytest.TempPathFactory, run: str, settings: dict[str, str] | None
) -> None:
    """A ledger in memory belongs to one server; a socket of its own ends with the server."""
    chutes.reset()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        if settings:
            systemd = stack.enter_context(Systemd(tmp_path_factory.mktemp("systemd")))
            proxy = stack.enter_context(systemd.server(chutes, **settings))
        else:
            ledger = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
            proxy = stack.enter_context(Proxy(chutes, LEDGER_URL=ledger))
        call = pool.submit(proxy.infer, run, GATE)
        chutes.wait(at_gate=1)
        proxy.signal(Signals.SIGUSR2)
        proxy.lines.wait(event="draining")
        assert proxy.lines.matching(event="stopped") == []
        chutes.release("restart")
        assert call.result().status == 200
        assert proxy.end() == 0


def test_a_signal_to_stop_that_follows_changes_nothing(systemd: Systemd, chutes: Upstream, run: str) -> None:
    with systemd.server(chutes) as old, ThreadPoolExecutor(1) as pool:
        workers = old.workers()
        call = pool.submit(old.infer, run, GATE)
        chutes.wait(at_gate=1)
        old.signal(Signals.SIGUSR2)
        old.lines.wait(event="draining")
        for pid in filter(kernel.alive, workers):
            os.kill(pid, Signals.SIGTERM)
        chutes.release("restart")
        assert call.result().status == 200
        wait_until(lambda: not any(map(kernel.alive, workers)), "the end of the workers")


def test_systemd_hears_that_the_server_is_ready_when_a_worker_serves(
    systemd: Systemd, chutes: Upstream
) -> None:
    with systemd.server(chutes) as proxy:
        assert set(systemd.notices()) == {READY}
        assert READY.startswith("READY=1\n")
        proxy.signal(Signals.SIGUSR2)
        assert proxy.end() == 0
    assert set(systemd.notices()) <= {READY}, "that of the second worker"
    with pytest.raises(TimeoutError), systemd.server(chutes, "nothing:app"):
        pytest.fail("it serves")
    assert systemd.notices() == []
