"""Request bodies in both framings: complete, incomplete, late and too large."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.process.server import INFERENCE, Proxy, chat
from tests.process.wire import chunked, head, post
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Wire

LIMIT = 1 << 20
LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = head(INFERENCE, Transfer_Encoding="chunked")
CONTINUE = "100-continue"
ONE_BYTE_CHUNK = b"1\r\n \r\n"


@pytest.fixture(scope="module")
def strict(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy that accepts bodies of up to 1 MiB."""
    with Proxy(fake_chutes, MAX_BODY_BYTES=str(LIMIT)) as started:
        yield started


@pytest.fixture
def data(run: str) -> bytes:
    """A valid body."""
    return body_of(run)


def body_of(run: str) -> bytes:
    return json.dumps(chat(run, "hi")).encode()


def new_run(_: object = None) -> str:
    return uuid4().hex


def announced(size: int, **headers: str) -> bytes:
    return head(INFERENCE, Content_Length=str(size), **headers)


def assert_next_call_works(wire: Wire, run: str) -> None:
    wire.send(post(INFERENCE, chat(run, "hi")))
    assert wire.answer().status == 200


def assert_nothing_was_sent_upstream(proxy: Proxy, chutes: Upstream, run: str) -> None:
    assert chutes.wait()["count"] == 0
    assert proxy.usage(run)[:2] == (0, 0)
    assert proxy.in_flight() == 0


# --- complete -----------------------------------------------------------------------------------------------


@each_row("size", [1, 7, 100_000], before={"chutes": emptied, "run": new_run})
def test_a_chunked_body_is_read_and_the_connection_can_be_used_again(
    strict: Proxy, chutes: Upstream, run: str, size: int
) -> None:
    with strict.connect() as wire:
        wire.send(CHUNKED + chunked(body_of(run), size) + LAST_CHUNK)
        assert wire.answer().status == 200
        assert_next_call_works(wire, run)
    assert chutes.wait(idle=1)["finished"] == 2


def test_a_body_of_exactly_the_limit_is_read_in_both_framings(strict: Proxy, run: str, data: bytes) -> None:
    padded = data[:-1] + b" " * (LIMIT - len(data)) + b"}"
    for request in (announced(LIMIT) + padded, CHUNKED + chunked(padded, 50_000) + LAST_CHUNK):
        with strict.connect() as wire:
            wire.send(request)
            assert wire.answer().status == 200
            assert_next_call_works(wire, run)


def test_a_body_that_arrives_in_pieces_is_read(strict: Proxy, data: bytes) -> None:
    with strict.connect() as wire:
        wire.send(announced(len(data)))
        for at in range(0, len(data), 10):
            wire.send(data[at : at + 10])
        assert wire.answer().status == 200


def test_a_client_that_expects_a_100_gets_it_before_its_answer(strict: Proxy, run: str, data: bytes) -> None:
    with strict.connect() as wire:
        wire.send(announced(len(data), Expect=CONTINUE))
        assert wire.answer().status == 100
        wire.send(data)
        assert wire.answer().status == 200
        assert_next_call_works(wire, run)


# --- incomplete ---------------------------------------------------------------------------------------------


INCOMPLETE: dict[str, Callable[[bytes], bytes]] = {
    "length": lambda data: announced(len(data)) + data[:-1],
    "between_chunks": lambda data: CHUNKED + chunked(data, 30),
    "amid_a_chunk": lambda data: CHUNKED + chunked(data, 30) + b"30\r\nnot all",
}


@each_row(
    "beginning, ending",
    product(INCOMPLETE, ("half_close", "hang_up", "reset")),
    before={"chutes": emptied, "run": new_run},
)
def test_an_incomplete_body_is_400_and_costs_nothing(
    strict: Proxy, chutes: Upstream, run: str, beginning: str, ending: str
) -> None:
    before = len(strict.lines.matching(event="request", code="body_truncated"))
    with strict.connect() as wire:
        wire.send(INCOMPLETE[beginning](body_of(run)))
        getattr(wire, ending)()
        if ending == "half_close":
            assert wire.answer().outcome == (400, "body_truncated")
            assert wire.ended()
        lines = strict.lines.wait(before + 1, event="request", code="body_truncated")
        assert lines[-1]["status"] == 400
    assert_nothing_was_sent_upstream(strict, chutes, run)


@each_row(
    "malformed",
    [b"zz\r\nhello\r\n", b"-1\r\n", b"5\r\nhellooo\r\n", b"\r\n", b"5;=\r\nhello\r\n"],
    before={"chutes": emptied, "run": new_run},
)
def test_a_malformed_chunk_is_400_and_ends_the_connection(
    strict: Proxy, chutes: Upstream, run: str, malformed: bytes
) -> None:
    with strict.connect() as wire:
        wire.send(CHUNKED + chunked(body_of(run), 30) + malformed + LAST_CHUNK)
        assert wire.answer().outcome == (400, "body_truncated")
        assert wire.ended()
    assert_nothing_was_sent_upstream(strict, chutes, run)


