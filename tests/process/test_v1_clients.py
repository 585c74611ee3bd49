"""Clients of `/v1` that leave, do not read, or wait: their cost, and the service for other clients."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridges_proxy.config import DEFAULT_MODEL as MODEL
from ridges_proxy.fake_chutes.models import CONTEXT_TOKENS
from tests.process import expected_holds
from tests.process.event_stream import CHAT, DONE, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, Proxy, wait_until
from tests.process.wire import post
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

MAX_TOKENS = 1024
ROLE = 1
WORD = 6
HEARTBEAT = ": heartbeat"
LEAVING = ("hang_up", "reset", "half_close")
"""The ways to leave: a FIN, an RST, or a FIN of the sending side only."""

FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, "max_tokens": MAX_TOKENS, **fields}


def assert_gone(proxy: Proxy, chutes: Upstream, run: str, *, status: int) -> None:
    chutes.wait(client_gone=1)
    (line,) = proxy.lines.wait(event="request", run=run)
    assert (line["status"], line["code"]) == (status, "client_gone")
    wait_until(lambda: proxy.in_flight() == 0, "the call's end")
    assert round(line["cost_usd"] * 10**9) == proxy.usage(run).spent
    assert proxy.usage(run).held == 0


@each_row("leave, stream", product(LEAVING, (False, True)), before=FRESH)
def test_a_client_that_leaves_before_the_answer_begins_pays_the_hold(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str, *, stream: bool
) -> None:
    prompt = directive(gate="clients")
    with shared_proxy.sending(chat(run, prompt, stream=stream), CHAT) as wire:
        chutes.wait(at_gate=1)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run, status=499)
    assert shared_proxy.usage(run).spent == expected_holds.hold(prompt), "the upstream may have billed it"


@each_row("leave, words", product(LEAVING, (0, 1, 3)), before=FRESH)
def test_a_client_that_leaves_a_stream_pays_for_the_relayed_events(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str, words: int
) -> None:
    prompt = directive(gate="clients", gate_at=words)
    with EventStream(shared_proxy.port, chat(run, prompt)) as stream:
        assert stream.event()["choices"][0]["delta"]["role"] == "assistant"
        stream.words(words)
        chutes.wait(at_gate=1)
        getattr(stream, leave)()
        assert_gone(shared_proxy, chutes, run, status=200)
    assert expected_holds.may_be_cost(shared_proxy.usage(run).spent, prompt, ROLE + words * WORD)
    assert chutes.calls()[0]["billed_nanousd"] <= shared_proxy.usage(run).spent


@each_row("leave", LEAVING, before=FRESH)
def test_a_client_that_leaves_before_the_usage_pays_for_all_events(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str
) -> None:
    prompt = directive(gate="clients", gate_at=5)
    with EventStream(shared_proxy.port, chat(run, prompt)) as stream:
        stream.event()
        stream.words(5)
        chutes.wait(at_gate=1)
        getattr(stream, leave)()
        assert_gone(shared_proxy, chutes, run, status=200)
    assert expected_holds.may_be_cost(shared_proxy.usage(run).spent, prompt, ROLE + 5 * WORD)


@each_row("leave", ["hang_up", "reset"], before=FRESH)
def test_a_client_that_leaves_after_the_answer_pays_the_usage(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str
) -> None:
    with EventStream(shared_proxy.port, chat(run, "hi")) as stream:
        while stream.event() != DONE:
            pass
        getattr(stream, leave)()
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])  # each is a real call
@given(
    events=st.integers(1, 12),
    read=st.integers(0, 12),
    leave=st.sampled_from(["hang_up", "reset", "half_close"]),
    usage=st.sampled_from(["end", "none", "null", "each"]),
    greedy=st.booleans(),
)
def test_a_hold_settles_between_the_bill_and_the_hold_at_any_leaving_point(  # noqa: PLR0913, PLR0917 - the drawn values and two fixtures
    shared_proxy: Proxy,
    fake_chutes: Upstream,
    events: int,
    read: int,
    leave: str,
    usage: str,
    *,
    greedy: bool,
) -> None:
    fake_chutes.reset()
    fake_chutes.wait(idle=1)
    run = f"leaver-{events}-{read}-{leave}-{usage}-{greedy}"
    spent_before = shared_proxy.usage(run).spent
    prompt = directive(events=events, usage=usage, gate="leave", gate_at=min(read, events))
    with EventStream(shared_proxy.port, chat(run, prompt)) as stream:
        stream.event()
        stream.words(min(read, events))
        getattr(stream, leave)()
    fake_chutes.wait(idle=1, finished=1)
    wait_until(lambda: shared_proxy.in_flight() == 0, "the call's end")
    after = shared_proxy.usage(run)
    billed = fake_chutes.calls()[0]["billed_nanousd"]
    assert after.held == 0
    assert billed <= after.spent - spent_before <= expected_holds.hold(prompt)


def test_a_hundred_streams_settle_when_all_clients_leave_at_once(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(gate="clients", gate_at=1)
    runs = [f"{run}-{number}" for number in range(100)]
    streams: list[EventStream] = []
    try:
        streams = [EventStream(shared_proxy.port, chat(each, prompt)) for each in runs]
        for stream in streams:
            stream.event()
            stream.words(1)
        assert shared_proxy.in_flight() == 100
    finally:
        for stream in streams:
            stream.hang_up()
    chutes.wait(client_gone=100, idle=1)
    wait_until(lambda: shared_proxy.in_flight() == 0, "the calls' end")
    least = expected_holds.bound(prompt, ROLE + WORD)
    for each in runs:
        spent, held, *_ = shared_proxy.usage(each)
        # A thousand tokens a second may be generated after the last text.
        assert (held, least <= spent) == (0, True)


# --- heartbeats, and clients that do not read ---------------------------------------------------------------


@pytest.fixture(scope="module")
def heartbeat_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with short heartbeats and a short write timeout."""
    with Proxy(fake_chutes, HEARTBEAT_SECONDS="0.05", WRITE_TIMEOUT_SECONDS="0.6") as started:
        yield started


