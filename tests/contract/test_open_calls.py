"""The calls in flight: the open holds of all servers that share a ledger."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger import Kind, OpenCall, OpenCallPage, Run
from tests.contract.stores import BUDGET_NANOUSD, EXPIRY_SECONDS
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest

    from tests.contract.stores import LedgerSteps

LEVEL = Level("all", "all", "lifetime", 1_000_000)


def runs_of(page: OpenCallPage) -> list[str]:
    return [call.run_id for call in page.calls]


def test_without_calls_in_flight_there_are_none(steps: LedgerSteps) -> None:
    assert steps.ledger.open_calls(10) == OpenCallPage([], 0)
    steps.spend(5)
    assert steps.ledger.open_calls(10) == OpenCallPage([], 0)
    assert steps.ledger.open_calls(10, "run") == OpenCallPage([], 0)


def test_a_call_in_flight_has_what_its_hold_has_and_since_when(steps: LedgerSteps) -> None:
    started_at = steps.clock.now
    steps.reserve(70, run="a|b 1|x", kind=Kind.EMBEDDING, model="model|0", levels=(LEVEL,))
    steps.clock.advance(12.5)
    call = OpenCall(
        run_id="a|b 1|x",
        model="model|0",
        kind=Kind.EMBEDDING,
        held_nanousd=70,
        started_at=started_at,
        age_seconds=12.5,
        expires_at=started_at + EXPIRY_SECONDS,
        expired=False,
        nested=True,
    )
    assert steps.ledger.open_calls(10) == OpenCallPage([call], 1)


def test_calls_in_flight_are_listed_until_they_end(steps: LedgerSteps) -> None:
    settled, released, open_ = (steps.reserve(1, run=run) for run in ("settled", "released", "open"))
    assert steps.ledger.open_calls(10).total == 3
    steps.ledger.settle(settled, 1)
    steps.ledger.release(released)
    assert runs_of(steps.ledger.open_calls(10)) == ["open"]
    steps.ledger.close(Run("open", BUDGET_NANOUSD))
    steps.ledger.reset("open")
    assert runs_of(steps.ledger.open_calls(10)) == ["open"]
    steps.ledger.settle(open_, 1)
    assert steps.ledger.open_calls(10) == OpenCallPage([], 0)


def test_the_oldest_calls_are_listed_first_and_all_are_counted(steps: LedgerSteps) -> None:
    for number in range(30):
        steps.reserve(1, run=f"run-{number * 7 % 30}", expiry=1_000.0 - number)
        steps.clock.advance(1)
    order = [f"run-{number * 7 % 30}" for number in range(30)]

    def check(limit: int) -> None:
        page = steps.ledger.open_calls(limit)
        assert (runs_of(page), page.total) == (order[:limit], 30)
        assert [call.age_seconds for call in page.calls] == list(range(30, 0, -1))[:limit]

    check_rows([1, 7, 30, 31], check)


def test_the_calls_of_one_run_are_those_with_exactly_its_id(steps: LedgerSteps) -> None:
    for run in ("a", "b", "a", "A", "a ", "aa", "a"):
        steps.reserve(1, run=run)
        steps.clock.advance(1)
    page = steps.ledger.open_calls(2, "a")
    assert (runs_of(page), page.total) == (["a", "a"], 3)
    assert [call.age_seconds for call in page.calls] == [7, 5]
    assert steps.ledger.open_calls(2, "%") == OpenCallPage([], 0)


def test_an_expired_hold_is_marked_until_a_sweep_charges_it(steps: LedgerSteps) -> None:
    steps.reserve(1, run="soon", expiry=10.0)
    steps.clock.advance(1.0)
    steps.reserve(1, run="later", expiry=9.5)
    steps.clock.advance(9.0)
    assert [(call.run_id, call.expired) for call in steps.ledger.open_calls(10).calls] == [
        ("soon", True),
        ("later", False),
    ]
    steps.sweep()
    assert runs_of(steps.ledger.open_calls(10)) == ["later"]


def test_a_clock_that_was_set_back_gives_no_negative_age(steps: LedgerSteps) -> None:
    steps.reserve(1)
    steps.clock.advance(-500.0)
    assert [call.age_seconds for call in steps.ledger.open_calls(1).calls] == [0.0]


def test_the_holds_of_an_earlier_version_come_first_without_a_time(
    steps: LedgerSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        for module in ("memory", "sqlite.ledger", "redis.ledger"):
            earlier.setattr(f"ridges_proxy.ledger.{module}.new_hold_id", lambda _now: uuid.uuid4().hex)
        for _ in range(5):
            steps.reserve(1, run="earlier")
    steps.reserve(1, run="new")
    page = steps.ledger.open_calls(6)
    assert (runs_of(page), page.total) == (["earlier"] * 5 + ["new"], 6)
    assert [call.age_seconds for call in page.calls] == [None] * 5 + [0.0]
    assert [call.started_at for call in page.calls] == [None] * 5 + [steps.clock.now]
