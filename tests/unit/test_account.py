"""The account of a run: how long a sweep keeps it, and what finishes it."""

from __future__ import annotations

from ridges_proxy.ledger.account import Account
from tests.support.table import check_rows

TTL_SECONDS = 100.0


def test_a_run_is_kept_while_it_is_active_has_a_call_or_has_a_valid_token() -> None:
    """Rows: calls in flight, the token's end, now; then whether it is kept, its position, its activity."""

    def check(row: tuple[int, float, float, bool, float, float]) -> None:
        in_flight, remembered_until, now, kept, looked_at, active_at = row
        account = Account("run", 10, in_flight=in_flight, active_at=50.0, remembered_until=remembered_until)

        assert account.keep_if_needed(now, TTL_SECONDS) is kept
        assert (account.looked_at, account.active_at) == (looked_at, active_at)

    check_rows(
        [
            (0, 0.0, 149.0, True, 50.0, 50.0),
            (0, 0.0, 150.0, False, 0.0, 50.0),
            (0, 500.0, 149.0, True, 50.0, 50.0),
            (0, 500.0, 150.0, True, 150.0, 50.0),
            (0, 500.0, 499.0, True, 499.0, 50.0),
            (0, 500.0, 500.0, False, 0.0, 50.0),
            (1, 0.0, 400.0, True, 400.0, 400.0),
            (2, 500.0, 400.0, True, 400.0, 400.0),
        ],
        check,
    )


def test_a_run_is_finished_when_it_is_closed_or_refused_or_has_spent_its_budget() -> None:
    def check(row: tuple[Account, bool]) -> None:
        account, finished = row
        assert account.finished is finished
        assert account.usage(0.0).finished is finished

    check_rows(
        [
            (Account("run", 10), False),
            (Account("run", 0), True),
            (Account("run", 10, inference_nanousd=9, held_nanousd=5), False),
            (Account("run", 10, inference_nanousd=4, embedding_nanousd=6), True),
            (Account("run", 10, embedding_nanousd=11), True),
            (Account("run", 10, closed=True), True),
            (Account("run", 10, exhausted=True), True),
        ],
        check,
    )
