from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.stores import STORES, Till
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import OpenLedger


@pytest.fixture(params=STORES)
def open_ledger(request: pytest.FixtureRequest) -> OpenLedger:
    return STORES[request.param]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Clock) -> Iterator[Ledger]:
    with open_ledger(clock) as opened:
        yield opened


@pytest.fixture
def till(ledger: Ledger) -> Till:
    return Till(ledger)
