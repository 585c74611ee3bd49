"""The calls in flight on the dashboard. Their use in a browser: tests/browser."""

from __future__ import annotations

import re
from html import unescape

from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.contract_http.service import CAP_NANOUSD, app_of
from tests.contract_http.test_budget_shown import signed_in
from tests.support.clock import Clock
from tests.support.table import check_rows

HOSTILE = '"><script>alert(1)</script>' + "x" * 200
START = 1_764_500_000.25


def ledger_with_calls(clock: Clock, *run_ids: str) -> MemoryLedger:
    """A ledger with a call in flight for each of these runs, with 7 s between them."""
    ledger = MemoryLedger(1_200.0, clock)
    for run_id in run_ids:
        ledger.reserve(Run(run_id, CAP_NANOUSD), Kind.INFERENCE, 2_000_000, 1, 10.0, model="a-model")
        clock.advance(7)
    return ledger


def rows_on(page: str) -> list[list[str]]:
    """The texts of the rows of the calls in flight."""
    table = page.split('aria-label="Calls in flight"')[1].split("</tbody>", maxsplit=1)[0].split("<tbody")[1]
    cells = [re.findall(r"<t[hd] .*?</t[hd]>", row, re.DOTALL) for row in table.split("<tr")[1:]]
    return [[unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row] for row in cells]


def test_a_call_in_flight_is_a_row_with_its_run_model_since_when_and_what_it_holds() -> None:
    client = signed_in(app_of(ledger_with_calls(Clock(START), "one", HOSTILE)))
    page = client.get("/dashboard/calls").text
    assert rows_on(page) == [
        ["one hold expired", "a-model", "inference", "$0.002000", "14 s ago"],
        [HOSTILE, "a-model", "inference", "$0.002000", "7 s ago"],
    ]
    assert "<script>alert" not in page
    assert '<time datetime="2025-11-30T10:53:20.250+00:00" title="30 Nov 10:53:20 UTC">14 s' in page


def test_the_page_of_a_run_lists_its_own_calls_in_flight() -> None:
    client = signed_in(app_of(ledger_with_calls(Clock(START), "one", "two", "one")))
    page = client.get("/dashboard/run?run_id=one").text
    assert rows_on(page) == [
        ["a-model hold expired", "inference", "$0.002000", "21 s ago"],
        ["a-model", "inference", "$0.002000", "7 s ago"],
    ]
    assert "The next sweep charges a hold that has expired" in page
    assert [row[0] for row in rows_on(client.get("/dashboard/calls?run=two").text)] == ["two hold expired"]


def test_pages_of_other_calls_have_no_calls_in_flight() -> None:
    client = signed_in(app_of(ledger_with_calls(Clock(START), "one")))

    def check(query: str) -> None:
        page = client.get(f"/dashboard/calls?{query}")
        assert (page.status_code, "In flight" in page.text) == (200, False)

    check_rows(["before=1764500000", "code=errors", "request=a", "model=a-model", "run=one&code=ok"], check)
    assert "<p>None.</p>" in client.get("/dashboard/run?run_id=two").text


def test_only_the_oldest_of_many_calls_are_rows() -> None:
    client = signed_in(app_of(ledger_with_calls(Clock(START), *(f"run-{number}" for number in range(1_051)))))
    page = client.get("/dashboard/calls").text
    assert [row[0].split()[0] for row in rows_on(page)] == [f"run-{number}" for number in range(20)]
    assert "The oldest 20 of 1,051." in page
