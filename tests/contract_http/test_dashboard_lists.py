"""The pages of the dashboard's lists, and their CSV files."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from typing import TYPE_CHECKING

from ridges_proxy.ledger import Kind, Run
from ridges_proxy.web.dashboard import csv_files
from tests.contract_http.service import app_of, services_of
from tests.contract_http.test_budget_shown import signed_in
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest
    from flask import Flask
    from flask.testing import FlaskClient

BUDGETS = [{"name": "all", "usd": "50", "window": "day"}]
FORMULA = "=HYPERLINK(1)"


def app_with_runs(number: int) -> Flask:
    """The service with runs that have spent 1, 2, 3 … nano-USD."""
    app = app_of(BUDGETS=json.dumps(BUDGETS))
    service = services_of(app)
    levels = service.calls.budgets.levels_of((), None, "inference", service.calls.clock())
    for spent in range(1, number + 1):
        name = FORMULA if spent == number else f"run-{spent}"
        entry = Run(name, 1000, levels=levels)
        service.ledger.settle(service.ledger.reserve(entry, Kind.INFERENCE, spent, spent, 60.0), spent)
    return app


def links_of(client: FlaskClient, path: str) -> dict[str, str]:
    """The links below the table by their text."""
    pager = client.get(path).text.split('<nav class="pager"')[1].split("</nav>")[0]
    return {
        text: unescape(url) for url, text in re.findall(r'<a [^>]*href="([^"]*)"[^>]*>([^<]*)</a>', pager)
    }


def records_of(client: FlaskClient, path: str) -> list[dict[str, str]]:
    reply = client.get(path)
    assert reply.headers["Content-Disposition"].startswith("attachment; filename=")
    assert reply.headers["Cache-Control"] == "no-store"
    return list(csv.DictReader(io.StringIO(reply.text, newline="")))


def test_the_links_of_a_page_keep_its_filter_and_order() -> None:
    client = signed_in(app_with_runs(60))
    links = links_of(client, "/dashboard?search=run&sort=calls&span=day&limit=25&offset=25")
    kept = "/dashboard?search=run&sort=calls&span=day&limit=25"
    expected = {
        "First": f"{kept}#run-table",
        "Previous": f"{kept}#run-table",
        "Next": f"{kept}&offset=50#run-table",
        "Last": f"{kept}&offset=50#run-table",
        "25": f"{kept}&offset=25#run-table",
        "100": "/dashboard?search=run&sort=calls&span=day&limit=100#run-table",
        "CSV": "/dashboard/runs.csv?search=run&sort=calls",
    }

    def check(text: str) -> None:
        assert links[text] == expected[text]

    check_rows(expected, check)


def test_a_page_after_the_end_leads_back() -> None:
    page = signed_in(app_with_runs(60)).get("/dashboard?offset=500").text
    assert "None of 60" in page
    assert 'href="/dashboard?offset=50#run-table">Previous' in page


def test_the_file_has_the_runs_of_all_pages_with_the_filter_and_the_order_of_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_files, "MAX_LIST_LIMIT", 7)  # several questions to the ledger
    client = signed_in(app_with_runs(30))
    shown = records_of(client, "/dashboard/runs.csv?search=run-1&sort=spent&limit=2&offset=4")
    assert [row["run_id"] for row in shown] == [f"run-{number}" for number in (*range(19, 9, -1), 1)]
    assert shown[0]["used_cost_usd"] == "0.000000019"
    assert shown[0]["remaining_cost_usd"] == "1.999999981"


def test_a_text_of_the_file_is_not_a_formula() -> None:
    (row, *_) = records_of(signed_in(app_with_runs(3)), "/dashboard/runs.csv")
    assert row["run_id"] == "'" + FORMULA


def test_the_file_of_the_budgets_has_their_levels() -> None:
    (row,) = records_of(signed_in(app_with_runs(3)), "/dashboard/budgets.csv?budget=all")
    assert (row["budget"], row["scope"], row["window"], row["calls"]) == ("all", "all", "day", "3")
    assert (row["used_cost_usd"], row["max_cost_usd"]) == ("0.000000006", "50.000000000")


def test_a_file_that_lacks_rows_says_so_in_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "MAX_CSV_ROWS", 5)
    client = signed_in(app_with_runs(6))
    assert records_of(client, "/dashboard/runs.csv")[-1]["run_id"] == "only the first 5 rows: there are more"
    assert len(records_of(client, "/dashboard/runs.csv?search=run-")) == 5


def test_the_files_are_only_for_operators() -> None:
    app = app_with_runs(1)
    for path in ("/dashboard/runs.csv", "/dashboard/budgets.csv"):
        assert app.test_client().get(path).headers["Location"] == "/dashboard/sign-in"
