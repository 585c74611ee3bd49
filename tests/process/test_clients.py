"""Clients that leave, half-leave, hurry or do not read: none costs more than it should, or harms others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process import terms
from tests.process.event_stream import CHAT
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import (
    EMBEDDING,
    INFERENCE,
    Proxy,
    chat,
    clean_environment,
    text,
    wait_until,
)
from tests.process.wire import post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.wire import Wire

ROLE = 1
WORD = 6
LEAVING = pytest.mark.parametrize("leave", ["hang_up", "reset", "half_close"])


def go_round(proxy: Proxy) -> None:
    """Return once the proxy has read all that the fake Chutes had sent it before.

    A call that has gone all the way to the upstream and back came after it, through the same hub.
    """
    assert proxy.infer("another run").status == 200


def assert_gone(proxy: Proxy, chutes: Upstream, run: str) -> None:
    chutes.wait(client_gone=1)
    (line,) = proxy.lines.wait(event="request", run=run)
    assert (line["status"], line["code"]) == (499, "client_gone")
    wait_until(lambda: proxy.in_flight() == 0, "the call's end")
    assert round(line["cost_usd"] * 10**9) == proxy.usage(run).spent
    assert proxy.usage(run).held == 0


@LEAVING
def test_a_client_that_leaves_before_the_answer_begins_pays_the_hold(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str
) -> None:
    prompt = directive(gate="clients")
    with shared_proxy.sending(chat(run, prompt)) as wire:
        chutes.wait(at_gate=1)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run)
    assert shared_proxy.usage(run).spent == terms.hold(prompt), "it may have been billed"


@LEAVING
@pytest.mark.parametrize("how", [{"gate": "clients", "gate_at": 3}, {"fault": "stall", "after": 3}], ids=str)
def test_a_client_that_leaves_amid_the_answer_pays_for_what_was_seen(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str, how: dict[str, object]
) -> None:
    prompt = directive(**how)
    with shared_proxy.sending(chat(run, prompt)) as wire:
        await_words(chutes, 3)
        go_round(shared_proxy)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run)
    assert chutes.calls()[0]["billed_nanousd"] <= shared_proxy.usage(run).spent
    assert shared_proxy.usage(run).spent == terms.bound(prompt, ROLE + 3 * WORD)


def await_words(chutes: Upstream, number: int) -> None:
    """Wait until the one call upstream has sent so many words."""
    wait_until(lambda: [call["completion_tokens"] for call in chutes.calls()] == [number], "words")


@LEAVING
def test_a_client_that_leaves_an_embedding_pays_the_hold(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str
) -> None:
    with shared_proxy.sending(text(run, directive(fault="hang")), EMBEDDING) as wire:
        chutes.wait(in_flight=1)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run)
    assert shared_proxy.usage(run).spent == terms.EMBEDDING_HOLD


def test_a_client_that_half_closed_may_still_read_why(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with shared_proxy.sending(chat(run, directive(gate="clients"))) as wire:
        chutes.wait(at_gate=1)
        wire.half_close()
        assert wire.answer().outcome == (499, "client_gone")
        assert wire.ended()


def test_a_client_that_leaves_behind_its_answer_pays_the_usage(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with shared_proxy.sending(chat(run, "hi")) as wire:
        assert wire.answer().status == 200
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"]


def test_a_hundred_clients_that_leave_at_once_all_settle(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(gate="clients", events=1)
    runs = [f"{run}-{number}" for number in range(100)]
    open_before = shared_proxy.upstream_connections(chutes)
    wires: list[Wire] = []
    try:
        wires = [shared_proxy.sending(chat(each, prompt)) for each in runs]
        chutes.wait(at_gate=100)
        assert shared_proxy.in_flight() == 100
    finally:
        for wire in wires:
            wire.hang_up()
    chutes.wait(client_gone=100, idle=1)
    assert shared_proxy.upstream_connections(chutes) <= open_before
    wait_until(lambda: shared_proxy.in_flight() == 0, "the calls' end")
    assert {shared_proxy.usage(each)[:2] for each in runs} == {(terms.hold(prompt), 0)}


def test_two_requests_sent_at_once_get_two_answers_in_order(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    first = chat(run, directive(gate="clients", events=1))
    with shared_proxy.sending(first) as wire:
        chutes.wait(at_gate=1)
        wire.send(post(INFERENCE, chat(run, directive(events=2))))
        go_round(shared_proxy)
        assert chutes.wait(in_flight=1)["at_gate"] == 1, "the early bytes are no hang-up"
        chutes.release("clients")
        assert [wire.answer().json, wire.answer().json] == ["word1 ", "word1 word2 "]
    assert shared_proxy.usage(run).calls == 2


def test_a_hang_up_behind_an_early_request_is_not_seen_and_costs_the_usage(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with shared_proxy.sending(chat(run, directive(gate="clients"))) as wire:
        chutes.wait(at_gate=1)
        wire.send(post(INFERENCE, chat(run, "another")))
        go_round(shared_proxy)
    chutes.release("clients")
    (line, *_) = shared_proxy.lines.wait(event="request", run=run)
    assert line["status"] == 200
    chutes.wait(idle=1)
    assert round(line["cost_usd"] * 10**9) == chutes.calls()[0]["billed_nanousd"]


# --- a client that does not read ----------------------------------------------------------------------------

MEGABYTES = 12 << 20
"""More than the kernel keeps for both ends of a connection (4 MiB to send, and little to receive)."""


USAGE = {"prompt_tokens": 10, "completion_tokens": 999_990}
"""Of so long an answer; the fake Chutes, left alone, would count one token for a word of any length."""


def long_answer(run: str, size_bytes: int) -> bytes:
    """A call whose answer comes in one piece."""
    prompt = directive(answer="x" * size_bytes, usage=USAGE)
    return post(CHAT, chat(run, prompt, max_tokens=1_000_000))


@pytest.fixture
def impatient(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy that is hasty with clients that do not read, and not with bodies of MEGABYTES."""
    settings = {"WRITE_TIMEOUT_SECONDS": "0.6", "MAX_BODY_BYTES": str(32 << 20), "MAX_COST_PER_RUN": "100"}
    with Proxy(fake_chutes, environ=clean_environment(fake_chutes, **settings)) as started:
        yield started


