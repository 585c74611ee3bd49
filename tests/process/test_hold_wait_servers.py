"""Calls that wait for a hold, over all workers and servers of a ledger: bursts, order, outages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.event_stream import CHAT
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, chat, wait_until
from tests.process.test_hold_wait import BUDGET_USD, HELD, waiting
from tests.process.test_ledger_away import ALWAYS, FULL_DISK, UNAVAILABLE, Outage, redis_outages
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

BURST = 60
PRICES = '{"deepseek-ai/DeepSeek-V3-0324": 0.3}'
USAGE = {"prompt_tokens": 17, "completion_tokens": 13, "total_tokens": 30}
COST_NANOUSD = 9_000


@contextmanager
def url_of(store: str, folder: Path) -> Iterator[str]:
    if store == "redis":
        with RedisServer() as server:
            yield server.url
    else:
        yield "memory://" if store == "memory" else f"sqlite:///{folder}/ledger.db"


def server_on(fake_chutes: Upstream, url: str, **settings: Any) -> Proxy:  # noqa: ANN401 - keywords of Proxy
    """Return a server in whose runs a call without max_tokens holds all that remains."""
    return Proxy(fake_chutes, LEDGER_URL=url, MAX_COST_PER_RUN=BUDGET_USD, MODEL_PRICES=PRICES, **settings)


@pytest.mark.parametrize(
    ("store", "workers"),
    [("memory", 1), ("sqlite", 1), ("sqlite", 4), ("redis", 1), ("redis", 4)],
)
def test_60_calls_at_once_that_all_fit_one_after_the_other_are_all_answered(  # noqa: PLR0913, PLR0917 - fixtures
    store: str, workers: int, fake_chutes: Upstream, chutes: Upstream, run: str, tmp_path: Path
) -> None:
    barrier, prompt = Barrier(BURST), directive(usage=USAGE)
    with url_of(store, tmp_path) as url, server_on(fake_chutes, url, WORKERS=str(workers)) as proxy:

        def one(_: int) -> int:
            barrier.wait()
            return proxy.ask("POST", CHAT, chat(run, prompt)).status

        with ThreadPoolExecutor(BURST) as pool:
            statuses = list(pool.map(one, range(BURST)))
        assert statuses == [200] * BURST
        usage = proxy.usage(run)
        assert (usage.calls, usage.held, usage.spent) == (BURST, 0, BURST * COST_NANOUSD)
        lines = proxy.lines.wait(BURST, event="request", run=run)
    assert len({line["pid"] for line in lines}) > 1 or workers == 1, "one worker took all calls"
    assert chutes.wait(idle=1)["count"] == BURST


@pytest.fixture(params=["sqlite", "redis"])
def two_servers(
    request: pytest.FixtureRequest, fake_chutes: Upstream, tmp_path: Path
) -> Iterator[tuple[Proxy, Proxy]]:
    """Two servers on one ledger. Neither is told when a call of the other ends: it must ask."""
    with (
        url_of(request.param, tmp_path) as url,
        server_on(fake_chutes, url) as one,
        server_on(fake_chutes, url) as other,
    ):
        yield one, other


def test_calls_of_two_servers_are_served_in_the_order_in_which_they_came(
    two_servers: tuple[Proxy, Proxy], chutes: Upstream, run: str
) -> None:
    """One client leaves, and none waits for its call. Each answer has as many tokens as its place says."""
    here, there = two_servers
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(here.ask, "POST", CHAT, chat(run, HELD))]
        chutes.wait(at_gate=1)
        for place, server in enumerate((there, here, there, here), 1):
            calls.append(pool.submit(server.ask, "POST", CHAT, chat(run, directive(events=place))))
            wait_until(lambda: waiting(here, there) == len(calls) - 1, "one more waiting call")
            if place == 2:
                with there.sending(chat(run, directive(events=9)), CHAT):
                    wait_until(lambda: waiting(here, there) == len(calls), "the call that leaves")
                wait_until(lambda: waiting(here, there) == len(calls) - 1, "its end")
        chutes.release("held")
        assert [call.result().status for call in calls] == [200] * 5
    chutes.wait(idle=1)
    assert [call["completion_tokens"] for call in chutes.calls()[1:]] == [1, 2, 3, 4]
    usage = here.usage(run)
    assert (usage.calls, usage.held, usage.spent <= usage.budget) == (5, 0, True)


def test_a_ledger_that_fails_ends_the_waits_with_a_503(fake_chutes: Upstream, tmp_path: Path) -> None:
    def check(row: tuple[Proxy, Outage]) -> None:
        proxy, outage = row
        fake_chutes.reset()
        run = f"run-{outage.name.replace(' ', '-')}"
        with ThreadPoolExecutor(2) as pool:
            holder = pool.submit(proxy.ask, "POST", CHAT, chat(run, HELD))
            fake_chutes.wait(at_gate=1)
            waits = pool.submit(proxy.infer, run)
            wait_until(lambda: waiting(proxy) == 1, "a waiting call")
            outage.begin(proxy)
            try:
                answer = waits.result()
                assert (answer.outcome, answer.headers["retry-after"]) == (UNAVAILABLE, "5")
                fake_chutes.release("held")
                assert holder.result().status == 200
            finally:
                fake_chutes.release("held")
                outage.end(proxy)
        wait_until(lambda: proxy.ready().status == 200, "readiness")
        # It waits for its turn until the ledger has removed the call that could not leave the queue.
        wait_until(lambda: proxy.infer(run).status == 200, "a call that gets its hold")
        assert (proxy.usage(run).calls, proxy.usage(run).held) == (2, 0)
        assert fake_chutes.wait(idle=1)["count"] == 2, "the call that waited was not sent"

    soon: dict[str, str] = {"LEDGER_TIMEOUT_SECONDS": "0.3", "HOLD_WAIT_SECONDS": "30"}
    with server_on(fake_chutes, f"sqlite:///{tmp_path}/ledger.db", **soon) as with_sqlite:
        check_rows([(with_sqlite, FULL_DISK)], check)
    with RedisServer(*ALWAYS) as redis, server_on(fake_chutes, redis.url, **soon) as with_redis:
        check_rows([(with_redis, outage) for outage in redis_outages(redis)], check)
