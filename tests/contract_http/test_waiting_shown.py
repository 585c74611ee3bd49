"""Calls that wait for a hold, on the dashboard."""

from __future__ import annotations

import pytest

from ridges_proxy.errors import RunBusyError
from ridges_proxy.ledger import Kind, Run, Ticket
from tests.contract_http.service import CAP_NANOUSD, RUN, app_of, hold_of, services_of
from tests.contract_http.test_budget_shown import signed_in
from tests.support.page_text import text_of


def test_waiting_calls_are_shown_beside_those_in_flight() -> None:
    app = app_of()
    dashboard, run_path = signed_in(app), f"/dashboard/run?run_id={RUN}"
    assert " waiting" not in text_of(dashboard.get("/dashboard").text + dashboard.get(run_path).text)

    hold_of(app, CAP_NANOUSD)
    run, ticket = Run(RUN, CAP_NANOUSD), Ticket("waits", RUN)
    with pytest.raises(RunBusyError):
        services_of(app).ledger.reserve(run, Kind.INFERENCE, 1, 1, 60.0, ticket)
    assert "and 1 in flight, 1 waiting" in text_of(dashboard.get(run_path).text)

    services_of(app).metrics.calls_waiting.set(13)
    assert "$0.000000 held, 13 waiting" in text_of(dashboard.get("/dashboard").text)
