"""The OpenAPI document is valid, and agrees with the request schemas and with the responses.

Every response of the other tests is checked against it too (conftest.py).
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema_rs import Draft202012Validator
from marshmallow import Schema, ValidationError

from ridges_proxy import errors
from ridges_proxy.errors import LedgerUnavailableError, ProxyError, RefusedError
from ridges_proxy.web.openapi.operations import (
    ADMIN_OPERATIONS,
    AGENTS,
    OPENAI,
    OPERATIONS,
    Operation,
    with_subclasses,
)
from ridges_proxy.web.openrouter import OPENROUTER_PATH
from ridges_proxy.web.schemas.audit_query import AuditQuerySchema, TokenQuerySchema
from ridges_proxy.web.schemas.budget_query import BudgetQuerySchema
from ridges_proxy.web.schemas.open_call_query import OpenCallQuerySchema
from ridges_proxy.web.schemas.receipt_query import ReceiptQuerySchema
from ridges_proxy.web.schemas.run_query import RunQuerySchema
from tests.contract_http.openai_api import WHOLE
from tests.contract_http.service import (
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    HELLO,
    MODEL,
    RUN,
    answer_of,
    app_of,
    services_of,
    spend,
)
from tests.support.app import OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from marshmallow.fields import Field
    from werkzeug.test import TestResponse

    from tests.contract_http.documented import Documented

ALL = (*OPERATIONS, *ADMIN_OPERATIONS)
KEY = "run-token-key-of-these-tests-0123456789"

BODIES: dict[str, dict[str, Any]] = {
    "/agents/inference": {"run_id": RUN, "messages": [HELLO]},
    "/agents/embedding": {"run_id": RUN, "input": "Hello"},
    "/v1/chat/completions": {"run_id": RUN, "messages": [HELLO]},
    "/v1/estimate": {"run_id": RUN, "messages": [HELLO]},
    "/v1/responses": {"run_id": RUN, "input": "Hello"},
    "/v1/embeddings": {"run_id": RUN, "input": "Hello"},
    "/api/inference": {"run_id": RUN, "messages": [HELLO]},
    "/api/embedding": {"run_id": RUN, "input": "Hello"},
    "/api/v1/chat/completions": {"run_id": RUN, "messages": [HELLO]},
    "/api/v1/embeddings": {"run_id": RUN, "input": "Hello"},
    "/admin/runs": {"run_id": RUN},
    "/admin/budgets/{budget}/amount": {"usd": "1"},
    "/admin/budgets/{budget}/reset": {},
}


PATHS_OF_CALLS = (
    "/agents/inference",
    "/agents/embedding",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/api/inference",
    "/api/embedding",
    "/api/v1/chat/completions",
    "/api/v1/embeddings",
)


@pytest.fixture
def app(upstream: responses.RequestsMock) -> Flask:
    return app_with_a_run(upstream)


def app_with_a_run(upstream: responses.RequestsMock) -> Flask:
    """An app whose run has spent a little, and an upstream that answers."""
    upstream.reset()
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, json=[[0.5, 1.0]])
    app = app_of(RUN_TOKEN_KEY=KEY, BUDGETS='[{"name": "all", "usd": 1, "window": "day"}]')
    spend(app, 7)
    return app


def operation_at(path: str) -> Operation:
    (operation,) = [each for each in OPERATIONS if each.path == path]
    return operation


def ask(app: Flask, operation: Operation, **changes: object) -> TestResponse:
    path = re.sub("{name}", MODEL, operation.path.replace("{run_id}", RUN).replace("{budget}", "all"))
    query = {"run_id": RUN} if operation.path.endswith("/usage") else {}
    is_admin = operation in ADMIN_OPERATIONS
    return app.test_client().open(
        path,
        method=operation.method,
        query_string=query,
        json={**BODIES[operation.path], **changes} if operation.body else None,
        headers=OPERATOR if is_admin else HEADERS,
    )


def test_the_document_is_valid(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    # An optional import of jsonschema, which compiles a grammar of URLs for seconds.
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)
    # Imported here because it is slow, and only this test uses it.
    from openapi_spec_validator import validate  # noqa: PLC0415

    validate(documented.document)


def test_the_document_is_public_and_has_admin_routes_only_if_the_server_has_them(
    documented: Documented,
) -> None:
    reply = app_of().test_client().get("/openapi.json")
    assert reply.get_json() == json.loads(json.dumps(documented.document))
    without = app_of(ADMIN_API_KEY="").test_client().get("/openapi.json").get_json()
    assert {path for path in documented.document["paths"] if path not in without["paths"]} == {
        operation.path for operation in ADMIN_OPERATIONS
    }


def test_every_route_is_in_the_document_or_is_a_page(app: Flask) -> None:
    known = {operation.endpoint for operation in ALL}
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert {name for name in routes - known if not name.startswith(("dashboard.", "openapi."))} == set()


def test_every_operation_answers_a_correct_request_as_documented(
    upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(operation: Operation) -> None:
        app = app_with_a_run(upstream)
        state = {"running": True, "last_sweep_seconds_ago": None, "last_error": None}
        monkeypatch.setattr(services_of(app).sweeper, "state", lambda: state)
        if operation.path.endswith(("/v1/chat/completions", "/v1/responses")):
            upstream.replace("POST", CHAT_URL, json=WHOLE)
        assert ask(app, operation).status_code == 200

    check_rows(ALL, check)


def test_a_stream_is_documented(app: Flask, documented: Documented) -> None:
    for path in ("/v1/chat/completions", "/v1/responses"):
        operation = operation_at(path)
        reply = ask(app, operation, stream=True)
        assert reply.mimetype == "text/event-stream"
        assert reply.mimetype in documented.content_of(operation, 200)


def test_the_errors_that_agents_get_with_a_200_are_documented(upstream: responses.RequestsMock) -> None:
    def check(path: str) -> None:
        app, operation = app_with_a_run(upstream), operation_at(path)
        if path == "/agents/inference":
            assert "error" in ask(app, operation, model="no-such-model").get_json()
        spend(app, 1_999_999_993)
        assert "error" in ask(app, operation).get_json()

    check_rows(["/agents/inference", "/agents/embedding"], check)


def test_a_server_that_is_not_ready_is_documented(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services_of(app).ledger, "ping", raising(LedgerUnavailableError()))
    assert ask(app, operation_at("/ready")).status_code == 503


def raising(error: Exception) -> Any:  # noqa: ANN401 - takes the place of anything
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


ERRORS_WITH_200 = {errors.BudgetExhaustedError, errors.ModelNotSupportedError}
"""Errors that agents get with a status of 200."""


def error_of(kind: type[ProxyError]) -> ProxyError:
    if issubclass(kind, errors.InvalidRequestError):
        return kind([errors.Problem(["body", "field"], "text", "type")])
    if issubclass(kind, errors.ModelNotSupportedError):
        return kind("model", ["another"])
    if issubclass(kind, errors.RateLimitedError):
        return kind(errors.RateLimitStatus(1, 60, 0, 7))
    return kind(418) if issubclass(kind, errors.UpstreamRefusedError) else kind()


def test_every_documented_error_is_answered_as_documented(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(row: tuple[str, Operation, type[ProxyError]]) -> None:
        _, operation, kind = row
        raised = error_of(kind)
        with monkeypatch.context() as patch:
            patch.setattr(services_of(app).rate_limits, "admit_address", raising(raised))
            patch.setattr("ridges_proxy.web.callers.check_operator_key", raising(raised))
            reply = ask(app, operation)
        body = reply.get_json()
        if operation.surface == AGENTS and kind in ERRORS_WITH_200:
            assert (reply.status_code, list(body)) == (200, ["error"])
        else:
            error = body["error"] if operation.surface == OPENAI else body
            if operation.path.startswith(OPENROUTER_PATH):
                assert error["code"] == reply.status_code
                error = error["metadata"]
            assert error["code"] == kind.code
            assert reply.status_code >= 400

    rows = [(f"{each.endpoint} {kind.__name__}", each, kind) for each in ALL for kind in each.errors]
    check_rows(rows, check)


def test_every_error_without_an_upstream_call_is_documented_for_all_calls() -> None:
    codes = {kind.code for kind in with_subclasses(errors.UnavailableError)}

    def check(path: str) -> None:
        assert codes <= {kind.code for kind in operation_at(path).errors}

    check_rows(PATHS_OF_CALLS, check)


def test_no_code_is_documented_that_the_operation_does_not_have(documented: Documented) -> None:
    for operation in ALL:
        responses_of = documented.document["paths"][operation.path][operation.method.lower()]["responses"]
        of_errors = {
            code
            for status, response in responses_of.items()
            if status != "200" and int(status) not in operation.also
            for code in codes_in(response["content"]["application/json"]["schema"])
        }
        assert of_errors <= {RefusedError.code, *(kind.code for kind in operation.errors)}


def codes_in(schema: dict[str, Any]) -> list[str]:
    properties = schema["properties"]
    if "error" in properties:
        properties = properties["error"]["properties"]
    if "metadata" in properties:
        properties = properties["metadata"]["properties"]
    code = properties["code"]
    codes: list[str] = code.get("anyOf", [code])[0]["enum"]
    return codes


# --- request schemas ---------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 20, 21, 128, 129, 1_000_001, 0.5, 1.5, 2.5, -2.5, 10.5, 1e300,
    "", "a", "auto", "default", "float", "0.5", "x" * 256, "x" * 257, "x" * 1025,
    [], ["text"], ["a", "b"], [""], ["x"] * 17, [1], [-1], [1.5], [{}], [None],
    {}, {"a": 1}, {"a": 101}, {"a": "b"}, {"include_usage": True}, {"include_usage": 1}, {"effort": "low"},
    {"type": "x"}, {"enable_thinking": None}, {"enable_thinking": []}, {"chat_template": "x"},
    [{"role": "user", "content": "Hi"}], [{"role": "user"}], [{"content": "Hi"}], [{"role": "user", "x": 1}],
    [{"role": "user", "x": None}], [{"role": "user", "x": ""}], [{"role": "user", "metadata": {"a": 1}}],
    [{"role": "user", "tools": [{}]}], [{"role": "user", "tools": []}],
    [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": 1, "x": {}}]}],
    [{"role": "user", "content": [{"type": "text", "text": "Hi", "x": 1}]}],
    {"effort": "low", "x": None}, {"effort": "low", "x": 1}, {"include": True}, {"include": 1},
    [{"role": 5, "content": "Hi"}], [{"role": "user", "content": None}],
    [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    [{"role": "user", "content": [{"type": "audio", "audio": "Hi"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test/b"}}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
    "none", "required", [{"name": "f"}], [{"name": "f", "parameters": []}],
    [{"name": "f", "description": "x", "parameters": [{"name": "a", "type": "string", "required": True}]}],
    [{"name": "f", "parameters": [{"name": "a", "type": "date"}]}], [{"name": "f", "parameters": [{}]}],
]  # fmt: skip

NOT_IN_JSON_SCHEMA = {"run_id", "budget_usd", "reserve_final_usd", "usd"}
"""Fields whose strings JSON Schema cannot describe: printable characters only, and amounts."""


def test_the_document_allows_the_values_that_the_schemas_read(documented: Documented) -> None:
    components = documented.document["components"]

    def check(row: tuple[type[Schema], str]) -> None:
        schema, name = row
        shape = components["schemas"][f"{schema.__name__.removesuffix('Schema')}Request"]
        validator = Draft202012Validator({**shape["properties"][name], "components": components})
        field = schema().fields[name]
        for value in VALUES:
            if name in NOT_IN_JSON_SCHEMA and isinstance(value, str | int | float):
                continue
            if name == "run_id" and value is None:
                continue  # null counts as absent: a header or a token may name the run
            assert validator.is_valid(value) == reads(field, value), value

    schemas = [form for each in ALL if each.body for form in (each.body, each.later) if form]
    check_rows([(schema, name) for schema in schemas for name in schema().fields], check)


def test_the_document_allows_the_unknown_fields_that_the_schemas_accept(documented: Documented) -> None:
    components = documented.document["components"]
    names = ["unknown", "metadata", "store", "cache_control", "best_of", "chat_template", "dimensions"]

    def check(row: tuple[Operation, str]) -> None:
        operation, name = row
        schema = operation.body
        assert schema is not None
        shape = components["schemas"][f"{schema.__name__.removesuffix('Schema')}Request"]
        validator = Draft202012Validator({**shape, "components": components})
        for value in VALUES:
            body = {**BODIES[operation.path], name: value}
            assert validator.is_valid(body) == loads(schema(), body), value

    check_rows(itertools.product([each for each in ALL if each.body], names), check)


def loads(schema: Schema, body: dict[str, Any]) -> bool:
    try:
        schema.load(body)
    except ValidationError:
        return False
    return True


def reads(field: Field[Any], value: object) -> bool:
    try:
        field.deserialize(value)
    except ValidationError:
        return False
    return True


QUERY_TEXTS = ["0", "1", "100", "1001", "10001", "-1", "x", "true", "false", "spent", "held", "1.5", "9:9"]


def test_the_document_allows_the_queries_that_the_schemas_read(documented: Documented) -> None:
    def check(row: tuple[str, Schema]) -> None:
        path, schema = row
        parameters = documented.document["paths"][path]["get"]["parameters"]
        assert {each["name"] for each in parameters} == {
            each.data_key or name for name, each in schema.fields.items()
        }
        for parameter, text in itertools.product(parameters, QUERY_TEXTS):
            types = parameter["schema"].get("type", [])
            first_type = types if isinstance(types, str) else next(iter(types), None)
            is_number = first_type in {"integer", "number"} and re.fullmatch(r"-?[0-9.]+", text)
            if first_type == "string":
                continue  # any text, or a form that JSON Schema cannot describe
            if Draft202012Validator(parameter["schema"]).is_valid(float(text) if is_number else text):
                schema.load({parameter["name"]: text})
            else:
                with pytest.raises(ValidationError):
                    schema.load({parameter["name"]: text})

    queries: list[tuple[str, Schema]] = [
        ("/admin/runs", RunQuerySchema()),
        ("/admin/receipts", ReceiptQuerySchema()),
        ("/admin/budgets", BudgetQuerySchema()),
        ("/admin/calls", OpenCallQuerySchema()),
        ("/admin/audit", AuditQuerySchema()),
        ("/admin/tokens", TokenQuerySchema()),
    ]
    check_rows(queries, check)


def test_the_page_of_the_document_loads_no_files_from_other_hosts() -> None:
    client = app_of().test_client()
    page = client.get("/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(files) == 5
    for path in files:
        with client.get(path) as reply:
            assert reply.status_code == 200
