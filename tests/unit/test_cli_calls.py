"""`ridges-proxy spend calls`: the calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy import create_app
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.app import settings_of
from tests.support.clock import Clock
from tests.unit.test_cli import HOSTILE_ID, assert_fails, documented, printed, run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET_NANOUSD = 2_000_000_000


@pytest.fixture
def url() -> Iterator[str]:
    """A server with three calls in flight, of which one has a hold that has expired."""
    clock = Clock()
    ledger = MemoryLedger(1_200.0, clock)
    for run_id, kind, seconds in (
        ("alpha", Kind.INFERENCE, 300.0),
        (HOSTILE_ID, Kind.EMBEDDING, 300.0),
        ("alpha", Kind.INFERENCE, 1.0),
    ):
        ledger.reserve(Run(run_id, BUDGET_NANOUSD), kind, 50_000_000, 1, seconds, model="a-model")
        clock.advance(70)
    with serving(create_app(settings_of(), ledger)) as served:
        yield served


def test_calls_in_flight_are_shown_with_what_they_hold_and_since_when(url: str) -> None:
    assert [line.split() for line in printed(url, "calls").splitlines()] == [
        ["run", "model", "kind", "held", "age", "state"],
        ["alpha", "a-model", "inference", "$0.0500", "3m30s"],
        [r"\x1b[2J\x9b31m\u202eevil\r[bold]", "a-model", "embedding", "$0.0500", "2m20s"],
        ["alpha", "a-model", "inference", "$0.0500", "1m10s", "expired"],
        ["3", "calls", "in", "flight"],
    ]


def test_calls_are_those_of_one_run_up_to_a_limit(url: str) -> None:
    summary = printed(url, "calls", "--run", "alpha", "--limit", "1").splitlines()[-1]
    assert summary == "2 calls in flight; shown: the oldest 1 (--limit)"
    assert printed(url, "calls", "--run", "nobody") == "no calls in flight\n"
    assert [call["age_seconds"] for call in documented(url, "calls", "--run", "alpha")["calls"]] == [210, 70]


def test_an_invalid_run_is_refused(url: str) -> None:
    assert_fails(run(url, "calls", "--run", "x" * 257), 6, "422 invalid_request: run:")
