"""Chat completions of the client that are not streamed, and those that are relayed."""

from __future__ import annotations

from contextlib import closing, contextmanager
from itertools import product
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
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT_URL = "http://chutes.test/v1/chat/completions"
COMPLETION = (
    b'{"id":"x", "choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
)
FIRST = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


@contextmanager
def client_of(**response: Any) -> Iterator[tuple[ChutesClient, responses.RequestsMock]]:  # noqa: ANN401 - passed on
    """A client whose upstream sends one response, and that upstream."""
    client = ChutesClient(settings_of())
    with closing(client._adapter), responses.RequestsMock() as upstream:
        upstream.post(CHAT_URL, **response)
        yield client, upstream


def relay(client: ChutesClient, attempt: Attempt | None = None) -> list[bytes]:
    put: list[bytes] = []
    client.relay(b"{}", attempt or Attempt(), put.append, shows_usage=False)
    return put


def complete(client: ChutesClient, attempt: Attempt) -> bytes:
    answer = client.complete_json(b"{}", attempt)
    client.record_json(answer, attempt)
    return answer.content


def test_a_json_completion_is_returned_byte_for_byte() -> None:
    attempt = Attempt()
    with client_of(body=COMPLETION) as (client, _):
        assert complete(client, attempt) == COMPLETION

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, Usage(7, 3), 2)
    assert attempt.ended_at is not None


def test_a_json_completion_has_an_idle_timeout_of_its_own() -> None:
    with client_of(body=COMPLETION) as (client, upstream):
        client.complete_json(b"{}", Attempt())
        timeout = upstream.calls[0].request.req_kwargs["timeout"]  # type: ignore[attr-defined] # set by the mock
        assert (timeout.connect_timeout, timeout.read_timeout) == (5.0, 3600.0)


def test_a_partial_json_completion_counts_its_bytes_after_any_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(error: BaseException) -> None:
        pieces = iter([b'{"choices":[{"mess'])

        def read1(*_args: Any, **_kwargs: Any) -> bytes:  # noqa: ANN401 - as it is called
            for piece in pieces:
                return piece
            raise error

        monkeypatch.setattr(urllib3.HTTPResponse, "read1", read1)
        attempt = Attempt()
        with client_of(body=b"unread") as (client, _), pytest.raises((UpstreamBrokenError, type(error))):
            client.complete_json(b"{}", attempt)

        assert (attempt.answering, attempt.complete, attempt.received_tokens) == (True, False, 18)

    errors = [urllib3.exceptions.ProtocolError("cut"), gevent.GreenletExit(), ZeroDivisionError()]
    check_rows(errors, check)


def test_an_encoded_json_completion_counts_the_largest_number_of_tokens() -> None:
    encoded = {"Content-Encoding": "gzip"}
    attempt = Attempt()
    with (
        client_of(body=COMPLETION, headers=encoded, auto_calculate_content_length=True) as (client, _),
        pytest.raises(UpstreamBrokenError),
    ):
        client.complete_json(b"{}", attempt)

    assert attempt.received_tokens == MAX_COUNTED_TOKENS


def test_a_relay_puts_each_event() -> None:
    attempt = Attempt()
    with client_of(body=FIRST + USAGE + DONE) as (client, _):
        assert relay(client, attempt) == [FIRST]

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, Usage(7, 3), 2)


def test_an_error_status_is_raised_before_anything_is_relayed() -> None:
    def check(row: tuple[str, tuple[int, type[UpstreamError]]]) -> None:
        verb, (status, kind) = row
        attempt, put = Attempt(), list[bytes]()
        with client_of(status=status, json={"detail": "no"}) as (client, _), pytest.raises(kind):  # noqa: PT012 - one of two calls
            if verb == "complete_json":
                client.complete_json(b"{}", attempt)
            else:
                client.relay(b"{}", attempt, put.append, shows_usage=True)

        assert (attempt.refused, attempt.answering, put) == (True, False, [])

    errors: list[tuple[int, type[UpstreamError]]] = [(429, UpstreamBusyError), (400, UpstreamRejectedError)]
    check_rows(product(["complete_json", "relay"], errors), check)


def test_a_relay_that_is_cut_is_broken() -> None:
    def check(stream: bytes) -> None:
        attempt = Attempt()
        with client_of(body=stream) as (client, _), pytest.raises(UpstreamBrokenError):
            relay(client, attempt)

        assert (attempt.answering, attempt.complete) == (True, False)

    check_rows([b"", FIRST, FIRST + b'{"error":"gone"}\n', FIRST + b"data: {"], check)


def test_the_message_of_a_rejected_request_is_kept_for_its_caller_without_the_key() -> None:
    rows = [
        (
            b'{"detail":"Invalid request: max_tokens is too large"}',
            "Invalid request: max_tokens is too large",
        ),
        (b'{"error":{"message":"bad schema"}}', "bad schema"),
        (b"<html>", ""),
        (b'{"detail":"your key cpk is %s"}' % CHUTES_KEY.encode(), ""),
    ]

    def check(row: tuple[bytes, str]) -> None:
        body, message = row
        with (
            client_of(status=422, body=body) as (client, _),
            pytest.raises(UpstreamRejectedError) as raised,
        ):
            client.complete_json(b"{}", Attempt())

        assert raised.value.detail == message
        assert message not in str(raised.value) or not message

    check_rows(rows, check)


def test_a_read_timeout_of_a_json_completion_is_an_upstream_timeout() -> None:
    with client_of(body=requests.ReadTimeout()) as (client, _), pytest.raises(UpstreamError) as raised:
        client.complete_json(b"{}", Attempt())

    assert raised.value.code == "upstream_timeout"