def test_a_pause_between_events_is_filled_with_heartbeats(
    heartbeat_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with EventStream(heartbeat_proxy.port, chat(run, directive(gate="silence", gate_at=2))) as stream:
        stream.event()
        stream.words(2)
        assert [stream.line() for _ in range(3)] == [HEARTBEAT] * 3
        chutes.release("silence")
        assert stream.events()[-1] == DONE
    assert heartbeat_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"]


def test_a_pause_before_the_answer_is_filled_with_heartbeats(
    heartbeat_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with EventStream(heartbeat_proxy.port, chat(run, directive(gate="silence"))) as stream:
        assert (stream.status, stream.line()) == (200, HEARTBEAT)
        chutes.release("silence")
        assert stream.events()[-1] == DONE


def test_a_failure_after_a_heartbeat_is_an_event(heartbeat_proxy: Proxy, chutes: Upstream, run: str) -> None:
    prompt = directive(gate="silence", fault="at_capacity")
    with EventStream(heartbeat_proxy.port, chat(run, prompt)) as stream:
        assert (stream.status, stream.line()) == (200, HEARTBEAT)
        chutes.release("silence")
        (event,) = stream.events()
    assert event["error"]["code"] == "upstream_busy"
    assert heartbeat_proxy.usage(run)[:2] == (0, 0), "released"


def test_headers_arrive_before_the_first_event_and_disable_buffering(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    """The fake Chutes stops after its headers and the role, before any content."""
    with EventStream(shared_proxy.port, chat(run, directive(gate="headers", gate_at=0))) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["cache-control"] == "no-cache"
        chutes.wait(at_gate=1)
        chutes.release("headers")
        assert stream.events()[-1] == DONE


def test_a_client_that_does_not_read_is_cut_off_and_delays_no_other(
    heartbeat_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(events=100_000)
    body = chat(run, prompt, max_tokens=100_000, stream=True)
    with heartbeat_proxy.connect(receive_bytes=4096) as wire:
        wire.send(post(CHAT, body))
        wait_until(lambda: heartbeat_proxy.in_flight() == 1, "the stream")
        assert heartbeat_proxy.infer("another run").status == 200, "other calls are served at the same time"
        (line,) = heartbeat_proxy.lines.wait(event="request", run=run)
        assert (line["status"], line["code"]) == (200, "client_gone")
    usage = heartbeat_proxy.usage(run)
    billed = max(call["billed_nanousd"] for call in chutes.calls())
    assert (usage.held, heartbeat_proxy.in_flight()) == (0, 0)
    assert billed <= usage.spent


def test_a_client_that_reads_late_receives_every_event(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with EventStream(shared_proxy.port, chat(run, directive(events=1000))) as stream:
        chutes.wait(idle=1)  # all events are in the proxy or in socket buffers
        assert len(stream.words(1000)) == 1000
        assert stream.events()[-1] == DONE
    assert shared_proxy.usage(run).spent == chutes.wait()["billed_nanousd"]


def test_the_context_lengths_that_the_upstream_publishes_are_shown_soon_after_the_start(
    shared_proxy: Proxy,
) -> None:
    def length() -> object:
        return shared_proxy.ask("GET", f"/v1/models/{MODEL}").json.get("context_length")

    wait_until(lambda: length() == CONTEXT_TOKENS, "the upstream's list of models")
