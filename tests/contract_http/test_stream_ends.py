"""Faults behind a complete answer: they end the reading, and change neither the answer nor its cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.upstream.sse import MAX_EVENT_BYTES
from tests.contract_http.openai_api import error_event, stream
from tests.contract_http.service import (
    CHAT_URL,
    app_of,
    delta,
    infer,
    seen,
    spent_nanousd,
    sse,
    tokens,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses

FINISH = delta("", finish_reason="stop")
WHOLE = sse(delta("Hi"), FINISH, tokens(10, 5))

BEHIND: dict[str, bytes] = {
    "nothing": b"",
    "a space behind the end": b"data: [DONE] \n\n",
    "spaces before the end": b"data:  [DONE]\n\n",
    "no end, an error": sse({"error": {"message": "late"}}),
    "no end, a bare error": b'{"error":"exhausted all available targets to no avail"}\n',
    "no JSON": sse(b"{"),
    "no object": sse([1]),
    "a cut event": b'data: {"id":"chat-1","cho',
    "a cut character": b'data: {"x":"\xc3',
    "text behind the end": sse(b"[DONE]") + b"data: more\n\n",
    "another end": sse(b"[DONE]", b"[DONE]"),
    "a wrong end": sse(b"[DONE]x"),
    "too many choices": sse({"choices": [{"delta": {}}] * 9}),
    "choices that are no list": sse({"choices": 5}),
    "an event without an end": b"data: " + b"x" * (MAX_EVENT_BYTES + 1),
    "HTML": b"<html>Bad Gateway</html>\n",
    "a comment": b": done\n\n",
}


def test_a_fault_behind_a_complete_answer_ends_the_reading(upstream: responses.RequestsMock) -> None:
    def check(name: str) -> None:
        upstream.reset()
        upstream.post(CHAT_URL, body=WHOLE + BEHIND[name])

        app = app_of()
        reply = stream(app)
        assert (
            reply.data
            == sse(delta("Hi"), FINISH, b"[DONE]") + b": cost 0.000004050 remaining 1.999995950 state ok\n\n"
        )
        assert spent_nanousd(app) == 4_050

        app = app_of()
        assert seen(infer(app)) == (200, "Hi")
        assert spent_nanousd(app) == 4_050

    check_rows(BEHIND, check)


def test_the_same_before_the_end_is_a_failure(upstream: responses.RequestsMock) -> None:
    harmless = {"a space behind the end", "spaces before the end", "text behind the end", "another end"}

    def check(name: str) -> None:
        upstream.reset()
        upstream.post(CHAT_URL, body=sse(delta("Hi")) + BEHIND[name])

        assert b'"code":"upstream_broken"' in stream(app_of()).data
        assert infer(app_of()).status_code == 500

    check_rows(BEHIND.keys() - harmless, check)


def test_text_beyond_max_tokens_behind_a_complete_answer_is_still_cut_off(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(CHAT_URL, body=WHOLE + sse(*[delta("more")] * 3, b"[DONE]"))
    reply = stream(app_of(), max_tokens=2)
    message = "The upstream did not keep to max_tokens"
    assert error_event("upstream_overran", "server_error", message) in reply.data
