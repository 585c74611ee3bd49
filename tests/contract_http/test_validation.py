"""422: what does not fit is named, in the form that FastAPI gave agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
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
from tests.support.app import AGENT

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
TOO_SHORT = ("String should have at least 1 character", "string_too_short")
TOO_LONG = ("String should have at most 256 characters", "string_too_long")
CONTROL = ("String should have no control characters", "string_pattern_mismatch")
NEGATIVE = ("Input should be greater than or equal to 0", "greater_than_equal")
TOO_LARGE = ("Input should be less than or equal to 2", "less_than_equal")
TOO_MANY = ("List should have at most 10000 items after validation", "too_long")
NO_ITEMS = ("List should have at least 1 item after validation, not 0", "too_short")

Words = tuple[str, str]
Problems = list[tuple[list[str | int], Words]]

NO_STRINGS: list[Any] = [None, True, False, 0, 1.5, 2**70, [], ["x"], {}, {"a": "b"}]
BAD_NAMES = [
    *[(value, NO_STRING) for value in NO_STRINGS],
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
    """The whole answer that names these problems."""
    return 422, envelope([problem(["body", *loc], *words) for loc, words in problems], "invalid_request")


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


@pytest.mark.parametrize(
    ("path", "body", "problems"),
    [
        (INFERENCE, without(CHAT, "run_id"), [(["run_id"], MISSING)]),
        (INFERENCE, without(CHAT, "messages"), [(["messages"], MISSING)]),
        (INFERENCE, {}, [(["run_id"], MISSING), (["messages"], MISSING)]),
        (INFERENCE, {"Run_id": "1"}, [(["run_id"], MISSING), (["messages"], MISSING)]),
        (EMBEDDING, without(TEXT, "run_id"), [(["run_id"], MISSING)]),
        (EMBEDDING, without(TEXT, "input"), [(["input"], MISSING)]),
        (EMBEDDING, {}, [(["run_id"], MISSING), (["input"], MISSING)]),
    ],
)
def test_every_missing_field_is_named(
    app: Flask, path: str, body: dict[str, Any], problems: Problems
) -> None:
    reply = app.test_client().post(path, json=body, headers={**AGENT, "X-Request-ID": "request-of-the-test"})
    assert seen(reply) == refusal(problems)
    assert reply.content_type == "application/json"
    assert untouched(app)


@pytest.mark.parametrize(("value", "words"), [("", TOO_SHORT), *BAD_NAMES])
def test_a_run_id_that_does_not_fit_is_named(app: Flask, value: object, words: Words) -> None:
    assert seen(infer(app, run_id=value)) == refusal([(["run_id"], words)])


@pytest.mark.parametrize(("value", "words"), [pair for pair in BAD_NAMES if pair[0] is not None])
def test_a_model_that_does_not_fit_is_named(app: Flask, value: object, words: Words) -> None:
    assert seen(infer(app, model=value)) == refusal([(["model"], words)])


@pytest.mark.parametrize("value", NO_STRINGS)
def test_an_input_that_is_no_string_is_named(app: Flask, value: object) -> None:
    reply = app.test_client().post(
        EMBEDDING, json={**TEXT, "input": value}, headers={**AGENT, "X-Request-ID": "request-of-the-test"}
    )
    assert seen(reply) == refusal([(["input"], NO_STRING)])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, NO_NUMBER),
        (False, NO_NUMBER),
        ("0.5", NO_NUMBER),
        ("", NO_NUMBER),
        ([0.5], NO_NUMBER),
        ({}, NO_NUMBER),
        (-0.1, NEGATIVE),
        (-1, NEGATIVE),
        (-(2**70), NEGATIVE),
        (2.0001, TOO_LARGE),
        (3, TOO_LARGE),
        (1e308, TOO_LARGE),
        (2**64, TOO_LARGE),
        (10**300, TOO_LARGE),
    ],
)
def test_a_temperature_that_does_not_fit_is_named(app: Flask, value: object, words: Words) -> None:
    assert seen(infer(app, temperature=value)) == refusal([(["temperature"], words)])


@pytest.mark.parametrize("value", [None, True, 1, "Hello", {}, HELLO])
def test_messages_that_are_no_list_are_named(app: Flask, value: object) -> None:
    assert seen(infer(app, messages=value)) == refusal([(["messages"], NO_LIST)])


@pytest.mark.parametrize(
    ("messages", "problems"),
    [
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
    ],
)
def test_messages_that_do_not_fit_are_named_by_index_and_field(
    app: Flask, messages: list[Any], problems: Problems
) -> None:
    expected: Problems = [(["messages", *loc], words) for loc, words in problems]
    assert seen(infer(app, messages=messages)) == refusal(expected)


def test_of_very_many_faulty_messages_the_first_hundred_are_named(app: Flask) -> None:
    """A body of 4 MiB can hold two million: naming them all took 12 seconds, and 285 MB."""
    expected: Problems = [(["messages", index], NO_OBJECT) for index in range(1, 101)]
    assert seen(infer(app, messages=[HELLO, *([0] * 5000)])) == refusal(expected)


def test_several_problems_are_named_at_once_in_the_fields_order(app: Flask) -> None:
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


def test_a_refused_request_calls_nobody(app: Flask, upstream: responses.RequestsMock) -> None:
    infer(app, messages=[])
    assert len(upstream.calls) == 0
    assert untouched(app)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", [b"null", b"true", b"1", b"1.5", b'"Hello"', b"[]", b"[{}]", b"  0 "])
def test_a_body_that_is_no_object_is_named(app: Flask, path: str, body: bytes) -> None:
    assert seen(post(app, body, path)) == refusal([([], NO_OBJECT)])


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("content_type", ["application/json", None, "text/plain"])
def test_an_empty_body_is_a_missing_one(app: Flask, path: str, content_type: str | None) -> None:
    words = (
        ("Content-Type should be application/json", "content_type")
        if content_type == "text/plain"
        else MISSING
    )
    assert seen(post(app, b"", path, content_type)) == refusal([([], words)])


@pytest.mark.parametrize(
    ("body", "position"),
    [
        pytest.param(b"{", 1, id="cut"),
        pytest.param(b'{"run_id":', 10, id="cut_before_a_value"),
        pytest.param(b"{'run_id': 1}", 1, id="single_quotes"),
        pytest.param(b'{"run_id":1,}', 11, id="comma_at_the_end"),
        pytest.param(b"{} {}", 3, id="two_values"),
        pytest.param(b" ", 0, id="only_a_space"),
        pytest.param(b"run_id=1", 0, id="a_form"),
        pytest.param(b"\xef\xbb\xbf{}", 0, id="byte_order_mark"),
        pytest.param(b'{"run_id":"\xff"}', 0, id="invalid_utf_8"),
        pytest.param(b'{"run_id":"\xed\xa0\x80"}', 0, id="surrogate_as_utf_8"),
        pytest.param('{"run_id":"1"}'.encode("utf-16"), 0, id="utf_16"),
        pytest.param(rb'{"run_id":"\ud800"}', 11, id="lone_surrogate"),
        pytest.param(b'{"run_id":"a\nb"}', 12, id="raw_newline_in_a_string"),
        pytest.param(b'{"temperature":NaN}', 15, id="nan"),
        pytest.param(b'{"temperature":Infinity}', 15, id="infinity"),
        pytest.param(b'{"temperature":-Infinity}', 16, id="minus_infinity"),
        pytest.param(b'{"temperature":1e999}', 15, id="1e999"),
        pytest.param(b'{"temperature":1' + b"0" * 400 + b"}", 15, id="10_to_the_400"),
        pytest.param(b'{"temperature":01}', 15, id="leading_zero"),
        pytest.param(b"[" * 100_000, 1025, id="100_000_lists_deep_and_open"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, 1025, id="100_000_lists_deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 5121, id="100_000_objects_deep"),
        pytest.param(b'{"run_id":"1\x00"}', 12, id="raw_nul"),
    ],
)
def test_a_body_that_is_no_json_is_named_with_the_place(app: Flask, body: bytes, position: int) -> None:
    assert seen(post(app, body)) == refusal([([position], NO_JSON)])
    assert untouched(app)


def test_a_deep_value_in_an_unknown_field_is_ignored(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    deep = b"[" * 1000 + b"]" * 1000
    body = (
        b'{"run_id":"1","messages":[{"role":"user","content":"Hello","x":' + deep + b'}],"y":' + deep + b"}"
    )
    assert seen(post(app, body)) == (200, "Hi")


def test_of_a_name_that_stands_twice_the_last_one_counts(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = (
        b'{"run_id":"","run_id":"1","messages":[],"messages":[{"role":1,"role":"user","content":"a",'
        b'"content":"Hello"}],"temperature":9,"temperature":0.5}'
    )
    assert seen(post(app, body)) == (200, "Hi")
    assert sent(upstream)["messages"] == [HELLO]
    assert sent(upstream)["temperature"] == 0.5


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application",
        "x/application+json",
    ],
)
def test_another_content_type_is_refused(app: Flask, path: str, content_type: str) -> None:
    words = ("Content-Type should be application/json", "content_type")
    assert seen(post(app, b"{}", path, content_type)) == refusal([([], words)])


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"],
)
def test_json_by_another_name_and_no_content_type_at_all_are_taken(
    app: Flask, content_type: str | None
) -> None:
    assert seen(post(app, b"[]", content_type=content_type)) == refusal([([], NO_OBJECT)])


def test_every_type_of_a_problem_keeps_its_words_in_a_service_of_its_own() -> None:
    """Schemas are shared by all apps of a process: one app's refusal must not change another's."""
    assert seen(infer(app_of(), run_id="")) == refusal([(["run_id"], TOO_SHORT)])
    assert seen(infer(app_of(), run_id=None)) == refusal([(["run_id"], NO_STRING)])
