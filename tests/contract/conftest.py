from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.stores import STORES, LedgerSteps, new_ledger
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import OpenLedger


# TLS differs from the plain Redis only in its connections. test_interleavings.py makes all calls over it.
@pytest.fixture(params=[name for name in STORES if name != "redis_tls"])
def open_ledger(request: pytest.FixtureRequest) -> OpenLedger:
    return STORES[request.param]


@pytest.fixture
def new_steps(open_ledger: OpenLedger) -> Callable[[], AbstractContextManager[LedgerSteps]]:
    """Opens an empty ledger with a clock of its own, for each row of a table."""
    return lambda: new_ledger(open_ledger)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Clock) -> Iterator[Ledger]:
    with open_ledger(clock) as opened:
        yield opened


@pytest.fixture
def steps(ledger: Ledger, clock: Clock) -> LedgerSteps:
    return LedgerSteps(ledger, clock)
