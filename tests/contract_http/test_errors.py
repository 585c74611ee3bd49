"""One envelope for every error: the framework's, and bugs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest
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

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

CANARY = "canary-of-a-bug"

NOT_FOUND = (404, envelope("Not Found", "not_found"))
METHOD_NOT_ALLOWED = (405, envelope("Method Not Allowed", "method_not_allowed"))


def ask(app: Flask, path: str, method: str = "GET") -> TestResponse:
    # The path goes into the environment as it is: the client would take a leading // for a host.
    return app.test_client().open("/", method=method, headers=HEADERS, environ_overrides={"PATH_INFO": path})


def break_down(*_args: object, **_kwargs: object) -> NoReturn:
    raise RuntimeError(CANARY)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nowhere",
        "/agents",
        "/agents/",
        "/agents/nowhere",
        "/agents/inference/",
        "/agents/inference/x",
        "/agents/Inference",
        "/agents//inference",
        "/agents/../health",
        "/health/",
        "/health//",
        "/ready/",
        "/static/x",
        "/docs/",
        "/openapi.yaml",
        "/agents/usage\x00",
        "/\xf0\x9f\x98\x80",
        "/\xff",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_path_that_does_not_exist_is_a_404(app: Flask, path: str, method: str) -> None:
    reply = ask(app, path, method)
    assert seen(reply) == NOT_FOUND
    assert reply.content_type == "application/json"


@pytest.mark.parametrize("path", ["//agents/usage", "///agents/usage"])
def test_slashes_in_front_count_as_one_and_open_no_way_around_the_key(app: Flask, path: str) -> None:
    assert ask(app, path).status_code == 422
    reply = app.test_client().get("/", environ_overrides={"PATH_INFO": path})
    assert reply.status_code == 401


@pytest.mark.parametrize(
    ("path", "methods", "allowed"),
    [
        (
            "/agents/inference",
            ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "BREW"],
            {"POST", "OPTIONS"},
        ),
        ("/agents/embedding", ["GET", "HEAD", "PUT", "DELETE"], {"POST", "OPTIONS"}),
        ("/agents/usage", ["POST", "PUT", "DELETE"], {"GET", "HEAD", "OPTIONS"}),
        ("/health", ["POST", "PUT", "DELETE"], {"GET", "HEAD", "OPTIONS"}),
        ("/ready", ["POST", "PUT", "DELETE"], {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_another_method_is_a_405_that_names_the_right_ones(
    app: Flask, path: str, methods: list[str], allowed: set[str]
) -> None:
    for method in methods:
        reply = ask(app, path, method)
        assert reply.status_code == 405
        assert method == "HEAD" or seen(reply) == METHOD_NOT_ALLOWED
        assert set(reply.headers["Allow"].split(", ")) == allowed
        assert reply.content_type == "application/json"


def test_a_wrong_path_or_method_is_told_without_asking_for_a_key(app: Flask) -> None:
    client = app.test_client()
    headers = {"X-Request-ID": REQUEST_ID}
    assert seen(client.get("/agents/nowhere", headers=headers)) == NOT_FOUND
    assert seen(client.get("/agents/inference", headers=headers)) == METHOD_NOT_ALLOWED


@pytest.mark.parametrize("path", ["/health", "/agents/usage?run_id=1"])
def test_head_answers_as_get_does_without_the_body(app: Flask, path: str) -> None:
    get = app.test_client().get(path, headers=HEADERS)
    head = app.test_client().head(path, headers=HEADERS)
    assert head.status_code == get.status_code == 200
    assert head.data == b""
    assert dict(head.headers) == dict(get.headers)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/agents/inference", {"POST", "OPTIONS"}),
        ("/agents/usage", {"GET", "HEAD", "OPTIONS"}),
        ("/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_options_tells_the_methods_without_a_key(app: Flask, path: str, allowed: set[str]) -> None:
    reply = app.test_client().options(path)
    assert (reply.status_code, reply.data) == (200, b"")
    assert set(reply.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("host", ["a" * 64, "a" * 300, "a..b"])
def test_a_host_that_is_none_is_a_400(app: Flask, host: str) -> None:
    reply = app.test_client().get("/health", headers={**HEADERS, "Host": host})
    assert seen(reply) == (400, envelope("Bad Request", "invalid_request"))


CODES = {404: "not_found", 405: "method_not_allowed"}


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_every_error_that_the_framework_knows_has_the_envelope(app: Flask, status: int) -> None:
    app.add_url_rule("/test/abort", view_func=lambda: abort(status, CANARY))
    reply = ask(app, "/test/abort")
    code = CODES.get(status, "invalid_request" if status < 500 else "internal_error")
    assert seen(reply) == (status, envelope(default_exceptions[status]().name, code))
    assert reply.content_type == "application/json"
    assert reply.headers["X-Request-ID"] == REQUEST_ID


@pytest.mark.parametrize("status", [429, 503])
def test_a_time_to_wait_that_the_framework_names_is_passed_on(app: Flask, status: int) -> None:
    app.add_url_rule("/test/abort", view_func=lambda: abort(status, retry_after=7))
    assert ask(app, "/test/abort").headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(CANARY),
        KeyError(CANARY),
        UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY),
        RecursionError(CANARY),
        MemoryError(CANARY),
        OSError(CANARY),
        TimeoutError(CANARY),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_is_a_500_that_says_nothing_of_it(
    app: Flask, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail() -> NoReturn:
        raise error

    app.add_url_rule("/test/bug", view_func=fail)
    reply = ask(app, "/test/bug")
    assert seen(reply) == (500, envelope("Internal Server Error", "internal_error"))
    assert CANARY not in capsys.readouterr().err


def test_a_bug_is_no_different_in_debug_and_testing_modes(app: Flask) -> None:
    app.add_url_rule("/test/bug", view_func=break_down)
    app.debug = app.testing = True
    assert seen(ask(app, "/test/bug")) == (500, envelope("Internal Server Error", "internal_error"))


def test_a_bug_in_an_inference_is_told_in_the_guides_words(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_of(app).calls, "infer", break_down)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "internal_error"))


def test_a_bug_in_an_embedding_is_told_in_the_guides_words(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_of(app).calls, "embed", break_down)
    assert seen(embed(app)) == (500, envelope(EMBEDDING_FAILED, "internal_error"))


def test_a_bug_in_the_usage_is_told_in_plain_words(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services_of(app).ledger, "usage", break_down)
    assert seen(usage(app)) == (500, envelope("Internal Server Error", "internal_error"))


def test_a_bug_inside_a_call_leaves_no_hold_and_no_flight(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridges_proxy.upstream.client.TextCompletion", break_down)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "internal_error"))
    books = services_of(app).ledger.usage("run-of-the-test")
    assert books is not None
    assert (books.spent_nanousd, books.held_nanousd, books.in_flight) == (0, 0, 0)
    assert services_of(app).admission.in_flight == 0


def test_a_service_goes_on_after_a_bug(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    with monkeypatch.context() as broken:
        broken.setattr(services_of(app).calls, "infer", break_down)
        infer(app)
    assert seen(infer(app)) == (200, "Hi")
    assert infer(app).headers["X-Run-Remaining-USD"] == f"{(CAP_NANOUSD - 2 * 4050) / 1e9:.9f}"


def test_two_services_in_one_process_have_nothing_in_common(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    first, second = app_of(), app_of()
    infer(first)
    assert services_of(first).ledger.usage("run-of-the-test") is not None
    assert services_of(second).ledger.usage("run-of-the-test") is None
