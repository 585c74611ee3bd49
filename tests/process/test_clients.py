"""Clients that hang up, close one side, send early or do not read: each pays the right cost."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.event_stream import CHAT
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import (
    EMBEDDING,
    INFERENCE,
    Proxy,
    chat,
    text,
    wait_until,
)
from tests.process.wire import head, post
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.wire import Wire

STATIC = Path(__file__).parents[2] / "ridges_proxy" / "web" / "openapi" / "static"

ROLE = 1
WORD = 6
LEAVING = ("hang_up", "reset", "half_close")
"""Ways to close a connection: methods of `Wire`."""


def not_shared() -> dict[str, Callable[..., object]]:
    """Return the fixtures that a row does not share with other rows."""
    return {"chutes": emptied, "run": lambda _: uuid4().hex}


def synchronize(proxy: Proxy) -> None:
    """Wait until the proxy has read all that the fake Chutes sent so far.

    The same hub handles a later call, to the upstream and back.
    """
    assert proxy.infer("another run").status == 200


def assert_gone(proxy: Proxy, chutes: Upstream, run: str) -> None:
    chutes.wait(client_gone=1)
    (line,) = proxy.lines.wait(event="request", run=run)
    assert (line["status"], line["code"]) == (499, "client_gone")
    wait_until(lambda: proxy.in_flight() == 0, "the end of the call")
    assert round(line["cost_usd"] * 10**9) == proxy.usage(run).spent
    assert proxy.usage(run).held == 0


@each_row("leave", LEAVING, before=not_shared())
def test_a_client_that_hangs_up_before_the_answer_pays_the_hold(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str
) -> None:
    prompt = directive(gate="clients")
    with shared_proxy.sending(chat(run, prompt)) as wire:
        chutes.wait(at_gate=1)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run)
    assert shared_proxy.usage(run).spent == expected_holds.hold(prompt), "the upstream may have billed it"


@each_row(
    "leave, how",
    product(LEAVING, ({"gate": "clients", "gate_at": 3}, {"fault": "stall", "after": 3})),
    before=not_shared(),
)
def test_a_client_that_hangs_up_during_the_answer_pays_for_what_was_received(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str, how: dict[str, object]
) -> None:
    prompt = directive(**how)
    with shared_proxy.sending(chat(run, prompt)) as wire:
        wait_for_words(chutes, 3)
        synchronize(shared_proxy)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run)
    assert chutes.calls()[0]["billed_nanousd"] <= shared_proxy.usage(run).spent
    received = ROLE + 3 * WORD
    # On a slow machine the end comes so late that the silence before it may hide tokens, a thousand a second.
    most = expected_holds.bound(prompt, received + 2_000)
    assert expected_holds.bound(prompt, received) <= shared_proxy.usage(run).spent <= most


def wait_for_words(chutes: Upstream, number: int) -> None:
    """Wait until the only call of the upstream has sent so many words."""
    wait_until(lambda: [call["completion_tokens"] for call in chutes.calls()] == [number], "words")


@each_row("leave", LEAVING, before=not_shared())
def test_a_client_that_hangs_up_during_an_embedding_pays_the_hold(
    shared_proxy: Proxy, chutes: Upstream, run: str, leave: str
) -> None:
    with shared_proxy.sending(text(run, directive(fault="hang")), EMBEDDING) as wire:
        chutes.wait(in_flight=1)
        getattr(wire, leave)()
        assert_gone(shared_proxy, chutes, run)
    assert shared_proxy.usage(run).spent == expected_holds.EMBEDDING_HOLD


def test_a_client_that_closed_its_sending_side_can_read_the_error(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with shared_proxy.sending(chat(run, directive(gate="clients"))) as wire:
        chutes.wait(at_gate=1)
        wire.half_close()
        assert wire.answer().outcome == (499, "client_gone")
        assert wire.ended()


def test_a_client_that_hangs_up_after_its_answer_pays_the_usage(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with shared_proxy.sending(chat(run, "hi")) as wire:
        assert wire.answer().status == 200
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"]


def test_the_calls_of_a_hundred_clients_that_hang_up_together_all_settle(
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
    wait_until(lambda: shared_proxy.in_flight() == 0, "the end of the calls")
    assert {shared_proxy.usage(each)[:2] for each in runs} == {(expected_holds.hold(prompt), 0)}


def test_two_pipelined_requests_get_two_answers_in_order(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    first = chat(run, directive(gate="clients", events=1))
    with shared_proxy.sending(first) as wire:
        chutes.wait(at_gate=1)
        wire.send(post(INFERENCE, chat(run, directive(events=2))))
        synchronize(shared_proxy)
        assert chutes.wait(in_flight=1)["at_gate"] == 1, "early bytes of the next request are not a hang-up"
        chutes.release("clients")
        assert [wire.answer().json, wire.answer().json] == ["word1 ", "word1 word2 "]
    assert shared_proxy.usage(run).calls == 2


def test_a_hang_up_behind_a_pipelined_request_is_not_seen_and_costs_the_usage(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with shared_proxy.sending(chat(run, directive(gate="clients"))) as wire:
        chutes.wait(at_gate=1)
        wire.send(post(INFERENCE, chat(run, "another")))
        synchronize(shared_proxy)
    chutes.release("clients")
    (line, *_) = shared_proxy.lines.wait(event="request", run=run)
    assert line["status"] == 200
    chutes.wait(idle=1)
    assert round(line["cost_usd"] * 10**9) == chutes.calls()[0]["billed_nanousd"]


# --- a client that does not read ----------------------------------------------------------------------------

MEGABYTES = 12 << 20
"""More than the kernel buffers for both ends of a connection (4 MiB to send, and little to receive)."""


USAGE = {"prompt_tokens": 10, "completion_tokens": 999_990}
"""The reported usage of such an answer. By default the fake Chutes counts one token per word."""


def long_answer(run: str, size_bytes: int) -> bytes:
    """Return a request whose answer comes in one piece of the size."""
    prompt = directive(answer="x" * size_bytes, usage=USAGE)
    return post(CHAT, chat(run, prompt, max_tokens=1_000_000))


@pytest.fixture(scope="module")
def impatient(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with a short time limit for clients that do not read, and no short one for bodies.

    It has the shortest graceful timeout. That leaves 2 seconds for idle connections and heads.
    """
    with Proxy(
        fake_chutes,
        WRITE_TIMEOUT_SECONDS="0.6",
        MAX_BODY_BYTES=str(32 << 20),
        MAX_COST_PER_RUN="100",
        GRACEFUL_TIMEOUT_SECONDS="6",
    ) as started:
        yield started


