"""A clock that is set while the service runs. The proxy's clock affects no ledger, Redis' own clock does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.contract.stores import TTL_SECONDS, open_redis
from tests.contract_http.clock_jumps import ANSWER_NANOUSD, DAYS, HOLD_NANOUSD
from tests.contract_http.service import CHAT_URL, answer_of, app_of, hold_of, infer, spent_nanousd, usage
from tests.support.clock import Clock
from tests.support.patched_pytest import assert_passes

if TYPE_CHECKING:
    import responses

PATCH = """
import time
real = time.time
time.jump_seconds = 0.0
time.time = lambda: real() + time.jump_seconds
"""

"""Many commands run one after another; each starts a Python of its own."""


def test_setting_the_proxys_clock_forgets_no_run_and_changes_no_usage() -> None:
    assert_passes("tests/contract_http/clock_jumps.py", patch=PATCH, timeout_seconds=150)


def test_redis_uses_its_own_clock(upstream: responses.RequestsMock) -> None:
    """Set back, no hold expires early. Set ahead, holds expire and idle runs are forgotten."""
    clock = Clock()
    with open_redis(clock) as ledger:
        app = app_of(ledger)
        upstream.post(CHAT_URL, body=answer_of("Hello"))
        assert infer(app).status_code == 200
        hold = hold_of(app, HOLD_NANOUSD)
        before = usage(app).json
        clock.advance(-DAYS)
        swept = ledger.sweep(100)
        assert (swept.receipts, swept.expired, usage(app).json) == ([], [], before)
        clock.advance(DAYS + TTL_SECONDS)
        assert ledger.sweep(100).expired == [hold]
        assert spent_nanousd(app) == ANSWER_NANOUSD + HOLD_NANOUSD
        clock.advance(TTL_SECONDS)
        (receipt,) = ledger.sweep(100).receipts
        assert receipt.spent_nanousd == ANSWER_NANOUSD + HOLD_NANOUSD
