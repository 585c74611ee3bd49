"""The settings of the ledger reach every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger.factory import disconnecting, open_ledger
from tests.contract.stores import BUDGET_NANOUSD, LedgerSteps, for_the_session
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clock import Clock

TTL_SECONDS = 700
DAY_SECONDS = 86_400


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server = for_the_session(RedisServer)
        server.ask("FLUSHALL")
        return str(server.url)
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db"


def test_a_run_is_forgotten_and_a_finished_one_remembered_as_long_as_the_settings_say(
    url: str, clock: Clock
) -> None:
    environment = {"LEDGER_URL": url, "RUN_TTL_SECONDS": str(TTL_SECONDS), "RECEIPT_DAYS": "2"}
    opened: Any = open_ledger(load_settings(LedgerSettings, environment))
    opened._clock = clock
    with disconnecting(opened) as ledger:
        steps = LedgerSteps(ledger, clock)
        steps.spend(BUDGET_NANOUSD)
        for seconds, known_runs in ((TTL_SECONDS - 1, 1), (1, 0), (2 * DAY_SECONDS - 1, 0)):
            clock.advance(seconds)
            steps.sweep()
            assert ledger.count() == known_runs
        with pytest.raises(BudgetExhaustedError):
            steps.reserve(1)
        clock.advance(1)
        steps.sweep()
        assert steps.reserve(BUDGET_NANOUSD)
