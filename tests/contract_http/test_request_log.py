"""One log line for each request, with its result and cost, and without any message, answer or key."""

from __future__ import annotations

import json
import logging
import os
import re
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.billing.money import NANOUSD_PER_USD
from tests.contract_http.failures import (
    ERROR_OBJECTS,
    EXCEPTIONS,
    NOT_JSON,
    REFUSALS,
    STREAMS,
    UPSTREAM_CANARY,
    Failure,
)
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    HELLO_TOKENS,
    MODEL,
    NANOUSD_PER_TOKEN,
    REQUEST_ID,
    RUN,
    answer_of,
    app_of,
    embed,
    hold_of,
    infer,
    post,
    services_of,
    spend,
    usage,
)
from tests.support.app import ADMIN_KEY, CHUTES_KEY, OPERATOR, PROXY_KEY
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask
    from requests import PreparedRequest

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")

LOG_FORMATS = ["json", "text"]

PROMPT = "canary-of-the-prompt"
ANSWER = "canary-of-the-answer"
WRONG_KEY = "canary-of-a-wrong-key"
BUG = "canary-of-a-bug"
SECRETS = (PROMPT, ANSWER, WRONG_KEY, BUG, UPSTREAM_CANARY, PROXY_KEY, CHUTES_KEY, ADMIN_KEY)

CHAT_FIELDS: dict[str, Any] = {"messages": [{"role": PROMPT, "content": PROMPT}]}

NO_TOKEN = "there is no bearer token"

