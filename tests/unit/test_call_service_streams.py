"""The settlement of streams and of answers in one piece, with the real ledger and the real admission."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import gevent
import orjson
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.calls.call import Call
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
from tests.support.call_fixture import (
    BUDGET_NANOUSD,
    FULL_HOLD,
    OUTPUT_NANOUSD,
    USAGE,
    USAGE_NANOUSD,
    CallFixture,
    GoneClient,
    answer,
    chat_of,
    outcome,
    received_cost,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from ridges_proxy.upstream import Attempt
    from tests.support.call_fixture import Put, Script


@pytest.fixture
def calls() -> CallFixture:
    return CallFixture()


# --- how a hold resolves


Row: TypeAlias = "tuple[str, Script, int | None, type[Exception] | None]"
ROWS: list[Row] = [
    ("usage", answer(complete=True, usage=USAGE), USAGE_NANOUSD, None),
    ("complete, no usage", answer(complete=True), received_cost(6), None),
    ("usage above the hold", answer(complete=True, usage=Usage(0, 500)), 500 * OUTPUT_NANOUSD, None),
    ("broken before any event", answer(0, UpstreamBrokenError()), received_cost(0), UpstreamBrokenError),
    ("broken after one event", answer(1, UpstreamBrokenError()), received_cost(2), UpstreamBrokenError),
    ("broken after nine events", answer(9, UpstreamBrokenError()), received_cost(18), UpstreamBrokenError),
    ("more than max_tokens", answer(90, UpstreamOverranError()), FULL_HOLD, UpstreamOverranError),
    (
        "broken after its end",
        answer(3, UpstreamBrokenError(), complete=True, usage=USAGE),
        USAGE_NANOUSD,
        UpstreamBrokenError,
    ),
    (
        "broken after a usage above the hold",
        answer(3, UpstreamBrokenError(), usage=Usage(0, 500)),
        FULL_HOLD,
        UpstreamBrokenError,
    ),
    ("unreachable", outcome(UpstreamUnreachableError()), None, UpstreamUnreachableError),
    ("refused", outcome(UpstreamBusyError(429), sent=True, refused=True), None, UpstreamBusyError),
    ("no answer", outcome(UpstreamTimeoutError(), sent=True), FULL_HOLD, UpstreamTimeoutError),
    ("a bug", outcome(ZeroDivisionError(), sent=True), FULL_HOLD, ZeroDivisionError),
]


def test_the_hold_of_a_stream_resolves_by_what_the_attempt_shows() -> None:
    def check(row: Row) -> None:
        _, script, cost, error = row
        calls = CallFixture()
        calls.upstream.script = script
        call = calls.call()
        with pytest.raises(error) if error else nullcontext():
            list(calls.relay(call))
        assert calls.settled_once() == cost
        assert call.run_usage == calls.usage()
        assert call.cost_nanousd == (cost or 0)

    check_rows(ROWS, check)


def test_the_hold_of_an_answer_in_one_piece_resolves_by_what_the_attempt_shows() -> None:
    def check(row: Row) -> None:
        _, script, cost, error = row
        calls = CallFixture()
        calls.upstream.script = script
        with pytest.raises(error) if error else nullcontext():
            assert calls.service.complete(calls.call(), chat_of()).content == b'{"whole":1}'
        assert calls.settled_once() == cost

    check_rows(ROWS, check)


def test_a_stream_has_its_events_in_order(calls: CallFixture) -> None:
    calls.upstream.script = answer(3, complete=True)
    assert b"".join(calls.relay()) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert orjson.loads(calls.upstream.bodies[0])["stream"] is True


def test_an_answer_in_one_piece_is_requested_without_a_stream(calls: CallFixture) -> None:
    calls.service.complete(calls.call(), chat_of())
    assert orjson.loads(calls.upstream.bodies[0])["stream"] is False


def test_a_stream_has_settled_when_its_last_piece_has_been_taken(calls: CallFixture) -> None:
    calls.upstream.script = answer(1, complete=True, usage=USAGE)
    call = calls.call()
    pieces = calls.relay(call)
    next(pieces)
    assert call.run_usage is None
    list(pieces)
    assert call.run_usage is not None


# --- the client hangs up


def test_a_stream_that_is_closed_before_its_first_piece_holds_nothing(calls: CallFixture) -> None:
    calls.relay().close()
    assert (calls.ledger.usage("run"), calls.upstream.bodies) == (None, [])


def test_a_client_that_leaves_after_some_pieces_pays_for_what_was_received() -> None:
    def check(pieces_taken: int) -> None:
        calls = CallFixture()
        turns = [Event() for _ in range(5)]

        def script(attempt: Attempt, put: Put) -> None:
            attempt.sent = attempt.answering = True
            put(b"first")
            for number, turn in enumerate(turns):
                turn.wait()
                attempt.received_tokens += 2
                put(b"%d" % number)

        calls.upstream.script = script
        pieces = calls.relay()
        assert next(pieces) == b"first"
        for number in range(pieces_taken):
            turns[number].set()
            assert next(pieces) == b"%d" % number

        pieces.close()

        assert calls.settled_once() == received_cost(2 * pieces_taken)

    check_rows(range(5), check)


def test_a_client_that_hangs_up_ends_the_call(calls: CallFixture) -> None:
    calls.upstream.script = answer(2, hangs=True)
    with pytest.raises(ClientGoneError):
        list(calls.relay(Call(Run("run", BUDGET_NANOUSD), GoneClient())))
    assert calls.settled_once() == received_cost(4)


def test_a_client_that_leaves_before_the_status_pays_the_hold() -> None:
    calls = CallFixture(HEARTBEAT_SECONDS="0.05")

    def send_and_hang(attempt: Attempt, put: Put) -> None:  # noqa: ARG001 - no events
        attempt.sent = True
        Event().wait()

    calls.upstream.script = send_and_hang
    pieces = calls.relay()
    assert next(pieces) == HEARTBEAT
    pieces.close()
    assert calls.settled_once() == FULL_HOLD


# --- interruptions


def test_a_stream_past_its_deadline_pays_for_what_was_received() -> None:
    calls = CallFixture(DEADLINE_SECONDS="0.1")
    calls.upstream.script = answer(2, hangs=True)
    with pytest.raises(DeadlineExceededError):
        list(calls.relay())
    assert calls.settled_once() == received_cost(4)


def test_a_client_too_far_behind_loses_its_answer_and_pays_for_what_was_received(calls: CallFixture) -> None:
    def flood(attempt: Attempt, put: Put) -> None:
        attempt.sent = attempt.answering = True
        while True:
            attempt.received_tokens += 2
            put(b"x" * (MAX_WAITING_BYTES // 2))

    calls.upstream.script = flood
    pieces = calls.relay()
    assert len(next(pieces)) > MAX_WAITING_BYTES
    with pytest.raises(ClientStalledError):
        next(pieces)
    assert calls.settled_once() == received_cost(6)


def test_a_stream_cut_off_by_the_drain_pays_for_what_was_received(calls: CallFixture) -> None:
    calls.upstream.script = answer(2, hangs=True)
    pieces = calls.relay()
    assert next(pieces) == b"data: 0\n\ndata: 1\n\n"
    calls.admission.cut_all()
    with pytest.raises(DrainedError):
        next(pieces)
    assert calls.settled_once() == received_cost(4)


def test_a_stream_cut_off_before_it_was_sent_pays_nothing(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = calls.ledger.reserve

    def reserve_while_the_drain_ends(*args: object) -> object:
        calls.admission.cut_all()
        return reserve(*args)  # type: ignore[arg-type] # passed on unchanged

    monkeypatch.setattr(calls.ledger, "reserve", reserve_while_the_drain_ends)
    with pytest.raises(DrainedError):
        list(calls.relay())
    assert calls.upstream.bodies == []
    assert calls.settled_once() is None


def test_a_stream_whose_reader_is_killed_fails_and_is_settled(calls: CallFixture) -> None:
    calls.upstream.script = answer(2, gevent.GreenletExit())
    with pytest.raises(ProxyError):
        list(calls.relay())
    assert calls.settled_once() == received_cost(4)


# --- the ledger fails


def test_a_settlement_that_the_ledger_cannot_take_is_delivered_later_and_the_answer_is_unharmed() -> None:
    rows = {
        "complete": answer(complete=True),
        "broken": answer(1, UpstreamBrokenError()),
        "unreachable": outcome(UpstreamUnreachableError()),
    }

    def check(row: tuple[str, Script]) -> None:
        calls = CallFixture()
        calls.upstream.script, calls.ledger.fails = row[1], True
        call = calls.call()
        with suppress(UpstreamError):
            list(calls.relay(call))
        assert len(calls.ledger.resolved) == 1
        assert calls.usage().held_nanousd == FULL_HOLD
        assert (call.run_usage, calls.admission.in_flight, calls.outbox.kept()) == (None, 0, 1)
        first = calls.ledger.resolved.pop()
        calls.ledger.fails = False
        calls.outbox.deliver()
        assert calls.ledger.resolved == [first], "with the cost of that time"
        calls.settled_once()

    check_rows(rows.items(), check)


def test_a_settlement_after_the_client_left_is_kept_if_the_ledger_fails(calls: CallFixture) -> None:
    calls.upstream.script, calls.ledger.fails = answer(2, hangs=True), True
    pieces = calls.relay()
    next(pieces)
    pieces.close()
    assert len(calls.ledger.resolved) == 1
    assert (calls.admission.in_flight, calls.outbox.kept()) == (0, 1)


def test_nothing_is_sent_if_the_ledger_does_not_answer(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise LedgerUnavailableError

    monkeypatch.setattr(calls.ledger, "reserve", fail)
    with pytest.raises(LedgerUnavailableError):
        next(calls.relay())
    with pytest.raises(LedgerUnavailableError):
        calls.service.complete(calls.call(), chat_of())
    assert (calls.upstream.bodies, calls.admission.in_flight) == ([], 0)


# --- any end


@given(
    events=st.integers(0, 150),
    leaves_after=st.none() | st.integers(0, 150),
    ends=st.sampled_from(["complete", "usage", "breaks", "killed", "hangs"]),
    choices=st.integers(1, 3),
)
def test_a_hold_resolves_once_and_within_its_amount_however_the_stream_ends(
    events: int, leaves_after: int | None, ends: str, choices: int
) -> None:
    calls = CallFixture()
    facts: dict[str, object] = {"complete": True} if ends == "complete" else {}
    facts |= {"complete": True, "usage": USAGE} if ends == "usage" else {}
    error = {"breaks": UpstreamBrokenError(), "killed": gevent.GreenletExit()}.get(ends)
    calls.upstream.script = answer(events, error, hangs=ends == "hangs", **facts)
    if ends == "hangs":
        gevent.spawn(calls.admission.cut_all)
    pieces = calls.relay(chat=chat_of(choices=choices))
    try:
        for number, _ in enumerate(pieces):
            if number == leaves_after:
                break
    except ProxyError:
        assert ends not in {"complete", "usage"}
    pieces.close()

    cost = calls.settled_once() if calls.upstream.bodies or calls.ledger.resolved else 0
    assert (cost or 0) <= choices * FULL_HOLD
