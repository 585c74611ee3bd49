"""A run whose budget is used up has no second one, however often the sweep forgets it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from signal import Signals
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import expected_holds, kernel
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, wait_until
from tests.process.test_budget import EXHAUSTED
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

PROMPT = directive(greedy=True)
BUDGET_NANOUSD = 3 * expected_holds.hold(PROMPT)
RUN_TTL_SECONDS = 2


@contextmanager
def ledger(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty ledger."""
    if kind == "redis":
        with RedisServer() as server:
            yield server.url
    else:
        yield "memory://" if kind == "memory" else f"sqlite:///{folder}/ledger.db"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ledger(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def lasting_ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a ledger that outlives the server."""
    with ledger(request.param, tmp_path) as url:
        yield url


def settings_of(ledger_url: str) -> dict[str, Any]:
    return {
        "LEDGER_URL": ledger_url,
        "MAX_COST_PER_RUN": f"{BUDGET_NANOUSD / 10**9:.9f}",
        "RUN_TTL_SECONDS": str(RUN_TTL_SECONDS),
        "SWEEP_INTERVAL_SECONDS": "0.1",
    }


def spend_all(proxy: Proxy, run: str) -> None:
    """Call until the refusal that is final."""
    while (answer := proxy.infer(run, PROMPT)).json != EXHAUSTED:
        assert answer.status == 200


def is_forgotten(proxy: Proxy, run: str) -> bool:
    return bool(proxy.lines.matching(event="receipt", run=run))


def test_a_run_that_waits_until_it_is_forgotten_four_times_spends_one_budget(
    fake_chutes: Upstream, chutes: Upstream, run: str, ledger_url: str
) -> None:
    with Proxy(fake_chutes, **settings_of(ledger_url)) as proxy:
        for _ in range(4):
            spend_all(proxy, run)
            time.sleep(RUN_TTL_SECONDS)
            wait_until(lambda: is_forgotten(proxy, run), "the end of the run's memory")
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert billed == proxy.usage(run).spent
        assert 0.9 * BUDGET_NANOUSD < billed <= BUDGET_NANOUSD
        assert proxy.infer("other", PROMPT).status == 200


def kill(proxy: Proxy) -> None:
    """Kill the server with `kill -9`, and wait until no worker is left."""
    workers = proxy.workers()
    proxy.signal(Signals.SIGKILL)
    wait_until(lambda: not any(map(kernel.alive, workers)), "the end of the orphaned worker")


def test_a_kill_gives_no_budget_back_whether_the_run_is_forgotten_before_or_after_it(
    fake_chutes: Upstream, chutes: Upstream, run: str, lasting_ledger_url: str
) -> None:
    settings = settings_of(lasting_ledger_url)
    with Proxy(fake_chutes, **settings) as proxy:
        spend_all(proxy, run)
        kill(proxy)
    with Proxy(fake_chutes, **settings) as proxy:
        wait_until(lambda: is_forgotten(proxy, run), "the end of the run's memory")
        assert proxy.infer(run, PROMPT).json == EXHAUSTED
        kill(proxy)
    with Proxy(fake_chutes, **settings) as proxy:
        assert proxy.infer(run, PROMPT).json == EXHAUSTED
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert billed == proxy.usage(run).spent
        assert 0.9 * BUDGET_NANOUSD < billed <= BUDGET_NANOUSD