def test_a_client_that_does_not_read_is_cut_off_and_pays_the_usage(impatient: Proxy, run: str) -> None:
    with impatient.connect(receive_bytes=4096) as wire:
        wire.send(long_answer(run, MEGABYTES))
        (line,) = impatient.lines.wait(event="request", run=run)
        assert line["status"] == 200
        assert impatient.infer("another run").status == 200, "others are served meanwhile"
        impatient.lines.wait(event="a client did not read its answer in time")
        with pytest.raises(EOFError):
            wire.answer()
    books = impatient.usage(run)
    paid_nanousd = sum(USAGE.values()) * terms.NANOUSD_PER_TOKEN
    assert (books.spent, books.held, impatient.in_flight()) == (paid_nanousd, 0, 0)


def test_a_client_that_reads_late_but_in_time_gets_everything(shared_proxy: Proxy, run: str) -> None:
    size_bytes = 2 << 20
    with shared_proxy.connect(receive_bytes=4096) as wire:
        wire.send(long_answer(run, size_bytes))
        shared_proxy.lines.wait(event="request", run=run)
        assert shared_proxy.infer("another run").status == 200
        assert wire.answer().json["choices"][0]["message"]["content"] == "x" * size_bytes


# --- connections that are kept ------------------------------------------------------------------------------


def test_a_connection_serves_one_call_after_another(shared_proxy: Proxy, chutes: Upstream, run: str) -> None:
    with shared_proxy.connect() as wire:
        for _ in range(5):
            wire.send(post(INFERENCE, chat(run, "hi")))
            assert wire.answer().status == 200
    assert chutes.wait(idle=1)["finished"] == 5


@pytest.fixture(scope="module")
def brisk(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with the shortest grace time, and so the least patience with idle connections: 2 seconds."""
    with Proxy(fake_chutes, GRACEFUL_TIMEOUT_SECONDS="6") as started:
        yield started


def test_a_slow_header_is_cut(brisk: Proxy) -> None:
    with brisk.connect() as wire:
        wire.send(b"POST /agents/inference HTTP/1.1\r\nHost: pro")
        assert wire.ended()


def test_an_idle_connection_is_closed_without_a_word(brisk: Proxy) -> None:
    with brisk.connect() as fresh, brisk.connect() as used:
        used.send(post("/agents/usage", {}))
        assert used.answer().status == 405
        assert used.ended()
        assert fresh.ended()
