"""Any body on `/agents` and `/api` gets an answer of the model or a list of problems, never a bug's 500."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract_http.service import CHAT_URL, EMBED_URL, answer_of, app_of, post, services_of, usage_in

if TYPE_CHECKING:
    import responses
    from flask import Flask

NAMES_OF_TOOLS = ["tool_mode", "tools", "name", "parameters", "type", "required"]
NAMES_OF_FIELDS = [
    "run_id",
    "evaluation_run_id",
    "messages",
    "model",
    "temperature",
    "input",
    "role",
    "content",
]
NAMES = st.sampled_from([*NAMES_OF_FIELDS, *NAMES_OF_TOOLS, "_schema"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()  # also NaN and infinities, which the standard library writes as such
    | st.text()  # also surrogates, which it escapes
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.just("user") | VALUES, "content": st.text() | VALUES}) | VALUES,
    max_size=4,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"name": st.just("f") | VALUES},
        optional={
            "description": st.text() | VALUES,
            "parameters": st.lists(
                st.fixed_dictionaries(
                    {"name": st.text() | VALUES, "type": st.sampled_from(["string", "array"]) | VALUES},
                    optional={"required": st.booleans() | VALUES, "description": st.text() | VALUES},
                ),
                max_size=3,
            )
            | VALUES,
        },
    ),
    max_size=3,
)
AGENT_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "run_id": st.just("run") | VALUES,
        "evaluation_run_id": st.just("run") | VALUES,
        "tool_mode": st.sampled_from(["none", "auto", "required"]) | VALUES,
        "tools": TOOLS | VALUES,
        "messages": MESSAGES | VALUES,
        "input": st.text() | VALUES,
        "model": st.none() | VALUES,
        "temperature": st.floats(0, 2) | VALUES,
    },
)
BODIES = (VALUES | AGENT_BODIES).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)

ANSWERS: list[Any] = ["Hi", {"content": "Hi", "tool_calls": []}, [[1]], {"embedding": [1]}]

examples = settings(
    max_examples=settings().max_examples // 4,  # each example is a request
    # All examples share the app and the fake upstream, which each one resets.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def app() -> Flask:
    return app_of(LOG_LEVEL="ERROR", RATE_LIMIT_PER_RUN="off", RATE_LIMIT_PER_IP="off", CIRCUIT_FAILURES="0")


@pytest.mark.parametrize(
    "path", ["/agents/inference", "/agents/embedding", "/api/inference", "/api/embedding"]
)
@given(body=BODIES)
@examples
def test_any_body_is_answered_or_refused_and_a_refused_one_changes_nothing(
    app: Flask, upstream: responses.RequestsMock, path: str, body: bytes
) -> None:
    upstream.reset()
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[[1]]")
    before = usage_in(app)

    reply = post(app, body, path)

    answered = reply.status_code == 200 and reply.json in ANSWERS
    refused = reply.status_code in {404, 422} or (
        reply.status_code == 200 and isinstance(reply.json, dict) and set(reply.json) == {"error"}
    )
    assert answered is not refused
    assert len(upstream.calls) == answered
    assert (usage_in(app) != before) is answered
    assert services_of(app).admission.in_flight == 0
