"""`kill -9` of workers and of masters at seeded random moments, with a SQLite and with a Redis ledger.

Each kill ends several calls, each at another point of its life: the callers start at random times.
"""

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

from ridges_proxy.billing.money import NANOUSD_PER_USD
from tests.process import expected_holds, kernel
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, wait_until
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = 3
"""Per test and ledger."""

CALLERS = 6
CALL_SECONDS = 0.2
PROMPT = directive(events=8, pause_ms=25)
"""A call takes 8 times 25 ms = CALL_SECONDS."""


@pytest.fixture
def own_chutes() -> Iterator[Upstream]:
    """A fake Chutes that gets the calls of this test only."""
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
    """Return settings with which the hold of an interrupted call expires within two seconds."""
    return {
        "LEDGER_URL": ledger_url,
        "WORKERS": str(workers),
        "DEADLINE_SECONDS": "1",
        "WRITE_TIMEOUT_SECONDS": "0.1",
        "SETTLE_TIMEOUT_SECONDS": "0.3",
        "SWEEP_INTERVAL_SECONDS": "0.1",
        "BUDGETS": '[{"name": "all", "usd": 1000, "window": "lifetime"}]',
    }


@dataclass
class Callers:
    """Threads that make one call after another while the context is open, even if calls fail."""

    runs: list[str] = field(default_factory=lambda: [uuid.uuid4().hex for _ in range(CALLERS)])
    failed: list[str] = field(default_factory=list)
    """The run of each call that got no answer."""

    @contextmanager
    def calling(self, proxy: Proxy) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._call, args=(proxy, run, stop, random.Random(seed)))
            for seed, run in enumerate(self.runs)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _call(self, proxy: Proxy, run: str, stop: threading.Event, chosen: random.Random) -> None:
        stop.wait(chosen.uniform(0, CALL_SECONDS))
        while not stop.is_set():
            try:
                proxy.infer(run, PROMPT)
            except ConnectionRefusedError:
                stop.wait(0.02)
            except (OSError, HTTPException):
                self.failed.append(run)

    def assert_all_calls_charged(self, proxy: Proxy, billed: int, *, interrupted: bool = True) -> None:
        """Assert that no hold is left, and that spent is the bills plus at most a hold per failed call.

        The budget that the runs share has spent the same.
        """
        wait_until(lambda: not any(proxy.usage(run).held for run in self.runs), "the end of all holds")
        spent = sum(proxy.usage(run).spent for run in self.runs)
        assert self.failed or not interrupted, "no kill interrupted a call"
        assert billed <= spent <= billed + len(self.failed) * expected_holds.hold(PROMPT)
        (shared,) = proxy.ask("GET", f"/agents/usage?run_id={self.runs[0]}").json["budgets"]
        assert (round(shared["used_cost_usd"] * NANOUSD_PER_USD), shared["held_cost_usd"]) == (spent, 0)


def test_killing_workers_at_any_time_refunds_no_call_and_leaves_no_hold(
    own_chutes: Upstream, ledger_url: str
) -> None:
    chosen = random.Random(1)
    callers = Callers()
    with Proxy(own_chutes, **settings_of(ledger_url, workers=2)) as proxy:
        with callers.calling(proxy):
            for kills in range(KILLS):
                proxy.lines.wait(2 + kills, event="worker ready")
                time.sleep(CALL_SECONDS + chosen.uniform(0, CALL_SECONDS))
                os.kill(chosen.choice(proxy.workers()), Signals.SIGKILL)
        callers.assert_all_calls_charged(proxy, own_chutes.wait(idle=1)["billed_nanousd"])


@pytest.mark.parametrize("with_workers", [True, False])
def test_killing_masters_at_any_time_refunds_no_call_and_leaves_no_hold(
    own_chutes: Upstream, ledger_url: str, *, with_workers: bool
) -> None:
    """A worker that has lost its master finishes its calls."""
    callers = Callers()

    def start_and_kill(seed: int) -> None:
        with Proxy(own_chutes, **settings_of(ledger_url, workers=1)) as proxy:
            workers = proxy.workers()
            with callers.calling(proxy):
                time.sleep(CALL_SECONDS + random.Random(seed).uniform(0, CALL_SECONDS))
                proxy.signal(Signals.SIGKILL)
                for worker in workers if with_workers else []:
                    os.kill(worker, Signals.SIGKILL)
                wait_until(lambda: not any(map(kernel.alive, workers)), "the end of the orphaned worker")

    with ThreadPoolExecutor(KILLS) as pool:
        list(pool.map(start_and_kill, range(KILLS)))
    with Proxy(own_chutes, **settings_of(ledger_url, workers=1)) as proxy:
        billed = own_chutes.wait(idle=1)["billed_nanousd"]
        callers.assert_all_calls_charged(proxy, billed, interrupted=with_workers)
