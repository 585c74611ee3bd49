"""`GET /admin/calls`: the calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy import create_app
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.app import OPERATOR, settings_of
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from flask.testing import FlaskClient

BUDGET_NANOUSD = 2_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock(1_764_500_000.25)


@pytest.fixture
def client(clock: Clock) -> FlaskClient:
    """A server with three calls in flight, of which the last has a hold that has expired."""
    ledger = MemoryLedger(1_200.0, clock)
    for run_id, kind, expires_in_seconds in (
        ("a/1", Kind.INFERENCE, 300.0),
        ("b", Kind.EMBEDDING, 300.0),
        ("a/1", Kind.INFERENCE, 3.0),
    ):
        run = Run(run_id, BUDGET_NANOUSD)
        ledger.reserve(run, kind, 50_000_000, 1, expires_in_seconds, model="a-model")
        clock.advance(2)
    clock.advance(1.5)
    return create_app(settings_of(), ledger).test_client()


def listed(client: FlaskClient, query: str = "") -> dict[str, Any]:
    reply = client.get(f"/admin/calls?{query}", headers=OPERATOR)
    assert reply.status_code == 200, reply.text
    page: dict[str, Any] = reply.get_json()
    return page


def test_a_call_in_flight_is_listed_with_since_when_and_what_it_holds(client: FlaskClient) -> None:
    assert listed(client, "run=b") == {
        "calls": [
            {
                "run_id": "b",
                "model": "a-model",
                "kind": "embedding",
                "held_cost_usd": 0.05,
                "started_at": "2025-11-30T10:53:22.250+00:00",
                "age_seconds": 5.5,
                "expires_at": "2025-11-30T10:58:22.250+00:00",
                "expired": False,
                "nested": False,
            }
        ],
        "total": 1,
        "limit": 100,
    }


def test_the_oldest_calls_are_listed_of_all_runs_or_of_one(client: FlaskClient) -> None:
    def check(row: tuple[str, list[tuple[str, bool]], int]) -> None:
        query, expected, total = row
        page = listed(client, query)
        assert [(call["run_id"], call["expired"]) for call in page["calls"]] == expected
        assert page["total"] == total

    check_rows(
        [
            ("", [("a/1", False), ("b", False), ("a/1", True)], 3),
            ("limit=2", [("a/1", False), ("b", False)], 3),
            ("run=a%2F1&limit=1", [("a/1", False)], 2),
            ("run=a", [], 0),
        ],
        check,
    )


def test_an_invalid_query_is_refused(client: FlaskClient) -> None:
    def check(query: str) -> None:
        reply = client.get(f"/admin/calls?{query}", headers=OPERATOR)
        assert (reply.status_code, reply.get_json()["code"]) == (422, "invalid_request")

    check_rows(["limit=0", "limit=1001", "run=", "run=%1b", "offset=1"], check)
    assert client.get("/admin/calls").status_code == 401
