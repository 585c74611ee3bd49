"""Access to the dashboard, and its security headers. Its use in a browser: tests/browser."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config import DEFAULT_MODEL
from ridges_proxy.ledger.sessions import MemorySessions
from tests.contract_http.service import RUN, app_of, services_of, spend
from tests.support.app import ADMIN_KEY, OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

RUN_TOKEN_KEY = "the-secret-of-run-tokens-in-tests"
ACTIONS = ["/dashboard/run/reset", "/dashboard/run/close", "/dashboard/tokens", "/dashboard/sign-out"]
PAGES = ["/dashboard", f"/dashboard/run?run_id={RUN}", "/dashboard/tokens", "/dashboard/audit"]


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


def test_a_visitor_who_is_not_signed_in_is_sent_to_the_sign_in_page(app: Flask) -> None:
    def check(path: str) -> None:
        reply = app.test_client().get(path)
        assert (reply.status_code, reply.headers["Location"]) == (303, "/dashboard/sign-in")
        refresh = app.test_client().get(path, headers={"HX-Request": "true"})
        assert (refresh.status_code, refresh.headers["HX-Redirect"]) == (401, "/dashboard/sign-in")

    check_rows(PAGES, check)


def test_an_action_without_a_valid_csrf_token_does_nothing(app: Flask, client: FlaskClient) -> None:
    spend(app, 7)

    def check(row: tuple[str, str]) -> None:
        path, token = row
        reply = client.post(path, data={"run_id": RUN, "csrf_token": token})
        assert reply.status_code == 400
        assert "stale_form" in reply.text
        run = services_of(app).ledger.usage(RUN)
        assert run
        assert (run.spent_nanousd, run.closed) == (7, False)
        assert client.get("/dashboard").status_code == 200

    check_rows(product(ACTIONS, ["", "forged"]), check)


def test_the_sign_in_form_without_a_valid_csrf_token_does_not_sign_in(app: Flask) -> None:
    """Otherwise a page of another site could sign a browser in with a key of its own."""

    def check(token: str | None) -> None:
        client = app.test_client()
        other = app.test_client()
        given = token_of(other) if token == "of another browser" else token  # nosec B105 # a name
        form = {"key": ADMIN_KEY} if given is None else {"key": ADMIN_KEY, "csrf_token": given}
        for visit_first in (False, True):
            if visit_first:
                token_of(client)
            reply = client.post("/dashboard/sign-in", data=form)
            assert (reply.status_code, "stale_form" in reply.text) == (400, True)
            assert client.get("/dashboard").status_code == 303
        assert sign_in(client) == 303
        assert client.get("/dashboard").status_code == 200

    check_rows([None, "", "forged", "of another browser"], check)


def test_signing_in_clears_what_the_session_had_before(app: Flask) -> None:
    """A cookie that another person planted in the browser must not become part of the operator's session."""
    client = app.test_client()
    planted = token_of(client)
    with client.session_transaction(path="/dashboard") as session:
        session["planted"] = "x"
    form = {"key": ADMIN_KEY, "csrf_token": planted}
    assert client.post("/dashboard/sign-in", data=form).status_code == 303
    with client.session_transaction(path="/dashboard") as session:
        assert "planted" not in session
    reply = client.post(ACTIONS[0], data={"run_id": RUN, "csrf_token": planted})
    assert (reply.status_code, "stale_form" in reply.text) == (400, True)
    fresh = token_of(client, PAGES[1])
    assert fresh != planted
    spend(app, 7)
    assert client.post(ACTIONS[0], data={"run_id": RUN, "csrf_token": fresh}).status_code == 303


def test_an_action_without_signing_in_does_nothing(app: Flask) -> None:
    spend(app, 7)

    def check(path: str) -> None:
        client = app.test_client()
        reply = client.post(path, data={"run_id": RUN, "csrf_token": token_of(client)})
        assert (reply.status_code, reply.headers["Location"]) == (303, "/dashboard/sign-in")
        run = services_of(app).ledger.usage(RUN)
        assert run
        assert run.spent_nanousd == 7

    check_rows(ACTIONS, check)


def test_a_csrf_token_of_another_session_is_not_accepted(app: Flask, client: FlaskClient) -> None:
    spend(app, 7)
    other = app.test_client()
    assert sign_in(other) == 303
    stolen = token_of(other, PAGES[1])
    assert client.post(ACTIONS[0], data={"run_id": RUN, "csrf_token": stolen}).status_code == 400
    assert other.post(ACTIONS[0], data={"run_id": RUN, "csrf_token": stolen}).status_code == 303


