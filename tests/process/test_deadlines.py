"""Time limits of the upstream: to connect, between two pieces of an answer, and for a whole call."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.process import expected_holds
from tests.process.fake_chutes_control import directive
from tests.process.kernel import SYN_SENT, connections_to
from tests.process.server import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

ROLE = 1
WORD = 6
CONNECT_TRIES = 3
CONNECT_SECONDS = 0.5
DEADLINE_MILLISECONDS = 2000


@pytest.fixture(scope="module")
def full_port() -> Iterator[int]:
    """A port whose listener has a full backlog: new connections get no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(2):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


@pytest.fixture(scope="module")
def proxy(full_port: int) -> Iterator[Proxy]:
    """A proxy whose upstream has an unknown host name. Its embedding URL does not answer connections."""
    with Proxy(
        None,
        CHUTES_BASE_URL="http://chutes.invalid/v1",
        CHUTES_EMBEDDING_URL=f"http://127.0.0.1:{full_port}/embed",
        CONNECT_TIMEOUT_SECONDS=str(CONNECT_SECONDS),
    ) as started:
        yield started


def test_a_host_name_that_does_not_resolve_is_unreachable_and_costs_nothing(proxy: Proxy, run: str) -> None:
    assert proxy.infer(run).outcome == (500, "upstream_unreachable")
    assert proxy.usage(run)[:2] == (0, 0)
    assert (proxy.usage(run).calls, proxy.in_flight()) == (0, 0)


def test_a_connect_timeout_is_tried_three_times_and_costs_nothing(
    proxy: Proxy, full_port: int, run: str
) -> None:
    """The duration shows at least three tries. The kernel's list shows at most three: it may miss some."""
    done = threading.Event()
    before = connecting_to(full_port)
    with ThreadPoolExecutor(1) as pool:
        tries = pool.submit(observe_tries, full_port, done)
        began_at = time.monotonic()
        assert proxy.embed(run).outcome == (500, "upstream_unreachable")
        assert time.monotonic() - began_at >= CONNECT_TRIES * CONNECT_SECONDS
        done.set()
        assert 1 <= len(tries.result() - before) <= CONNECT_TRIES
    assert proxy.usage(run)[:2] == (0, 0)


def observe_tries(port: int, done: threading.Event) -> set[str]:
    """Poll the kernel's list. Return the local addresses of all tries to connect to the port."""
    seen: set[str] = set()
    while not done.wait(0.02):
        seen |= connecting_to(port)
    return seen


def connecting_to(port: int) -> set[str]:
    return {each.local for each in connections_to(port) if each.state == SYN_SENT}


def test_an_answer_without_pauses_ends_at_the_deadline(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(fault="trickle", pause_ms=20, events=1000)
    assert brief_proxy.infer(run, prompt).outcome == (500, "upstream_timeout")
    chutes.wait(client_gone=1)
    (line,) = brief_proxy.lines.wait(event="request", run=run)
    assert line["milliseconds"] >= DEADLINE_MILLISECONDS, "the deadline, not the idle timeout"
    assert expected_holds.bound(prompt) <= brief_proxy.usage(run).spent <= expected_holds.hold(prompt)


def test_a_pause_after_the_headers_ends_at_the_idle_timeout(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(fault="stall", after=2)
    assert brief_proxy.infer(run, prompt).outcome == (500, "upstream_timeout")
    chutes.wait(client_gone=1)
    (line,) = brief_proxy.lines.wait(event="request", run=run)
    assert line["upstream_milliseconds"] < DEADLINE_MILLISECONDS
    # A thousand tokens a second may be generated after the last text.
    least = expected_holds.bound(prompt, ROLE + 2 * WORD)
    assert least <= brief_proxy.usage(run).spent <= least + 1_000 * expected_holds.NANOUSD_PER_TOKEN


def test_a_slow_embedding_ends_at_its_deadline_and_costs_no_more_than_its_hold(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    # This deadline is shorter than the idle timeout.
    assert brief_proxy.embed(run, directive(fault="hang")).outcome == (500, "upstream_timeout")
    chutes.wait(client_gone=1)
    assert brief_proxy.usage(run).spent == expected_holds.SHORT_EMBEDDING_HOLD


def test_other_requests_are_served_while_calls_time_out(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    open_before = brief_proxy.upstream_connections(chutes)
    with ThreadPoolExecutor(20) as pool:
        stuck = [pool.submit(brief_proxy.infer, run, directive(fault="hang")) for _ in range(20)]
        chutes.wait(in_flight=20)
        assert brief_proxy.ready().status == 200
        assert {each.result().outcome for each in stuck} == {(500, "upstream_timeout")}
    assert brief_proxy.usage(run)[:2] == (20 * expected_holds.hold(directive(fault="hang")), 0)
    chutes.wait(client_gone=20, idle=1)
    assert brief_proxy.upstream_connections(chutes) <= open_before


def test_other_requests_are_served_during_a_flood_of_chunks(brief_proxy: Proxy, run: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        # More chunks than can be read in time. They have no text, so they do not count against max_tokens.
        prompt = directive(fault="null_content", events=350_000, ignore_max_tokens=True)
        flood = pool.submit(brief_proxy.infer, run, prompt)
        served = 0
        while not flood.done():
            assert brief_proxy.usage(f"{run}-other").held == 0
            served += 1
        assert flood.result().outcome == (500, "upstream_timeout")
    assert served > 10
