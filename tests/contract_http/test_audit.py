"""The audit trail and issued tokens over HTTP: each action of an operator is there before it is done."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Action, AuditEntry, AuditQuery, MemoryLedger
from ridges_proxy.web.dashboard import audit_page
from tests.contract_http.service import RUN, app_of, services_of, spend
from tests.support.app import ADMIN_KEY, OPERATOR
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

RUN_TOKEN_KEY = "the-secret-of-run-tokens-in-tests"
BUDGETS = '[{"name": "all", "usd": 1, "window": "day"}]'


def audited_app(url: str = "memory://") -> Flask:
    return app_of(LEDGER_URL=url, RUN_TOKEN_KEY=RUN_TOKEN_KEY, BUDGETS=BUDGETS)


@pytest.fixture
def app() -> Flask:
    return audited_app()


def post(app: Flask, path: str, body: dict[str, Any] | None = None) -> TestResponse:
    headers = {**OPERATOR, "X-Request-ID": "the-request"}
    return app.test_client().post(path, json=body, headers=headers)


def entries_of(app: Flask, query: str = "") -> list[dict[str, Any]]:
    reply = app.test_client().get(f"/admin/audit?{query}", headers=OPERATOR)
    assert reply.status_code == 200, reply.text
    entries: list[dict[str, Any]] = reply.get_json()["entries"]
    return entries


def tokens_of(app: Flask, query: str = "") -> list[dict[str, Any]]:
    reply = app.test_client().get(f"/admin/tokens?{query}", headers=OPERATOR)
    assert reply.status_code == 200, reply.text
    tokens: list[dict[str, Any]] = reply.get_json()["tokens"]
    return tokens


def form_of(client: FlaskClient, path: str, **fields: str) -> dict[str, str]:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found
    return {**fields, "csrf_token": found[1]}


def signed_in(app: Flask) -> FlaskClient:
    client = app.test_client()
    reply = client.post("/dashboard/sign-in", data=form_of(client, "/dashboard/sign-in", key=ADMIN_KEY))
    assert reply.status_code == 303
    return client


def test_each_action_over_the_api_is_recorded(app: Flask) -> None:
    spend(app, 300)
    signed_in(app)
    (session,) = services_of(app).sessions.valid()
    limits = {"budget_usd": None, "models": None, "calls_per_minute": None}

    def check(row: tuple[str, dict[str, Any] | None, str, str, dict[str, Any]]) -> None:
        path, body, action, subject, detail = row
        assert post(app, path, body).status_code == 200
        (entry, *_) = entries_of(app)
        assert (entry["action"], entry["subject"], entry["detail"]) == (action, subject, detail)
        assert (entry["actor"], entry["address"]) == ("admin key", "127.0.0.1")
        assert entry["request_id"] == "the-request"

    amount = {"scope": None, "amount_usd": 0.5, "previous_usd": 1.0}
    removed = {"scope": None, "amount_usd": None, "previous_usd": 0.5}
    of_levels = {"scope": None, "levels": 0, "spent_usd": 0.0}
    issue = {"run_id": RUN, "groups": ["g"]}
    issued = {**limits, "groups": ["g"], "reserve_final_usd": 0.0}
    rows: list[tuple[str, dict[str, Any] | None, str, str, dict[str, Any]]] = [
        (f"/admin/runs/{RUN}/reset", None, "run_reset", RUN, {"spent_usd": 3e-07, "calls": 1}),
        ("/admin/runs", issue, "token_issued", RUN, issued),
        (f"/admin/runs/{RUN}/close", None, "run_closed", RUN, {}),
        ("/admin/budgets/all/amount", {"usd": "0.5"}, "budget_set", "all", amount),
        ("/admin/budgets/all/amount", {"usd": None}, "budget_set", "all", removed),
        ("/admin/budgets/all/reset", None, "budget_reset", "all", of_levels),
        (f"/admin/sessions/{session.id}/end", None, "session_ended", session.id, {}),
        ("/admin/sweep", None, "sweep", "", {}),
    ]
    check_rows(rows, check)


def test_the_dashboard_names_the_session_that_acts(app: Flask) -> None:
    spend(app, 300)
    client = signed_in(app)
    (session,) = services_of(app).sessions.valid()
    page = f"/dashboard/run?run_id={RUN}"
    for path in ("/dashboard/run/reset", "/dashboard/tokens", "/dashboard/run/close", "/dashboard/sign-out"):
        assert client.post(path, data=form_of(client, page, run_id=RUN)).status_code in {200, 303}
    entries = entries_of(app)
    actions = [Action.SIGN_OUT, Action.RUN_CLOSED, Action.TOKEN_ISSUED, Action.RUN_RESET, Action.SIGN_IN]
    assert [entry["action"] for entry in entries] == actions
    assert {(entry["actor"], entry["address"]) for entry in entries} == {
        (f"session {session.id}", "127.0.0.1")
    }
    assert entries[0]["subject"] == entries[-1]["subject"] == session.id


def test_signing_in_again_records_the_end_of_the_session_before(app: Flask) -> None:
    client = signed_in(app)
    form = form_of(client, "/dashboard/sign-in", key=ADMIN_KEY)
    assert client.post("/dashboard/sign-in", data=form).status_code == 303
    second, sign_out, first = entries_of(app)
    assert [second["action"], sign_out["action"], first["action"]] == ["sign_in", "sign_out", "sign_in"]
    assert first["subject"] == sign_out["subject"] != second["subject"]


def test_refused_requests_are_not_recorded(app: Flask) -> None:
    """Anyone could fill the store with them."""
    client = app.test_client()
    for _ in range(3):
        form = form_of(client, "/dashboard/sign-in", key="wrong")
        assert client.post("/dashboard/sign-in", data=form).status_code == 401
        assert client.post("/admin/sweep", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert post(app, "/admin/runs/unknown/reset").status_code == 404
    assert post(app, "/admin/runs", {"run_id": ""}).status_code == 422
    assert post(app, "/admin/budgets/unknown/reset").status_code == 404
    assert post(app, "/admin/sessions/unknown/end").get_json() == {"ended": 0}
    assert entries_of(app) == []


class _LedgerWithoutTrail(MemoryLedger):
    """A ledger that fails when an action is recorded."""

    def record_action(self, _entry: AuditEntry) -> None:
        raise LedgerUnavailableError


def test_an_action_that_cannot_be_recorded_is_not_done() -> None:
    app = app_of(_LedgerWithoutTrail(60.0), RUN_TOKEN_KEY=RUN_TOKEN_KEY, BUDGETS=BUDGETS)
    spend(app, 7)

    def check(row: tuple[str, dict[str, Any] | None]) -> None:
        reply = post(app, *row)
        assert (reply.status_code, reply.get_json()["code"]) == (503, "ledger_unavailable")

    rows: list[tuple[str, dict[str, Any] | None]] = [
        (f"/admin/runs/{RUN}/reset", None),
        (f"/admin/runs/{RUN}/close", None),
        ("/admin/runs", {"run_id": RUN}),
        ("/admin/budgets/all/amount", {"usd": "0.5"}),
        ("/admin/budgets/all/reset", None),
        ("/admin/sweep", None),
    ]
    check_rows(rows, check)
    client = app.test_client()
    form = form_of(client, "/dashboard/sign-in", key=ADMIN_KEY)
    assert client.post("/dashboard/sign-in", data=form).status_code == 503
    run = services_of(app).ledger.usage(RUN)
    assert run
    assert (run.spent_nanousd, run.closed) == (7, False)
    assert services_of(app).ledger.set_amounts() == []
    assert services_of(app).sessions.valid() == []


def test_the_trail_has_no_key_and_no_token(app: Flask) -> None:
    token = post(app, "/admin/runs", {"run_id": RUN}).get_json()["token"]
    signed_in(app)
    trail = app.test_client().get("/admin/audit", headers=OPERATOR).text
    listed = app.test_client().get("/admin/tokens", headers=OPERATOR).text
    secrets = (token, token.rpartition(".")[2], ADMIN_KEY, RUN_TOKEN_KEY)
    assert [secret for secret in secrets if secret in trail or secret in listed] == []


def test_the_trail_is_filtered_and_paged(app: Flask) -> None:
    for run_id in ("a", "b<", "a&"):
        post(app, "/admin/runs", {"run_id": run_id})
    post(app, "/admin/runs/a/close")

    def check(row: tuple[str, list[str]]) -> None:
        query, subjects = row
        assert [entry["subject"] for entry in entries_of(app, query)] == subjects

    rows = [
        ("", ["a", "a&", "b<", "a"]),
        ("action=run_closed", ["a"]),
        ("action=token_issued&subject=a", ["a&", "a"]),
        ("subject=%3C", ["b<"]),
        ("since=99999999999", []),
        ("limit=1", ["a"]),
    ]
    check_rows(rows, check)
    first = app.test_client().get("/admin/audit?limit=3", headers=OPERATOR).get_json()
    rest = app.test_client().get(f"/admin/audit?limit=3&mark={first['next']}", headers=OPERATOR).get_json()
    assert ([entry["subject"] for entry in rest["entries"]], rest["next"]) == (["a"], None)


def test_an_invalid_query_names_the_field(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        path, field = row
        reply = app.test_client().get(f"/admin/{path}", headers=OPERATOR)
        detail = reply.get_json()["detail"]
        assert (reply.status_code, [problem["loc"] for problem in detail]) == (422, [["query", field]])

    rows = [
        ("audit?action=x", "action"),
        ("audit?action=", "action"),
        ("audit?mark=1:x", "mark"),
        (f"audit?mark=1.5:{'f' * 31}", "mark"),
        ("audit?since=x", "since"),
        ("audit?limit=0", "limit"),
        ("audit?limit=1001", "limit"),
        ("audit?search=x", "search"),
        ("tokens?limit=201", "limit"),
        ("tokens?mark=", "mark"),
        ("tokens?subject=x", "subject"),
    ]
    check_rows(rows, check)


def test_only_the_admin_key_opens_the_routes(app: Flask) -> None:
    for path in ("/admin/audit", "/admin/tokens"):
        assert app.test_client().get(path).status_code == 401
        assert app_of(ADMIN_API_KEY="").test_client().get(path, headers=OPERATOR).status_code == 404


def test_issued_tokens_are_listed_until_they_end(app: Flask) -> None:
    clock = services_of(app).calls.clock = services_of(app).run_tokens._clock = Clock()
    limits = {"budget_usd": "0.25", "models": ["deepseek-ai/DeepSeek-V3-0324"], "calls_per_minute": 5}
    post(app, "/admin/runs", {"run_id": "long", "ttl_seconds": 604_800, "groups": ["g"], **limits})
    clock.advance(1)
    post(app, "/admin/runs", {"run_id": "short", "ttl_seconds": 60})
    clock.advance(58)
    short, long = tokens_of(app)
    assert (short["run_id"], short["expires_at"]) == ("short", "1970-01-01T00:17:41.000+00:00")
    assert long == {
        "run_id": "long",
        "issued_at": "1970-01-01T00:16:40.000+00:00",
        "issued_by": "admin key",
        "address": "127.0.0.1",
        "expires_at": "1970-01-08T00:16:40.000+00:00",
        "run_closed": False,
        "budget_usd": 0.25,
        "models": limits["models"],
        "calls_per_minute": 5,
        "groups": ["g"],
        "reserve_final_usd": 0.0,
    }
    clock.advance(2)
    assert [token["run_id"] for token in tokens_of(app)] == ["long"]
    clock.advance(604_800 - 61 - 1)
    assert [token["run_id"] for token in tokens_of(app, "run=on")] == ["long"]
    clock.advance(1)
    assert tokens_of(app) == []


def test_the_token_of_a_closed_run_is_marked(app: Flask) -> None:
    for run_id in ("open", "closed"):
        post(app, "/admin/runs", {"run_id": run_id})
    post(app, "/admin/runs/closed/close")
    assert [(token["run_id"], token["run_closed"]) for token in tokens_of(app)] == [
        ("closed", True),
        ("open", False),
    ]
    first = app.test_client().get("/admin/tokens?limit=1", headers=OPERATOR).get_json()
    assert [token["run_id"] for token in tokens_of(app, f"mark={first['next']}")] == ["open"]


def test_two_workers_share_one_trail(tmp_path: Path) -> None:
    first, second = (audited_app(f"sqlite:///{tmp_path}/ledger.db") for _ in range(2))
    post(first, "/admin/runs", {"run_id": "a"})
    post(second, "/admin/runs", {"run_id": "b"})
    assert [entry["subject"] for entry in entries_of(first)] == ["b", "a"]
    assert entries_of(first) == entries_of(second)
    assert len(services_of(first).ledger.audit_trail(AuditQuery()).entries) == 2


# --- the pages


def test_the_pages_show_hostile_names_as_text(app: Flask) -> None:
    run_id = '"><script>alert(1)</script>{{7*7}}' + "x" * 200
    post(app, "/admin/runs", {"run_id": run_id, "models": ["<b>m"]})
    client = signed_in(app)

    def check(path: str) -> None:
        page = client.get(path).text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in page
        assert "&lt;b&gt;m" in page
        assert "<script>alert" not in page
        assert "<b>" not in page

    check_rows(["/dashboard/audit", "/dashboard/tokens"], check)


def test_the_pages_are_filtered_and_paged_without_javascript(app: Flask) -> None:
    for run_id in ("a", "b"):
        post(app, "/admin/runs", {"run_id": run_id})
    client = signed_in(app)

    def check(row: tuple[str, list[str]]) -> None:
        path, runs = row
        page = client.get(f"/dashboard/{path}").text
        assert re.findall(r'href="/dashboard/run\?run_id=(\w)"', page) == runs

    def older(path: str) -> str:
        found = re.search(r'rel="next" href="/dashboard/([^"]+)"', client.get(f"/dashboard/{path}").text)
        assert found
        return found[1].replace("&amp;", "&")

    rows = [
        ("audit", ["b", "a"]),
        ("audit?action=run_reset", []),
        ("audit?action=token_issued&subject=a", ["a"]),
        ("audit?action=&subject=&limit=2", ["b"]),
        (older("audit?action=token_issued&limit=1"), ["a"]),
        ("tokens", ["b", "a"]),
        ("tokens?run=a", ["a"]),
        (older("tokens?limit=1"), ["a"]),
    ]
    check_rows(rows, check)
    assert client.get("/dashboard/audit?action=x").status_code == 422


def test_the_csv_has_the_newest_entries_that_match_and_no_formula(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        post(app, "/admin/runs", {"run_id": f"=run-{number}"})
    client = signed_in(app)
    monkeypatch.setattr(audit_page, "CSV_BATCH", 2)
    monkeypatch.setattr(audit_page, "CSV_ENTRIES", 6)
    reply = client.get("/dashboard/audit.csv?action=token_issued&subject=run-")
    rows = list(csv.DictReader(io.StringIO(reply.text, newline="")))
    assert [row["subject"] for row in rows] == [f"'=run-{number}" for number in (6, 5, 4, 3, 2, 1)]
    assert list(rows[0]) == [*audit_page.CSV_COLUMNS]
    assert json.loads(rows[0]["detail"])["groups"] == []
    assert reply.headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    assert app.test_client().get("/dashboard/audit.csv").status_code == 303


def test_the_tokens_of_a_page_are_a_file_too(app: Flask) -> None:
    limits = {"budget_usd": "0.000001", "models": ["=m", "n"], "groups": ["g", "h"]}
    token = post(app, "/admin/runs", {"run_id": "-run", **limits}).get_json()["token"]
    post(app, "/admin/runs", {"run_id": "other"})
    reply = signed_in(app).get("/dashboard/tokens.csv?run=run")
    (row,) = csv.DictReader(io.StringIO(reply.text, newline=""))
    assert (row["run_id"], row["models"], row["groups"]) == ("'-run", "'=m n", "g h")
    assert (row["budget_usd"], row["calls_per_minute"], row["run_closed"]) == ("0.000001000", "", "False")
    assert token not in reply.text
    assert reply.headers["Content-Disposition"] == 'attachment; filename="tokens.csv"'
    assert app.test_client().get("/dashboard/tokens.csv").status_code == 303


def test_the_page_says_how_long_actions_are_kept(tmp_path: Path) -> None:
    rows = {
        "memory://": "a restart forgets them",
        f"sqlite:///{tmp_path}/ledger.db": "Actions are kept for 30 days.",
    }

    def check(url: str) -> None:
        page = signed_in(audited_app(url)).get("/dashboard/audit").text
        assert rows[url].lower() in page.lower()

    check_rows(rows, check)
