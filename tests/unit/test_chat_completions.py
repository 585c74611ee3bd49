"""The client's other two ways to read a chat completion: in one piece, and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import pytest
import requests
import responses
import urllib3

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage
from ridges_proxy.errors import UpstreamBrokenError, UpstreamBusyError, UpstreamError, UpstreamRejectedError
from ridges_proxy.upstream import Attempt, ChutesClient
from tests.support.app import CHUTES_KEY, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT_URL = "http://chutes.test/v1/chat/completions"
WHOLE = (
    b'{"id":"x", "choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
)
FIRST = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def client() -> Iterator[ChutesClient]:
    made = ChutesClient(settings_of())
    yield made
    made._adapter.close()


@pytest.fixture
def upstream() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def relay(client: ChutesClient, attempt: Attempt | None = None) -> list[bytes]:
    put: list[bytes] = []
    client.relay(b"{}", attempt or Attempt(), put.append, shows_usage=False)
    return put


def test_a_whole_answer_comes_back_byte_for_byte(
    client: ChutesClient, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    attempt = Attempt()

    assert client.complete_json(b"{}", attempt).content == WHOLE

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, Usage(7, 3), 2)
    assert attempt.ended_at is not None


def test_a_whole_answer_may_take_as_long_as_the_deadline_and_not_only_the_idle_timeout(
    client: ChutesClient, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    client.complete_json(b"{}", Attempt())
    assert upstream.calls[0].request.req_kwargs["timeout"] == (5.0, 300.0)  # type: ignore[attr-defined] # the fake's


@pytest.mark.parametrize(
    "error", [urllib3.exceptions.ProtocolError("cut"), gevent.GreenletExit(), ZeroDivisionError()]
)
def test_half_an_answer_counts_its_bytes_whatever_ends_it(
    client: ChutesClient,
    upstream: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    pieces = iter([b'{"choices":[{"mess'])

    def read1(*_args: Any, **_kwargs: Any) -> bytes:  # noqa: ANN401 - as it is called
        for piece in pieces:
            return piece
        raise error

    upstream.post(CHAT_URL, body=b"unread")
    monkeypatch.setattr(urllib3.HTTPResponse, "read1", read1)
    attempt = Attempt()

    with pytest.raises((UpstreamBrokenError, type(error))):
        client.complete_json(b"{}", attempt)

    assert (attempt.answering, attempt.complete, attempt.received_tokens) == (True, False, 18)


def test_an_encoded_whole_answer_may_count_anything(
    client: ChutesClient, upstream: responses.RequestsMock
) -> None:
    upstream.post(
        CHAT_URL, body=WHOLE, headers={"Content-Encoding": "gzip"}, auto_calculate_content_length=True
    )
    attempt = Attempt()

    with pytest.raises(UpstreamBrokenError):
        client.complete_json(b"{}", attempt)

    assert attempt.received_tokens == MAX_COUNTED_TOKENS


def test_a_relay_tells_of_the_200_and_then_of_each_event(
    client: ChutesClient, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=FIRST + USAGE + DONE)
    attempt = Attempt()

    assert relay(client, attempt) == [b"", FIRST]

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, Usage(7, 3), 2)


@pytest.mark.parametrize("verb", ["whole", "relay"])
@pytest.mark.parametrize(("status", "kind"), [(429, UpstreamBusyError), (400, UpstreamRejectedError)])
def test_a_refusal_comes_before_anything_is_told(
    client: ChutesClient, upstream: responses.RequestsMock, verb: str, status: int, kind: type[UpstreamError]
) -> None:
    upstream.post(CHAT_URL, status=status, json={"detail": "no"})
    attempt, put = Attempt(), list[bytes]()

    with pytest.raises(kind):  # noqa: PT012 - one call or the other
        if verb == "whole":
            client.complete_json(b"{}", attempt)
        else:
            client.relay(b"{}", attempt, put.append, shows_usage=True)

    assert (attempt.refused, attempt.answering, put) == (True, False, [])


@pytest.mark.parametrize("stream", [b"", FIRST, FIRST + b'{"error":"gone"}\n', FIRST + b"data: {"])
def test_a_relay_that_breaks_off_is_broken(
    client: ChutesClient, upstream: responses.RequestsMock, stream: bytes
) -> None:
    upstream.post(CHAT_URL, body=stream)
    attempt = Attempt()

    with pytest.raises(UpstreamBrokenError):
        relay(client, attempt)

    assert (attempt.answering, attempt.complete) == (True, False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"detail":"Invalid request: max_tokens is too large"}',
            "Invalid request: max_tokens is too large",
        ),
        (b'{"error":{"message":"bad schema"}}', "bad schema"),
        (b"<html>", ""),
        (b'{"detail":"your key cpk is %s"}' % CHUTES_KEY.encode(), ""),
    ],
)
def test_the_words_of_a_rejected_request_are_kept_for_its_caller_without_our_key(
    client: ChutesClient, upstream: responses.RequestsMock, body: bytes, words: str
) -> None:
    upstream.post(CHAT_URL, status=422, body=body)

    with pytest.raises(UpstreamRejectedError) as raised:
        client.complete_json(b"{}", Attempt())

    assert raised.value.detail == words
    assert words not in str(raised.value) or not words


def test_a_timeout_of_a_whole_answer_is_one(client: ChutesClient, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=requests.ReadTimeout())

    with pytest.raises(UpstreamError) as raised:
        client.complete_json(b"{}", Attempt())

    assert raised.value.code == "upstream_timeout"
