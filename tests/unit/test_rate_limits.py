"""The counts of a rate limit, and how a call takes its count back."""

from __future__ import annotations

from contextlib import suppress

from ridges_proxy.calls.rate_limits import Hit, RateLimits
from ridges_proxy.errors import RateLimitStatus
from ridges_proxy.runtime.sliding_window import SlidingWindows
from tests.support.table import check_rows


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
