from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING

import pytest
from gevent import monkey

from tests.concurrency.line_up import LineUp, greenlets, threads
from tests.contract.stores import STORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.ledger import Ledger

LINE_UPS: dict[str, LineUp] = {"threads": threads}
if not monkey.is_module_patched("threading"):  # there, threads are greenlets
    LINE_UPS["greenlets"] = greenlets
SWITCH_SECONDS = 1e-5


@pytest.fixture(params=LINE_UPS)
def line_up(request: pytest.FixtureRequest) -> Iterator[LineUp]:
    """How contenders run; threads switch a hundred times as often as they would by themselves."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield LINE_UPS[request.param]
    sys.setswitchinterval(usual)


@pytest.fixture
def clock(line_up: LineUp) -> Callable[[], float]:
    """A second a look. A ledger looks under its lock: there it lets others run, so that the lock is tested.

    Not for greenlets in an unpatched process: a real lock would stop the one thread that they share.
    """
    looks = itertools.count(1000)
    lets_others_run = line_up is threads or monkey.is_module_patched("threading")

    def look() -> float:
        if lets_others_run:
            time.sleep(0)
        return float(next(looks))

    return look


# The other kinds of Redis differ on the way to it alone.
@pytest.fixture(params=["memory", "sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, clock: Callable[[], float]) -> Iterator[Ledger]:
    with STORES[request.param](clock) as opened:
        yield opened
