"""`kill -9` of workers and of masters, each 20 times at seeded random moments: half on each shared ledger."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from signal import Signals
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import kernel, terms
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, wait_until
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = 10
"""On each ledger."""

CALLERS = 3
LANES = 5
PROMPT = directive(events=8, pause_ms=25)


@pytest.fixture
def own_chutes() -> Iterator[Upstream]:
    """Its books are one test's alone."""
    with Upstream() as started:
        yield started


@pytest.fixture(params=["sqlite", "redis"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    with RedisServer() as server:
        yield server.url


def settings_of(ledger_url: str, workers: int) -> Any:  # noqa: ANN401 - keywords of Proxy
    """Holds of the dead become spend within two seconds."""
    return {
        "LEDGER_URL": ledger_url,
        "WORKERS": str(workers),
        "DEADLINE_SECONDS": "1",
        "WRITE_TIMEOUT_SECONDS": "0.1",
        "SETTLE_TIMEOUT_SECONDS": "0.3",
        "SWEEP_INTERVAL_SECONDS": "0.1",
    }


@dataclass
class Callers:
    """Calls without end while the context is open, whatever becomes of them."""

    runs: list[str]
    failed: list[str] = field(default_factory=list)
    """The runs of calls without an answer."""

    @contextmanager
    def calling(self, proxy: Proxy) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._call, args=(proxy, run, stop)) for run in self.runs]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _call(self, proxy: Proxy, run: str, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                proxy.infer(run, PROMPT)
            except ConnectionRefusedError:
                stop.wait(0.02)
            except (OSError, HTTPException):
                self.failed.append(run)

    def assert_true(self, proxy: Proxy, billed: int) -> None:
        """Nothing is held for ever; what was billed is spent, and else only holds of calls that died."""
        wait_until(lambda: not any(proxy.usage(run).held for run in self.runs), "the end of all holds")
        spent = sum(proxy.usage(run).spent for run in self.runs)
        assert self.failed, "some died"
        assert billed <= spent <= billed + len(self.failed) * terms.hold(PROMPT)


def test_workers_killed_at_any_moment_refund_nothing_and_leave_nothing_held(
    own_chutes: Upstream, ledger_url: str
) -> None:
    chosen = random.Random(1)
    callers = Callers([uuid.uuid4().hex for _ in range(CALLERS)])
    with Proxy(own_chutes, **settings_of(ledger_url, workers=2)) as proxy:
        with callers.calling(proxy):
            for kills in range(ROUNDS):
                proxy.lines.wait(2 + kills, event="worker ready")
                time.sleep(chosen.uniform(0, 0.1))
                os.kill(chosen.choice(proxy.workers()), Signals.SIGKILL)
        callers.assert_true(proxy, own_chutes.wait(idle=1)["billed_nanousd"])


def test_masters_killed_at_any_moment_refund_nothing_and_leave_nothing_held(
    own_chutes: Upstream, ledger_url: str
) -> None:
    callers = Callers([uuid.uuid4().hex for _ in range(CALLERS)])

    def one(seed: int) -> None:
        with Proxy(own_chutes, **settings_of(ledger_url, workers=1)) as proxy:
            workers = proxy.workers()
            with callers.calling(proxy):
                time.sleep(random.Random(seed).uniform(0, 0.2))
                proxy.signal(Signals.SIGKILL)
                wait_until(lambda: not any(map(kernel.alive, workers)), "the end of the orphaned worker")

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(one, range(ROUNDS)))
    with Proxy(own_chutes, **settings_of(ledger_url, workers=1)) as proxy:
        callers.assert_true(proxy, own_chutes.wait(idle=1)["billed_nanousd"])
