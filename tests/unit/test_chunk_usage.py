"""The usage in each chunk: an upstream that refuses the option is asked without it from then on."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

import orjson
import pytest
import responses

from ridges_proxy.billing.chat_request import ChatRequest, upstream_body, without_chunk_usage
from ridges_proxy.errors import (
    UpstreamBrokenError,
    UpstreamError,
    UpstreamRejectedError,
    UpstreamUnreachableError,
)
from ridges_proxy.upstream import Attempt, ChutesClient, body_reader, chunk_usage
from ridges_proxy.upstream import client as client_module
from ridges_proxy.upstream.chunk_usage import ChunkUsageOption
from tests.support.app import settings_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

CHAT_URL = "http://chutes.test/v1/chat/completions"
ANSWER = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'
NAMED = {"detail": [{"loc": ["body", "stream_options", "continuous_usage_stats"], "msg": "Extra inputs"}]}
CHAT = ChatRequest.of([{"role": "user", "content": "is continuous_usage_stats known?"}], {}, 9)
BODY = upstream_body(CHAT, "m", 9, stream=True)


def in_place(message: object) -> bytes:
    """A stream of an error object."""
    error = orjson.dumps({"error": {"message": orjson.dumps(message).decode(), "code": 400}})
    return b"data: " + error + b"\n\ndata: [DONE]\n\n"


@contextmanager
def client() -> Iterator[tuple[ChutesClient, responses.RequestsMock]]:
    made = ChutesClient(settings_of())
    with closing(made._adapter), responses.RequestsMock() as upstream:
        yield made, upstream


def attempt_of(model: str = "m") -> Attempt:
    return Attempt(upstream_model=model)


def asked(upstream: responses.RequestsMock) -> list[bool]:
    """Whether each request asked for the usage in each chunk. All asked for the usage at the end."""
    options = [orjson.loads(cast("bytes", call.request.body))["stream_options"] for call in upstream.calls]
    assert all(each["include_usage"] for each in options)
    return ["continuous_usage_stats" in each for each in options]


@pytest.mark.parametrize("status", [400, 422])
def test_an_upstream_that_refuses_the_option_is_asked_again_and_then_never_again(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with client() as (made, upstream):
        upstream.post(CHAT_URL, status=status, json=NAMED)
        upstream.post(CHAT_URL, body=ANSWER)
        attempt = attempt_of()

        assert [made.text(BODY, each) for each in (attempt, attempt_of())] == ["Hi", "Hi"]

        assert asked(upstream) == [True, False, False]
        assert (attempt.refused, attempt.complete, attempt.upstream_status) == (False, True, 200)
        made.text(BODY, attempt_of("another model"))
        assert asked(upstream)[3:] == [True]
    assert [record.getMessage() for record in caplog.records] == [
        "the upstream refuses the usage in each chunk: it is asked without it"
    ]


def test_the_answer_without_the_option_is_read_with_the_same_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def read_pieces(response: requests.Response, _: object, limit: float) -> Iterator[bytes]:
        limits.append(limit)
        return body_reader.read_pieces(response)

    monkeypatch.setattr(client_module, "read_pieces", read_pieces)
    with client() as (made, upstream):
        upstream.post(CHAT_URL, status=400, json=NAMED)
        upstream.post(CHAT_URL, body=ANSWER)
        made.text(BODY, attempt_of())
    assert limits == [body_reader.MAX_PAUSE_SECONDS]


def test_an_error_object_that_names_the_option_is_a_refusal_of_it() -> None:
    with client() as (made, upstream):
        upstream.post(CHAT_URL, body=in_place(NAMED["detail"]))
        upstream.post(CHAT_URL, body=ANSWER)
        attempt = attempt_of()

        assert [made.text(BODY, each) for each in (attempt, attempt_of())] == ["Hi", "Hi"]

        assert asked(upstream) == [True, False, False]
        assert (attempt.refused, attempt.complete, attempt.upstream_status) == (False, True, 200)
        one_answer = attempt_of()
        made.text(BODY, one_answer)
        assert attempt.received_tokens == one_answer.received_tokens


def test_an_error_object_that_only_quotes_the_option_is_not_remembered() -> None:
    with client() as (made, upstream):
        upstream.post(CHAT_URL, body=in_place("bad: is continuous_usage_stats known?"))
        for _ in range(2):
            attempt = attempt_of()
            with pytest.raises(UpstreamRejectedError):
                made.text(BODY, attempt)
            assert attempt.refused
        assert asked(upstream) == [True, False] * 2


def test_a_refusal_that_only_quotes_the_option_is_not_remembered() -> None:
    """A run must not be able to change how other runs are billed."""
    with client() as (made, upstream):
        upstream.post(CHAT_URL, status=400, json={"detail": "bad: is continuous_usage_stats known?"})
        for _ in range(2):
            attempt = attempt_of()
            with pytest.raises(UpstreamRejectedError):
                made.text(BODY, attempt)
            assert attempt.refused
        assert asked(upstream) == [True, False] * 2


def test_a_second_answer_that_ends_before_its_first_event_proves_no_refusal() -> None:
    with client() as (made, upstream):
        upstream.post(CHAT_URL, status=400, json=NAMED)
        upstream.post(CHAT_URL, body=b": alive\n\n")
        upstream.post(CHAT_URL, body=ANSWER)
        with pytest.raises(UpstreamBrokenError):
            made.text(BODY, attempt_of())
        made.text(BODY, attempt_of())
        assert asked(upstream) == [True, False, True]


def test_other_refusals_are_not_asked_again() -> None:
    def check(row: tuple[int, object]) -> None:
        status, detail = row
        with client() as (made, upstream):
            upstream.post(CHAT_URL, status=status, json=detail)
            with pytest.raises(UpstreamError):
                made.text(BODY, attempt_of())
            assert asked(upstream) == [True]

    check_rows([(400, {"detail": "too long"}), (500, NAMED), (429, NAMED), (404, NAMED)], check)


def test_a_second_request_that_is_not_sent_costs_nothing() -> None:
    with client() as (made, upstream):
        upstream.post(CHAT_URL, status=400, json=NAMED)
        attempt = attempt_of()
        send, sent = made._adapter.send, list[bool]()

        def send_once(*args: object, **kwargs: object) -> object:
            if sent:
                raise UpstreamUnreachableError
            sent.append(True)
            return send(*args, **kwargs)  # type: ignore[arg-type] # passed on unchanged

        made._adapter.send = send_once  # type: ignore[method-assign,assignment] # the second request does not connect
        with pytest.raises(UpstreamUnreachableError):
            made.text(BODY, attempt)
        assert (attempt.sent, attempt.refused) == (False, False)


def test_only_the_options_of_a_body_change() -> None:
    assert without_chunk_usage(BODY) == BODY.replace(b',"continuous_usage_stats":true', b"")
    assert without_chunk_usage(without_chunk_usage(BODY)) == without_chunk_usage(BODY)
    assert b"is continuous_usage_stats known?" in without_chunk_usage(BODY)
    whole = upstream_body(CHAT, "m", 9, stream=False)
    assert without_chunk_usage(whole) == whole


def test_the_number_of_remembered_refusals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_usage, "MAX_REMEMBERED", 2)
    option = ChunkUsageOption()
    for model in ("a", "b", "a", "c"):
        option.remember_refusal(CHAT_URL, model)
    asked_with = [option.body_for(BODY, CHAT_URL, model) == BODY for model in "abc"]
    assert asked_with == [True, False, False]
