from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING

import pytest
from gevent import monkey

from tests.concurrency.simultaneous import RunTogether, in_greenlets, in_threads
from tests.contract.stores import STORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.ledger import Ledger

WAYS: dict[str, RunTogether] = {"threads": in_threads}
if not monkey.is_module_patched("threading"):  # otherwise threads are greenlets
    WAYS["greenlets"] = in_greenlets
SWITCH_SECONDS = 1e-5


@pytest.fixture(params=WAYS)
def run_together(request: pytest.FixtureRequest) -> Iterator[RunTogether]:
    """Runs jobs at the same time. Threads switch 500 times as often as by default."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield WAYS[request.param]
    sys.setswitchinterval(usual)


@pytest.fixture
def clock(run_together: RunTogether) -> Callable[[], float]:
    """A clock that advances by 1 s at each reading.

    A ledger reads it under its lock. There it lets other jobs run, which tests the lock. With greenlets in an
    unpatched process it does not, because a real lock would block the one thread that they share.
    """
    readings = itertools.count(1000)
    yields = run_together is in_threads or monkey.is_module_patched("threading")

    def read() -> float:
        if yields:
            time.sleep(0)
        return float(next(readings))

    return read


# TLS and Cluster differ from the plain Redis only in their connections.
@pytest.fixture(params=["memory", "sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, clock: Callable[[], float]) -> Iterator[Ledger]:
    with STORES[request.param](clock) as opened:
        yield opened
