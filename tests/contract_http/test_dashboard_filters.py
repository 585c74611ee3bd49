"""The links that filter the dashboard's runs by their state. Their use in a browser: tests/browser."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest

from ridges_proxy.ledger import Kind, Run
from tests.contract_http.service import CAP_NANOUSD, app_of, services_of
from tests.contract_http.test_budget_shown import signed_in
from tests.support.table import check_rows

if TYPE_CHECKING:
    from flask.testing import FlaskClient


@pytest.fixture
def client() -> FlaskClient:
    """An operator of a service with a run in each state."""
    app = app_of()
    ledger = services_of(app).ledger
    for run_id, cost in (("far", 1), ("close-by", CAP_NANOUSD * 4 // 5), ("spent", CAP_NANOUSD), ("shut", 2)):
        run = Run(run_id, CAP_NANOUSD)
        ledger.settle(ledger.reserve(run, Kind.INFERENCE, cost, cost, 60.0), cost)
    ledger.reserve(Run("far", CAP_NANOUSD), Kind.INFERENCE, 1, 1, 60.0)
    ledger.close(Run("shut", CAP_NANOUSD))
    return signed_in(app)


def filters_on(page: str) -> dict[str, str]:
    """The numbers of the filters by their text. The current one has a star."""
    nav = page.split('<nav class="filters"')[1].split("</nav>", maxsplit=1)[0]
    links = re.findall(r"<a [^>]*?( aria-current=\"true\")?>([^<]+) <small>([^<]+)</small></a>", nav)
    return {text + ("*" if current else ""): number for current, text, number in links}


def runs_on(page: str) -> list[str]:
    return re.findall(r'href="/dashboard/run\?run_id=([^"]+)"', page)


def test_each_filter_shows_its_runs_and_all_show_their_numbers(client: FlaskClient) -> None:
    numbers = {"All": "4", "In flight": "1", "Near the limit": "1", "Exhausted": "1", "Closed": "1"}

    def check(row: tuple[str, str, list[str]]) -> None:
        query, current, runs = row
        page = client.get(f"/dashboard?{query}").text
        expected = {name + ("*" if name == current else ""): number for name, number in numbers.items()}
        assert (filters_on(page), runs_on(page)) == (expected, runs)

    check_rows(
        [
            ("", "All", ["spent", "close-by", "shut", "far"]),
            ("state=in_flight", "In flight", ["far"]),
            ("state=near", "Near the limit", ["close-by"]),
            ("state=exhausted", "Exhausted", ["spent"]),
            ("state=closed", "Closed", ["shut"]),
        ],
        check,
    )


def test_a_run_has_the_word_of_its_state_and_its_bar_the_colour(client: FlaskClient) -> None:
    page = client.get("/dashboard").text
    rows = page.split('<table role="table" class="runs"')[1].split('<tr role="row">')[2:]
    marks = [re.findall(r'<em(?: class="(\w*)")?>([\w ]+)</em>', row) for row in rows]
    bars = [re.findall(r'<svg class="bar (\w*)"', row) for row in rows]
    assert marks == [[("full", "exhausted")], [("near", "near the limit")], [("", "closed")], []]
    assert bars == [["full"], ["near"], [""], [""]]


def test_each_part_of_a_bar_that_is_not_zero_is_wide_enough_to_be_seen(client: FlaskClient) -> None:
    row = client.get("/dashboard?search=far").text.split('<svg class="bar')[1]
    parts = dict(re.findall(r'<rect class="(spent|held)".*? width="([\d.]+)"', row))
    assert parts == {"spent": "1.00", "held": "1.00"}  # of the 100 of a full bar
    row = client.get("/dashboard?search=spent").text.split('<svg class="bar')[1]
    assert dict(re.findall(r'<rect class="(held)".*? width="([\d.]+)"', row)) == {"held": "0.00"}


def test_the_numbers_are_of_the_runs_that_a_search_finds(client: FlaskClient) -> None:
    page = client.get("/dashboard?state=closed&search=s").text
    found = {"All": "3", "In flight": "0", "Near the limit": "1", "Exhausted": "1", "Closed*": "1"}
    assert filters_on(page) == found
    empty = client.get("/dashboard?state=closed&search=far").text
    assert (runs_on(empty), "No run matches." in empty) == ([], True)


def test_a_filter_keeps_the_search_the_order_and_the_page_size(client: FlaskClient) -> None:
    query = "search=a%26b&sort=calls&span=day&limit=25"
    page = client.get(f"/dashboard?{query}&state=near&offset=25").text
    links = {name: unescape(url) for name, url in re.findall(r'<a id="state-(\w+)" href="([^"]+)"', page)}
    kept = dict(parse_qsl(query))
    assert {name: dict(parse_qsl(url.partition("?")[2])) for name, url in links.items()} == {
        "all": kept,
        **{name: {**kept, "state": name} for name in ("in_flight", "near", "exhausted", "closed")},
    }
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert {name: form[name] for name in ("sort", "span", "limit", "state")} == {
        "sort": "calls",
        "span": "day",
        "limit": "25",
        "state": "near",
    }
