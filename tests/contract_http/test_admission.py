"""503 and 429 before a call: nothing is sent, nothing is held, and the caller is told when to come back."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import pytest

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import MemoryLedger
from tests.contract_http.service import (
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

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask
    from werkzeug.test import TestResponse


OVERLOADED = (503, envelope("The proxy is overloaded", "overloaded"))
DRAINING = (503, envelope("The proxy is shutting down", "overloaded"))
TOO_MANY = (429, envelope("The run has too many calls in flight", "too_many_in_flight"))
NO_LEDGER = (503, envelope("The ledger is unavailable", "ledger_unavailable"))

SPENDING = pytest.mark.parametrize("spend", [infer, embed])


class DeadLedger(MemoryLedger):
    """A ledger that does not answer: the verbs that a call needs."""

    def __init__(self) -> None:
        super().__init__(1200.0)

    def reserve(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError

    def usage(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError


class DyingLedger(MemoryLedger):
    """A ledger that stops answering while a call is in flight."""

    def __init__(self) -> None:
        super().__init__(1200.0)

    def settle(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError


@SPENDING
def test_above_the_most_calls_in_flight_the_next_is_refused(
    upstream: responses.RequestsMock, spend: Callable[[Flask], TestResponse]
) -> None:
    app = app_of(MAX_CONCURRENT_CALLS="2")
    with ExitStack() as flights:
        for run_id in ("a", "b"):
            flights.enter_context(services_of(app).admission.enter(run_id))
        reply = spend(app)
    assert seen(reply) == OVERLOADED
    assert reply.headers["Retry-After"] == "2"
    assert len(upstream.calls) == 0
    assert untouched(app)


@SPENDING
def test_above_a_runs_most_calls_in_flight_the_next_is_refused(
    upstream: responses.RequestsMock, spend: Callable[[Flask], TestResponse]
) -> None:
    app = app_of(MAX_CONCURRENT_CALLS_PER_RUN="2")
    for _ in range(2):
        hold_of(app, 0)
    before = usage(app).get_json()
    reply = spend(app)
    assert seen(reply) == TOO_MANY
    assert reply.headers["Retry-After"] == "1"
    assert len(upstream.calls) == 0
    assert usage(app).get_json() == before


def test_calls_up_to_the_most_are_taken_and_other_runs_do_not_count(
    upstream: responses.RequestsMock,
) -> None:
    app = app_of(MAX_CONCURRENT_CALLS="3", MAX_CONCURRENT_CALLS_PER_RUN="2")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    hold_of(app, 0)
    with services_of(app).admission.enter(RUN), services_of(app).admission.enter("another"):
        assert seen(infer(app)) == (200, "Hi")


def test_a_place_that_a_call_had_is_free_again_after_it(upstream: responses.RequestsMock) -> None:
    app = app_of(MAX_CONCURRENT_CALLS="1", MAX_CONCURRENT_CALLS_PER_RUN="1")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    with services_of(app).admission.enter(RUN):
        assert seen(infer(app)) == OVERLOADED
    assert seen(infer(app)) == (200, "Hi")
    assert seen(infer(app)) == (200, "Hi")


@SPENDING
def test_while_draining_no_new_call_is_taken(
    app: Flask, upstream: responses.RequestsMock, spend: Callable[[Flask], TestResponse]
) -> None:
    services_of(app).admission.drain()
    reply = spend(app)
    assert seen(reply) == DRAINING
    assert reply.headers["Retry-After"] == "5"
    assert len(upstream.calls) == 0
    assert untouched(app)


def test_while_draining_a_run_may_still_ask_what_it_has_spent(app: Flask) -> None:
    services_of(app).admission.drain()
    assert usage(app).status_code == 200


@SPENDING
def test_without_the_ledger_no_call_is_made(
    upstream: responses.RequestsMock, spend: Callable[[Flask], TestResponse]
) -> None:
    app = app_of(DeadLedger())
    reply = spend(app)
    assert seen(reply) == NO_LEDGER
    assert reply.headers["Retry-After"] == "5"
    assert len(upstream.calls) == 0
    assert services_of(app).admission.in_flight == 0


def test_without_the_ledger_the_usage_is_not_known() -> None:
    reply = usage(app_of(DeadLedger()))
    assert seen(reply) == NO_LEDGER
    assert reply.headers["Retry-After"] == "5"


def test_an_unsupported_model_is_told_without_the_ledger() -> None:
    assert infer(app_of(DeadLedger()), model="gpt-4").status_code == 200


def test_an_answer_that_cannot_be_settled_now_is_given_and_stays_held(
    upstream: responses.RequestsMock,
) -> None:
    app = app_of(DyingLedger())
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(infer(app)) == (200, "Hi")
    books = services_of(app).ledger.usage(RUN)
    assert books
    assert books.held_nanousd > 0
    assert (services_of(app).admission.in_flight, services_of(app).outbox.kept()) == (0, 1)
