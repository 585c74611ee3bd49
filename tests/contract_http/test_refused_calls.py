"""Refused calls are counted for their run by code; operators see them, and what else became of a run."""

from __future__ import annotations

from collections import Counter
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ridges_proxy.calls.call import Call
from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.errors import DrainedError, LedgerUnavailableError, RunClosedError
from ridges_proxy.ledger import Run
from ridges_proxy.server.hooks import Hooks
from ridges_proxy.upstream import Attempt
from ridges_proxy.web.refused_calls import is_refusal
from tests.contract_http import openai_api, platform_api
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT,
    CHAT_URL,
    HEADERS,
    MODEL,
    RUN,
    TEXT,
    answer_of,
    app_of,
    hold_of,
    infer,
    services_of,
    spend,
)
from tests.support.app import OPERATOR, PROXY_KEY
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import responses
    from flask import Flask
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker
    from werkzeug.test import TestResponse

    from ridges_proxy.calls.in_flight import Client

TOKEN_KEY = "the-secret-of-run-tokens-in-tests"
RESPONSE = {"run_id": RUN, "input": "Hello"}

CALLS: list[tuple[str, Mapping[str, object]]] = [
    ("/agents/inference", CHAT),
    ("/agents/embedding", TEXT),
    ("/api/inference", CHAT),
    ("/api/inference", platform_api.CHAT),
    ("/api/embedding", platform_api.TEXT),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/embeddings", TEXT),
    ("/v1/responses", RESPONSE),
    ("/v1/responses", {**RESPONSE, "stream": True}),
    ("/api/v1/chat/completions", {**CHAT, "stream": True}),
    ("/api/v1/embeddings", TEXT),
]
"""Every route that makes a call, in each of its forms."""

SHARED = {"Authorization": f"Bearer {PROXY_KEY}"}
NO_MESSAGES: dict[str, object] = {"messages": []}


def ask(app: Flask, path: str, body: object, headers: Mapping[str, str] = HEADERS) -> TestResponse:
    return app.test_client().post(path, json=body, headers=headers, buffered=True)


def refused(app: Flask, run: str = RUN) -> dict[str, int]:
    """The refused calls of the run, as an operator sees them."""
    services_of(app).refusals.flush()
    shown: dict[str, Any] = app.test_client().get(f"/admin/runs/{run}", headers=OPERATOR).get_json()
    return dict(shown["refused"])


def app_on(store: str, folder: Path) -> Flask:
    """The service on one of the stores, with its own file."""
    return app_of(LEDGER_URL="memory://" if store == "memory" else f"sqlite:///{folder}/{store}.db")


def test_every_kind_of_call_that_is_refused_is_counted(tmp_path: Path) -> None:
    def check(row: tuple[int, tuple[str, Mapping[str, object]]]) -> None:
        number, (path, body) = row
        app = app_on(("memory", f"sqlite-{number}")[number % 2], tmp_path)
        spend(app, CAP_NANOUSD)
        for _ in range(2):
            ask(app, path, body)
        assert refused(app) == {"budget_exhausted": 2}
        ask(app, path, {**body, "model": "unknown"})
        expected = {"budget_exhausted": 2, "model_not_found": 1}
        if path in {"/agents/embedding", "/api/embedding"}:  # these have no field for the model
            expected = {"budget_exhausted": 3}
        assert refused(app) == expected

    check_rows(enumerate(CALLS), check)


def test_an_invalid_request_counts_for_the_run_that_it_names() -> None:
    app = app_of(RUN_TOKEN_KEY=TOKEN_KEY)
    spend(app, 1)
    token = {"Authorization": f"Bearer {services_of(app).run_tokens.issue(RUN, 600)[0]}"}
    rows: list[tuple[Mapping[str, str], object]] = [
        (SHARED, {"run_id": RUN, **NO_MESSAGES}),
        ({**SHARED, "X-Run-Id": RUN}, NO_MESSAGES),
        (token, NO_MESSAGES),
        (token, []),
        (token, {**CHAT, "run_id": "another"}),
    ]
    codes: Counter[str] = Counter()

    def check(row: tuple[Mapping[str, str], object]) -> None:
        headers, body = row
        reply = ask(app, "/v1/chat/completions", body, headers)
        codes[(reply.json or {})["error"]["code"]] += 1
        assert refused(app) == codes

    check_rows(rows, check)
    assert codes == {"invalid_request": 4, "run_not_allowed": 1}


