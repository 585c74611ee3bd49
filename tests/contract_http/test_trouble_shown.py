"""The band on the dashboard's first page that says what is wrong."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import MemoryLedger
from ridges_proxy.web.dashboard import blueprint
from ridges_proxy.web.dashboard.levels import OVERVIEW_LEVELS
from tests.contract_http.service import app_of, services_of
from tests.contract_http.test_budget_shown import signed_in
from tests.contract_http.test_dashboard_levels import BUDGETS, USD, app_with, rows_of, spend_in
from tests.support.page_text import text_of

if TYPE_CHECKING:
    import pytest
    from flask.testing import FlaskClient

    from ridges_proxy.ledger import RunPage, RunQuery


class LedgerWithoutSpace(MemoryLedger):
    """A ledger that can be read, but takes no writes."""

    def ping(self) -> None:
        raise LedgerUnavailableError


class LedgerThatFails(MemoryLedger):
    """A ledger whose runs cannot be read from a moment on."""

    fails = False

    def list(self, query: RunQuery) -> RunPage:
        if self.fails:
            raise LedgerUnavailableError
        return super().list(query)


def band_of(client: FlaskClient, query: str = "") -> str:
    """The band of the first page, as HTML."""
    return band_in(client.get(f"/dashboard{query}").text)


def band_in(page: str) -> str:
    found = re.search(r'<section id="trouble".*?</section>', page, re.DOTALL)
    assert found
    return found[0]


def test_without_trouble_the_page_says_that_all_is_well() -> None:
    assert text_of(band_of(signed_in(app_of()))) == "All is well."


def test_each_trouble_has_an_icon_and_a_link_to_a_page_that_is_there() -> None:
    app = app_with(BUDGETS, LedgerWithoutSpace(1200.0))
    spend_in(app, "one", 4 * USD, "miner:ann")
    spend_in(app, "other", 5 * USD, "miner:bob")
    metrics = services_of(app).metrics
    metrics.requests.labels("/v1/chat/completions", "m", "upstream_busy").inc(0)
    services_of(app).history.sample()
    metrics.requests.labels("/v1/chat/completions", "m", "upstream_busy").inc(9)
    for gauge in (
        metrics.circuits_open,
        metrics.settlements_kept,
        metrics.webhook_fails,
        metrics.calls_waiting,
    ):
        gauge.set(1)
    metrics.last_sweep.set(1_000_000_000)
    client = signed_in(app)
    band = band_of(client)
    names = re.findall(r"<a [^>]*>([^<]*)</a>", band)
    assert names == [
        "The upstream is failing",
        "A circuit breaker is open",
        "The ledger is unavailable",
        "Settlements are waiting",
        "The sweep is overdue",
        "Alerts are not delivered",
        "Budgets are used up",
        "Budgets are nearly used up",
        "Runs are near their limit",
        "Calls are waiting",
    ]
    assert band.count('<svg class="icon"') == len(names)
    for path in re.findall(r'href="([^"#]*)', band):
        assert client.get(path).status_code == 200, path


def test_runs_near_their_limit_are_counted_whatever_the_page_shows() -> None:
    app = app_of(MAX_COST_PER_RUN="1")
    for run in ("a", "b"):
        spend_in(app, run, 85 * USD // 100)
    for query in ("", "?search=a", "?state=closed", "?limit=1", "?min_spent_usd=9"):
        assert "2 runs with at least 80 % of the budget spent" in text_of(band_of(signed_in(app), query)), (
            query
        )


def test_figures_of_one_server_say_so_where_several_share_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(app_of())
    assert "this server" not in client.get("/dashboard").text
    monkeypatch.setattr(blueprint, "is_of_several_servers", lambda _: True)
    assert text_of(client.get("/dashboard").text).count("this server") == 5


def test_budgets_near_their_end_are_counted_and_listed_however_little_they_have_spent() -> None:
    app = app_with([{"name": "miner", "usd": "5", "window": "day", "group": "miner:*"}])
    for number in range(OVERVIEW_LEVELS):
        spend_in(app, f"large-{number}", 3 * USD, f"miner:{number}")
    ledger = services_of(app).ledger
    for scope, nanousd in (("miner:near", 8), ("miner:full", 10)):
        ledger.set_amount("miner", f"group:{scope}", 10)
        spend_in(app, scope, nanousd, scope)
    client = signed_in(app)
    for state, text in (
        ("full", "Budgets are used up : 1 budget"),
        ("near", "Budgets are nearly used up : 1 budget"),
    ):
        (path,) = re.findall(rf'href="([^"]*state={state})"[^>]*>Budgets', band_of(client))
        assert text in text_of(band_of(client))
        assert [row.split()[1] for row in rows_of(client, path)] == [f"group:miner:{state}"]
        records = csv.DictReader(io.StringIO(client.get(path.replace("budgets?", "budgets.csv?")).text))
        assert [record["scope"] for record in records] == [f"group:miner:{state}"]


def test_an_error_of_the_ledger_says_all_that_is_wrong() -> None:
    app = app_of(ledger := LedgerThatFails(1200.0))
    client = signed_in(app)
    services_of(app).metrics.circuits_open.set(1)
    ledger.fails = True
    reply = client.get("/dashboard")
    assert reply.status_code == 503
    shown = text_of(band_in(reply.text))
    assert "The ledger is unavailable : it does not answer." in shown
    assert "A circuit breaker is open" in shown


def test_an_error_of_the_ledger_tells_a_stranger_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of()
    client = signed_in(app)

    def fail(_: str) -> bool:
        raise LedgerUnavailableError

    monkeypatch.setattr(services_of(app).sessions, "has", fail)
    reply = client.get("/dashboard")
    assert (reply.status_code, 'id="trouble"' in reply.text) == (503, False)
