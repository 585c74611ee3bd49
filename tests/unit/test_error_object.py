"""Error objects in place of an answer: which documents are errors, and the status of each."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream.error_object import error_status, text_inside_stream
from ridges_proxy.upstream.error_text import MAX_BYTES
from tests.support.table import check_rows

EMPTY = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}


def test_an_error_object_has_the_status_that_it_names() -> None:
    rows: list[tuple[object, int | None]] = [
        ({"error": {"message": "x", "code": 400}}, 400),
        ({"error": {"message": "x", "code": "429"}}, 429),
        ({"error": {"message": "x", "code": 503.0}}, 503),
        ({"error": {"message": "x", "status": 404}}, 404),
        ({"error": "x", "status_code": 422}, 422),
        ({"error": {"message": "x", "type": "server_error"}}, 502),
        ({"error": {"message": "x", "code": 400.5}}, 502),
        ({"error": {"message": "x", "code": 200}}, 502),
        ({"error": {"message": "x", "code": True}}, 502),
        ({"error": {"message": "x", "code": [400]}}, 502),
        ({"error": "x"}, 502),
        ({"detail": "x"}, 502),
        ({"status": 500, "detail": "x"}, 500),
        ({"object": "error", "message": "x", "code": 400}, 400),
        ({"object": "error"}, 502),
        ({"error": {"message": "x", "code": 599}}, 599),
        ({"error": {"message": "x", "code": 600}}, 502),
        ({"message": "x", "code": 400}, 400),
        # By the name of the code or of the type.
        ({"error": {"type": "BadRequestError"}}, 400),
        ({"error": {"type": "BAD_REQUEST"}}, 400),
        ({"error": {"type": "invalid_request_error"}}, 400),
        ({"error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}, 400),
        ({"error": {"type": "invalid_request_error", "code": "invalid_api_key"}}, 401),
        ({"error": {"type": "authentication_error"}}, 401),
        ({"error": {"type": "insufficient_quota", "code": "insufficient_quota"}}, 402),
        ({"error": {"type": "billing_error"}}, 402),
        ({"error": {"type": "permission_error"}}, 403),
        ({"error": {"type": "NotFoundError"}}, 404),
        ({"error": {"type": "invalid_request_error", "code": "model_not_found"}}, 404),
        ({"error": {"type": "request_too_large"}}, 413),
        ({"error": "x", "error_type": "Validation"}, 422),
        ({"error": {"type": "rate_limit_error"}}, 429),
        ({"error": {"type": "requests", "code": "rate_limit_exceeded"}}, 429),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 429),
        ({"error": "x", "error_type": "Unhealthy"}, 503),
        ({"error": {"type": "service_unavailable_error"}}, 503),
        ({"error": {"type": "timeout_error"}}, 504),
        # A number counts before a name.
        ({"error": {"type": "invalid_request_error"}, "code": 429}, 429),
        # Beside choices without a text, and without a usage.
        ({"error": {"code": 400}, "choices": []}, 400),
        ({"error": {"code": 400}, "choices": [EMPTY]}, 400),
        ({"error": {"code": 400}, "choices": [{"message": {"role": "assistant"}}]}, 400),
        ({"error": {"code": 400}, "choices": [EMPTY], "usage": {"prompt_tokens": 5}}, None),
        ({"error": {"code": 400}, "choices": [{"delta": {"content": "x"}}]}, None),
        ({"error": {"code": 400}, "choices": [{"message": {"content": "x"}}]}, None),
        ({"error": {"code": 400}, "choices": [5]}, None),
        ({"error": {"code": 400}, "choices": "x"}, None),
        # No errors.
        ({}, None),
        ([], None),
        (None, None),
        ({"choices": [EMPTY]}, None),
        ({"choices": [EMPTY], "error": None}, None),
        ({"message": "x"}, None),
        ({"object": "list", "code": 400}, None),
        ({"id": "1", "choices": [], "usage": {}}, None),
        ([{"error": {"code": 400}}], None),
    ]

    def check(row: tuple[object, int | None]) -> None:
        document, status = row
        assert error_status(document) == status

    check_rows(rows, check)


def test_the_text_of_an_error_inside_a_stream_is_never_a_part_of_the_answer() -> None:
    rows: list[tuple[object, str]] = [
        ({"error": {"message": "Bad"}}, "Bad"),
        ({"error": "Bad", "choices": [{}]}, "Bad"),
        ({"detail": "Bad"}, "Bad"),
        ({"message": "text", "choices": [{}]}, ""),
        ([{"message": "text"}], ""),
        ("text", ""),
    ]

    def check(row: tuple[object, str]) -> None:
        document, text = row
        assert text_inside_stream(json.dumps(document).encode(), "") == text

    check_rows(rows, check)
    assert text_inside_stream(b"{", "") == ""
    assert text_inside_stream(b'{"detail": "Bad"}' + b" " * MAX_BYTES, "") == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-600, 600) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "code", "type", "message", "choices", "delta", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
documents = st.dictionaries(
    st.sampled_from(["error", "detail", "code", "type", "message", "object", "status", "usage"]), json_values
)


@given(document=documents, text=st.text(min_size=1), place=st.sampled_from(["delta", "message"]))
def test_a_document_with_a_part_of_an_answer_is_never_an_error(
    document: dict[str, Any], text: str, place: str
) -> None:
    """Otherwise its call would cost nothing."""
    answer = {"index": 0, place: {"content": text}}

    assert error_status({**document, "choices": [answer]}) is None
    assert error_status({**document, "choices": [EMPTY, answer]}) is None


@given(value=json_values)
def test_any_json_has_a_valid_status_or_none(value: object) -> None:
    status = error_status(json.loads(json.dumps(value)))

    assert status is None or 400 <= status <= 599
