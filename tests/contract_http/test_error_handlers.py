"""One response body for every error: those of Flask, and bugs."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NoReturn

from flask import abort
from werkzeug.exceptions import default_exceptions

from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBEDDING_FAILED,
    HEADERS,
    INFERENCE_FAILED,
    REQUEST_ID,
    answer_of,
    app_of,
    embed,
    envelope,
    infer,
    seen,
    services_of,
    usage,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

CANARY = "canary-of-a-bug"

ALL_ROUTES = "GET /docs shows all routes"
POST_ALLOWED = envelope("Method Not Allowed", "method_not_allowed", hint="Allowed here: POST")
GET_ALLOWED = envelope("Method Not Allowed", "method_not_allowed", hint="Allowed here: GET")


def not_found(route: str | None = None) -> dict[str, object]:
    """The body for a path that does not exist, and that seems to mean a route of the agents."""
    meant = f"Did you mean {route}? {ALL_ROUTES}" if route else ALL_ROUTES
    return envelope("Not Found", "not_found", hint=meant)


def ask(app: Flask, path: str, method: str = "GET") -> TestResponse:
    # The path is set in the environment, because the client reads a leading // as a host.
    return app.test_client().open("/", method=method, headers=HEADERS, environ_overrides={"PATH_INFO": path})


def break_down(*_args: object, **_kwargs: object) -> NoReturn:
    raise RuntimeError(CANARY)


def test_a_path_that_does_not_exist_is_a_404(app: Flask) -> None:
    def check(row: tuple[str, tuple[str, str | None]]) -> None:
        method, (path, route) = row
        reply = ask(app, path, method)
        assert seen(reply) == (404, not_found(route))
        assert reply.content_type == "application/json"

    paths = [
        ("/nowhere", None),
        ("/agents", None),
        ("/agents/", None),
        ("/agents/nowhere", None),
        ("/agents/inference/", "/agents/inference"),
        ("/agents/inference/x", "/agents/inference"),
        ("/agents/Inference", "/agents/inference"),
        ("/agents//inference", "/agents/inference"),
        ("/inference", "/api/inference"),
        ("/agents/../health", "/health"),
        ("/health/", "/health"),
        ("/health//", "/health"),
        ("/ready/", "/ready"),
        ("/static/x", None),
        ("/docs/", "/docs"),
        ("/openapi.yaml", None),
        ("/agents/usage\x00", "/agents/usage"),
        ("/\xf0\x9f\x98\x80", None),
        ("/\xff", None),
        ("/admin", None),
        ("/metrics/", None),
        ("/" + "x/" * 4000, None),
    ]
    check_rows(product(["GET", "POST", "OPTIONS"], paths), check)


def test_the_root_names_the_documentation_and_the_dashboard_if_there_is_one(app: Flask) -> None:
    paths = {"service": "ridges-ai-proxy", "docs": "/docs", "openapi": "/openapi.json"}
    assert seen(app.test_client().get("/")) == (200, paths | {"dashboard": "/dashboard"})
    assert seen(app_of(ADMIN_API_KEY="").test_client().get("/")) == (200, paths)


def test_several_leading_slashes_count_as_one_and_the_key_is_still_needed(app: Flask) -> None:
    def check(path: str) -> None:
        assert ask(app, path).status_code == 422
        reply = app.test_client().get("/", environ_overrides={"PATH_INFO": path})
        assert reply.status_code == 401

    check_rows(["//agents/usage", "///agents/usage"], check)


def test_another_method_is_a_405_that_names_the_allowed_ones(app: Flask) -> None:
    def check(row: tuple[str, list[str], set[str]]) -> None:
        path, methods, allowed = row
        for method in methods:
            reply = ask(app, path, method)
            assert reply.status_code == 405
            body = POST_ALLOWED if allowed == post else GET_ALLOWED
            assert method == "HEAD" or seen(reply) == (405, body)
            assert set(reply.headers["Allow"].split(", ")) == allowed
            assert reply.content_type == "application/json"

    post, get = {"POST", "OPTIONS"}, {"GET", "HEAD", "OPTIONS"}
    rows = [
        ("/agents/inference", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "BREW"], post),
        ("/agents/embedding", ["GET", "HEAD", "PUT", "DELETE"], post),
        ("/agents/usage", ["POST", "PUT", "DELETE"], get),
        ("/health", ["POST", "PUT", "DELETE"], get),
        ("/ready", ["POST", "PUT", "DELETE"], get),
    ]
    check_rows(rows, check)


def test_a_wrong_path_or_method_is_reported_without_a_key(app: Flask) -> None:
    client = app.test_client()
    headers = {"X-Request-ID": REQUEST_ID}
    assert seen(client.get("/agents/nowhere", headers=headers)) == (404, not_found())
    assert seen(client.get("/agents/inference", headers=headers)) == (405, POST_ALLOWED)


def test_head_answers_as_get_does_without_the_body(app: Flask) -> None:
    def check(path: str) -> None:
        get = app.test_client().get(path, headers=HEADERS)
        head = app.test_client().head(path, headers=HEADERS)
        assert head.status_code == get.status_code == 200
        assert head.data == b""
        assert dict(head.headers) == dict(get.headers)

    check_rows(["/health", "/agents/usage?run_id=1"], check)


def test_options_answers_the_allowed_methods_without_a_key(app: Flask) -> None:
    def check(row: tuple[str, set[str]]) -> None:
        path, allowed = row
        reply = app.test_client().options(path)
        assert (reply.status_code, reply.data) == (200, b"")
        assert set(reply.headers["Allow"].split(", ")) == allowed

    rows = [
        ("/agents/inference", {"POST", "OPTIONS"}),
        ("/agents/usage", {"GET", "HEAD", "OPTIONS"}),
        ("/health", {"GET", "HEAD", "OPTIONS"}),
    ]
    check_rows(rows, check)


def test_an_invalid_host_is_a_400(app: Flask) -> None:
    def check(host: str) -> None:
        reply = app.test_client().get("/health", headers={**HEADERS, "Host": host})
        assert seen(reply) == (400, envelope("Bad Request", "invalid_request"))

    check_rows(["a" * 64, "a" * 300, "a..b"], check)


CODES = {404: "not_found", 405: "method_not_allowed"}


def test_every_http_error_of_the_framework_has_the_error_body() -> None:
    def check(status: int) -> None:
        app = app_of()
        texts = [] if status == 405 else [CANARY]  # for a 405, werkzeug takes the allowed methods
        app.add_url_rule("/test/abort", view_func=lambda: abort(status, *texts))
        reply = ask(app, "/test/abort")
        code = CODES.get(status, "invalid_request" if status < 500 else "internal_error")
        hint = {"hint": ALL_ROUTES} if status == 404 else {}
        assert seen(reply) == (status, envelope(default_exceptions[status]().name, code, **hint))
        assert reply.content_type == "application/json"
        assert reply.headers["X-Request-ID"] == REQUEST_ID

    check_rows(sorted(default_exceptions), check)


def test_the_frameworks_retry_after_is_passed_on() -> None:
    def check(status: int) -> None:
        app = app_of()
        app.add_url_rule("/test/abort", view_func=lambda: abort(status, retry_after=7))
        assert ask(app, "/test/abort").headers["Retry-After"] == "7"

    check_rows([429, 503], check)


def test_a_bug_is_a_500_that_does_not_reveal_it(capsys: pytest.CaptureFixture[str]) -> None:
    def check(error: Exception) -> None:
        def fail() -> NoReturn:
            raise error

        app = app_of()
        app.add_url_rule("/test/bug", view_func=fail)
        reply = ask(app, "/test/bug")
        assert seen(reply) == (500, envelope("Internal Server Error", "internal_error"))
        assert CANARY not in capsys.readouterr().err

    errors = [
        RuntimeError(CANARY),
        KeyError(CANARY),
        UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY),
        RecursionError(CANARY),
        MemoryError(CANARY),
        OSError(CANARY),
        TimeoutError(CANARY),
    ]
    check_rows(errors, check)


def test_a_bug_is_answered_the_same_in_debug_and_testing_modes(app: Flask) -> None:
    app.add_url_rule("/test/bug", view_func=break_down)
    app.debug = app.testing = True
    assert seen(ask(app, "/test/bug")) == (500, envelope("Internal Server Error", "internal_error"))


def test_a_bug_in_a_call_is_answered_with_the_guides_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(row: tuple[str, Callable[[Flask], TestResponse], str]) -> None:
        method, call, text = row
        app = app_of()
        monkeypatch.setattr(services_of(app).calls, method, break_down)
        assert seen(call(app)) == (500, envelope(text, "internal_error"))

    check_rows([("infer", infer, INFERENCE_FAILED), ("embed", embed, EMBEDDING_FAILED)], check)


def test_a_bug_in_the_usage_is_a_plain_internal_error(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services_of(app).ledger, "usage", break_down)
    assert seen(usage(app)) == (500, envelope("Internal Server Error", "internal_error"))


def test_a_bug_inside_a_call_leaves_no_hold_and_no_call_in_flight(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridges_proxy.upstream.client.TextStreamReader", break_down)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "internal_error"))
    run = services_of(app).ledger.usage("run-of-the-test")
    assert run is not None
    assert (run.spent_nanousd, run.held_nanousd, run.in_flight) == (0, 0, 0)
    assert services_of(app).admission.in_flight == 0


def test_the_service_continues_after_a_bug(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    with monkeypatch.context() as broken:
        broken.setattr(services_of(app).calls, "infer", break_down)
        infer(app)
    assert seen(infer(app)) == (200, "Hi")
    assert infer(app).headers["X-Run-Remaining-USD"] == f"{(CAP_NANOUSD - 2 * 4050) / 1e9:.9f}"


def test_two_apps_in_one_process_share_no_state(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    first, second = app_of(), app_of()
    infer(first)
    assert services_of(first).ledger.usage("run-of-the-test") is not None
    assert services_of(second).ledger.usage("run-of-the-test") is None
