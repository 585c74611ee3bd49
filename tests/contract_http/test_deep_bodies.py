"""Bodies with many levels: an error that names the place, and never an internal one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.contract_http.service import CHAT, HEADERS, HELLO, MODEL, RUN, app_of, untouched
from tests.support.table import check_rows

if TYPE_CHECKING:
    from flask import Flask

PLACE = "PLACE"
"""What is replaced by the deep value, with its quotes or inside them."""

FUNCTION = {"name": "f", "arguments": "{}"}
CALL = {"id": "c", "type": "function", "function": FUNCTION}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "x"}

FIELDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "run_id": ({"run_id": PLACE}, "run_id"),
    "model": ({"model": PLACE}, "model"),
    "messages": ({"messages": PLACE}, "messages"),
    "a message": ({"messages": [PLACE]}, "messages[0]"),
    "a content": ({"messages": [{**HELLO, "content": PLACE}]}, "messages[0].content"),
    "a part": (
        {"messages": [{**HELLO, "content": [{"type": "text", "text": PLACE}]}]},
        "messages[0].content[0].text",
    ),
    "an unknown field of a message": ({"messages": [{**HELLO, "x": PLACE}]}, "messages[0].x"),
    "tool calls": ({"messages": [{**CALLED, "tool_calls": PLACE}]}, "messages[0].tool_calls"),
    "tools": ({"tools": PLACE}, "tools"),
    "parameters": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": PLACE}}}]},
        "tools",
    ),
    "response_format": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x": PLACE}}}},
        "response_format",
    ),
    "tool_choice": ({"tools": [TOOL], "tool_choice": PLACE}, "tool_choice"),
    "stop": ({"stop": PLACE}, "stop"),
    "logit_bias": ({"logit_bias": PLACE}, "logit_bias"),
    "stream_options": ({"stream_options": PLACE}, "stream_options"),
    "an unknown field": ({"x": PLACE}, "x"),
}
"""A field with a deep value, and the beginning of the place that the error names."""

DEEP = {
    "lists": b"[" * 1_000 + b"]" * 1_000,
    "objects": b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
}


def estimated(app: Flask, fields: dict[str, Any], deep: bytes) -> tuple[int, dict[str, Any]]:
    body = orjson.dumps({**CHAT, "model": MODEL, "run_id": RUN, **fields}).replace(b'"PLACE"', deep)
    reply = app.test_client().post(
        "/v1/estimate", data=body, content_type="application/json", headers=HEADERS
    )
    found: dict[str, Any] = orjson.loads(reply.data)
    return reply.status_code, found


def test_a_value_of_1000_levels_is_refused_by_the_name_of_its_field(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        fields, place = FIELDS[row[0]]
        status, found = estimated(app, fields, DEEP[row[1]])
        assert (status, found["error"]["code"]) == (400, "invalid_request")
        assert found["error"]["param"].startswith(place)
        assert untouched(app)

    check_rows([(name, kind) for name in FIELDS for kind in DEEP], check)


def test_more_levels_than_a_body_may_have_are_invalid_json_in_any_field(app: Flask) -> None:
    def check(name: str) -> None:
        status, found = estimated(app, FIELDS[name][0], b"[" * 1_100 + b"]" * 1_100)
        assert (status, found["error"]["code"]) == (400, "invalid_request")
        assert "JSON" in found["error"]["message"]

    check_rows(FIELDS, check)


def test_deep_json_inside_a_text_of_the_history_is_not_refused() -> None:
    def check(row: tuple[str, int]) -> None:
        kind, repeats = row
        text = (DEEP[kind] * repeats).decode()
        called = {**CALL, "function": {**FUNCTION, "arguments": text}}
        histories = [
            [HELLO, {**CALLED, "tool_calls": [called]}, RESULT],
            [HELLO, CALLED, {**RESULT, "content": text}],
        ]
        for messages in histories:
            status, found = estimated(app_of(), {"messages": messages}, b"")
            assert (status, found["admitted"] or found["code"] == "budget_exhausted") == (200, True)

    check_rows([(kind, repeats) for kind in DEEP for repeats in (1, 20)], check)
