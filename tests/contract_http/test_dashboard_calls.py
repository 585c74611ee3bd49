"""The dashboard's page of recent calls. Its use in a browser: tests/browser."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import pytest

from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    HEADERS,
    HELLO_TOKENS,
    MODEL,
    NANOUSD_PER_TOKEN,
    answer_of,
    app_of,
    infer,
    services_of,
    spend,
)
from tests.contract_http.test_budget_shown import signed_in
from tests.contract_http.test_dashboard import CALL, sign_in
from tests.support.page_text import text_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from flask.testing import FlaskClient

OTHER_RUN = "run-of-nobody"
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def client(app: Flask, upstream: responses.RequestsMock) -> FlaskClient:
    """An operator, after three calls: one succeeded, one failed at the upstream, one was refused."""
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(CHAT_URL, status=500)
    services_of(app).history.sample()  # from now on, the first page counts calls
    for request_id, run, model in (("a-1", "one", MODEL), ("a-2", OTHER_RUN, MODEL), ("b-1", "one", "gpt-4")):
        infer(app, headers={**HEADERS, "X-Request-ID": request_id}, run_id=run, model=model)
    client = app.test_client()
    assert sign_in(client) == 303
    return client


def requests_on(page: str) -> list[str]:
    return re.findall(r'<tr role="row" id="call-([^"]+)">', page)


def found(client: FlaskClient, **query: str) -> list[str]:
    """The requests on the page, which must be those in its CSV, too."""
    page = client.get("/dashboard/calls", query_string=query)
    assert page.status_code == 200
    rows = csv.DictReader(client.get("/dashboard/calls.csv", query_string=query).text.splitlines())
    in_csv = [row["request_id"] for row in rows]
    assert requests_on(page.text) == in_csv
    return in_csv


def test_a_search_by_request_outcome_run_and_model_finds_the_calls(client: FlaskClient) -> None:
    def check(row: tuple[dict[str, str], list[str]]) -> None:
        query, expected = row
        assert found(client, **query) == expected

    rows: list[tuple[dict[str, str], list[str]]] = [
        ({}, ["b-1", "a-2", "a-1"]),
        ({"request": "a-"}, ["a-2", "a-1"]),
        ({"request": "a-1", "code": ""}, ["a-1"]),
        ({"request": "-1"}, []),
        ({"code": "ok"}, ["a-1"]),
        ({"code": "errors"}, ["b-1", "a-2"]),
        ({"code": "model_not_found"}, ["b-1"]),
        ({"code": "model_not"}, []),
        ({"run": "one"}, ["b-1", "a-1"]),
        ({"run": "on"}, []),
        ({"model": MODEL, "run": OTHER_RUN}, ["a-2"]),
        ({"before": "1"}, []),
        ({"request": HOSTILE, "run": HOSTILE, "model": HOSTILE, "code": HOSTILE}, []),
    ]
    check_rows(rows, check)


def test_a_single_request_is_shown_with_all_fields_of_its_log_line(client: FlaskClient) -> None:
    page = client.get("/dashboard/calls?request=a-1").text
    facts = {name: text_of(fact) for name, fact in re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", page)}
    assert {"at", "method", "hold_wait_milliseconds", "upstream_status"} <= set(facts)
    assert (facts["run"], facts["cost_usd"], facts["code"]) == ("one", "$0.000004050", "none")
    assert "<dt>" not in client.get("/dashboard/calls").text


def test_a_refused_call_shows_what_it_needed_and_what_was_left() -> None:
    app = app_of()
    least = (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN
    spend(app, CAP_NANOUSD - least + 1_000)
    infer(app)
    client = app.test_client()
    assert sign_in(client) == 303
    page = text_of(client.get("/dashboard/calls?code=budget_exhausted").text)
    assert "needed $0.000087210, left $0.000086210 in the run" in page
    (row,) = csv.DictReader(client.get("/dashboard/calls.csv").text.splitlines())
    amounts = row["needed_usd"], row["remaining_usd"], row["budget"], row["scope"]
    assert amounts == (f"{least / 1e9:.9f}", f"{(least - 1_000) / 1e9:.9f}", "run", "run")


def test_codes_on_other_pages_lead_to_their_calls(app: Flask, client: FlaskClient) -> None:
    services_of(app).refusals.flush()
    overview, run = client.get("/dashboard").text, client.get("/dashboard/run?run_id=one").text
    for page, query in (
        (overview, "code=upstream-failures"),
        (overview, "code=model_not_found"),
        (run, "code=model_not_found&amp;run=one"),
        (run, "request=a-1"),
    ):
        assert f'href="/dashboard/calls?{query}"' in page


def test_older_calls_are_on_further_pages(app: Flask) -> None:
    client = app.test_client()
    assert sign_in(client) == 303
    for number in range(250):
        services_of(app).recent_calls.record(
            {**CALL, "at": 1e9 + number, "request_id": f"r{number}", "run": "one", "status": 200}
            | dict.fromkeys(("model", "code"))
        )
    shown: list[str] = []
    url = "/dashboard/calls?run=one"
    while url:
        page = client.get(url).text
        shown += requests_on(page)
        older = re.search(r'id="page-next" rel="next" href="([^"]+)"', page)
        url = older[1].replace("&amp;", "&") if older else ""
    assert shown == [f"r{number}" for number in range(249, -1, -1)]


def test_text_of_agents_is_escaped_and_is_no_formula_in_the_file(app: Flask) -> None:
    client = app.test_client()
    assert sign_in(client) == 303
    fields = {**CALL, "status": 200, "budget": HOSTILE, "scope": HOSTILE}
    amounts = {"needed_usd": 1.0, "remaining_usd": 0.5}
    services_of(app).recent_calls.record(fields | amounts | dict.fromkeys(("run", "model", "code"), HOSTILE))
    page = client.get("/dashboard/calls", query_string={"run": HOSTILE, "request": "<b>"}).text
    assert page.count("alert(1)") >= 6
    assert HOSTILE not in page
    services_of(app).recent_calls.record({**fields, "run": "=1+1", "model": "@x", "code": None})
    rows = list(csv.DictReader(client.get("/dashboard/calls.csv").text.splitlines()))
    assert [(row["run"], row["model"]) for row in rows] == [("'=1+1", "'@x"), (HOSTILE, HOSTILE)]


def test_an_unknown_filter_is_refused_by_its_name(client: FlaskClient) -> None:
    def check(query: str) -> None:
        for path in ("calls", "calls.csv"):
            reply = client.get(f"/dashboard/{path}?{query}")
            assert reply.status_code == 422
            assert f"<code>{query.partition('=')[0]}</code>" in reply.text

    check_rows(
        ["surprise=1", "before=x", "before=-1", "request=%00", f"run={'x' * 257}", "run=1&run=2"], check
    )


def test_every_page_in_the_navigation_exists(client: FlaskClient) -> None:
    page = client.get("/dashboard").text
    links = re.findall(
        r'<a href="(/dashboard[^"]*)"', page.partition('aria-label="Pages"')[2].partition("</nav>")[0]
    )
    assert "/dashboard/calls" in links
    for link in links:
        shown = client.get(link).text
        assert f'<a href="{link}" aria-current="page">' in shown


def test_each_error_of_the_charts_leads_to_calls_also_those_that_are_counted_together() -> None:
    app = app_of()
    client = signed_in(app)
    requests = services_of(app).metrics.requests
    codes = [f"code_{number}" for number in range(7)]
    for code in codes:
        requests.labels("/v1/chat/completions", "m", code).inc(0)
    services_of(app).history.sample()
    for number, code in enumerate(codes):
        requests.labels("/v1/chat/completions", "m", code).inc(number + 1)
    figures = client.get("/dashboard").text.split('<div id="figures">')[1].split("</thead>")[0]
    links = dict(re.findall(r'href="/dashboard/calls\?code=([^"]*)">([^<]*)</a>', figures))
    assert links == {**{code: code for code in codes[2:]}, "errors": "other codes"}
