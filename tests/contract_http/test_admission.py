"""Calls refused with 503 or 429: nothing is sent, nothing is held, and the response has a Retry-After."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import MemoryLedger
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    RUN,
    answer_of,
    app_of,
    embed,
    envelope,
    hold_of,
    infer,
    seen,
    services_of,
    untouched,
    usage,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask
    from werkzeug.test import TestResponse


OVERLOADED = (503, envelope("The proxy is overloaded", "overloaded"))
DRAINING = (503, envelope("The proxy is shutting down", "shutting_down"))
TOO_MANY = (
    429,
    envelope(
        "The run has too many calls in flight: try again when one of them has ended", "too_many_in_flight"
    ),
)
BUSY = (429, envelope("Other calls are still in progress: try again soon", "run_busy"))
NO_LEDGER = (503, envelope("The ledger is unavailable", "ledger_unavailable"))


def check_both(check: Callable[[Callable[[Flask], TestResponse]], None]) -> None:
    """Check an inference and an embedding."""
    check_rows([infer, embed], check)


class UnavailableLedger(MemoryLedger):
    """A ledger whose `reserve` and `usage` fail."""

    def __init__(self) -> None:
        super().__init__(1200.0)

    def reserve(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError

    def usage(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError


class SettleFailsLedger(MemoryLedger):
    """A ledger that becomes unavailable while a call is in flight."""

    def __init__(self) -> None:
        super().__init__(1200.0)

    def settle(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError


def test_above_the_maximum_of_calls_in_flight_the_next_is_refused(upstream: responses.RequestsMock) -> None:
    def check(call: Callable[[Flask], TestResponse]) -> None:
        app = app_of(MAX_CONCURRENT_CALLS="2")
        with ExitStack() as calls:
            for run_id in ("a", "b"):
                calls.enter_context(services_of(app).admission.enter(run_id))
            reply = call(app)
        assert seen(reply) == OVERLOADED
        assert reply.headers["Retry-After"] == "2"
        assert len(upstream.calls) == 0
        assert untouched(app)

    check_both(check)


def test_above_the_runs_maximum_of_calls_in_flight_the_next_is_refused(
    upstream: responses.RequestsMock,
) -> None:
    def check(call: Callable[[Flask], TestResponse]) -> None:
        app = app_of(MAX_CONCURRENT_CALLS_PER_RUN="2")
        for _ in range(2):
            hold_of(app, 0)
        before = usage(app).get_json()
        reply = call(app)
        assert seen(reply) == TOO_MANY
        assert reply.headers["Retry-After"] == "1"
        assert len(upstream.calls) == 0
        assert usage(app).get_json() == before

    check_both(check)


def test_a_call_whose_budget_others_hold_is_refused_when_it_does_not_wait(
    upstream: responses.RequestsMock,
) -> None:
    def check(call: Callable[[Flask], TestResponse]) -> None:
        app = app_of(HOLD_WAIT_SECONDS="0")
        hold_of(app, CAP_NANOUSD)
        reply = call(app)
        assert seen(reply) == BUSY
        assert reply.headers["Retry-After"] == "2"
        assert len(upstream.calls) == 0

    check_both(check)


def test_calls_up_to_the_maximum_are_admitted_and_other_runs_do_not_count(
    upstream: responses.RequestsMock,
) -> None:
    app = app_of(MAX_CONCURRENT_CALLS="3", MAX_CONCURRENT_CALLS_PER_RUN="2")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    hold_of(app, 0)
    with services_of(app).admission.enter(RUN), services_of(app).admission.enter("another"):
        assert seen(infer(app)) == (200, "Hi")


def test_after_a_call_another_one_is_admitted(upstream: responses.RequestsMock) -> None:
    app = app_of(MAX_CONCURRENT_CALLS="1", MAX_CONCURRENT_CALLS_PER_RUN="1")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    with services_of(app).admission.enter(RUN):
        assert seen(infer(app)) == OVERLOADED
    assert seen(infer(app)) == (200, "Hi")
    assert seen(infer(app)) == (200, "Hi")


def test_at_the_end_of_a_drain_no_new_call_is_admitted(upstream: responses.RequestsMock) -> None:
    def check(call: Callable[[Flask], TestResponse]) -> None:
        app = app_of()
        services_of(app).admission.close()
        reply = call(app)
        assert seen(reply) == DRAINING
        assert reply.headers["Retry-After"] == "5"
        assert len(upstream.calls) == 0
        assert untouched(app)

    check_both(check)


def test_at_the_end_of_a_drain_the_usage_is_still_answered(app: Flask) -> None:
    services_of(app).admission.close()
    assert usage(app).status_code == 200


def test_without_the_ledger_no_call_is_made(upstream: responses.RequestsMock) -> None:
    def check(call: Callable[[Flask], TestResponse]) -> None:
        app = app_of(UnavailableLedger())
        reply = call(app)
        assert seen(reply) == NO_LEDGER
        assert reply.headers["Retry-After"] == "5"
        assert len(upstream.calls) == 0
        assert services_of(app).admission.in_flight == 0

    check_both(check)


def test_without_the_ledger_the_usage_is_a_503() -> None:
    reply = usage(app_of(UnavailableLedger()))
    assert seen(reply) == NO_LEDGER
    assert reply.headers["Retry-After"] == "5"


def test_an_unsupported_model_is_reported_without_the_ledger() -> None:
    assert infer(app_of(UnavailableLedger()), model="gpt-4").status_code == 200


def test_an_answer_that_cannot_be_settled_yet_is_sent_and_stays_held(
    upstream: responses.RequestsMock,
) -> None:
    app = app_of(SettleFailsLedger())
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(infer(app)) == (200, "Hi")
    run = services_of(app).ledger.usage(RUN)
    assert run
    assert run.held_nanousd > 0
    assert (services_of(app).admission.in_flight, services_of(app).outbox.kept()) == (0, 1)
