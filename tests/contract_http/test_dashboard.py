"""Who gets into the dashboard, and what its pages let a browser do. What people do there: tests/browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.contract_http.service import RUN, app_of, services_of, spend
from tests.support.app import ADMIN_KEY

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

ACTIONS = ["/dashboard/run/reset", "/dashboard/run/close", "/dashboard/tokens", "/dashboard/sign-out"]
PAGES = ["/dashboard", f"/dashboard/run?run_id={RUN}"]


def token_of(client: FlaskClient, path: str = "/dashboard/sign-in") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


def sign_in(client: FlaskClient, key: str = ADMIN_KEY) -> int:
    form = {"key": key, "csrf_token": token_of(client)}
    return client.post("/dashboard/sign-in", data=form).status_code


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    assert sign_in(client) == 303
    return client


@pytest.mark.parametrize("path", PAGES)
def test_whoever_has_not_signed_in_is_sent_to_do_so(app: Flask, path: str) -> None:
    reply = app.test_client().get(path)
    assert (reply.status_code, reply.headers["Location"]) == (303, "/dashboard/sign-in")
    news = app.test_client().get(path, headers={"HX-Request": "true"})
    assert (news.status_code, news.headers["HX-Redirect"]) == (401, "/dashboard/sign-in")


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize("token", ["", "forged"])
def test_an_action_that_does_not_come_from_a_page_of_ours_does_nothing(
    app: Flask, client: FlaskClient, path: str, token: str
) -> None:
    spend(app, 7)
    reply = client.post(path, data={"run_id": RUN, "csrf_token": token})
    assert reply.status_code == 400
    assert "stale_form" in reply.text
    books = services_of(app).ledger.usage(RUN)
    assert books
    assert (books.spent_nanousd, books.closed) == (7, False)
    assert client.get("/dashboard").status_code == 200


@pytest.mark.parametrize("path", ACTIONS)
def test_an_action_without_signing_in_does_nothing(app: Flask, path: str) -> None:
    spend(app, 7)
    client = app.test_client()
    reply = client.post(path, data={"run_id": RUN, "csrf_token": token_of(client)})
    assert (reply.status_code, reply.headers["Location"]) == (303, "/dashboard/sign-in")
    books = services_of(app).ledger.usage(RUN)
    assert books
    assert books.spent_nanousd == 7


def test_a_token_of_another_visitors_page_is_none(app: Flask, client: FlaskClient) -> None:
    spend(app, 7)
    other = app.test_client()
    assert sign_in(other) == 303
    stolen = token_of(other, PAGES[1])
    assert client.post(ACTIONS[0], data={"run_id": RUN, "csrf_token": stolen}).status_code == 400
    assert other.post(ACTIONS[0], data={"run_id": RUN, "csrf_token": stolen}).status_code == 303


@pytest.mark.parametrize("key", ["", "x", f"{ADMIN_KEY}x", "proxy-key-of-the-tests", "\u043b\ud800"[:1]])
def test_another_key_signs_nobody_in_and_many_of_them_wait(app: Flask, key: str) -> None:
    waits: list[float] = []
    services_of(app).key_throttle._sleep = waits.append
    client = app.test_client()
    assert {sign_in(client, key) for _ in range(12)} == {401}
    assert waits == [1.0, 1.0]
    assert client.get("/dashboard").status_code == 303
    assert sign_in(client) == 303


def test_a_cookie_signed_with_another_admin_key_is_none(app: Flask, client: FlaskClient) -> None:
    cookie = client.get_cookie("ridges_dashboard", path="/dashboard")
    assert cookie
    for other in (app_of(), app_of(ADMIN_API_KEY="another-admin-key")):
        visitor = other.test_client()
        visitor.set_cookie("ridges_dashboard", cookie.value, path="/dashboard")
        expected = 200 if other.secret_key == app.secret_key else 303
        assert visitor.get("/dashboard").status_code == expected
    assert app_of().secret_key == app.secret_key, "all workers read the same cookies"


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_behind_tls_the_cookie_goes_over_tls_alone(scheme: str, secure: bool) -> None:  # noqa: FBT001 - the expectation
    client = app_of(TRUSTED_PROXY_COUNT="1").test_client()
    reply = client.get("/dashboard/sign-in", headers={"X-Forwarded-Proto": scheme, "X-Forwarded-For": "::1"})
    (cookie,) = reply.headers.getlist("Set-Cookie")
    assert ("Secure" in cookie) == secure
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/dashboard" in cookie


@pytest.mark.parametrize("path", [*PAGES, "/dashboard/sign-in", "/dashboard?sort=none"])
def test_a_page_loads_nothing_from_elsewhere_and_nobody_keeps_it(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) == {"'self'"}
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


def test_what_pages_are_made_of_is_there_without_signing_in(app: Flask) -> None:
    page = app.test_client().get("/dashboard/sign-in").text
    files = re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', page)
    assert len(files) >= 5
    for path in files:
        with app.test_client().get(path) as reply:
            assert reply.status_code == 200


@pytest.mark.parametrize(
    "query",
    ["sort=none", "offset=-1", "offset=x", "limit=0", "surprise=1", "search=1&search=2", "search=%00"],
)
def test_a_bad_query_is_named_and_changes_nothing(client: FlaskClient, query: str) -> None:
    reply = client.get(f"/dashboard?{query}")
    assert reply.status_code == 422
    assert f"<code>{query.partition('=')[0]}</code>" in reply.text


def test_what_agents_send_is_text_on_the_page(app: Flask, client: FlaskClient) -> None:
    run = "<script>alert(1)</script>"
    services_of(app).recent_calls.record({"run": run, "model": run, "code": run, **CALL})
    assert run not in client.get("/dashboard/run", query_string={"run_id": run}).text


CALL = {
    "request_id": "<b>",
    "route": "/agents/inference",
    "prompt_tokens": None,
    "completion_tokens": None,
    "cost_usd": 0.0,
    "milliseconds": 1.0,
}


def test_without_an_admin_key_there_is_no_dashboard() -> None:
    app = app_of(ADMIN_API_KEY="")
    for path in (*PAGES, "/dashboard/sign-in", "/dashboard/static/dashboard.css"):
        assert app.test_client().get(path).status_code == 404


def test_without_a_key_for_tokens_there_is_no_form_for_them(client: FlaskClient) -> None:
    assert "Issue a token" not in client.get("/dashboard").text
    form = {"run_id": RUN, "csrf_token": token_of(client, PAGES[1])}
    reply = client.post("/dashboard/tokens", data=form)
    assert (reply.status_code, "tokens_not_minted" in reply.text) == (409, True)
