from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ridges_proxy.web.dashboard.intervals import Interval
from ridges_proxy.web.dashboard.recent_calls import UPSTREAM
from ridges_proxy.web.dashboard.trouble import Facts, Upstream, troubles_of
from tests.support.table import check_rows

NOW = 1_800_000_000.0
BUSY_SINCE = "most with upstream_busy; since 15 Jan 08:00:00 UTC"
WELL = Upstream(40, 0, None)


def minutes(*calls: dict[str, int]) -> list[Interval]:
    """One interval a minute; the last one ends now."""
    ends = [NOW - 60 * ago for ago in reversed(range(len(calls)))]
    return [Interval(end - 60, end, 0.0, counts, []) for end, counts in zip(ends, calls, strict=True)]


@dataclass(frozen=True)
class UpstreamCase:
    about: str
    calls: list[dict[str, int]]
    tried: int
    failed: int
    failing_for_minutes: int | None = None
    code: str = ""


GOOD, BAD = {"ok": 10}, {"ok": 5, "upstream_timeout": 3, "upstream_busy": 2}

UPSTREAM_CASES = [
    UpstreamCase("no calls", [], 0, 0),
    UpstreamCase("calls without failures", [GOOD, GOOD], 20, 0),
    UpstreamCase("20 % failed", [{"ok": 8, "upstream_busy": 2}], 10, 2),
    UpstreamCase("more than 20 % failed", [{"ok": 7, "upstream_busy": 2}], 9, 2, 1, "upstream_busy"),
    UpstreamCase("too few calls to judge", [{"upstream_busy": 4}], 4, 4),
    UpstreamCase("requests that the upstream rejected", [{"ok": 5, "upstream_rejected": 50}], 5, 0),
    UpstreamCase("refusals of the proxy", [{"ok": 5, "budget_exhausted": 50}], 5, 0),
    UpstreamCase("failing since three minutes", [GOOD, BAD, BAD, BAD], 40, 15, 3, "upstream_timeout"),
    UpstreamCase("failing, with a minute without calls", [GOOD, BAD, {}, BAD], 30, 10, 3, "upstream_timeout"),
    UpstreamCase("failing for more than ten minutes", [GOOD, *[BAD] * 14], 100, 50, 14, "upstream_timeout"),
    UpstreamCase("failures of an hour ago", [*[BAD] * 5, *[GOOD] * 10], 100, 0),
]


def test_the_upstream_is_failing_if_too_many_of_its_calls_failed() -> None:
    def check(case: UpstreamCase) -> None:
        minutes_failing = case.failing_for_minutes
        since = None if minutes_failing is None else NOW - 60 * minutes_failing
        expected = Upstream(case.tried, case.failed, since, case.code)
        assert Upstream.of(minutes(*case.calls), NOW) == expected

    check_rows(UPSTREAM_CASES, check)


@dataclass(frozen=True)
class Row:
    facts: Facts
    shown: list[str] = field(default_factory=list)
    """The tone, the name and the detail of each trouble."""


ROWS = [
    Row(Facts(WELL)),
    Row(Facts(WELL, sweep_age_seconds=660.0, sweep_late_after_seconds=660.0)),
    Row(
        Facts(Upstream(2, 1, NOW, "upstream_busy")),
        [f"bad: The upstream is failing: 1 of 2 calls failed in the last 10 min, {BUSY_SINCE}"],
    ),
    Row(
        Facts(WELL, circuits_open=2, down_models=["a", "b"]),
        ["bad: A circuit breaker is open: calls to a, b are refused until one succeeds"],
    ),
    Row(
        Facts(WELL, circuits_open=1),
        ["bad: A circuit breaker is open: calls to 1 model are refused until one succeeds"],
    ),
    Row(
        Facts(WELL, accepts_writes=False),
        ["bad: The ledger is unavailable: it accepts no writes, so all calls are refused"],
    ),
    Row(
        Facts(WELL, settlements_kept=3),
        ["bad: Settlements are waiting: 3 settlements in the outbox, until the ledger takes them"],
    ),
    Row(
        Facts(WELL, sweep_age_seconds=720.0, sweep_late_after_seconds=660.0),
        ["bad: The sweep is overdue: the last one was 12 min ago, so expired holds are not charged"],
    ),
    Row(
        Facts(WELL, webhook_fails=True),
        ["bad: Alerts are not delivered: the webhook did not take the latest alert, which is sent again"],
    ),
    Row(
        Facts(WELL, degraded={"metrics": "No space", "recent_calls": "No space"}),
        ["warn: The server works only in part: metrics, recent calls: those of one worker only (No space)"],
    ),
    Row(
        Facts(WELL, budgets_full=1),
        ["bad: Budgets are used up: 1 budget: calls that they cover are refused"],
    ),
    Row(Facts(WELL, budgets_near=2), ["warn: Budgets are nearly used up: 2 budgets"]),
    Row(
        Facts(WELL, runs_near=1200),
        ["warn: Runs are near their limit: 1,200 runs with at least 80 % of the budget spent"],
    ),
    Row(
        Facts(WELL, waiting=1, budgets_full=2),
        [
            "bad: Budgets are used up: 2 budgets: calls that they cover are refused",
            "warn: Calls are waiting: 1 call, until other calls of the same budget end",
        ],
    ),
]


def test_each_trouble_is_shown_with_its_tone_the_worst_first() -> None:
    def check(row: Row) -> None:
        found = troubles_of(row.facts)
        assert [f"{trouble.tone}: {trouble.name}: {trouble.detail}" for trouble in found] == row.shown

    check_rows(ROWS, check)


def test_a_failing_upstream_leads_to_all_calls_that_it_failed() -> None:
    (trouble,) = troubles_of(Facts(Upstream(2, 1, NOW, "upstream_busy")))
    assert (trouble.endpoint, trouble.query) == ("dashboard.show_calls", {"code": UPSTREAM})


def test_the_name_of_a_trouble_does_not_change_with_its_numbers() -> None:
    """A screen reader says a name when it appears, and must not say it again at each refresh."""

    def names_with(number: int) -> list[str]:
        upstream = Upstream(50 * number, 40 * number, NOW - number, f"upstream_{number}")
        names = ("circuits_open", "settlements_kept", "budgets_full", "budgets_near", "runs_near", "waiting")
        many: dict[str, Any] = dict.fromkeys(names, number)
        facts = Facts(
            upstream,
            accepts_writes=False,
            webhook_fails=True,
            sweep_age_seconds=float(number),
            degraded={f"part {number}": "x"},
            **many,
        )
        return [trouble.name for trouble in troubles_of(facts)]

    assert len(names_with(1)) == 11
    assert names_with(1) == names_with(7)
