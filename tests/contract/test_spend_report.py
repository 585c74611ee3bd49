"""The sums of the spend, against an account of every call, on every store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import CallRecord, Kind, MemoryLedger, Run
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.web.dashboard.spend_report import MAX_DAYS, SpendReports
from ridges_proxy.web.dashboard.spend_sums import Sum, day_of
from tests.contract.stores import EXPIRY_SECONDS, TTL_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.ledger import Ledger
    from ridges_proxy.web.dashboard.spend_report import SpendReport
    from tests.contract.stores import LedgerSteps

BUDGET_NANOUSD = 1_000_000
NUMBERS = ("runs", "calls", "tokens", "cost")


@dataclass
class Account:
    """The spent amount of a run, as the test knows it."""

    groups: tuple[str, ...] = ()
    day: int = 0
    costs: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


class Books:
    """Makes calls in a ledger, and keeps the account of each."""

    def __init__(self, steps: LedgerSteps) -> None:
        self.steps, self.ledger = steps, steps.ledger
        self.open: dict[str, Account] = {}
        self.known: set[str] = set()
        self.forgotten: list[Account] = []
        self.has_receipts = not isinstance(self.ledger, MemoryLedger)

    def call(
        self, run: str, cost: int, model: str = "one", *, budget: int = BUDGET_NANOUSD, groups: str = ""
    ) -> None:
        """Make a call that takes 3 tokens for its prompt and 2 for its answer."""
        named = Run(run, budget, groups=tuple(groups.split()))
        hold = self.ledger.reserve(named, Kind.INFERENCE, cost, cost, EXPIRY_SECONDS, model=model)
        assert self.ledger.settle(hold, cost, CallRecord(3, 2))
        self.known.add(run)
        account = self.open.setdefault(run, Account())
        account.groups, account.day = named.groups, day_of(self.steps.clock())
        account.costs[model] += cost
        account.calls[model] += 1
        account.tokens[model] += 5

    def forget(self, *finished: str) -> None:
        """Let the sweep forget all runs. A finished one continues if it calls again.

        Without receipts, runs that the ledger does not know count nowhere.
        """
        self.steps.clock.advance(TTL_SECONDS)
        self.steps.sweep()
        assert self.ledger.count() == 0
        self.known.clear()
        self.forgotten += [account for run, account in self.open.items() if run not in finished]
        self.open = {run: account for run, account in self.open.items() if run in finished}

    def expected(self, since_day: int, keys: str) -> dict[str | None, tuple[int, ...]]:
        """Runs, calls, tokens and cost by day, model or group."""
        sums: dict[str | None, Counter[str]] = {}
        counted = [account for run, account in self.open.items() if self.has_receipts or run in self.known]
        for account in [*(self.forgotten if self.has_receipts else []), *counted]:
            if account.day < since_day:
                continue
            if keys == "model":
                parts = [(model, {model}) for model in account.costs]
            elif keys == "group":
                parts = [(group, set(account.costs)) for group in account.groups or [None]]  # type: ignore[misc]
            else:
                parts = [(str(account.day), set(account.costs))]
            for name, models in parts:
                found = sums.setdefault(name or None, Counter())
                found["runs"] += 1
                for model in models:
                    found["calls"] += account.calls[model]
                    found["tokens"] += account.tokens[model]
                    found["cost"] += account.costs[model]
        return {
            name: (each["runs"], each["calls"], each["tokens"], each["cost"]) for name, each in sums.items()
        }

    def check(self) -> None:
        """Compare the report with the accounts."""
        report = SpendReports(self.ledger, self.steps.clock).latest()
        assert report
        for days in (1, 7, MAX_DAYS):
            since, sums = report.today - days + 1, report.of_last_days(days)
            assert numbers(sums.models) == self.expected(since, "model")
            assert numbers(sums.groups) == self.expected(since, "group")
            by_day = {str(day): each.total for day, each in report.last_days(days) if each.total.runs}
            assert numbers(by_day) == self.expected(since, "day")
            assert sums.total.cost_nanousd == sum(each[3] for each in self.expected(since, "day").values())


def numbers(sums: dict[str | None, Sum] | dict[str, Sum]) -> dict[str | None, tuple[int, ...]]:
    return {
        name: (each.runs, each.calls, each.prompt_tokens + each.completion_tokens, each.cost_nanousd)
        for name, each in sums.items()
    }


@pytest.fixture
def books(steps: LedgerSteps) -> Books:
    steps.clock.now = 20_000 * DAY_SECONDS + 100
    return Books(steps)


def report_of(ledger: Ledger, steps: LedgerSteps) -> SpendReport:
    report = SpendReports(ledger, steps.clock).latest()
    assert report
    return report


def test_an_empty_ledger_has_days_without_runs(ledger: Ledger, steps: LedgerSteps) -> None:
    report = report_of(ledger, steps)
    assert (report.days, report.known_runs, len(report.last_days(7))) == ({}, 0, 7)
    assert report.of_last_days(30).total == Sum()


def test_known_runs_count_on_the_day_of_their_last_call(books: Books) -> None:
    books.call("a", 100, "one", groups="x y")
    books.call("a", 50, "two", groups="x y")
    books.call("b", 7)
    books.check()
    books.steps.clock.advance(DAY_SECONDS)
    books.call("b", 5, "two", groups="x")
    books.check()
    report = report_of(books.ledger, books.steps)
    assert [sums.total.cost_nanousd for _, sums in report.last_days(2)] == [150, 12]


def test_runs_count_once_whether_they_are_known_or_forgotten_or_come_back(books: Books) -> None:
    books.call("plain", 100, "one", groups="x")
    books.call("finished", BUDGET_NANOUSD, "two", groups="x")
    books.check()
    books.forget("finished")
    books.check()
    books.call("plain", 30, "two", groups="y")  # begins again, with its whole budget
    books.call("finished", 11, "one", budget=2 * BUDGET_NANOUSD, groups="x")  # continues
    books.check()
    books.steps.clock.advance(3 * DAY_SECONDS)
    books.call("plain", 1, "one", groups="y")
    books.check()
    books.forget()
    books.check()
    books.steps.clock.advance(10 * DAY_SECONDS)
    books.check()


def test_runs_of_which_the_last_call_is_too_long_ago_do_not_count(books: Books) -> None:
    books.call("old", 100)
    books.steps.clock.advance((MAX_DAYS - 1) * DAY_SECONDS)
    books.check()
    assert report_of(books.ledger, books.steps).of_last_days(MAX_DAYS).total.runs == 1
    books.steps.clock.advance(DAY_SECONDS)
    books.check()
    assert report_of(books.ledger, books.steps).of_last_days(MAX_DAYS).total.runs == 0


def test_a_call_whose_hold_expired_counts_for_its_model(books: Books) -> None:
    books.ledger.reserve(Run("run", BUDGET_NANOUSD), Kind.INFERENCE, 70, 70, EXPIRY_SECONDS, model="one")
    books.steps.clock.advance(EXPIRY_SECONDS)
    books.steps.sweep()
    assert numbers(report_of(books.ledger, books.steps).of_last_days(1).models) == {"one": (1, 1, 0, 70)}


def test_what_a_run_had_spent_before_a_reset_does_not_count(books: Books) -> None:
    books.call("run", 100)
    books.ledger.reset("run")
    assert report_of(books.ledger, books.steps).of_last_days(1).total == Sum(runs=1)
    books.open.clear()
    books.call("run", 5)
    books.check()


def test_a_run_that_is_forgotten_while_the_sums_are_added_up_counts_once(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.call("one", 100)
    books.call("two", BUDGET_NANOUSD)
    history = books.ledger.history

    def forget_first(since: float, cursor: str | None, limit: int) -> object:
        if books.ledger.count():
            books.forget()
        return history(since, cursor, limit)

    monkeypatch.setattr(books.ledger, "history", forget_first)
    total = report_of(books.ledger, books.steps).of_last_days(1).total
    assert (total.runs, total.cost_nanousd) == (2, BUDGET_NANOUSD + 100)
