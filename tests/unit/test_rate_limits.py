"""The counts of a rate limit, and how a call takes its count back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ridges_proxy.calls.rate_limits import Hit, RateLimits
from ridges_proxy.config.rate_limit import RateLimit
from ridges_proxy.errors import LedgerUnavailableError, RateLimitStatus
from ridges_proxy.runtime.sliding_window import SlidingWindows
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest


def test_a_call_that_fails_inside_the_context_is_not_counted() -> None:
    """With and without a list for what was counted."""

    def check(hits: list[Hit] | None) -> None:
        limits = RateLimits(SlidingWindows(), None, None)
        for _ in range(2):
            with suppress(ZeroDivisionError), limits.admitted_run("run", 1, hits) as status:
                assert status == RateLimitStatus(1, 60, 0, 60)
                raise ZeroDivisionError
        assert not hits
        with limits.admitted_run("run", 1, hits):
            assert hits is None or len(hits) == 1

    check_rows([None, []], check)


def test_of_two_limits_the_one_with_fewer_remaining_calls_is_reported() -> None:
    """The smaller limit is that of the second token: earlier calls of the run had none."""
    limits = RateLimits(SlidingWindows(), RateLimit(4, 60), None)
    for _ in range(2):
        limits.admit_run("run")
    seen = [limits.admit_run("run", 3) for _ in range(2)]
    assert [status and (status.limit, status.remaining) for status in seen] == [(4, 1), (4, 0)]


def test_a_count_that_the_ledger_cannot_take_back_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_back: list[str] = []

    def fail(key: str, _hit_at: float) -> None:
        taken_back.append(key)
        raise LedgerUnavailableError

    windows = SlidingWindows()
    monkeypatch.setattr(windows, "take_back", fail)
    limits = RateLimits(windows, RateLimit(2, 60), None)
    with suppress(ZeroDivisionError), limits.admitted_run("run", 1):
        raise ZeroDivisionError
    assert taken_back == ["run/1/60/run", "run/2/60/run"]
