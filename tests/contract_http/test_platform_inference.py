"""`POST /api/inference`, with `run_id` and with `evaluation_run_id`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.contract_http.failures import ERROR_OBJECTS, EXCEPTIONS, REFUSALS, STREAMS, Failure
from tests.contract_http.openai_api import WHOLE
from tests.contract_http.openai_api import ask as ask_openai
from tests.contract_http.platform_api import (
    CHAT,
    FUNCTION_TOOL,
    INFERENCE,
    TOOL,
    answer_with,
    call_of,
    infer,
    json_of,
    post,
    problem,
)
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    HELLO,
    MODEL,
    OWN_BUDGET,
    RUN,
    TEXT,
    answer_of,
    app_of,
    delta,
    envelope,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
    sse,
    untouched,
    usage_in,
)
from tests.contract_http.service import CHAT as AGENTS_CHAT
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

EXHAUSTED = (
    "The evaluation run has reached or exceeded the evaluation run cost limit: what remains of its budget"
    " does not pay for this call. Do not retry it"
)
SENT = {
    "model": MODEL,
    "messages": [HELLO],
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "max_tokens": 8192,
    "temperature": 0.7,
}
TEXTS_ABOUT_FAILURES = {
    "internal_server_error_as_text",
    "failure_text_inside_a_text",
    "failure_text_in_two_pieces",
}
"""Failures on `/agents`, and texts as any other on `/v1`."""

NO_TOOLS: list[Any] = [None, []]

FORMS = {"run_id": AGENTS_CHAT, "evaluation_run_id": CHAT}


def test_with_run_id_it_is_the_agents_inference(upstream: responses.RequestsMock) -> None:
    def check(body: bytes) -> None:
        seen_and_sent = []
        for path in ("/agents/inference", INFERENCE):
            upstream.reset()
            upstream.post(CHAT_URL, body=body)
            app = app_of()
            reply = post(app, path, {**AGENTS_CHAT, "temperature": 0, "tools": [{}], "x": 1})
            seen_and_sent.append((seen(reply), reply.data, sent(upstream), usage_in(app)))
        assert seen_and_sent[0] == seen_and_sent[1]
        assert isinstance(seen_and_sent[1][0][1], str)

    check_rows([answer_of("Hello", ' "Zoë"'), answer_of()], check)


def test_with_evaluation_run_id_the_answer_has_the_text_and_the_tool_calls(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[bytes, object]) -> None:
        body, expected = row
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        app = app_of()
        assert seen(infer(app, tool_mode="auto", tools=[TOOL])) == (200, expected)
        assert spent_nanousd(app) == 4_050

    two = answer_with(
        call_of(json_of({"path": "a", "lines": ["b", {"c": [1]}]})), call_of("{}", 1, "run"), content="Yes"
    )
    arguments = [{"name": "path", "value": "a"}, {"name": "lines", "value": ["b", {"c": [1]}]}]
    calls = [{"name": "edit_file", "arguments": arguments}, {"name": "run", "arguments": []}]
    rows: list[tuple[bytes, object]] = [
        (two, {"content": "Yes", "tool_calls": calls}),
        (answer_of("Hi", " there"), {"content": "Hi there", "tool_calls": []}),
        (answer_of(), {"content": "", "tool_calls": []}),
    ]
    check_rows(rows, check)


def test_arguments_that_are_no_object_are_passed_on_as_their_text(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, list[dict[str, Any]]]) -> None:
        text, expected = row
        upstream.reset()
        upstream.post(CHAT_URL, body=answer_with(call_of(text)))
        status, answer = seen(infer(app_of(), tool_mode="required", tools=[TOOL]))
        assert (status, answer["tool_calls"][0]["arguments"]) == (200, expected)

    deep = '{"a": ' + "[" * 300 + "]" * 300 + "}"
    no_objects = ['{"path": "a', "[1]", '"a"', "1", "edit a", '{"a": NaN}', '{"a": "\\ud800"}', deep]
    rows: list[tuple[str, list[dict[str, Any]]]] = [
        *((text, [{"name": "__raw__", "value": text}]) for text in no_objects),
        *((text, []) for text in ("", " \n", "null", "{}")),
        ('{"a": null, "b": 1, "a": 2}', [{"name": "a", "value": 2}, {"name": "b", "value": 1}]),
    ]
    check_rows(rows, check)


def test_the_tools_go_upstream_as_functions(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[dict[str, object], dict[str, object]]) -> None:
        fields, expected = row
        upstream.reset()
        upstream.post(CHAT_URL, body=answer_of("Hi"))
        assert infer(app_of(), **fields).status_code == 200
        assert sent(upstream) == {**SENT, **expected}

    bare = {"type": "object", "properties": {}, "required": []}
    function: dict[str, Any] = {
        "type": "function",
        "function": {"name": "f", "description": "", "parameters": bare},
    }
    twice = {"name": "f", "parameters": [{"name": "a", "type": kind} for kind in ("string", "integer")]}
    last = {**bare, "properties": {"a": {"type": "integer", "description": ""}}}
    rows: list[Any] = [
        *(({"tool_mode": mode, "tools": [TOOL]}, {"tools": [FUNCTION_TOOL], "tool_choice": mode})
          for mode in ("auto", "required")),
        *(({"tool_mode": mode, "tools": tools}, {})
          for mode in ("none", "auto", None) for tools in NO_TOOLS),
        ({}, {}),
        ({"tool_mode": "auto", "tools": [{"name": "f"}]}, {"tools": [function], "tool_choice": "auto"}),
        ({"tool_mode": "auto", "tools": [{"name": "f", "x": 1, "description": None, "parameters": None}]},
         {"tools": [function], "tool_choice": "auto"}),
        ({"tool_mode": "auto", "tools": [twice]},
         {"tools": [{**function, "function": {**function["function"], "parameters": last}}],
          "tool_choice": "auto"}),
        ({"temperature": 0, "max_tokens": 9, "stream": False, "run_id": RUN, "seed": 1},
         {"temperature": 0.0}),
    ]  # fmt: skip
    check_rows(rows, check)


def test_the_tools_are_counted_as_on_v1(upstream: responses.RequestsMock) -> None:
    """The prompt's bound is the same as for the same tools in OpenAI's form."""
    spent = []
    fields = {"tools": [FUNCTION_TOOL], "tool_choice": "auto", "temperature": 0.7, "stream": True}
    for path, body in (
        (INFERENCE, {**CHAT, "tool_mode": "auto", "tools": [TOOL] * 20}),
        ("/v1/chat/completions", {**AGENTS_CHAT, **fields, "tools": [FUNCTION_TOOL] * 20}),
        (INFERENCE, CHAT),
    ):
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, body=sse(delta("Hi", finish_reason="stop")))
        assert ask_openai(app, path, body).status_code == 200
        spent.append(spent_nanousd(app) or 0)
    assert spent[0] == spent[1]
    assert spent[0] > spent[2] + 20 * len(json_of(FUNCTION_TOOL)) * 270


def test_invalid_fields_are_a_422_that_names_them(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[dict[str, object], dict[str, object]]) -> None:
        fields, expected = row
        app = app_of()
        assert seen(infer(app, **fields)) == (422, envelope([expected], "invalid_request"))
        assert untouched(app)
        assert not upstream.calls

    def faulty(**fields: object) -> dict[str, object]:
        return {"tool_mode": "auto", "tools": [{**TOOL, **fields}]}

    without_mode = "Input should be empty where tool_mode is none, which is the default"
    without_tools = "Input should have at least 1 tool where tool_mode is required"
    name = "Input should be a name of 1 to 64 letters (a-z, A-Z), digits, _ and -"
    kinds = "Input should be one of boolean, integer, number, string, array, object"
    rows: list[Any] = [
        *(({"tool_mode": mode, "tools": [TOOL]}, problem(without_mode, "tools")) for mode in ("none", None)),
        ({"tools": [TOOL]}, problem(without_mode, "tools")),
        *(({"tool_mode": "required", "tools": tools}, problem(without_tools, "tools"))
          for tools in NO_TOOLS),
        ({"tool_mode": "any"}, problem("Input should be one of none, auto, required", "tool_mode")),
        (faulty(name="edit file"), problem(name, "tools", 0, "name")),
        (faulty(name=None), problem("Field required", "tools", 0, "name", kind="missing")),
        (faulty(parameters=[{"name": "a", "type": "date"}]),
         problem(kinds, "tools", 0, "parameters", 0, "type")),
        (faulty(parameters={}),
         problem("Input should be a list of at most 256 items", "tools", 0, "parameters")),
        ({"messages": None}, problem("Input should be a valid list", "messages", kind="list_type")),
        ({"temperature": "0"}, problem("Input should be a valid number", "temperature", kind="float_type")),
        ({"evaluation_run_id": 1},
         problem("Input should be a valid string", "evaluation_run_id", kind="string_type")),
    ]  # fmt: skip
    check_rows(rows, check)


def test_a_run_without_money_is_a_429_about_the_cost_limit(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, dict[str, Any]]) -> None:
        _, body = row
        app = app_of()
        spend(app, CAP_NANOUSD)
        reply = post(app, INFERENCE, body)
        assert seen(reply) == (429, {**envelope(EXHAUSTED, "budget_exhausted"), **OWN_BUDGET})
        assert "Retry-After" not in reply.headers
        assert not upstream.calls

    check_rows(FORMS.items(), check)


def test_an_unsupported_model_is_a_404_that_lists_the_models(app: Flask) -> None:
    def check(row: tuple[str, dict[str, Any]]) -> None:
        _, body = row
        text = f"Model gpt-4 not supported. Please use one of the following models: ['{MODEL}']"
        assert seen(post(app, INFERENCE, {**body, "model": "gpt-4"})) == (
            404,
            envelope(text, "model_not_found"),
        )
        assert untouched(app)

    check_rows(FORMS.items(), check)


def test_a_failure_of_the_upstream_has_the_status_and_the_words_of_v1(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, Failure]) -> None:
        _, failure = row
        app, other = app_of(), app_of()
        upstream.reset()
        failure.arrange(upstream, CHAT_URL)
        reply = infer(app, temperature=0.5)
        assert reply.status_code >= 400
        assert (reply.json or {})["code"] == failure.code
        run = services_of(app).ledger.usage(RUN)
        assert run is not None
        assert (run.held_nanousd, run.in_flight) == (0, 0)
        upstream.reset()
        failure.arrange(upstream, CHAT_URL)
        fields = {"temperature": 0.5, "stream": True}
        expected = ask_openai(other, "/v1/chat/completions", {**AGENTS_CHAT, **fields})
        if expected.status_code != 200:  # else the error came inside the stream
            assert (reply.status_code, reply.headers.get("Retry-After")) == (
                expected.status_code,
                expected.headers.get("Retry-After"),
            )
            assert (reply.json or {})["detail"] == (expected.json or {})["error"]["message"]

    failures = {**REFUSALS, **ERROR_OBJECTS, **EXCEPTIONS, **STREAMS}
    check_rows([row for row in failures.items() if row[0] not in TEXTS_ABOUT_FAILURES], check)


def test_the_run_may_be_named_by_the_header_too(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(post(app, INFERENCE, {"messages": [HELLO]}, **{"X-Run-Id": RUN})) == (200, "Hi")
    reply = post(app, INFERENCE, CHAT, **{"X-Run-Id": "another"})
    assert (reply.status_code, (reply.json or {})["detail"][0]["loc"]) == (422, ["header", "X-Run-Id"])
    assert post(app, INFERENCE, {"messages": [HELLO], "evaluation_run_id": None}).status_code == 422


def test_chat_completions_are_those_of_v1(upstream: responses.RequestsMock) -> None:
    def check(fields: dict[str, object]) -> None:
        replies = []
        for prefix in ("/v1", "/api/v1"):
            upstream.reset()
            whole = {**WHOLE, "system_fingerprint": "fp"}
            upstream.post(CHAT_URL, **({"body": answer_of("Hi")} if "stream" in fields else {"json": whole}))
            app = app_of()
            reply = ask_openai(app, f"{prefix}/chat/completions", {**AGENTS_CHAT, **fields})
            replies.append((reply.status_code, reply.mimetype, reply.data, sent(upstream), usage_in(app)))
        assert replies[0] == replies[1]
        assert replies[0][0] == 200

    check_rows([{}, {"stream": True}, {"tools": [FUNCTION_TOOL]}], check)


def test_a_whole_chat_completion_has_the_fingerprint_that_openrouters_sdk_requires(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    def check(text: str) -> None:
        upstream.reset()
        said = {"role": "assistant", "content": text}
        answer = {**WHOLE, "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
        upstream.post(CHAT_URL, body=b" " + orjson.dumps(answer) + b"\n", content_type="application/json")
        reply = post(app, "/api/v1/chat/completions", AGENTS_CHAT)
        assert (reply.status_code, reply.json) == (200, {**answer, "system_fingerprint": None})

    check_rows(["Hi", "system_fingerprint", '"system_fingerprint": "of a text"'], check)


def test_errors_on_api_v1_have_openrouters_form_and_a_run_without_money_is_a_402(app: Flask) -> None:
    spend(app, CAP_NANOUSD)

    def seen_error(reply: TestResponse) -> tuple[object, ...]:
        error = (reply.json or {})["error"]
        return reply.status_code, error["code"], error["metadata"], error["type"]

    for path, body in (("chat/completions", AGENTS_CHAT), ("embeddings", TEXT)):
        reply = post(app, f"/api/v1/{path}", body)
        assert seen_error(reply) == (402, 402, {"code": "budget_exhausted"}, "insufficient_quota")
        reply = app.test_client().post(f"/api/v1/{path}", json=body)
        assert seen_error(reply) == (401, 401, {"code": "invalid_api_key"}, "authentication_error")
    for path in ("/api/v1/nowhere", "/api/v1"):
        reply = app.test_client().get(path)
        assert seen_error(reply) == (404, 404, {"code": "not_found"}, "not_found_error")


def test_an_error_inside_a_stream_of_api_v1_has_openrouters_form(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=sse(delta("Hi"), {"error": {"message": "Broken", "code": 500}}))
    reply = post(app, "/api/v1/chat/completions", {**AGENTS_CHAT, "stream": True})
    last = [line for line in reply.data.splitlines() if line.startswith(b"data: ")][-1]
    error = orjson.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["metadata"]) == (502, {"code": "upstream_broken"})


def test_the_calls_are_logged_and_counted_by_their_routes(
    upstream: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    app = app_of()
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    for path in (INFERENCE, "/api/v1/chat/completions"):
        assert ask_openai(app, path, {**AGENTS_CHAT, "stream": True}).status_code == 200
        line = orjson.loads(capsys.readouterr().err.splitlines()[-1])
        assert (line["route"], line["run"], line["completion_tokens"]) == (path, RUN, 5)
    infer(app, model="no-such-model")
    assert services_of(app).metrics.totals().calls == {"ok": 2, "model_not_found": 1}