def test_a_client_that_does_not_read_is_cut_off_and_pays_the_usage(impatient: Proxy, run: str) -> None:
    with impatient.connect(receive_bytes=4096) as wire:
        wire.send(long_answer(run, MEGABYTES))
        (line,) = impatient.lines.wait(event="request", run=run)
        assert line["status"] == 200
        assert impatient.infer("another run").status == 200, "others are served at the same time"
        impatient.lines.wait(event="a client did not read its answer in time")
        with pytest.raises(EOFError):
            wire.answer()
    usage = impatient.usage(run)
    paid_nanousd = sum(USAGE.values()) * expected_holds.NANOUSD_PER_TOKEN
    assert (usage.spent, usage.held, impatient.in_flight()) == (paid_nanousd, 0, 0)


def test_a_client_that_reads_late_but_in_time_gets_the_full_answer(shared_proxy: Proxy, run: str) -> None:
    size_bytes = 2 << 20
    with shared_proxy.connect(receive_bytes=4096) as wire:
        wire.send(long_answer(run, size_bytes))
        shared_proxy.lines.wait(event="request", run=run)
        assert shared_proxy.infer("another run").status == 200
        assert wire.answer().json["choices"][0]["message"]["content"] == "x" * size_bytes


# --- idle connections ---------------------------------------------------------------------------------------


def test_a_connection_serves_several_calls(shared_proxy: Proxy, chutes: Upstream, run: str) -> None:
    with shared_proxy.connect() as wire:
        for _ in range(5):
            wire.send(post(INFERENCE, chat(run, "hi")))
            assert wire.answer().status == 200
    assert chutes.wait(idle=1)["finished"] == 5


def test_a_file_is_sent_behind_its_head(shared_proxy: Proxy) -> None:
    content = (STATIC / "docs.js").read_bytes()
    with shared_proxy.connect() as wire:
        for method, expected in (("HEAD", b""), ("GET", content), ("GET", content)):
            wire.send(head("/docs/static/docs.js", method=method))
            answer = wire.answer(has_body=method != "HEAD")
            assert (answer.status, answer.headers["content-length"]) == (200, str(len(content)))
            assert answer.body == expected


def test_an_incomplete_head_and_an_idle_connection_are_closed_without_an_answer(impatient: Proxy) -> None:
    with impatient.connect() as incomplete, impatient.connect() as fresh, impatient.connect() as used:
        incomplete.send(b"POST /agents/inference HTTP/1.1\r\nHost: pro")
        used.send(post("/agents/usage", {}))
        assert used.answer().status == 405
        assert used.ended()
        assert fresh.ended()
        assert incomplete.ended()
