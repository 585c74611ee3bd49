"""One line a request, with what an operator asks for, and nothing of what agents say."""

from __future__ import annotations

import json
import logging
import os
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract_http.failures import (
    EXCEPTIONS,
    NOT_JSON,
    REFUSALS,
    STREAMS,
    UPSTREAM_CANARY,
    Failure,
    each,
)
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    MODEL,
    REQUEST_ID,
    RUN,
    answer_of,
    app_of,
    embed,
    infer,
    post,
    services_of,
    spend,
    usage,
)
from tests.support.app import ADMIN_KEY, CHUTES_KEY, OPERATOR, PROXY_KEY
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask
    from requests import PreparedRequest

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")

PROMPT = "canary-of-the-prompt"
ANSWER = "canary-of-the-answer"
WRONG_KEY = "canary-of-a-wrong-key"
BUG = "canary-of-a-bug"
SECRETS = (PROMPT, ANSWER, WRONG_KEY, BUG, UPSTREAM_CANARY, PROXY_KEY, CHUTES_KEY, ADMIN_KEY)

ASKED: dict[str, Any] = {"messages": [{"role": PROMPT, "content": PROMPT}]}

REFUSED_EARLY = {
    "request_id": REQUEST_ID,
    "method": "POST",
    "route": "/agents/inference",
    "milliseconds": 0.0,
}
CALLED = {
    **REFUSED_EARLY,
    "status": 200,
    "code": None,
    "run": RUN,
    "model": MODEL,
    "prompt_tokens": None,
    "completion_tokens": None,
    "cost_usd": 0.0,
    "upstream_status": None,
    "upstream_milliseconds": 0.0,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which both times of a line are measured."""
    clock = Clock()
    for module in ("ridges_proxy.web.request_log", "ridges_proxy.upstream.attempt"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], clock: Clock) -> Callable[[], list[dict[str, Any]]]:  # noqa: ARG001 - it stops
    """The lines since the last look, as objects."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.fixture
def logged(lines: Callable[[], list[dict[str, Any]]]) -> Callable[[], dict[str, Any]]:
    """The fields of the one line since the last look."""

    def fields() -> dict[str, Any]:
        (line,) = lines()
        assert MOMENT.fullmatch(line.pop("time"))
        assert line.pop("logger") == "ridges_proxy.web.request_log"
        assert (line.pop("level"), line.pop("event")) == ("INFO", "request")
        assert line.pop("pid") == os.getpid()
        return line

    return fields


def test_an_inference_is_one_line_with_all_that_is_known_of_it(
    upstream: responses.RequestsMock, clock: Clock, logged: Callable[[], dict[str, Any]]
) -> None:
    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        clock.advance(0.25)
        return 200, {}, answer_of("Hi")

    upstream.add_callback("POST", CHAT_URL, slow)
    infer(app_of())
    assert logged() == {
        **CALLED,
        "milliseconds": 250.0,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost_usd": 0.00000405,
        "upstream_status": 200,
        "upstream_milliseconds": 250.0,
    }


def test_an_embedding_is_one_line_with_its_time_and_cost(
    upstream: responses.RequestsMock, clock: Clock, logged: Callable[[], dict[str, Any]]
) -> None:
    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        clock.advance(0.5)
        return 200, {}, b"[]"

    upstream.add_callback("POST", EMBED_URL, slow)
    embed(app_of())
    assert logged() == {
        **CALLED,
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
    assert logged() == {**CALLED, "status": 500, "code": "upstream_busy", "upstream_status": 429}


def test_an_unsupported_model_is_logged_by_its_code_though_it_is_a_200(
    logged: Callable[[], dict[str, Any]],
) -> None:
    infer(app_of(), model="gpt-4")
    assert logged() == {**CALLED, "code": "model_not_found", "model": "gpt-4"}


def test_an_exhausted_budget_is_logged_by_its_code_though_it_is_a_200(
    logged: Callable[[], dict[str, Any]],
) -> None:
    app = app_of()
    spend(app, CAP_NANOUSD)
    infer(app)
    assert logged() == {**CALLED, "code": "budget_exhausted"}


def test_a_refused_request_is_one_line_with_its_code(logged: Callable[[], dict[str, Any]]) -> None:
    infer(app_of(), messages=[])
    assert logged() == {**REFUSED_EARLY, "status": 422, "code": "invalid_request"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "fields"),
    [
        (
            "POST",
            "/agents/inference",
            {"X-Request-ID": REQUEST_ID},
            {"route": "/agents/inference", "status": 401, "code": "invalid_api_key"},
        ),
        ("GET", "/nowhere", HEADERS, {"route": None, "status": 404, "code": "not_found"}),
        ("GET", "/agents/inference", HEADERS, {"route": None, "status": 405, "code": "method_not_allowed"}),
        (
            "OPTIONS",
            "/agents/inference",
            HEADERS,
            {"route": "/agents/inference", "status": 200, "code": None},
        ),
        ("GET", "/agents/usage?run_id=1", HEADERS, {"route": "/agents/usage", "status": 200, "code": None}),
    ],
)
def test_a_request_without_a_call_is_one_line_too(
    logged: Callable[[], dict[str, Any]],
    method: str,
    path: str,
    headers: dict[str, str],
    fields: dict[str, object],
) -> None:
    app_of().test_client().open(path, method=method, headers=headers)
    assert logged() == {**REFUSED_EARLY, "method": method, **fields}


def test_the_id_of_the_line_is_the_one_of_the_answer(logged: Callable[[], dict[str, Any]]) -> None:
    reply = app_of().test_client().get("/nowhere", headers={"X-Request-ID": "not sane"})
    assert logged()["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_monitors_are_logged_at_debug_only(lines: Callable[[], list[dict[str, Any]]], path: str) -> None:
    app_of().test_client().get(path)
    assert lines() == []
    app_of(LOG_LEVEL="DEBUG").test_client().get(path)
    (line,) = lines()
    assert (line["level"], line["route"]) == ("DEBUG", path)


def test_a_quieter_service_does_not_log_requests(lines: Callable[[], list[dict[str, Any]]]) -> None:
    usage(app_of(LOG_LEVEL="WARNING"))
    assert lines() == []


def test_as_text_a_line_has_the_same_fields(
    upstream: responses.RequestsMock,
    clock: Clock,  # noqa: ARG001 - it stops
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app_of(LOG_FORMAT="text"))
    moment, line = capsys.readouterr().err.rstrip("\n").split(" ", 1)
    assert MOMENT.fullmatch(moment)
    assert line == (
        f"INFO request request_id={REQUEST_ID} method=POST route=/agents/inference status=200"
        f" milliseconds=0.0 run={RUN} model={MODEL} prompt_tokens=10 completion_tokens=5 cost_usd=4.05e-06"
        " upstream_status=200 upstream_milliseconds=0.0"
    )


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize(
    "name", ['1" status=500 "', "1 status=500", "a=b", "\\", "Zo\xeb", '","status":500,"']
)
def test_no_name_that_an_agent_gives_forges_a_field_or_a_line(
    upstream: responses.RequestsMock, capsys: pytest.CaptureFixture[str], log_format: str, name: str
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app_of(LOG_FORMAT=log_format), run_id=name)
    (line,) = capsys.readouterr().err.splitlines()
    if log_format == "json":
        fields = json.loads(line)
        assert (fields["run"], fields["status"]) == (name, 200)
    else:
        assert f" run={json.dumps(name)} model={MODEL} " in line


def test_a_bug_is_logged_by_its_place_beside_the_requests_line(
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
    assert {**request, **CALLED, "status": 500, "code": "internal_error", "model": None} == request


def break_down(*_args: object, **_kwargs: object) -> None:
    raise RuntimeError(BUG)


def _answered(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of(ANSWER))
    upstream.post(EMBED_URL, body=json.dumps([ANSWER]))
    assert infer(app, **ASKED).json == ANSWER
    assert embed(app, input=PROMPT).json == [ANSWER]


def _refused(app: Flask, _upstream: responses.RequestsMock) -> None:
    client = app.test_client()
    assert infer(app, messages=[{"role": 1, "content": PROMPT}], temperature=PROMPT).status_code == 422
    assert embed(app, input=[PROMPT]).status_code == 422
    assert post(app, f'{{"run_id": "{PROMPT}'.encode()).status_code == 422
    assert post(app, PROMPT.encode(), content_type="text/plain").status_code == 422
    wrong = {"Authorization": f"Bearer {WRONG_KEY}"}
    assert client.post("/agents/inference", json=ASKED, headers=wrong).status_code == 401
    assert client.get(f"/agents/{PROMPT}?key={PROXY_KEY}").status_code == 404
    assert client.get(f"/agents/usage?run_id=1&key={PROXY_KEY}", headers=HEADERS).status_code == 200
    assert client.get("/agents/inference", headers={"Cookie": PROXY_KEY}).status_code == 405
    assert client.get("/admin/runs", headers=OPERATOR).status_code == 200
    assert client.get("/admin/runs", headers=wrong).status_code == 401
    too_large = {"CONTENT_LENGTH": "99999999999"}
    reply = client.post("/agents/inference", headers=HEADERS, environ_overrides=too_large)
    assert reply.status_code == 413


def _unaffordable(app: Flask, _upstream: responses.RequestsMock) -> None:
    spend(app, CAP_NANOUSD)
    assert set(infer(app, **ASKED).json or {}) == {"error"}
    assert set(embed(app, input=PROMPT).json or {}) == {"error"}
    services_of(app).admission.drain()
    assert infer(app, **ASKED).status_code == 503


def _broken(app: Flask, _upstream: responses.RequestsMock) -> None:
    services_of(app).calls.infer = break_down  # type: ignore[method-assign, assignment] # a bug, on purpose
    assert infer(app, **ASKED).status_code == 500


@pytest.fixture
def everything(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was written to either output, and all that any library logged at any level."""
    caplog.set_level(logging.DEBUG)

    def text() -> str:
        written = capfd.readouterr()
        records = [str(record.__dict__) for record in caplog.records]
        return "\n".join([written.out, written.err, caplog.text, *records])

    return text


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("scenario", [_answered, _refused, _unaffordable, _broken])
def test_no_prompt_answer_or_key_is_ever_logged(
    upstream: responses.RequestsMock,
    everything: Callable[[], str],
    log_format: str,
    scenario: Callable[[Flask, responses.RequestsMock], None],
) -> None:
    scenario(app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format), upstream)
    text = everything()
    assert "/agents/inference" in text
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("failure", each(REFUSALS, EXCEPTIONS, STREAMS))
def test_no_prompt_answer_or_key_is_logged_when_an_inference_fails(
    upstream: responses.RequestsMock, everything: Callable[[], str], log_format: str, failure: Failure
) -> None:
    failure.arrange(upstream, CHAT_URL)
    infer(app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format), **ASKED)
    text = everything()
    assert failure.code in text
    assert [secret for secret in (*SECRETS, "Half an answer") if secret in text] == []


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("failure", each(REFUSALS, EXCEPTIONS, NOT_JSON))
def test_no_prompt_answer_or_key_is_logged_when_an_embedding_fails(
    upstream: responses.RequestsMock, everything: Callable[[], str], log_format: str, failure: Failure
) -> None:
    failure.arrange(upstream, EMBED_URL)
    embed(app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format), input=PROMPT)
    text = everything()
    assert failure.code in text
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_prompt_or_key_is_logged_when_the_upstream_cannot_be_reached(
    refusing_url: str, everything: Callable[[], str], log_format: str
) -> None:
    app = app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format, CHUTES_BASE_URL=refusing_url)
    infer(app, **ASKED)
    text = everything()
    assert "upstream_unreachable" in text
    assert [secret for secret in SECRETS if secret in text] == []
