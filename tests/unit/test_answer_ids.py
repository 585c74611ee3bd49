"""The upstream's ids of a call, from each kind of answer to the attempt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import responses

from ridges_proxy.errors import UpstreamError
from ridges_proxy.upstream import Attempt, ChutesClient
from ridges_proxy.upstream.answer_ids import MAX_ID_CHARACTERS, usable_id
from tests.support.app import settings_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT_URL = "http://chutes.test/v1/chat/completions"
EMBED_URL = "http://embed.test/embed"
INVOCATION = "3f6b7a51-0000-4000-8000-0123456789ab"
USAGE = {"prompt_tokens": 7, "completion_tokens": 1}


@pytest.fixture
def client() -> ChutesClient:
    return ChutesClient(settings_of())


@pytest.fixture
def chutes_site() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as site:
        yield site


def stream(*ids: object) -> bytes:
    """A stream whose chunks have these ids. Each chunk has a text."""
    chunks = [{"id": each, "choices": [{"index": 0, "delta": {"content": "a"}}]} for each in ids]
    ended = {"id": ids[-1], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    events = [json.dumps(each) for each in (*chunks, ended)] + ["[DONE]"]
    return "".join(f"data: {event}\n\n" for event in events).encode()


def whole(answer_id: object) -> bytes:
    message = {"role": "assistant", "content": "a"}
    return json.dumps(
        {"id": answer_id, "choices": [{"index": 0, "message": message}], "usage": USAGE}
    ).encode()


def complete(client: ChutesClient, attempt: Attempt) -> None:
    answer = client.complete_json(b"{}", attempt)
    client.record_json(answer, attempt)
    answer.release()


ANSWERS: dict[str, tuple[str, bytes, Any, str]] = {
    "collected": (CHAT_URL, stream("chatcmpl-1", "chatcmpl-1"), lambda c, a: c.text(b"{}", a), "chatcmpl-1"),
    "relayed": (
        CHAT_URL,
        stream("chatcmpl-2"),
        lambda c, a: c.relay(b"{}", a, lambda _event: None, shows_usage=False),
        "chatcmpl-2",
    ),
    "whole": (CHAT_URL, whole("chatcmpl-3"), complete, "chatcmpl-3"),
    "embedding": (EMBED_URL, b"[[0.5]]", lambda c, a: c.embed([b"{}"], a).release(), ""),
}


def test_each_kind_of_answer_has_its_ids(client: ChutesClient, chutes_site: responses.RequestsMock) -> None:
    def check(name: str) -> None:
        url, body, send, answer_id = ANSWERS[name]
        chutes_site.upsert(responses.POST, url, body=body, headers={"x-chutes-invocationid": INVOCATION})
        attempt = Attempt()
        send(client, attempt)
        assert (attempt.answer_id, attempt.invocation_id) == (answer_id, INVOCATION)

    check_rows(ANSWERS, check)


def test_an_error_has_the_id_of_its_request(
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    """A gateway's timeout may be billed."""
    chutes_site.post(CHAT_URL, status=504, headers={"X-Request-ID": INVOCATION})
    attempt = Attempt()
    with pytest.raises(UpstreamError):
        client.text(b"{}", attempt)
    assert (attempt.answer_id, attempt.invocation_id) == ("", INVOCATION)


def test_chutes_own_header_is_the_first_choice_if_its_id_is_usable(
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    rows = [
        ({"X-Chutes-InvocationID": "a", "X-Request-ID": "b"}, "a"),
        ({"X-Chutes-InvocationID": "a" * 129, "X-Request-ID": "b"}, "b"),
        ({}, ""),
    ]

    def check(row: tuple[dict[str, str], str]) -> None:
        headers, expected = row
        chutes_site.upsert(responses.POST, CHAT_URL, body=stream("x"), headers=headers)
        attempt = Attempt()
        client.text(b"{}", attempt)
        assert attempt.invocation_id == expected

    check_rows(rows, check)


def test_a_stream_has_the_first_usable_id_of_its_last_try(
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    again = {"id": "two", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    second_try = f"data: {json.dumps(again)}\n\n".encode()
    rows = [
        (stream("each", "has", "its own"), "each"),
        (stream(None, "", "x" * 129, 5, "late"), "late"),
        (stream("one", "one").partition(b'data: {"id": "one", "choices": [{"index": 0, "delta": {}')[0]
         + second_try + stream("two"), "two"),
    ]  # fmt: skip

    def check(row: tuple[bytes, str]) -> None:
        body, expected = row
        chutes_site.upsert(responses.POST, CHAT_URL, body=body)
        attempt = Attempt()
        client.text(b"{}", attempt)
        assert attempt.answer_id == expected

    check_rows(rows, check)


def test_only_a_short_id_of_printable_ascii_is_kept() -> None:
    longest = "x" * MAX_ID_CHARACTERS
    kept = ["chatcmpl-1_a.B:c/d", "with space", longest]
    dropped = [longest + "x", "", "a\nb", "a\x7f", "é", None, 7, ["a"], {"a": 1}, b"a"]

    assert [usable_id(each) for each in kept] == kept
    assert [usable_id(each) for each in dropped] == [""] * len(dropped)
