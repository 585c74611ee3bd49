"""The money of a stream that is passed on, and of a whole answer: real ledger, real admission."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, NoReturn

import gevent
import orjson
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.calls.service import Call
from ridges_proxy.calls.stream_relay import HEARTBEAT, MAX_WAITING_BYTES
from ridges_proxy.errors import (
    ClientGoneError,
    ClientStalledError,
    DeadlineExceededError,
    DrainedError,
    LedgerUnavailableError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamOverranError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.ledger import Run
from tests.support.shop import (
    CAP_NANOUSD,
    FULL_HOLD,
    OUTPUT_NANOUSD,
    USAGE,
    USAGE_NANOUSD,
    GoneClient,
    Shop,
    answers,
    chat_of,
    refuses,
    seen,
)

if TYPE_CHECKING:
    from ridges_proxy.upstream import Attempt
    from tests.support.shop import Put, Script


@pytest.fixture
def shop() -> Shop:
    return Shop()


# --- what an upstream may do -------------------------------------------------------------------------------


ENDS = [
    pytest.param(answers(complete=True, usage=USAGE), USAGE_NANOUSD, None, id="usage"),
    pytest.param(answers(complete=True), seen(6), None, id="whole_without_usage"),
    pytest.param(
        answers(complete=True, usage=Usage(0, 500)), 500 * OUTPUT_NANOUSD, None, id="above_the_hold"
    ),
    pytest.param(answers(0, UpstreamBrokenError()), seen(0), UpstreamBrokenError, id="broken_before_any"),
    pytest.param(answers(1, UpstreamBrokenError()), seen(2), UpstreamBrokenError, id="broken_after_one"),
    pytest.param(answers(9, UpstreamBrokenError()), seen(18), UpstreamBrokenError, id="broken_after_nine"),
    pytest.param(answers(90, UpstreamOverranError()), FULL_HOLD, UpstreamOverranError, id="overran"),
    pytest.param(
        answers(3, UpstreamBrokenError(), complete=True, usage=USAGE),
        USAGE_NANOUSD,
        UpstreamBrokenError,
        id="broken_after_its_end",
    ),
    pytest.param(
        answers(3, UpstreamBrokenError(), usage=Usage(0, 500)),
        FULL_HOLD,
        UpstreamBrokenError,
        id="broken_late",
    ),
    pytest.param(refuses(UpstreamUnreachableError()), None, UpstreamUnreachableError, id="unreachable"),
    pytest.param(
        refuses(UpstreamBusyError(429), sent=True, refused=True), None, UpstreamBusyError, id="refused"
    ),
    pytest.param(refuses(UpstreamTimeoutError(), sent=True), FULL_HOLD, UpstreamTimeoutError, id="silent"),
    pytest.param(refuses(ZeroDivisionError(), sent=True), FULL_HOLD, ZeroDivisionError, id="bug"),
]


@pytest.mark.parametrize(("script", "cost", "error"), ENDS)
def test_a_stream_ends_in_the_books_as_the_table_of_holds_says(
    shop: Shop, script: Script, cost: int | None, error: type[Exception] | None
) -> None:
    shop.upstream.script = script
    call = shop.call()
    with pytest.raises(error) if error else nullcontext():
        list(shop.relay(call))
    assert shop.settled_once() == cost
    assert call.books == shop.books()
    assert call.cost_nanousd == (cost or 0)


@pytest.mark.parametrize(("script", "cost", "error"), ENDS)
def test_a_whole_answer_ends_in_the_books_as_the_table_of_holds_says(
    shop: Shop, script: Script, cost: int | None, error: type[Exception] | None
) -> None:
    shop.upstream.script = script
    with pytest.raises(error) if error else nullcontext():
        assert shop.calls.complete(shop.call(), chat_of()).content == b'{"whole":1}'
    assert shop.settled_once() == cost


def test_a_stream_begins_with_an_empty_piece_and_has_its_events_in_order(shop: Shop) -> None:
    shop.upstream.script = answers(3, complete=True)
    assert b"".join(shop.relay()) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert orjson.loads(shop.upstream.bodies[0])["stream"] is True


def test_a_whole_answer_is_asked_for_without_a_stream(shop: Shop) -> None:
    shop.calls.complete(shop.call(), chat_of())
    assert orjson.loads(shop.upstream.bodies[0])["stream"] is False


def test_the_books_are_settled_before_the_last_piece_has_been_followed_by_the_end(shop: Shop) -> None:
    shop.upstream.script = answers(1, complete=True, usage=USAGE)
    call = shop.call()
    pieces = shop.relay(call)
    next(pieces)
    assert call.books is None
    list(pieces)
    assert call.books is not None


# --- the client leaves -------------------------------------------------------------------------------------


def test_a_stream_that_nobody_begins_to_read_holds_nothing(shop: Shop) -> None:
    shop.relay().close()
    assert (shop.ledger.usage("run"), shop.upstream.bodies) == (None, [])


@pytest.mark.parametrize("taken", range(5))
def test_a_client_that_leaves_after_so_many_pieces_pays_for_what_was_seen(shop: Shop, taken: int) -> None:
    turns = [Event() for _ in range(5)]

    def script(attempt: Attempt, put: Put) -> None:
        attempt.sent = attempt.answering = True
        put(b"")
        for number, turn in enumerate(turns):
            turn.wait()
            attempt.received_tokens += 2
            put(b"%d" % number)

    shop.upstream.script = script
    pieces = shop.relay()
    assert next(pieces) == b""
    for number in range(taken):
        turns[number].set()
        assert next(pieces) == b"%d" % number

    pieces.close()

    assert shop.settled_once() == seen(2 * taken)


def test_a_client_that_is_seen_to_hang_up_ends_the_call(shop: Shop) -> None:
    shop.upstream.script = answers(2, hangs=True)
    with pytest.raises(ClientGoneError):
        list(shop.relay(Call(Run("run", CAP_NANOUSD), GoneClient())))
    assert shop.settled_once() == seen(4)


def test_a_client_that_leaves_before_the_200_pays_for_the_hold() -> None:
    shop = Shop(HEARTBEAT_SECONDS="0.05")

    def silent(attempt: Attempt, put: Put) -> None:  # noqa: ARG001 - nothing comes
        attempt.sent = True
        Event().wait()

    shop.upstream.script = silent
    pieces = shop.relay()
    assert next(pieces) == HEARTBEAT
    pieces.close()
    assert shop.settled_once() == FULL_HOLD


# --- what ends the wait ------------------------------------------------------------------------------------


def test_a_stream_past_its_deadline_pays_for_what_was_seen() -> None:
    shop = Shop(DEADLINE_SECONDS="0.1")
    shop.upstream.script = answers(2, hangs=True)
    with pytest.raises(DeadlineExceededError):
        list(shop.relay())
    assert shop.settled_once() == seen(4)


def test_a_client_too_far_behind_loses_its_answer_and_pays_for_what_was_seen(shop: Shop) -> None:
    def pour(attempt: Attempt, put: Put) -> None:
        attempt.sent = attempt.answering = True
        while True:
            attempt.received_tokens += 2
            put(b"x" * (MAX_WAITING_BYTES // 2))

    shop.upstream.script = pour
    pieces = shop.relay()
    assert len(next(pieces)) > MAX_WAITING_BYTES
    with pytest.raises(ClientStalledError):
        next(pieces)
    assert shop.settled_once() == seen(6)


def test_a_stream_cut_off_by_the_drain_pays_for_what_was_seen(shop: Shop) -> None:
    shop.upstream.script = answers(2, hangs=True)
    pieces = shop.relay()
    assert next(pieces) == b"data: 0\n\ndata: 1\n\n"
    shop.admission.cut_all()
    with pytest.raises(DrainedError):
        next(pieces)
    assert shop.settled_once() == seen(4)


def test_a_stream_cut_off_before_its_wait_is_not_sent_and_pays_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = shop.ledger.reserve

    def reserve_while_the_drain_ends(*args: object) -> object:
        shop.admission.cut_all()
        return reserve(*args)  # type: ignore[arg-type] # passed on as they come

    monkeypatch.setattr(shop.ledger, "reserve", reserve_while_the_drain_ends)
    with pytest.raises(DrainedError):
        list(shop.relay())
    assert shop.upstream.bodies == []
    assert shop.settled_once() is None


def test_a_reader_that_is_killed_is_settled_and_no_whole_answer(shop: Shop) -> None:
    shop.upstream.script = answers(2, gevent.GreenletExit())
    with pytest.raises(ProxyError):
        list(shop.relay())
    assert shop.settled_once() == seen(4)


# --- the ledger fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", [answers(complete=True), answers(1, UpstreamBrokenError()), refuses(UpstreamUnreachableError())]
)
def test_a_ledger_that_fails_at_the_end_spoils_no_answer_and_is_told_when_it_answers(
    shop: Shop, script: Script
) -> None:
    shop.upstream.script, shop.ledger.fails = script, True
    call = shop.call()
    with suppress(UpstreamError):
        list(shop.relay(call))
    assert len(shop.ledger.resolved) == 1
    assert shop.books().held_nanousd == FULL_HOLD
    assert (call.books, shop.admission.in_flight, shop.outbox.kept()) == (None, 0, 1)
    first = shop.ledger.resolved.pop()
    shop.ledger.fails = False
    shop.outbox.deliver()
    assert shop.ledger.resolved == [first], "what was owed then"
    shop.settled_once()


def test_a_ledger_that_fails_when_the_client_leaves_is_told_when_it_answers(shop: Shop) -> None:
    shop.upstream.script, shop.ledger.fails = answers(2, hangs=True), True
    pieces = shop.relay()
    next(pieces)
    pieces.close()
    assert len(shop.ledger.resolved) == 1
    assert (shop.admission.in_flight, shop.outbox.kept()) == (0, 1)


def test_without_an_answer_of_the_ledger_nothing_is_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise LedgerUnavailableError

    monkeypatch.setattr(shop.ledger, "reserve", fail)
    with pytest.raises(LedgerUnavailableError):
        next(shop.relay())
    with pytest.raises(LedgerUnavailableError):
        shop.calls.complete(shop.call(), chat_of())
    assert (shop.upstream.bodies, shop.admission.in_flight) == ([], 0)


# --- any order ---------------------------------------------------------------------------------------------


@settings(max_examples=80, derandomize=True, database=None, deadline=None)
@given(
    events=st.integers(0, 150),
    leaves_after=st.none() | st.integers(0, 150),
    ends=st.sampled_from(["whole", "usage", "breaks", "killed", "hangs_until_cut"]),
    choices=st.integers(1, 3),
)
def test_however_a_stream_ends_its_hold_resolves_once_and_within_it(
    events: int, leaves_after: int | None, ends: str, choices: int
) -> None:
    shop = Shop()
    facts: dict[str, object] = {"complete": True} if ends == "whole" else {}
    facts |= {"complete": True, "usage": USAGE} if ends == "usage" else {}
    error = {"breaks": UpstreamBrokenError(), "killed": gevent.GreenletExit()}.get(ends)
    shop.upstream.script = answers(events, error, hangs=ends == "hangs_until_cut", **facts)
    if ends == "hangs_until_cut":
        gevent.spawn(shop.admission.cut_all)
    pieces = shop.relay(chat=chat_of(choices=choices))
    try:
        for number, _ in enumerate(pieces):
            if number == leaves_after:
                break
    except ProxyError:
        assert ends not in {"whole", "usage"}
    pieces.close()

    cost = shop.settled_once() if shop.upstream.bodies or shop.ledger.resolved else 0
    assert (cost or 0) <= choices * FULL_HOLD