def test_a_wrong_key_does_not_sign_in_and_repeated_ones_are_delayed() -> None:
    def check(key: str) -> None:
        app = app_of()
        delays: list[float] = []
        services_of(app).key_throttle._sleep = delays.append
        client = app.test_client()
        assert {sign_in(client, key) for _ in range(12)} == {401}
        assert delays == [1.0, 1.0]
        assert client.get("/dashboard").status_code == 303
        assert sign_in(client) == 303

    check_rows(["", "x", f"{ADMIN_KEY}x", "proxy-key-of-the-tests", "\u043b"], check)


def test_a_password_manager_finds_a_name_and_the_key_also_after_a_wrong_key(app: Flask) -> None:
    client = app.test_client()
    wrong = {"username": "operator", "key": "wrong", "csrf_token": token_of(client)}
    pages = {
        "first": client.get("/dashboard/sign-in").text,
        "after a wrong key": client.post("/dashboard/sign-in", data=wrong).text,
    }

    def check(name: str) -> None:
        form = pages[name].split("<form")[1].split("</form>")[0]
        fields = [field for field in re.findall("<input[^>]*>", form) if "hidden" not in field]
        assert [re.findall(' (?:type|autocomplete)="([^"]*)"', field) for field in fields] == [
            ["text", "username"],
            ["password", "current-password"],
        ]
        assert 'value="operator" readonly' in fields[0]
        assert 'method="post" action="/dashboard/sign-in"' in form

    check_rows(pages, check)


def cookie_of(client: FlaskClient) -> str:
    cookie = client.get_cookie("ridges_dashboard", path="/dashboard")
    assert cookie
    return cookie.value


def visitor_with(app: Flask, cookie: str) -> FlaskClient:
    visitor = app.test_client()
    visitor.set_cookie("ridges_dashboard", cookie, path="/dashboard")
    return visitor


def test_a_cookie_signed_with_another_admin_key_is_not_accepted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    app = app_of(LEDGER_URL=url)
    client = app.test_client()
    assert sign_in(client) == 303
    for other in (app_of(LEDGER_URL=url), app_of(ADMIN_API_KEY="another-admin-key", LEDGER_URL=url)):
        expected = 200 if other.secret_key == app.secret_key else 303
        assert visitor_with(other, cookie_of(client)).get("/dashboard").status_code == expected
    assert app_of().secret_key == app.secret_key, "all workers accept the same cookies"


