"""A run that is finished is shown as such, also after it was forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Kind, MemoryLedger, Run, SqliteLedger
from tests.contract_http.service import CAP_NANOUSD, RUN, app_of, services_of, spend
from tests.contract_http.test_budget_shown import signed_in
from tests.support.app import OPERATOR
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask

TTL_SECONDS = 1200.0
EXHAUSTED = "Exhausted: its budget is used up, or what remains did not pay for a call."
CLOSED = "Closed."


def spend_a_part(app: Flask) -> None:
    spend(app, CAP_NANOUSD - 1)


def spend_all(app: Flask) -> None:
    spend(app, CAP_NANOUSD)


def be_refused(app: Flask) -> None:
    spend_a_part(app)
    with pytest.raises(BudgetExhaustedError):
        services_of(app).ledger.reserve(Run(RUN, CAP_NANOUSD), Kind.INFERENCE, 2, 2, 60.0)


def close(app: Flask) -> None:
    spend_a_part(app)
    services_of(app).ledger.close(Run(RUN, CAP_NANOUSD))


ROWS: list[tuple[Callable[[Flask], None], bool, str | None]] = [
    (spend_a_part, False, None),
    (spend_all, True, EXHAUSTED),
    (be_refused, True, EXHAUSTED),
    (close, True, CLOSED),
]


def test_a_finished_run_is_shown_as_finished() -> None:
    def check(row: tuple[Callable[[Flask], None], bool, str | None]) -> None:
        use, finished, note = row
        clock = Clock()
        app = app_of(MemoryLedger(TTL_SECONDS, clock, receipt_days=30))
        use(app)
        operator, dashboard = app.test_client(), signed_in(app)
        listed = operator.get("/admin/runs", headers=OPERATOR).get_json()["runs"]
        assert [run["finished"] for run in listed] == [finished]
        assert operator.get(f"/admin/runs/{RUN}", headers=OPERATOR).get_json()["finished"] is finished
        overview, path = dashboard.get("/dashboard").text, f"/dashboard/run?run_id={RUN}"
        assert (">exhausted</em>" in overview) is (note == EXHAUSTED)
        assert (">closed</em>" in overview) is (note == CLOSED)
        assert _notes_on(dashboard.get(path).text) == {note} - {None}
        clock.advance(TTL_SECONDS)
        services_of(app).ledger.sweep(10)
        shown = operator.get(f"/admin/runs/{RUN}", headers=OPERATOR)
        assert shown.status_code == (200 if finished else 404)
        assert shown.get_json().get("finished", False) is finished
        assert _notes_on(dashboard.get(path).text) == {note} - {None}

    check_rows(ROWS, check)


def _notes_on(page: str) -> set[str | None]:
    return {note for note in (EXHAUSTED, CLOSED) if note in page}


def test_a_receipt_says_whether_the_run_was_finished(tmp_path: Path) -> None:
    def check(row: tuple[Callable[[Flask], None], bool, str | None]) -> None:
        use, finished, _ = row
        clock = Clock()
        app = app_of(SqliteLedger(tmp_path / f"{use.__name__}.db", TTL_SECONDS, 30, clock))
        use(app)
        clock.advance(TTL_SECONDS)
        services_of(app).ledger.sweep(10)
        receipts = app.test_client().get("/admin/receipts", headers=OPERATOR).get_json()["receipts"]
        assert [receipt["finished"] for receipt in receipts] == [finished]

    check_rows(ROWS, check)
