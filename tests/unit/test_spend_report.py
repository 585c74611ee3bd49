"""When a report of the spend is added up, and what a page gets meanwhile. Its sums: tests/contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import (
    Kind,
    MemoryLedger,
    ModelCost,
    Receipt,
    Run,
    RunDetail,
    RunPage,
    RunQuery,
    RunUsage,
)
from ridges_proxy.ledger.models import ReceiptPage
from ridges_proxy.web.dashboard import spend_report, spend_sums
from ridges_proxy.web.dashboard.spend_report import KEPT_TIMES, PAGE_RECEIPTS, SpendReports
from ridges_proxy.web.dashboard.spend_sums import OTHERS, SpendSums, Sum, largest
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable


class SlowLedger(MemoryLedger):
    """A ledger whose list takes some time of the clock. With a gate, it waits until the test opens it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(1200.0, clock)
        self.clock = clock
        self.lists = 0
        self.gate: Event | None = None
        self.before_list: Callable[[], None] = lambda: None

    def list(self, query: RunQuery) -> RunPage:
        self.lists += 1
        self.before_list()
        self.clock.advance(2.0)
        if self.gate:
            self.gate.wait()
        return super().list(query)


@pytest.fixture
def ledger() -> SlowLedger:
    return SlowLedger(Clock(1_800_000_000.0))


@pytest.fixture
def reports(ledger: SlowLedger) -> SpendReports:
    return SpendReports(ledger, ledger.clock, ledger.clock)


def spend(ledger: SlowLedger, cost: int) -> None:
    ledger.settle(ledger.reserve(Run("run", 1_000), Kind.INFERENCE, cost, cost, 60.0), cost)


def spent(reports: SpendReports) -> int:
    report = reports.latest()
    assert report
    return report.of_last_days(1).total.cost_nanousd


def test_a_report_is_kept_for_ten_times_the_time_that_it_took(
    reports: SpendReports, ledger: SlowLedger
) -> None:
    spend(ledger, 10)
    assert spent(reports) == 10
    spend(ledger, 5)
    ledger.clock.advance(2.0 * KEPT_TIMES - 0.001)
    assert (spent(reports), ledger.lists) == (10, 1)
    ledger.clock.advance(0.001)
    assert (spent(reports), ledger.lists) == (15, 2)


def test_requests_at_the_same_time_wait_for_one_report(reports: SpendReports, ledger: SlowLedger) -> None:
    spend(ledger, 10)
    ledger.gate = Event()
    waiting = [gevent.spawn(spent, reports) for _ in range(5)]
    gevent.sleep(0)
    ledger.gate.set()
    assert [each.get() for each in waiting] == [10] * 5
    assert ledger.lists == 1


def test_while_a_report_takes_long_the_one_before_is_shown(
    reports: SpendReports, ledger: SlowLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend_report, "WAIT_SECONDS", 0.001)
    ledger.gate = Event()
    assert reports.latest() is None
    work = reports._work
    assert work
    ledger.gate.set()
    work.join()
    assert spent(reports) == 0
    spend(ledger, 10)
    ledger.clock.advance(1000)
    ledger.gate = Event()
    assert (spent(reports), ledger.lists) == (0, 2)
    work = reports._work
    assert work
    ledger.gate.set()
    work.join()
    assert spent(reports) == 10


def test_a_failure_of_the_ledger_is_raised_and_the_next_request_tries_again(
    reports: SpendReports, ledger: SlowLedger
) -> None:
    def fail() -> None:
        raise LedgerUnavailableError

    ledger.before_list = fail
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError):
            reports.latest()
    ledger.before_list = lambda: None
    assert spent(reports) == 0


def test_other_greenlets_run_while_a_report_is_added_up(
    reports: SpendReports, ledger: SlowLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[None] = []
    monkeypatch.setattr(spend_report, "pause", lambda: pauses.append(None))
    receipts = [Receipt(usage(f"run-{number}", ()), ledger.clock()) for number in range(1_000)]

    def history(_: float, cursor: str | None, limit: int) -> ReceiptPage:
        end = int(cursor or 0) + limit
        return ReceiptPage(receipts[end - limit : end], str(end) if end < len(receipts) else None)

    monkeypatch.setattr(ledger, "history", history)
    report = reports.latest()
    assert report
    assert report.of_last_days(1).total.runs == 1_000
    assert len(pauses) >= 1_000 // PAGE_RECEIPTS - 1


def test_other_greenlets_run_while_the_days_of_a_report_are_added(reports: SpendReports) -> None:
    report = reports.latest()
    assert report
    other = gevent.spawn(int)
    report.of_last_days(2)
    assert other.ready()


def usage(run_id: str, costs: tuple[ModelCost, ...], groups: tuple[str, ...] = (), rest: int = 0) -> RunUsage:
    cost, calls = sum(each.cost_nanousd for each in costs), sum(each.calls for each in costs)
    return RunUsage(run_id, 1_000, cost + rest, calls=calls, groups=groups, detail=RunDetail(costs=costs))


def test_both_kinds_of_a_model_are_one_part_and_what_no_model_accounts_for_is_another() -> None:
    sums = SpendSums()
    both = (ModelCost("one", Kind.INFERENCE, 2, 3, 4, 50), ModelCost("one", Kind.EMBEDDING, 1, 0, 0, 7))
    sums.add_run(usage("a", (*both, ModelCost("", Kind.INFERENCE, 1, 1, 1, 100)), rest=30))
    assert largest(sums.models) == [(None, Sum(1, 1, 1, 1, 130)), ("one", Sum(1, 3, 3, 4, 57))]
    assert sums.total == Sum(1, 4, 4, 5, 187)


def test_the_number_of_groups_that_are_counted_apart_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend_sums, "MAX_NAMES", 2)
    sums = SpendSums()
    for number in range(5):
        sums.add_run(
            usage(f"run-{number}", (ModelCost("one", Kind.INFERENCE, 1, 1, 1, 10),), (f"g{number}",))
        )
    found = {name: each.cost_nanousd for name, each in sums.groups.items()}
    assert found == {"g0": 10, "g1": 10, OTHERS: 30}
