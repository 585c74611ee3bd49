"""A ledger that goes away under a running server: no call is made without it, and none is lost."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import terms
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, failed_start, wait_until
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

CALLS = 5
CROWD = 60
HELD = directive(gate="held")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
UNAVAILABLE = (503, "ledger_unavailable")

Away = tuple[str, "Callable[[Proxy], None]", "Callable[[Proxy], None]"]
"""A ledger's URL, what takes it away from a server, and what brings it back."""


@contextmanager
def full_disk(tmp_path: Path) -> Iterator[Away]:
    """A limit of no bytes a file: every write fails, as on a disk without room."""

    def limit(most_bytes: int, proxy: Proxy) -> None:
        for pid in proxy.workers():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

    yield f"sqlite:///{tmp_path}/ledger.db", partial(limit, 0), partial(limit, resource.RLIM_INFINITY)


@contextmanager
def redis_killed() -> Iterator[Away]:
    with RedisServer(*ALWAYS) as server:
        yield server.url, lambda _: server.kill(), lambda _: server.start()


@contextmanager
def redis_frozen() -> Iterator[Away]:
    with RedisServer(*ALWAYS) as server:
        yield server.url, lambda _: server.freeze(), lambda _: server.thaw()


@pytest.fixture(params=["full disk", "redis killed", "redis frozen"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    kinds: dict[str, AbstractContextManager[Away]] = {
        "full disk": full_disk(tmp_path),
        "redis killed": redis_killed(),
        "redis frozen": redis_frozen(),
    }
    with kinds[request.param] as opened:
        yield opened


def settings_of(url: str) -> Any:  # noqa: ANN401 - keywords of Proxy
    return {"LEDGER_URL": url, "WORKERS": "2", "LEDGER_TIMEOUT_SECONDS": "0.3"}


def owes_nothing(proxy: Proxy, run: str) -> bool:
    """At every worker the ledger may be away for a moment longer."""
    answer = proxy.ask("GET", f"/agents/usage?run_id={run}")
    return answer.status == 200 and answer.json["held_cost_usd"] == 0


def books(proxy: Proxy, run: str) -> tuple[int, int]:
    wait_until(lambda: proxy.ask("GET", f"/agents/usage?run_id={run}").status == 200, "the books")
    found = proxy.usage(run)
    return found.spent, found.calls


def test_without_its_ledger_a_server_refuses_at_once_and_what_it_owes_is_delivered_later(
    fake_chutes: Upstream, chutes: Upstream, away: Away, run: str
) -> None:
    url, take_away, bring_back = away
    with Proxy(fake_chutes, **settings_of(url)) as proxy, ThreadPoolExecutor(CROWD) as pool:
        calls = [pool.submit(proxy.infer, run, HELD) for _ in range(CALLS)]
        chutes.wait(at_gate=CALLS)
        take_away(proxy)
        refused = list(pool.map(lambda _: proxy.infer(run), range(CROWD)))
        assert {answer.outcome for answer in refused} == {UNAVAILABLE}
        assert {answer.headers["retry-after"] for answer in refused} == {"5"}
        assert proxy.ready().status == 503
        chutes.release("held")
        assert [call.result().status for call in calls] == [200] * CALLS, "paid for, so given"
        chutes.wait(idle=1)
        assert len(chutes.calls()) == CALLS, "no call was made without a hold"
        bring_back(proxy)
        wait_until(lambda: proxy.ready().status == 200, "readiness")
        wait_until(lambda: owes_nothing(proxy, run), "what was owed")
        billed = chutes.wait(idle=1)["billed_nanousd"]
        assert books(proxy, run) == (billed, CALLS)
        assert billed > 0
        wait_until(lambda: proxy.infer(run).status == 200, "a call like any other")


def test_a_server_that_dies_without_its_ledger_leaves_what_it_owes_to_the_next(
    fake_chutes: Upstream, chutes: Upstream, run: str, tmp_path: Path
) -> None:
    with RedisServer(*ALWAYS) as redis, ThreadPoolExecutor(CALLS) as pool:
        settings = {**settings_of(redis.url), "LEDGER_OUTBOX": f"{tmp_path}/outbox.db"}
        with Proxy(fake_chutes, **settings) as proxy:
            calls = [pool.submit(proxy.infer, run, HELD) for _ in range(CALLS)]
            chutes.wait(at_gate=CALLS)
            redis.kill()
            chutes.release("held")
            assert [call.result().status for call in calls] == [200] * CALLS
        redis.start()
        with Proxy(fake_chutes, **settings) as proxy:
            wait_until(lambda: owes_nothing(proxy, run), "what was owed")
            billed = chutes.wait(idle=1)["billed_nanousd"]
            assert books(proxy, run) == (billed, CALLS)
            assert CALLS * terms.hold(HELD) > billed > 0, "at its cost, not at the hold"


def test_a_full_disk_is_refused_at_the_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    status, said = failed_start(shell="ulimit -f 0", LEDGER_URL=url)
    assert status != 0
    assert said.startswith(f"The ledger cannot be opened: cannot use {tmp_path}/ledger.db: ")
    assert "Traceback" not in said
