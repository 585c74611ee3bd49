"""Time limits towards the upstream: connecting, its silence, and a call in all."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.process import terms
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
HASTY_DEADLINE_MS = 2000


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody will: it is bound all the while."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture(scope="module")
def full_port() -> Iterator[int]:
    """A port whose listener has no room left: whoever connects hears nothing."""
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
def cut_off(closed_port: int, full_port: int) -> Iterator[Proxy]:
    """A proxy whose upstream refuses connections, and whose embedding chute does not answer them."""
    with Proxy(
        None,
        CHUTES_BASE_URL=f"http://127.0.0.1:{closed_port}/v1",
        CHUTES_EMBEDDING_URL=f"http://127.0.0.1:{full_port}/embed",
        CONNECT_TIMEOUT_SECONDS=str(CONNECT_SECONDS),
    ) as started:
        yield started


def test_an_upstream_that_does_not_listen_is_unreachable_and_costs_nothing(cut_off: Proxy, run: str) -> None:
    assert cut_off.infer(run).outcome == (500, "upstream_unreachable")
    assert cut_off.usage(run)[:2] == (0, 0)
    assert (cut_off.usage(run).calls, cut_off.in_flight()) == (0, 0)


def test_a_connect_timeout_is_tried_three_times_and_costs_nothing(
    cut_off: Proxy, full_port: int, run: str
) -> None:
    """Not less, or it would be over sooner; and not more, by the kernel's list, which may leave some out."""
    done = threading.Event()
    before = knocking_at(full_port)
    with ThreadPoolExecutor(1) as pool:
        tries = pool.submit(knocks_at, full_port, done)
        began_at = time.monotonic()
        assert cut_off.embed(run).outcome == (500, "upstream_unreachable")
        assert time.monotonic() - began_at >= CONNECT_TRIES * CONNECT_SECONDS
        done.set()
        assert 1 <= len(tries.result() - before) <= CONNECT_TRIES
    assert cut_off.usage(run)[:2] == (0, 0)


def knocks_at(port: int, done: threading.Event) -> set[str]:
    """The local addresses from which somebody tried to connect, by the kernel's own list."""
    seen: set[str] = set()
    while not done.wait(0.02):
        seen |= knocking_at(port)
    return seen


def knocking_at(port: int) -> set[str]:
    return {each.local for each in connections_to(port) if each.state == SYN_SENT}


def test_a_name_that_does_not_resolve_is_unreachable_and_costs_nothing(run: str) -> None:
    with Proxy(None, CHUTES_BASE_URL="http://chutes.invalid/v1") as proxy:
        assert proxy.infer(run).outcome == (500, "upstream_unreachable")
        assert proxy.usage(run)[:2] == (0, 0)


def test_a_trickle_that_is_never_silent_ends_at_the_deadline(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(fault="trickle", pause_ms=20, events=1000)
    assert brief_proxy.infer(run, prompt).outcome == (500, "upstream_timeout")
    chutes.wait(client_gone=1)
    (line,) = brief_proxy.lines.wait(event="request", run=run)
    assert line["milliseconds"] >= HASTY_DEADLINE_MS, "the deadline, not the silence"
    assert terms.bound(prompt) <= brief_proxy.usage(run).spent <= terms.hold(prompt)


def test_silence_after_the_headers_ends_by_the_idle_limit(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(fault="stall", after=2)
    assert brief_proxy.infer(run, prompt).outcome == (500, "upstream_timeout")
    chutes.wait(client_gone=1)
    (line,) = brief_proxy.lines.wait(event="request", run=run)
    assert line["upstream_milliseconds"] < HASTY_DEADLINE_MS
    assert brief_proxy.usage(run).spent == terms.bound(prompt, ROLE + 2 * WORD)


def test_a_slow_embedding_ends_at_its_deadline_and_costs_no_more_than_its_hold(
    brief_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    # This deadline is shorter than the limit of silence.
    assert brief_proxy.embed(run, directive(fault="hang")).outcome == (500, "upstream_timeout")
    chutes.wait(client_gone=1)
    assert brief_proxy.usage(run).spent == terms.SHORT_EMBEDDING_HOLD


def test_while_calls_time_out_others_are_served(brief_proxy: Proxy, chutes: Upstream, run: str) -> None:
    open_before = brief_proxy.upstream_connections(chutes)
    with ThreadPoolExecutor(20) as pool:
        stuck = [pool.submit(brief_proxy.infer, run, directive(fault="hang")) for _ in range(20)]
        chutes.wait(in_flight=20)
        assert brief_proxy.ready().status == 200
        assert {each.result().outcome for each in stuck} == {(500, "upstream_timeout")}
    assert brief_proxy.usage(run)[:2] == (20 * terms.hold(directive(fault="hang")), 0)
    chutes.wait(client_gone=20, idle=1)
    assert brief_proxy.upstream_connections(chutes) <= open_before


def test_an_upstream_that_pours_does_not_drown_the_others(brief_proxy: Proxy, run: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        # More tokens than can be read in time, without text: they do not count against max_tokens.
        words = directive(fault="null_content", events=350_000, ignore_max_tokens=True)
        flood = pool.submit(brief_proxy.infer, run, words)
        served = 0
        while not flood.done():
            assert brief_proxy.usage(f"{run}-other").held == 0
            served += 1
        assert flood.result().outcome == (500, "upstream_timeout")
    assert served > 10
