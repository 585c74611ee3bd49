"""Learning of the call service from the reported counts of prompts."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import monkey

from ridges_proxy.billing.learned_counts import SEAM_TOKENS
from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import BodyQueueError, ClientGoneError, DrainingError, UpstreamBrokenError
from ridges_proxy.runtime.turn_queue import Caller
from tests.support.call_fixture import (
    FULL_HOLD,
    INPUT_NANOUSD,
    MAX_TOKENS,
    OUTPUT_NANOUSD,
    CallFixture,
    GoneClient,
    answer,
    chat_of,
)
from tests.support.table import check_rows
from tests.support.waiting_call import PATIENCE_SECONDS, run_scheduled

if TYPE_CHECKING:
    from ridges_proxy.errors import ProxyError
    from ridges_proxy.upstream import Attempt
    from tests.support.call_fixture import Put, Script

RealEvent = monkey.get_original("threading", "Event")
"""An event that a thread can wait for, whether or not the process is patched."""


def test_a_reported_prompt_makes_the_next_hold_smaller() -> None:
    """Rows: the tokens of the answer. A completion of the maximum proves nothing against the prompt."""

    def check(completion_tokens: int) -> None:
        fixture = CallFixture()
        fixture.upstream.script = answer(usage=Usage(20, completion_tokens), complete=True)
        fixture.infer()
        fixture.infer(second := fixture.call())
        assert second.requested_nanousd == (20 + SEAM_TOKENS) * INPUT_NANOUSD + MAX_TOKENS * OUTPUT_NANOUSD

    check_rows([5, MAX_TOKENS], check)


def test_an_estimate_knows_what_its_run_has_learned() -> None:
    fixture = CallFixture()
    fixture.upstream.script = answer(usage=Usage(20, 5), complete=True)
    fixture.infer()
    estimate = fixture.service.estimate(fixture.call(), chat_of())

    assert estimate.hold_nanousd == (20 + SEAM_TOKENS) * INPUT_NANOUSD + MAX_TOKENS * OUTPUT_NANOUSD


def test_a_prompt_is_learned_for_the_model_that_reads_it() -> None:
    """Rows: the first model, the second one, and whether both are the same model of the upstream."""
    price = {"input": 0.3, "output": 1.1}
    prices = {"a": price, "b": price, "c": price | {"upstream": "a"}, "d": price | {"upstream": "x"}}

    def check(row: tuple[str, str, bool]) -> None:
        first, second, same = row
        fixture = CallFixture(MODEL_PRICES=json.dumps(prices), DEFAULT_MODEL="a")
        fixture.upstream.script = answer(usage=Usage(20, 5), complete=True)
        fixture.infer(fixture.call(model=first))
        fixture.infer(call := fixture.call(model=second))
        assert (call.requested_nanousd < FULL_HOLD) is same

    check_rows(
        [("a", "a", True), ("a", "b", False), ("a", "c", True), ("c", "a", True), ("c", "d", False)], check
    )


def test_a_large_prompt_is_learned_in_its_turn() -> None:
    fixture = CallFixture()
    fixture.upstream.script = answer(usage=Usage(20, 5), complete=True)
    call = fixture.call()
    call.needs_time = True
    fixture.infer(call)
    run_scheduled()
    fixture.service.turns.do(call.turn, lambda: None)  # the next turn
    fixture.infer(second := fixture.call())

    assert second.requested_nanousd == (20 + SEAM_TOKENS) * INPUT_NANOUSD + MAX_TOKENS * OUTPUT_NANOUSD


def test_a_client_that_leaves_before_its_large_prompt_is_counted_costs_nothing() -> None:
    """The prompt is counted in the turn of its run, and another run has the turn."""
    fixture, go_on = CallFixture(), RealEvent()
    other = gevent.spawn(fixture.service.turns.do, Caller("other"), partial(go_on.wait, PATIENCE_SECONDS))
    gevent.idle()
    call = fixture.call()
    call.needs_time, call.client = True, GoneClient()
    with pytest.raises(ClientGoneError):
        fixture.infer(call)
    assert (fixture.upstream.bodies, fixture.ledger.usage("run")) == ([], None)
    assert not other.ready(), "it did not wait for its turn to the end"
    go_on.set()
    other.join(PATIENCE_SECONDS)


def test_a_large_prompt_that_gets_no_turn_is_not_learned_and_the_answer_is_unharmed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(error: type[ProxyError]) -> None:
        fixture = CallFixture()

        def refuse(*_: object) -> None:
            raise error

        def refuse_and_answer(attempt: Attempt, put: Put) -> None:
            monkeypatch.setattr(fixture.service.turns, "do", refuse)
            answer(usage=Usage(20, 5), complete=True)(attempt, put)

        fixture.upstream.script = refuse_and_answer
        call = fixture.call()
        call.needs_time = True
        assert fixture.infer(call) == "the answer"
        run_scheduled()
        assert capsys.readouterr().err == "", "the hub reports no error"

    check_rows([BodyQueueError, DrainingError], check)


def test_a_report_that_proves_nothing_about_the_prompt_is_not_learned() -> None:
    def check(row: tuple[str, Script, int]) -> None:
        _, script, choices = row
        fixture = CallFixture()
        fixture.upstream.script = script
        chat = chat_of(choices=choices)
        with suppress(UpstreamBrokenError):
            fixture.service.infer(fixture.call(), chat)
        fixture.upstream.script = answer(usage=Usage(20, 5), complete=True)
        fixture.service.infer(second := fixture.call(), chat)
        assert second.requested_nanousd == choices * FULL_HOLD

    check_rows(
        [
            ("broke off", answer(usage=Usage(20, 5), error=UpstreamBrokenError()), 1),
            ("no usage", answer(complete=True), 1),
            ("a usage that is too low", answer(usage=Usage(20, 0), complete=True, text_bytes=100_000), 1),
            ("a total only", answer(usage=Usage(0, 25), complete=True), 1),
            ("tokens of the prompt elsewhere", answer(usage=Usage(5, MAX_TOKENS + 1), complete=True), 1),
            ("two choices", answer(usage=Usage(20, 5), complete=True), 2),
        ],
        check,
    )


def test_a_report_above_the_bound_is_logged_and_drops_what_was_learned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fixture = CallFixture()
    for tokens in (20, 20 + SEAM_TOKENS + 1):
        fixture.upstream.script = answer(usage=Usage(tokens, 5), complete=True)
        fixture.infer()
    fixture.infer(third := fixture.call())

    assert third.requested_nanousd == FULL_HOLD
    (record,) = [each for each in caplog.records if each.msg == "the prompt had more tokens than its bound"]
    assert (vars(record)["bound_tokens"], vars(record)["reported_tokens"]) == (28, 29)