def test_nothing_is_counted_for_a_request_that_is_no_refused_call(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, status=500)
    app = app_of(RUN_TOKEN_KEY=TOKEN_KEY)
    spend(app, 1)
    wrong = {"Authorization": "Bearer wrong", "X-Run-Id": RUN}
    rows: list[tuple[str, object, Mapping[str, str], int]] = [
        ("/v1/chat/completions", CHAT, wrong, 401),
        ("/agents/inference", NO_MESSAGES, SHARED, 422),
        ("/agents/inference", {"run_id": 7, **NO_MESSAGES}, SHARED, 422),
        ("/agents/inference", {"run_id": ["x"], **NO_MESSAGES}, SHARED, 422),
        ("/v1/estimate", {**CHAT, "model": "unknown"}, SHARED, 404),
        ("/v1/chat/completions", CHAT, SHARED, 502),
    ]

    def check(row: tuple[str, object, Mapping[str, str], int]) -> None:
        path, body, headers, status = row
        assert ask(app, path, body, headers).status_code == status
        assert refused(app) == {}

    check_rows(rows, check)
    token = {"Authorization": f"Bearer {services_of(app).run_tokens.issue(RUN, 600)[0]}"}
    assert app.test_client().get("/v1/usage?run_id=another", headers=token).status_code == 403
    assert refused(app) == {}


def test_a_call_that_ends_after_it_was_sent_is_not_refused() -> None:
    """A run that is closed, or a server that stops, ends calls with codes that refusals have, too."""

    def check(code: str) -> None:
        call = Call(Run(RUN, CAP_NANOUSD), cast("Client", None))
        assert is_refusal(code, call)
        call.attempt.sent = True
        assert not is_refusal(code, call)
        call.attempt = Attempt(earlier_seconds=1.0)
        assert not is_refusal(code, call)

    check_rows([RunClosedError.code, DrainedError.code], check)


def test_a_stream_that_is_refused_after_a_heartbeat_is_counted() -> None:
    app = app_of(HEARTBEAT_SECONDS="0.05", HOLD_WAIT_SECONDS="0.2")
    hold_of(app, CAP_NANOUSD)
    reply = openai_api.stream(app)
    assert (reply.status_code, reply.data.startswith(HEARTBEAT)) == (200, True)
    assert refused(app) == {"run_busy": 1}


def test_a_call_that_the_ledger_could_not_take_is_counted_when_it_answers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_of()
    spend(app, 1)

    def fail(*_: object, **__: object) -> None:
        raise LedgerUnavailableError

    with monkeypatch.context() as away:
        for name in ("reserve", "count_refusals"):
            away.setattr(services_of(app).ledger, name, fail)
        assert infer(app).status_code == 503
        with pytest.raises(LedgerUnavailableError):
            services_of(app).refusals.flush()
    assert refused(app) == {"ledger_unavailable": 1}


def test_refused_calls_are_reported_once_a_second_and_when_the_worker_ends() -> None:
    def check(report: Callable[[Flask], None]) -> None:
        app = app_of()
        spend(app, CAP_NANOUSD)
        infer(app)
        report(app)
        usage = services_of(app).ledger.usage(RUN)
        assert usage
        assert usage.detail
        assert usage.detail.refused == {"budget_exhausted": 1}

    def background(app: Flask) -> None:
        services_of(app).background.once()

    def end(app: Flask) -> None:
        worker = cast("Worker", SimpleNamespace(wsgi=app))
        Hooks(services_of(app).accepted).worker_exit(cast("Arbiter", None), worker)

    check_rows([background, end], check)


def test_closing_a_run_answers_what_became_of_it(upstream: responses.RequestsMock, tmp_path: Path) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))

    def check(row: tuple[str, str]) -> None:
        store, action = row
        app = app_on(store, tmp_path)
        run = f"run-{action}"
        assert infer(app, run_id=run).status_code == 200
        infer(app, run_id=run, model="unknown")
        services_of(app).refusals.flush()
        if action == "close":
            reply = app.test_client().post(f"/admin/runs/{run}/close", headers=OPERATOR)
        else:
            reply = app.test_client().get(f"/admin/runs/{run}", headers=OPERATOR)
        shown = reply.get_json()
        assert shown["ended_by"] == ("closed" if action == "close" else None)
        assert shown["refused"] == {"model_not_found": 1}
        assert (shown["prompt_tokens"], shown["completion_tokens"]) == (10, 5)
        assert [(cost["model"], cost["kind"], cost["calls"]) for cost in shown["costs"]] == [
            (MODEL, "inference", 1)
        ]
        assert shown["first_call_at"] == shown["last_call_at"] is not None

    check_rows(product(["memory", "sqlite"], ["show", "close"]), check)
