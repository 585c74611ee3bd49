"""422: every faulty field is named, in FastAPI's form, which agents know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    HEADERS,
    HELLO,
    TEXT,
    answer_of,
    app_of,
    envelope,
    infer,
    post,
    problem,
    seen,
    sent,
    untouched,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask

INFERENCE = "/agents/inference"
EMBEDDING = "/agents/embedding"
ROUTES = (INFERENCE, EMBEDDING)

MISSING = ("Field required", "missing")
NO_STRING = ("Input should be a valid string", "string_type")
NO_NUMBER = ("Input should be a valid number", "float_type")
NO_LIST = ("Input should be a valid list", "list_type")
NO_OBJECT = (
    "Input should be a valid dictionary or object to extract fields from",
    "model_attributes_type",
)
NO_JSON = ("JSON decode error", "json_invalid")
WRONG_TYPE = ("Content-Type should be application/json", "content_type")
TOO_SHORT = ("String should have at least 1 character", "string_too_short")
TOO_LONG = ("String should have at most 256 characters", "string_too_long")
CONTROL = ("String should have no control characters", "string_pattern_mismatch")
NEGATIVE = ("Input should be greater than or equal to 0", "greater_than_equal")
TOO_LARGE = ("Input should be less than or equal to 2", "less_than_equal")
TOO_MANY = ("List should have at most 10000 items after validation", "too_long")
NO_ITEMS = ("The list of messages is empty: send at least 1 message", "too_short")

Message = tuple[str, str]
"""The text and the type of a problem."""

Problems = list[tuple[list[str | int], Message]]

NOT_STRINGS: list[Any] = [None, True, False, 0, 1.5, 2**70, [], ["x"], {}, {"a": "b"}]
BAD_NAMES: list[tuple[Any, Message]] = [
    *[(value, NO_STRING) for value in NOT_STRINGS],
    ("x" * 257, TOO_LONG),
    ("a\nb", CONTROL),
    ("a\n", CONTROL),
    ("\r", CONTROL),
    ("\x00", CONTROL),
    ("\x1b[31m", CONTROL),
    ("\x7f", CONTROL),
    ("\u2028", CONTROL),
    ("\u202e", CONTROL),
]


def refusal(problems: Problems) -> tuple[int, dict[str, object]]:
    """The complete answer that names these problems."""
    details = [problem(["body", *loc], *message) for loc, message in problems]
    return 422, envelope(details, "invalid_request")


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def check_field(app: Flask, name: str, rows: list[tuple[Any, Message]]) -> None:
    """Check the problem of each bad value of one field."""

    def check(row: tuple[Any, Message]) -> None:
        value, message = row
        assert seen(infer(app, **{name: value})) == refusal([([name], message)])
        assert untouched(app)

    check_rows(rows, check)


# --- fields ------------------------------------------------------------------------------------------------

MISSING_FIELDS: list[tuple[str, dict[str, Any], Problems]] = [
    (INFERENCE, without(CHAT, "run_id"), [(["run_id"], MISSING)]),
    (INFERENCE, without(CHAT, "messages"), [(["messages"], MISSING)]),
    (INFERENCE, {}, [(["run_id"], MISSING), (["messages"], MISSING)]),
    (INFERENCE, {"Run_id": "1"}, [(["run_id"], MISSING), (["messages"], MISSING)]),
    (EMBEDDING, without(TEXT, "run_id"), [(["run_id"], MISSING)]),
    (EMBEDDING, without(TEXT, "input"), [(["input"], MISSING)]),
    (EMBEDDING, {}, [(["run_id"], MISSING), (["input"], MISSING)]),
]


def test_every_missing_field_is_named(app: Flask) -> None:
    def check(row: tuple[str, dict[str, Any], Problems]) -> None:
        path, body, problems = row
        reply = app.test_client().post(path, json=body, headers=HEADERS)
        assert seen(reply) == refusal(problems)
        assert reply.content_type == "application/json"
        assert untouched(app)

    check_rows(MISSING_FIELDS, check)


def test_a_bad_run_id_is_named(app: Flask) -> None:
    check_field(app, "run_id", [("", TOO_SHORT), *BAD_NAMES])


def test_a_bad_model_is_named(app: Flask) -> None:
    check_field(app, "model", [row for row in BAD_NAMES if row[0] is not None])


def test_an_input_that_is_not_a_string_is_named(app: Flask) -> None:
    def check(value: object) -> None:
        reply = app.test_client().post(EMBEDDING, json={**TEXT, "input": value}, headers=HEADERS)
        assert seen(reply) == refusal([(["input"], NO_STRING)])

    check_rows(NOT_STRINGS, check)


def test_a_bad_temperature_is_named(app: Flask) -> None:
    not_numbers: list[Any] = [True, False, "0.5", "", [0.5], {}]
    below: list[Any] = [-0.1, -1, -(2**70)]
    above: list[Any] = [2.0001, 3, 1e308, 2**64, 10**300]
    rows = [(value, NO_NUMBER) for value in not_numbers]
    rows += [(value, NEGATIVE) for value in below] + [(value, TOO_LARGE) for value in above]
    check_field(app, "temperature", rows)


def test_messages_that_are_not_a_list_are_named(app: Flask) -> None:
    values: list[Any] = [None, True, 1, "Hello", {}, HELLO]
    check_field(app, "messages", [(value, NO_LIST) for value in values])


BAD_MESSAGES: list[tuple[list[Any], Problems]] = [
    ([], [([], NO_ITEMS)]),
    ([HELLO] * 10_001, [([], TOO_MANY)]),
    ([None], [([0], NO_OBJECT)]),
    (["Hello"], [([0], NO_OBJECT)]),
    ([[HELLO]], [([0], NO_OBJECT)]),
    ([{}], [([0, "role"], MISSING), ([0, "content"], MISSING)]),
    ([{"role": "user"}], [([0, "content"], MISSING)]),
    ([{"content": "Hello"}], [([0, "role"], MISSING)]),
    ([{"role": "user", "content": None}], [([0, "content"], NO_STRING)]),
    ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], [([0, "content"], NO_STRING)]),
    ([{"role": 1, "content": {}}], [([0, "role"], NO_STRING), ([0, "content"], NO_STRING)]),
    ([HELLO, None, HELLO, {"role": "user"}], [([1], NO_OBJECT), ([3, "content"], MISSING)]),
    # A body of 4 MiB can have two million faulty messages: naming all of them took 12 seconds and 285 MB.
    ([HELLO, *([0] * 5000)], [([index], NO_OBJECT) for index in range(1, 101)]),
]


def test_faulty_messages_are_named_by_index_and_field(app: Flask) -> None:
    def check(row: tuple[list[Any], Problems]) -> None:
        messages, problems = row
        expected: Problems = [(["messages", *loc], message) for loc, message in problems]
        assert seen(infer(app, messages=messages)) == refusal(expected)

    check_rows(BAD_MESSAGES, check)


def test_several_problems_are_named_at_once_in_the_order_of_the_schema(app: Flask) -> None:
    reply = infer(app, temperature="hot", model=5, messages=[None], run_id="")
    assert seen(reply) == refusal(
        [
            (["run_id"], TOO_SHORT),
            (["messages", 0], NO_OBJECT),
            (["model"], NO_STRING),
            (["temperature"], NO_NUMBER),
        ]
    )
    assert untouched(app)


def test_a_refused_request_is_not_sent_upstream(app: Flask, upstream: responses.RequestsMock) -> None:
    infer(app, messages=[])
    assert len(upstream.calls) == 0
    assert untouched(app)


# --- bodies ------------------------------------------------------------------------------------------------


def test_a_body_that_is_not_an_object_is_named(app: Flask) -> None:
    def check(row: tuple[str, bytes]) -> None:
        path, body = row
        assert seen(post(app, body, path)) == refusal([([], NO_OBJECT)])

    bodies = [b"null", b"true", b"1", b"1.5", b'"Hello"', b"[]", b"[{}]", b"  0 "]
    check_rows([(path, body) for path in ROUTES for body in bodies], check)


def test_an_empty_body_counts_as_missing(app: Flask) -> None:
    def check(row: tuple[str, str | None, Message]) -> None:
        path, content_type, message = row
        assert seen(post(app, b"", path, content_type)) == refusal([([], message)])

    types = [("application/json", MISSING), (None, MISSING), ("text/plain", WRONG_TYPE)]
    check_rows([(path, *row) for path in ROUTES for row in types], check)


NOT_JSON: dict[str, tuple[bytes, int]] = {
    "cut": (b"{", 1),
    "cut_before_a_value": (b'{"run_id":', 10),
    "single_quotes": (b"{'run_id': 1}", 1),
    "comma_at_the_end": (b'{"run_id":1,}', 11),
    "two_values": (b"{} {}", 3),
    "only_a_space": (b" ", 0),
    "a_form": (b"run_id=1", 0),
    "byte_order_mark": (b"\xef\xbb\xbf{}", 0),
    "invalid_utf_8": (b'{"run_id":"\xff"}', 0),
    "surrogate_as_utf_8": (b'{"run_id":"\xed\xa0\x80"}', 0),
    "utf_16": ('{"run_id":"1"}'.encode("utf-16"), 0),
    "lone_surrogate": (rb'{"run_id":"\ud800"}', 11),
    "raw_newline_in_a_string": (b'{"run_id":"a\nb"}', 12),
    "nan": (b'{"temperature":NaN}', 15),
    "infinity": (b'{"temperature":Infinity}', 15),
    "minus_infinity": (b'{"temperature":-Infinity}', 16),
    "1e999": (b'{"temperature":1e999}', 15),
    "10_to_the_400": (b'{"temperature":1' + b"0" * 400 + b"}", 15),
    "leading_zero": (b'{"temperature":01}', 15),
    "60_000_lists_deep_and_open": (b"[" * 60_000, 1025),
    "60_000_lists_deep": (b"[" * 60_000 + b"]" * 60_000, 1025),
    "30_000_objects_deep": (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, 5121),
    "raw_nul": (b'{"run_id":"1\x00"}', 12),
}


def test_a_body_that_is_not_json_is_named_with_the_position_of_the_error(app: Flask) -> None:
    def check(name: str) -> None:
        body, position = NOT_JSON[name]
        assert seen(post(app, body)) == refusal([([position], NO_JSON)])
        assert untouched(app)

    check_rows(NOT_JSON, check)


def test_a_deep_value_in_an_unknown_field_is_ignored(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    deep = b"[" * 1000 + b"]" * 1000
    body = (
        b'{"run_id":"1","messages":[{"role":"user","content":"Hello","x":' + deep + b'}],"y":' + deep + b"}"
    )
    assert seen(post(app, body)) == (200, "Hi")


def test_the_last_one_of_repeated_names_counts(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = (
        b'{"run_id":"","run_id":"1","messages":[],"messages":[{"role":1,"role":"user","content":"a",'
        b'"content":"Hello"}],"temperature":9,"temperature":0.5}'
    )
    assert seen(post(app, body)) == (200, "Hi")
    assert sent(upstream)["messages"] == [HELLO]
    assert sent(upstream)["temperature"] == 0.5


def test_another_content_type_is_refused(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        path, content_type = row
        assert seen(post(app, b"{}", path, content_type)) == refusal([([], WRONG_TYPE)])

    types = [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application",
        "x/application+json",
    ]
    check_rows([(path, content_type) for path in ROUTES for content_type in types], check)


def test_other_names_of_json_and_a_missing_content_type_are_allowed(app: Flask) -> None:
    def check(content_type: str | None) -> None:
        assert seen(post(app, b"[]", content_type=content_type)) == refusal([([], NO_OBJECT)])

    check_rows(
        [None, "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"], check
    )


def test_the_texts_of_one_app_do_not_change_those_of_another() -> None:
    """Schemas are shared by all apps of a process."""
    assert seen(infer(app_of(), run_id="")) == refusal([(["run_id"], TOO_SHORT)])
    assert seen(infer(app_of(), run_id=None)) == refusal([(["run_id"], NO_STRING)])