def test_signing_out_ends_the_session_and_every_copy_of_its_cookie(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    app, other_worker = app_of(LEDGER_URL=url), app_of(LEDGER_URL=url)
    client, colleague = app.test_client(), app.test_client()
    assert sign_in(client) == sign_in(colleague) == 303
    copy = cookie_of(client)
    assert visitor_with(other_worker, copy).get("/dashboard").status_code == 200
    form = {"csrf_token": token_of(client, PAGES[1])}
    assert client.post("/dashboard/sign-out", data=form).status_code == 303

    def check(row: tuple[Flask, str]) -> None:
        worker, path = row
        assert visitor_with(worker, copy).get(path).status_code == 303
        refresh = visitor_with(worker, copy).get(path, headers={"HX-Request": "true"})
        assert (refresh.status_code, refresh.headers["HX-Redirect"]) == (401, "/dashboard/sign-in")

    check_rows(product((app, other_worker), PAGES), check)
    assert colleague.get("/dashboard").status_code == 200, "other sessions go on"


def test_signing_in_again_ends_the_session_before(app: Flask, client: FlaskClient) -> None:
    copy = cookie_of(client)
    assert sign_in(client) == 303
    assert client.get("/dashboard").status_code == 200
    assert visitor_with(app, copy).get("/dashboard").status_code == 303


def test_a_session_ends_after_twelve_hours(app: Flask, client: FlaskClient) -> None:
    sessions = services_of(app).sessions
    (session,) = sessions.valid()
    assert session.expires_at - session.signed_in_at == 12 * 3600
    assert isinstance(sessions, MemorySessions)
    sessions._clock = lambda: session.expires_at - 0.001
    assert client.get("/dashboard").status_code == 200
    sessions._clock = lambda: session.expires_at
    assert client.get("/dashboard").status_code == 303


def test_a_cookie_of_an_earlier_version_must_sign_in_again(app: Flask) -> None:
    client = app.test_client()
    for content in ({"operator": True}, {"id": 7}, {"id": ["x"]}, {"id": ""}, {"id": "unknown"}):
        with client.session_transaction(path="/dashboard") as session:
            session.clear()
            session.update(content)
        assert client.get("/dashboard").status_code == 303
    assert sign_in(client) == 303


def test_operators_list_and_end_sessions(app: Flask, client: FlaskClient) -> None:
    admin = app.test_client()
    assert sign_in(app.test_client()) == 303
    sessions = admin.get("/admin/sessions", headers=OPERATOR).get_json()["sessions"]
    assert [session["address"] for session in sessions] == ["127.0.0.1"] * 2
    first = f"/admin/sessions/{sessions[0]['id']}/end"
    assert admin.post(first).status_code == 401
    assert admin.post(first, headers=OPERATOR).get_json() == {"ended": 1}
    assert admin.post(first, headers=OPERATOR).get_json() == {"ended": 0}
    assert client.get("/dashboard").status_code == 303
    assert admin.post("/admin/sessions/end", headers=OPERATOR).get_json() == {"ended": 1}
    assert admin.get("/admin/sessions", headers=OPERATOR).get_json() == {"sessions": []}


def test_the_cookie_is_secure_if_the_page_was_requested_over_tls() -> None:
    def check(row: tuple[str, bool]) -> None:
        scheme, secure = row
        client = app_of(TRUSTED_PROXY_COUNT="1").test_client()
        headers = {"X-Forwarded-Proto": scheme, "X-Forwarded-For": "::1"}
        (cookie,) = client.get("/dashboard/sign-in", headers=headers).headers.getlist("Set-Cookie")
        assert ("Secure" in cookie) == secure
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Path=/dashboard" in cookie

    check_rows([("https", True), ("http", False)], check)


def test_a_page_loads_only_own_files_and_is_not_cached(client: FlaskClient) -> None:
    def check(path: str) -> None:
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert (
            policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
        )
        assert set(policy.values()) == {"'self'"}
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers

    check_rows([*PAGES, "/dashboard/sign-in", "/dashboard?sort=none"], check)


def test_static_files_are_served_without_signing_in(app: Flask) -> None:
    page = app.test_client().get("/dashboard/sign-in").text
    files = re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', page)
    assert len(files) >= 5
    for path in files:
        with app.test_client().get(path) as reply:
            assert reply.status_code == 200


def test_an_invalid_query_is_refused_and_its_parameter_is_named(client: FlaskClient) -> None:
    def check(query: str) -> None:
        reply = client.get(f"/dashboard?{query}")
        assert reply.status_code == 422
        assert f"<code>{query.partition('=')[0]}</code>" in reply.text

    rows = [
        "sort=none",
        "offset=-1",
        "offset=x",
        "limit=0",
        "surprise=1",
        "search=1&search=2",
        "search=%00",
    ]
    check_rows(rows, check)


def test_text_from_agents_is_escaped_on_the_page(app: Flask, client: FlaskClient) -> None:
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


def test_the_form_for_tokens_reads_groups_and_what_is_kept_for_the_final_call() -> None:
    app = app_of(RUN_TOKEN_KEY=RUN_TOKEN_KEY)
    client = app.test_client()
    assert sign_in(client) == 303
    form = {"run_id": RUN, "budget_usd": "1", "groups": " miner:a  b ", "reserve_final_usd": "0.25"}
    page = client.post("/dashboard/tokens", data={**form, "csrf_token": token_of(client, PAGES[1])}).text
    assert "<dd>miner:a, b</dd>" in page
    assert "<dd>$0.25</dd>" in page
    assert re.search(r"<dd>\d\d \w{3} [\d:]{8} UTC</dd>", page)
    issued = re.search(r"<textarea[^>]*>([^<]+)<", page)
    assert issued
    token = services_of(app).run_tokens.verify(issued[1])
    assert (token.groups, token.reserve_final_nanousd) == (("miner:a", "b"), 250_000_000)


def test_a_token_for_a_model_without_a_price_says_so() -> None:
    client = app_of(RUN_TOKEN_KEY=RUN_TOKEN_KEY).test_client()
    assert sign_in(client) == 303
    for models, warned in ((["<mistyped>"], True), ([DEFAULT_MODEL], False)):
        form = {"run_id": RUN, "models": models, "csrf_token": token_of(client, PAGES[1])}
        page = client.post("/dashboard/tokens", data=form).text
        assert ("The server has no price for &lt;mistyped&gt;, so it refuses" in page) == warned
        assert ("has no price" in page) == warned


def test_the_page_of_a_run_leads_to_its_actions_past_a_long_list_of_calls(client: FlaskClient) -> None:
    sign_in(client)
    page = client.get(f"/dashboard/run?run_id={RUN}").text
    assert page.index('href="#actions"') < page.index('id="live"') < page.index('id="actions"')


def test_without_a_run_token_key_there_is_no_form_for_tokens(client: FlaskClient) -> None:
    assert "Issue a token" not in client.get("/dashboard/tokens").text
    form = {"run_id": RUN, "csrf_token": token_of(client, PAGES[1])}
    reply = client.post("/dashboard/tokens", data=form)
    assert (reply.status_code, "tokens_not_minted" in reply.text) == (409, True)
