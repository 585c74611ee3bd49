"""Rate limits of real servers: across all that share a Redis, and for whoever tries keys."""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.auth.key_throttle import FREE_ATTEMPTS, MAX_WAITING_PER_ADDRESS
from tests.process.server import INFERENCE, Proxy
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

BAD = {"Authorization": "Bearer no-such-key"}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_two_servers_of_two_workers_on_one_redis_admit_exactly_as_many_as_may(
    fake_chutes: Upstream, chutes: Upstream, redis_server: RedisServer, run: str
) -> None:
    def server() -> Proxy:
        return Proxy(fake_chutes, LEDGER_URL=redis_server.url, WORKERS="2", RATE_LIMIT_PER_RUN="10/minute")

    with server() as one, server() as other:
        servers = cycle([one, other])
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda proxy: proxy.infer(run), [next(servers) for _ in range(60)]))
        assert Counter(answer.status for answer in answers) == {200: 10, 429: 50}
        assert {answer.code for answer in answers if answer.status == 429} == {"rate_limited"}
        assert len({line["pid"] for line in one.lines.matching(event="request", route=INFERENCE)}) == 2
    assert chutes.wait(idle=1)["count"] == 10


def test_without_the_redis_a_call_is_refused_before_anything_is_counted(
    fake_chutes: Upstream, chutes: Upstream, run: str
) -> None:
    with RedisServer() as server, Proxy(fake_chutes, LEDGER_URL=server.url) as proxy:
        assert proxy.infer(run).status == 200
        server.kill()
        assert proxy.infer(run).outcome == (503, "ledger_unavailable")
    assert chutes.wait(idle=1)["count"] == 1


def test_fifty_sandboxes_behind_one_address_are_not_limited_by_default(fake_chutes: Upstream) -> None:
    runs = [uuid.uuid4().hex for _ in range(50)]
    with Proxy(fake_chutes) as proxy, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(proxy.embed, runs * 4))
    assert Counter(answer.status for answer in answers) == {200: 200}


def test_a_crowd_that_tries_keys_waits_or_is_refused_and_the_good_key_is_not(
    fake_chutes: Upstream, run: str
) -> None:
    crowd = FREE_ATTEMPTS + MAX_WAITING_PER_ADDRESS + 15
    with Proxy(fake_chutes) as proxy, ThreadPoolExecutor(crowd) as pool:
        tries = [pool.submit(proxy.infer, run, "hi", BAD) for _ in range(crowd)]
        assert proxy.infer(run).status == 200
        answers = [done.result() for done in tries]
    assert Counter(answer.outcome for answer in answers).keys() <= {
        (401, "invalid_api_key"),
        (429, "rate_limited"),
    }
    assert sum(answer.status == 401 for answer in answers) >= FREE_ATTEMPTS + MAX_WAITING_PER_ADDRESS
