"""Any body on `/v1` gets an answer or an error in OpenAI's form, never an internal error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridges_proxy.web.schemas.chat import ChatSchema
from ridges_proxy.web.schemas.response_request import ResponsesSchema
from tests.contract_http.openai_api import CHAT_PATH, WHOLE
from tests.contract_http.service import CHAT_URL, EMBED_URL, app_of, post, services_of, usage_in

if TYPE_CHECKING:
    import responses
    from flask import Flask

FIELDS = sorted({*ChatSchema().fields, *ResponsesSchema().fields, "encoding_format", "best_of"})
KEYS = st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "_schema",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | KEYS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=4),
    max_leaves=12,
)
PARTS = (
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "input_text"]), "text": VALUES})
    | VALUES
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.just("user") | VALUES},
        optional={"content": st.text() | st.lists(PARTS, max_size=3), "tool_calls": VALUES},
    ),
    max_size=4,
)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"])},
        optional={
            "role": st.sampled_from(["user", "assistant", "developer"]),
            "content": st.text() | st.lists(PARTS, max_size=3) | VALUES,
            "call_id": st.just("1"),
            "name": st.just("f"),
            "arguments": st.text(),
            "output": st.text() | VALUES,
            "summary": VALUES,
        },
    ),
    max_size=4,
)
REQUESTS = st.fixed_dictionaries(
    {"run_id": st.just("run")},
    optional={
        "messages": MESSAGES | st.just([{"role": "user", "content": "hi"}]),
        "input": st.text() | st.lists(st.text(), max_size=3) | VALUES | ITEMS,
        "stream": st.just(False) | VALUES,
    },
)
CHATS = st.tuples(REQUESTS, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2)).map(
    lambda pair: {**pair[1], **pair[0]}
)
BODIES = (VALUES | CHATS).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)

examples = settings(
    max_examples=settings().max_examples // 4,  # each example is a request
    # All examples share the app and the fake upstream, which each one resets.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def app() -> Flask:
    return app_of(LOG_LEVEL="ERROR", RATE_LIMIT_PER_RUN="off", RATE_LIMIT_PER_IP="off", CIRCUIT_FAILURES="0")


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/responses", "/v1/embeddings", "/v1/estimate"])
@given(body=BODIES)
@examples
def test_any_body_is_answered_or_refused_and_a_refused_one_changes_nothing(
    app: Flask, upstream: responses.RequestsMock, path: str, body: bytes
) -> None:
    upstream.reset()
    upstream.post(CHAT_URL, body=orjson.dumps(WHOLE))
    upstream.post(EMBED_URL, body=b"[[0.5]]")
    before = usage_in(app)

    reply = post(app, body, path)

    assert reply.status_code in {200, 400, 402, 404, 502}
    assert reply.status_code != 502 or len(upstream.calls) == 1, "the fake upstream has one vector"
    assert (usage_in(app) != before) is (len(upstream.calls) == 1)
    assert services_of(app).admission.in_flight == 0
    if reply.status_code != 200:
        assert set((reply.json or {})["error"]) == {"message", "type", "param", "code"}