REQUEST_FIELDS = {
    "request_id": REQUEST_ID,
    "method": "POST",
    "route": "/agents/inference",
    "milliseconds": 0.0,
}
CALL_FIELDS = {
    **REQUEST_FIELDS,
    "status": 200,
    "code": None,
    "run": RUN,
    "model": MODEL,
    "prompt_tokens": None,
    "completion_tokens": None,
    "cost_usd": 0.0,
    "hold_wait_milliseconds": 0.0,
    "upstream_status": None,
    "upstream_milliseconds": 0.0,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that measures both times of a line."""
    clock = Clock()
    for module in ("ridges_proxy.web.request_log", "ridges_proxy.upstream.attempt"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], clock: Clock) -> Callable[[], list[dict[str, Any]]]:  # noqa: ARG001 - stops the clock
    """The lines since the last call, as objects."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.fixture
def logged(lines: Callable[[], list[dict[str, Any]]]) -> Callable[[], dict[str, Any]]:
    """The fields of the one line since the last call."""

    def fields() -> dict[str, Any]:
        (line,) = lines()
        assert TIME.fullmatch(line.pop("time"))
        assert line.pop("logger") == "ridges_proxy.web.request_log"
        assert (line.pop("level"), line.pop("event")) == ("INFO", "request")
        assert line.pop("pid") == os.getpid()
        return line

    return fields


def test_an_inference_is_one_line_with_its_times_tokens_and_cost(
    upstream: responses.RequestsMock, clock: Clock, logged: Callable[[], dict[str, Any]]
) -> None:
    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        clock.advance(0.25)
        return 200, {}, answer_of("Hi")

    upstream.add_callback("POST", CHAT_URL, slow)
    infer(app_of())
    assert logged() == {
        **CALL_FIELDS,
        "milliseconds": 250.0,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost_usd": 0.00000405,
        "upstream_status": 200,
        "upstream_milliseconds": 250.0,
    }


def test_an_embedding_is_one_line_with_its_times_and_cost(
    upstream: responses.RequestsMock, clock: Clock, logged: Callable[[], dict[str, Any]]
) -> None:
    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        clock.advance(0.5)
        return 200, {}, b"[]"

    upstream.add_callback("POST", EMBED_URL, slow)
    embed(app_of())
    assert logged() == {
        **CALL_FIELDS,
        "route": "/agents/embedding",
        "model": "BAAI/bge-large-en-v1.5",
        "milliseconds": 500.0,
        "cost_usd": 0.00005,
        "upstream_status": 200,
        "upstream_milliseconds": 500.0,
    }


def test_a_failed_call_has_its_code_and_the_upstreams_status(
    upstream: responses.RequestsMock, logged: Callable[[], dict[str, Any]]
) -> None:
    REFUSALS["429_capacity"].arrange(upstream, CHAT_URL)
    infer(app_of())
    assert logged() == {**CALL_FIELDS, "status": 500, "code": "upstream_busy", "upstream_status": 429}


def test_an_unsupported_model_is_logged_with_its_code_and_the_status_200(
    logged: Callable[[], dict[str, Any]],
) -> None:
    infer(app_of(), model="gpt-4")
    assert logged() == {**CALL_FIELDS, "code": "model_not_found", "model": "gpt-4"}


def test_a_refused_call_is_logged_with_what_it_needed_and_what_was_left(
    logged: Callable[[], dict[str, Any]],
) -> None:
    least = (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN
    own = {"budget": "run", "scope": "run", "needed_usd": least / NANOUSD_PER_USD}

    def check(row: tuple[str, int, int, str, int]) -> None:
        code, spent, held, per_run, left = row
        app = app_of(HOLD_WAIT_SECONDS="0", MAX_CONCURRENT_CALLS_PER_RUN=per_run)
        spend(app, spent)
        hold_of(app, held)
        reply = infer(app)
        expected = {**CALL_FIELDS, **own, "code": code, "remaining_usd": left / NANOUSD_PER_USD}
        assert logged() == {**expected, "status": reply.status_code}

    rows = [
        ("budget_exhausted", CAP_NANOUSD - least + 1, 1, "32", least - 1),
        ("run_busy", CAP_NANOUSD - least, 1, "32", least - 1),
        ("too_many_in_flight", 1_000, 1, "1", CAP_NANOUSD - 1_001),
    ]
    check_rows(rows, check)


def test_an_invalid_request_is_one_line_with_its_code(logged: Callable[[], dict[str, Any]]) -> None:
    infer(app_of(), messages=[])
    assert logged() == {**REQUEST_FIELDS, "status": 422, "code": "invalid_request"}


def test_a_request_without_a_call_is_one_line_too(logged: Callable[[], dict[str, Any]]) -> None:
    def check(row: tuple[str, str, dict[str, str], dict[str, object]]) -> None:
        method, path, headers, fields = row
        app_of().test_client().open(path, method=method, headers=headers)
        assert logged() == {**REQUEST_FIELDS, "method": method, **fields}

    inference, usage_path = "/agents/inference", "/agents/usage"
    rows: list[tuple[str, str, dict[str, str], dict[str, object]]] = [
        (
            "POST",
            inference,
            {"X-Request-ID": REQUEST_ID},
            {"route": inference, "status": 401, "code": "invalid_api_key", "reason": NO_TOKEN},
        ),
        ("GET", "/nowhere", HEADERS, {"route": None, "status": 404, "code": "not_found"}),
        ("GET", inference, HEADERS, {"route": None, "status": 405, "code": "method_not_allowed"}),
        ("OPTIONS", inference, HEADERS, {"route": inference, "status": 200, "code": None}),
        ("GET", f"{usage_path}?run_id=1", HEADERS, {"route": usage_path, "status": 200, "code": None}),
    ]
    check_rows(rows, check)


def test_the_request_id_of_the_line_is_that_of_the_response(logged: Callable[[], dict[str, Any]]) -> None:
    reply = app_of().test_client().get("/nowhere", headers={"X-Request-ID": "not valid"})
    assert logged()["request_id"] == reply.headers["X-Request-ID"]


def test_monitors_are_logged_at_debug_only(lines: Callable[[], list[dict[str, Any]]]) -> None:
    def check(path: str) -> None:
        app_of().test_client().get(path)
        assert lines() == []
        app_of(LOG_LEVEL="DEBUG").test_client().get(path)
        (line,) = lines()
        assert (line["level"], line["route"]) == ("DEBUG", path)

    check_rows(["/health", "/ready"], check)


def test_at_the_level_warning_requests_are_not_logged(lines: Callable[[], list[dict[str, Any]]]) -> None:
    usage(app_of(LOG_LEVEL="WARNING"))
    assert lines() == []


def test_a_line_as_text_has_the_same_fields(
    upstream: responses.RequestsMock,
    clock: Clock,  # noqa: ARG001 - stops the clock
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app_of(LOG_FORMAT="text"))
    time, line = capsys.readouterr().err.rstrip("\n").split(" ", 1)
    assert TIME.fullmatch(time)
    assert line == (
        f"INFO request request_id={REQUEST_ID} method=POST route=/agents/inference status=200"
        f" milliseconds=0.0 run={RUN} model={MODEL} prompt_tokens=10 completion_tokens=5 cost_usd=4.05e-06"
        " hold_wait_milliseconds=0.0 upstream_status=200 upstream_milliseconds=0.0"
    )


def test_no_run_id_can_forge_a_field_or_a_line(
    upstream: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))

    def check(row: tuple[str, str]) -> None:
        log_format, name = row
        infer(app_of(LOG_FORMAT=log_format), run_id=name)
        (line,) = capsys.readouterr().err.splitlines()
        if log_format == "json":
            fields = json.loads(line)
            assert (fields["run"], fields["status"]) == (name, 200)
        else:
            assert f" run={json.dumps(name)} model={MODEL} " in line

    names = ['1" status=500 "', "1 status=500", "a=b", "\\", "Zo\xeb", '","status":500,"']
    check_rows(product(LOG_FORMATS, names), check)


def test_a_bug_is_logged_with_its_stack_before_the_line_of_the_request(
    lines: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of()
    monkeypatch.setattr(services_of(app).calls, "infer", break_down)
    infer(app)
    bug, request = lines()
    assert bug["level"] == "ERROR"
    assert bug["event"] == "unexpected error"
    assert bug["request_id"] == REQUEST_ID
    assert re.fullmatch(
        r"RuntimeError at .* > agents\.py:\d+ inference > test_request_log\.py:\d+ break_down", bug["where"]
    )
    assert {**request, **CALL_FIELDS, "status": 500, "code": "internal_error", "model": None} == request


def break_down(*_args: object, **_kwargs: object) -> None:
    raise RuntimeError(BUG)


def _answered_calls(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of(ANSWER))
    upstream.post(EMBED_URL, body=json.dumps([ANSWER]))
    assert infer(app, **CHAT_FIELDS).json == ANSWER
    assert embed(app, input=PROMPT).json == [ANSWER]


def _refused_requests(app: Flask, _upstream: responses.RequestsMock) -> None:
    client = app.test_client()
    assert infer(app, messages=[{"role": 1, "content": PROMPT}], temperature=PROMPT).status_code == 422
    assert embed(app, input=[PROMPT]).status_code == 422
    assert post(app, f'{{"run_id": "{PROMPT}'.encode()).status_code == 422
    assert post(app, PROMPT.encode(), content_type="text/plain").status_code == 422
    wrong = {"Authorization": f"Bearer {WRONG_KEY}"}
    assert client.post("/agents/inference", json=CHAT_FIELDS, headers=wrong).status_code == 401
    assert client.get(f"/agents/{PROMPT}?key={PROXY_KEY}").status_code == 404
    assert client.get(f"/agents/usage?run_id=1&key={PROXY_KEY}", headers=HEADERS).status_code == 200
    assert client.get("/agents/inference", headers={"Cookie": PROXY_KEY}).status_code == 405
    assert client.get("/admin/runs", headers=OPERATOR).status_code == 200
    assert client.get("/admin/runs", headers=wrong).status_code == 401
    too_large = {"CONTENT_LENGTH": "99999999999"}
    reply = client.post("/agents/inference", headers=HEADERS, environ_overrides=too_large)
    assert reply.status_code == 413


def _refused_calls(app: Flask, _upstream: responses.RequestsMock) -> None:
    spend(app, CAP_NANOUSD)
    assert set(infer(app, **CHAT_FIELDS).json or {}) == {"error"}
    assert set(embed(app, input=PROMPT).json or {}) == {"error"}
    services_of(app).admission.close()
    assert infer(app, **CHAT_FIELDS).status_code == 503


def _bug(app: Flask, _upstream: responses.RequestsMock) -> None:
    services_of(app).calls.infer = break_down  # type: ignore[method-assign, assignment] # a deliberate bug
    assert infer(app, **CHAT_FIELDS).status_code == 500


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Everything since the last call that was written to stdout or stderr, or logged by any library."""
    caplog.set_level(logging.DEBUG)

    def text() -> str:
        written = capfd.readouterr()
        records = [str(record.__dict__) for record in caplog.records]
        everything = "\n".join([written.out, written.err, caplog.text, *records])
        caplog.clear()
        return everything

    return text


def test_no_prompt_answer_or_key_is_logged(
    upstream: responses.RequestsMock, output: Callable[[], str]
) -> None:
    def check(row: tuple[str, Callable[[Flask, responses.RequestsMock], None]]) -> None:
        log_format, make_requests = row
        upstream.reset()
        make_requests(app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format), upstream)
        text = output()
        assert "/agents/inference" in text
        assert [secret for secret in SECRETS if secret in text] == []

    check_rows(product(LOG_FORMATS, [_answered_calls, _refused_requests, _refused_calls, _bug]), check)


def test_no_prompt_answer_or_key_is_logged_when_an_inference_fails(
    upstream: responses.RequestsMock, output: Callable[[], str]
) -> None:
    def check(row: tuple[str, tuple[str, Failure]]) -> None:
        log_format, (_, failure) = row
        upstream.reset()
        failure.arrange(upstream, CHAT_URL)
        infer(app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format), **CHAT_FIELDS)
        text = output()
        assert failure.code in text
        assert [secret for secret in (*SECRETS, "Half an answer") if secret in text] == []

    failures = {**REFUSALS, **ERROR_OBJECTS, **EXCEPTIONS, **STREAMS}
    check_rows(product(LOG_FORMATS, failures.items()), check)


def test_no_prompt_answer_or_key_is_logged_when_an_embedding_fails(
    upstream: responses.RequestsMock, output: Callable[[], str]
) -> None:
    def check(row: tuple[str, tuple[str, Failure]]) -> None:
        log_format, (_, failure) = row
        upstream.reset()
        failure.arrange(upstream, EMBED_URL)
        embed(app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format), input=PROMPT)
        text = output()
        assert failure.code in text
        assert [secret for secret in SECRETS if secret in text] == []

    failures = {**REFUSALS, **EXCEPTIONS, **NOT_JSON}
    check_rows(product(LOG_FORMATS, failures.items()), check)


def test_no_prompt_or_key_is_logged_when_the_upstream_cannot_be_reached(
    refusing_url: str, output: Callable[[], str]
) -> None:
    def check(log_format: str) -> None:
        app = app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format, CHUTES_BASE_URL=refusing_url)
        infer(app, **CHAT_FIELDS)
        text = output()
        assert "upstream_unreachable" in text
        assert [secret for secret in SECRETS if secret in text] == []

    check_rows(LOG_FORMATS, check)
