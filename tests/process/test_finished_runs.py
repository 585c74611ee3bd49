"""A run whose budget is used up has no second one, however often the sweep forgets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import expected_holds
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


@pytest.fixture(params=["memory", "sqlite", "redis"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "redis":
        with RedisServer() as server:
            yield server.url
    else:
        yield "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db"


def spend_all(proxy: Proxy, run: str) -> None:
    """Call until the refusal that is final."""
    while (answer := proxy.infer(run, PROMPT)).json != EXHAUSTED:
        assert answer.status == 200


def is_forgotten(proxy: Proxy, run: str) -> bool:
    return bool(proxy.lines.matching(event="receipt", run=run))


def test_a_run_that_waits_until_it_is_forgotten_four_times_spends_one_budget(
    fake_chutes: Upstream, chutes: Upstream, run: str, ledger_url: str
) -> None:
    settings: dict[str, Any] = {
        "LEDGER_URL": ledger_url,
        "MAX_COST_PER_RUN": f"{BUDGET_NANOUSD / 10**9:.9f}",
        "RUN_TTL_SECONDS": str(RUN_TTL_SECONDS),
        "SWEEP_INTERVAL_SECONDS": "0.1",
    }
    with Proxy(fake_chutes, **settings) as proxy:
        for _ in range(4):
            spend_all(proxy, run)
            time.sleep(RUN_TTL_SECONDS)
            wait_until(lambda: is_forgotten(proxy, run), "the end of the run's memory")
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert billed == proxy.usage(run).spent
        assert 0.9 * BUDGET_NANOUSD < billed <= BUDGET_NANOUSD
        assert proxy.infer("other", PROMPT).status == 200
