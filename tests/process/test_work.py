"""The work of a call has a budget, counted in function calls: no clock decides, however slow a machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BUDGET = {
    "/agents/inference, 20 events": 2_760,
    "/agents/inference, 500 events": 23_600,
    "/agents/embedding": 1_640,
    "/v1 whole": 1_785,
    "/v1 streamed, 20 events": 2_810,
}
"""What each takes now, and 3 % more. Who makes a call cheaper lowers it."""

SLACK = 0.9
"""A budget that is used by less than this is no budget."""


@pytest.fixture(scope="module")
def work() -> dict[str, int]:
    counted = subprocess.run(
        [sys.executable, "-m", "bench.work"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=50
    )
    found: dict[str, int] = json.loads(counted.stdout)
    return found


def test_every_route_has_a_budget(work: dict[str, int]) -> None:
    assert work.keys() == BUDGET.keys()


@pytest.mark.parametrize("route", BUDGET)
def test_a_call_keeps_to_its_budget(route: str, work: dict[str, int]) -> None:
    assert work[route] <= BUDGET[route]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the budget is that of Python 3.11, the CI's")
@pytest.mark.parametrize("route", BUDGET)
def test_a_budget_is_as_tight_as_the_work_allows(route: str, work: dict[str, int]) -> None:
    assert work[route] >= SLACK * BUDGET[route]
