"""A whole answer of the upstream becomes the JSON of a response, also if it is large or strange."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.strict_json import LARGE_BYTES
from ridges_proxy.web.responses_api.answers import response_json
from ridges_proxy.web.responses_api.response_object import ResponseForm
from ridges_proxy.web.responses_api.stream import ResponseStream
from tests.support.table import check_rows


def form_of() -> ResponseForm:
    return ResponseForm.of({}, "m")


def whole_response(completion: object) -> dict[str, Any]:
    """The response to a request without a stream."""
    response: dict[str, Any] = json.loads(response_json(form_of(), json.dumps(completion).encode()))
    return response


def test_a_whole_answer_is_read_from_its_messages_whatever_else_it_has() -> None:
    def check(extra: object) -> None:
        calls = [{"index": 0, "id": name, "function": {"name": name}} for name in "fg"]
        message = {"content": "Hi", "tool_calls": calls}
        whole = whole_response({"choices": [{"message": message, "delta": extra}]})
        text, *called = whole["output"]
        assert text["content"][0]["text"] == "Hi"
        assert [item["name"] for item in called] == ["f", "g"]

    check_rows(["x", ["x"], {"content": "x"}, 1], check)


def test_an_answer_that_cannot_be_written_again_is_a_broken_one() -> None:
    def check(completion: bytes) -> None:
        with pytest.raises(UpstreamBrokenError):
            response_json(form_of(), completion)

    head, tail = b'{"choices":[{"message":{"content":"Hi"},"logprobs":{"content":[', b"]}}]}"
    deep, large = b"[" * 300 + b"]" * 300, b'"' + b"x" * LARGE_BYTES + b'"'
    values = [deep, deep + b"," + large, b'"\\ud800",' + large, b"[" * 99_999 + b"]" * 99_999]
    check_rows([head + value + tail for value in values], check)


def test_a_large_answer_keeps_its_log_probabilities_as_text_while_it_is_read() -> None:
    token = {"token": "é", "logprob": -1e-05, "bytes": [195, 169]}
    token["top_logprobs"] = [{**token, "logprob": each} for each in (-1e-05, -9999.0, None)]
    choice = {"message": {"content": "Hi"}, "logprobs": {"content": [token] * 1500}}
    completion = json.dumps({"choices": [choice]}).encode()
    assert len(completion) > LARGE_BYTES
    kept: list[object] = []
    with patch.object(ResponseStream, "add", lambda _, chunk: kept.append(chunk)):
        response_json(form_of(), completion)
    (parsed,) = kept
    assert isinstance(parsed, dict)
    assert {type(each) for each in parsed["choices"][0]["logprobs"]["content"]} == {orjson.Fragment}
    whole = json.loads(response_json(form_of(), completion))
    assert whole["output"][0]["content"][0]["logprobs"] == [token] * 1500
