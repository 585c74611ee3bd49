"""Calls that wait for a hold, over real servers: the ends of a wait, and streams."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from signal import Signals
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.event_stream import CHAT, DONE, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import INFERENCE, Proxy, chat, wait_until
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

BUDGET_USD = "0.0019"
HELD = directive(gate="held")
HELD_STREAM = directive(gate="held", gate_at=1)
FINAL_WORDS = ("budget", "cost", "limit", "quota", "exhausted", "exceeded")
"""Agents that find one of them in a 429 take it for final, and stop."""


def waiting(*proxies: Proxy) -> int:
    """The number of calls that wait in the workers that answer."""
    return sum(proxy.ready().json["calls"]["waiting"] for proxy in proxies)


def waiting_proxy(fake_chutes: Upstream, seconds: str) -> Proxy:
    settings: dict[str, Any] = {"MAX_COST_PER_RUN": BUDGET_USD, "HEARTBEAT_SECONDS": "0.2"}
    return Proxy(fake_chutes, graceful=True, HOLD_WAIT_SECONDS=seconds, **settings)


@pytest.fixture
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    settings: dict[str, Any] = {
        "MAX_COST_PER_RUN": BUDGET_USD,
        "HEARTBEAT_SECONDS": "0.2",
        "HOLD_WAIT_SECONDS": "30",
    }
    with Proxy(fake_chutes, graceful=True, **settings) as started:
        yield started


def test_a_call_that_waits_counts_as_in_flight_and_its_client_may_leave(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(proxy.ask, "POST", CHAT, chat(run, HELD))
        chutes.wait(at_gate=1)
        before = proxy.usage(run)
        with proxy.sending(chat(run, "hi"), CHAT):
            wait_until(lambda: waiting(proxy) == 1, "a waiting call")
            assert proxy.in_flight() == 2
        wait_until(lambda: waiting(proxy) == 0, "the end of the wait")
        (line,) = proxy.lines.wait(event="request", run=run)
        assert (line["code"], line["cost_usd"]) == ("client_gone", 0)
        assert proxy.usage(run) == before
        next_call = pool.submit(proxy.ask, "POST", CHAT, chat(run, "hi"))
        wait_until(lambda: waiting(proxy) == 1, "another waiting call")
        chutes.release("held")
        assert [holder.result().status, next_call.result().status] == [200, 200]
    assert chutes.wait(idle=1)["count"] == 2


def test_calls_go_on_waiting_while_a_server_drains_until_their_turn_comes(
    fake_chutes: Upstream, run: str
) -> None:
    def check(number: Signals) -> None:
        fake_chutes.reset()
        with waiting_proxy(fake_chutes, "30") as proxy, ThreadPoolExecutor(2) as pool:
            holder = pool.submit(proxy.ask, "POST", CHAT, chat(run, HELD))
            fake_chutes.wait(at_gate=1)
            with EventStream(proxy.port, chat(run, "hi")) as stream:
                assert stream.line() == ": heartbeat"
                waits = pool.submit(proxy.infer, run)
                wait_until(lambda: waiting(proxy) == 2, "two waiting calls")
                proxy.signal(number)
                proxy.lines.wait(event="draining")
                assert not waits.done()
                fake_chutes.release("held")
                assert holder.result().status == waits.result().status == 200
                assert stream.events()[-1] == DONE
        assert fake_chutes.wait(idle=1)["count"] == 3

    check_rows([Signals.SIGTERM, Signals.SIGHUP], check)


def test_the_end_of_a_drain_ends_the_waits_with_a_503(fake_chutes: Upstream, run: str) -> None:
    fake_chutes.reset()
    settings: dict[str, Any] = {"MAX_COST_PER_RUN": BUDGET_USD, "GRACEFUL_TIMEOUT_SECONDS": "6"}
    with Proxy(fake_chutes, **settings) as proxy, ThreadPoolExecutor(2) as pool:
        pool.submit(proxy.ask, "POST", CHAT, chat(run, HELD))
        fake_chutes.wait(at_gate=1)
        waits = pool.submit(proxy.infer, run)
        wait_until(lambda: waiting(proxy) == 1, "a waiting call")
        proxy.signal(Signals.SIGTERM)
        answer = waits.result()
        assert answer.outcome == (503, "shutting_down")
        assert answer.json["detail"] == "The proxy is shutting down"
        assert answer.headers["retry-after"] == "5"
    assert fake_chutes.wait(idle=1)["count"] == 1


def test_a_stream_that_waits_gets_heartbeats_and_then_its_answer(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with EventStream(proxy.port, chat(run, HELD_STREAM)) as holder:
        chutes.wait(at_gate=1)
        with EventStream(proxy.port, chat(run, "hi")) as stream:
            assert stream.status == 200
            assert stream.line() == ": heartbeat"
            assert chutes.wait()["count"] == 1
            chutes.release("held")
            assert stream.events()[-1] == DONE
            assert stream.comments[-1].startswith(": cost ")
        assert holder.events()[-1] == DONE


def test_the_end_of_a_wait_is_a_429_that_no_agent_takes_for_final(fake_chutes: Upstream, run: str) -> None:
    fake_chutes.reset()
    with (
        waiting_proxy(fake_chutes, "0.5") as proxy,
        EventStream(proxy.port, chat(run, HELD_STREAM)) as holder,
    ):
        fake_chutes.wait(at_gate=1)
        for path in (INFERENCE, CHAT):
            answer = proxy.ask("POST", path, chat(run, "hi"))
            assert (answer.status, answer.headers["retry-after"]) == (429, "2")
            assert b'"code":"run_busy"' in answer.body
            assert not [word for word in FINAL_WORDS if word in answer.body.decode().lower()]
        assert proxy.embed(run).outcome == (429, "run_busy")
        with EventStream(proxy.port, chat(run, "hi")) as stream:
            assert stream.status == 200, "the first heartbeat sent it"
            assert stream.events()[-1]["error"]["code"] == "run_busy"
        assert fake_chutes.wait()["count"] == 1
        fake_chutes.release("held")
        assert holder.events()[-1] == DONE
