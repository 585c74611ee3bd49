"""Rate limits of real servers: shared through a Redis, and for repeated invalid API keys."""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.auth.key_throttle import FREE_ATTEMPTS, MAX_WAITING_PER_ADDRESS
from tests.process.server import INFERENCE, Proxy
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

INVALID_KEY = {"Authorization": "Bearer no-such-key"}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_two_servers_with_two_workers_each_share_the_limit_of_a_run(
    fake_chutes: Upstream, chutes: Upstream, redis_server: RedisServer, run: str
) -> None:
    def server() -> Proxy:
        return Proxy(fake_chutes, LEDGER_URL=redis_server.url, WORKERS="2", RATE_LIMIT_PER_RUN="10/minute")

    with ExitStack() as stack, ThreadPoolExecutor(2) as starter:
        one, other = starter.map(stack.enter_context, [server(), server()])
        servers = cycle([one, other])
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda proxy: proxy.infer(run), [next(servers) for _ in range(60)]))
        assert Counter(answer.status for answer in answers) == {200: 10, 429: 50}
        assert {answer.code for answer in answers if answer.status == 429} == {"rate_limited"}
        assert len({line["pid"] for line in one.lines.matching(event="request", route=INFERENCE)}) == 2
    assert chutes.wait(idle=1)["count"] == 10


def test_a_call_without_the_redis_is_refused_and_not_sent(
    fake_chutes: Upstream, chutes: Upstream, run: str
) -> None:
    with RedisServer() as server, Proxy(fake_chutes, LEDGER_URL=server.url) as proxy:
        assert proxy.infer(run).status == 200
        server.kill()
        assert proxy.infer(run).outcome == (503, "ledger_unavailable")
    assert chutes.wait(idle=1)["count"] == 1


def test_fifty_runs_behind_one_address_are_not_limited_by_default(shared_proxy: Proxy) -> None:
    runs = [uuid.uuid4().hex for _ in range(50)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(shared_proxy.embed, runs * 4))
    assert Counter(answer.status for answer in answers) == {200: 200}


def test_requests_with_invalid_keys_wait_or_are_refused_and_a_valid_key_is_not_affected(
    fake_chutes: Upstream, run: str
) -> None:
    attempts = FREE_ATTEMPTS + MAX_WAITING_PER_ADDRESS + 15
    with Proxy(fake_chutes) as proxy, ThreadPoolExecutor(attempts) as pool:
        invalid = [pool.submit(proxy.infer, run, "hi", INVALID_KEY) for _ in range(attempts)]
        assert proxy.infer(run).status == 200
        answers = [done.result() for done in invalid]
    assert Counter(answer.outcome for answer in answers).keys() <= {
        (401, "invalid_api_key"),
        (429, "rate_limited"),
    }
    assert sum(answer.status == 401 for answer in answers) >= FREE_ATTEMPTS + MAX_WAITING_PER_ADDRESS