def test_both_framings_at_once_are_refused(strict: Proxy, chutes: Upstream, run: str, data: bytes) -> None:
    with strict.connect() as wire:
        wire.send(announced(len(data), Transfer_Encoding="chunked") + data)
        assert wire.answer().status == 400
        assert wire.ended()
    assert_nothing_was_sent_upstream(strict, chutes, run)


@each_row(
    "length",
    ["-1", "+5", "1e3", "0x10", "5, 5", " ", "9" * 5000],
    before={"chutes": emptied, "run": new_run},
)
def test_an_invalid_length_is_refused(strict: Proxy, chutes: Upstream, run: str, length: str) -> None:
    with strict.connect() as wire:
        wire.send(head(INFERENCE, Content_Length=length) + body_of(run))
        assert 400 <= wire.answer().status < 500
        assert wire.ended()
    assert_nothing_was_sent_upstream(strict, chutes, run)


# --- late ---------------------------------------------------------------------------------------------------


@each_row("framing", ["length", "between_chunks"], before={"chutes": emptied, "run": new_run})
def test_a_stalled_body_is_408_and_ends_the_connection(
    brief_proxy: Proxy, chutes: Upstream, run: str, framing: str
) -> None:
    with brief_proxy.connect() as wire:
        wire.send(INCOMPLETE[framing](body_of(run)))
        assert wire.answer().outcome == (408, "body_timeout")
        assert wire.ended()
    assert_nothing_was_sent_upstream(brief_proxy, chutes, run)


def test_the_time_limit_applies_to_a_body_that_keeps_the_server_busy(brief_proxy: Proxy) -> None:
    """Millions of chunks of one byte take seconds to parse. They arrive faster."""
    with brief_proxy.connect() as wire, ThreadPoolExecutor(1) as pool:
        pool.submit(wire.send, CHUNKED + ONE_BYTE_CHUNK * 2_000_000)
        assert wire.answer().outcome == (408, "body_timeout")
        assert brief_proxy.ready().status == 200
        wire.hang_up()


# --- too large ----------------------------------------------------------------------------------------------


def test_an_announced_body_above_the_limit_is_413_at_once(strict: Proxy, chutes: Upstream, run: str) -> None:
    with strict.connect() as wire:
        wire.send(announced(LIMIT + 1))
        assert wire.answer().outcome == (413, "body_too_large")
        assert wire.ended()
    assert_nothing_was_sent_upstream(strict, chutes, run)


@each_row("status, megabytes", product((401, 413), (1, 8, 64)))
def test_a_client_that_sends_all_of_a_refused_body_gets_its_answer(
    strict: Proxy, run: str, megabytes: int, status: int
) -> None:
    size = (megabytes << 20) + 1
    key = {"key": "wrong"} if status == 401 else {}
    with strict.connect() as wire:
        wire.send(head(INFERENCE, Content_Length=str(size), **key))
        wire.send(bytes(size))
        assert wire.answer().status == status
        assert wire.ended()
    assert strict.infer(run).status == 200


def test_a_chunked_body_above_the_limit_is_413(
    strict: Proxy, chutes: Upstream, run: str, data: bytes
) -> None:
    with strict.connect() as wire:
        wire.send(CHUNKED + chunked(data[:-1] + b" " * LIMIT + b"}", 50_000) + LAST_CHUNK)
        assert wire.answer().outcome == (413, "body_too_large")
        assert wire.ended()
    assert_nothing_was_sent_upstream(strict, chutes, run)


def test_the_connection_of_a_refused_large_body_that_is_never_sent_is_closed(strict: Proxy) -> None:
    for framing in ({"Content_Length": str(100 << 20)}, {"Transfer_Encoding": "chunked"}):
        with strict.connect() as wire:
            wire.send(head(INFERENCE, key="wrong", **framing))
            assert wire.answer().outcome == (401, "invalid_api_key")
            assert wire.ended()


def test_a_refused_small_body_leaves_the_connection_usable(strict: Proxy, run: str) -> None:
    with strict.connect() as wire:
        wire.send(post(INFERENCE, chat(run, "x" * 20_000), key="wrong"))
        assert wire.answer().outcome == (401, "invalid_api_key")
        wire.send(post("/nowhere", chat(run, "x")))
        assert wire.answer().outcome == (404, "not_found")
        assert_next_call_works(wire, run)


def test_a_refused_body_that_goes_on_does_not_delay_others(strict: Proxy, run: str) -> None:
    """Others get their answers while a client with a wrong key is still sending."""
    with strict.connect() as wire, ThreadPoolExecutor(1) as pool:
        wire.send(head(INFERENCE, key="wrong", Content_Length=str(1 << 40)))
        flood = pool.submit(send_until_cut_off, wire)
        for number in range(20):
            assert strict.infer(f"{run}-{number}").status == 200
        assert flood.result()


def send_until_cut_off(wire: Wire) -> bool:
    block = bytes(1 << 20)
    try:
        while True:
            wire.send(block)
    except (BrokenPipeError, ConnectionResetError):
        return True
