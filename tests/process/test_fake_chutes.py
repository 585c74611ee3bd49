"""The fake Chutes: good answers, refusals, faults, usage and bills, gates."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.process.fake_chutes_client import (
    KEY,
    MODEL,
    PATIENCE_SECONDS,
    QUIET_SECONDS,
    Seen,
    ask,
    cost,
    estimated_prompt_tokens,
    look,
    post,
    receive,
    sending,
    understand,
    with_fault,
)
from tests.process.fake_chutes_control import ROOT, Upstream, directive
from tests.process.row_fixtures import reset
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

NANOUSD_PER_SECOND = 100_000
EXHAUSTED = "exhausted all available targets to no avail"


@pytest.fixture(scope="module")
def process() -> Iterator[Upstream]:
    """A fake Chutes of this module: proxies keep connections to the shared one open."""
    with Upstream() as started:
        yield started


@pytest.fixture
def chutes(process: Upstream) -> Upstream:
    return reset(process)


# --- good answers -------------------------------------------------------------------------------------------


def test_a_stream_has_the_role_the_text_the_finish_reason_the_usage_and_done(chutes: Upstream) -> None:
    seen = look(chutes, ask())
    assert (seen.status, seen.headers["content-type"]) == (200, "text/event-stream")
    assert seen.headers["x-chutes-invocationid"]
    assert len(seen.pieces) == 9, "one chunk an event: role, five words, finish, usage, [DONE]"
    role, *words, finish, usage = seen.events()
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["choices"][0]["delta"]["content"] for each in words] == [f"word{n} " for n in range(1, 6)]
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    prompt = estimated_prompt_tokens("hello")
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": prompt, "completion_tokens": 5, "total_tokens": prompt + 5}
    assert seen.pieces[-1] == b"data: [DONE]\n\n"
    assert seen.end == "clean"
    assert len({each["id"] for each in seen.events()}) == 1


def test_usage_is_sent_only_on_request(chutes: Upstream) -> None:
    assert look(chutes, ask(stream_options=None)).shape() == (5, True, False, True, "clean")


def test_a_json_completion_contains_the_given_text(chutes: Upstream) -> None:
    answer = post(chutes, ask(stream=False, content=directive(answer="two  words\nand more "))).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "two  words\nand more "}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 4


def test_max_tokens_limits_the_words_and_sets_the_finish_reason(chutes: Upstream) -> None:
    seen = look(chutes, ask(max_tokens=3))
    assert (len(seen.words()), seen.finish()) == (3, "length")
    assert chutes.calls()[0]["completion_tokens"] == 3


def test_max_tokens_can_be_ignored(chutes: Upstream) -> None:
    seen = look(chutes, ask(max_tokens=3, content=directive(ignore_max_tokens=True)))
    assert (len(seen.words()), seen.finish()) == (5, "stop")


@each_row(("inputs", "count"), [("one", 1), (["one"], 1), (["one", "two"], 2)], before={"chutes": reset})
def test_an_embedding_has_1024_numbers_and_is_the_same_each_time(
    chutes: Upstream, inputs: str | list[str], count: int
) -> None:
    first, second = (post(chutes, {"inputs": inputs}, "/embed").json() for _ in range(2))
    assert [len(vector) for vector in first] == [1024] * count
    assert first == second
    assert count == 1 or first[0] != first[1]


def test_models_need_no_key_and_show_usd_per_million(chutes: Upstream) -> None:
    answer = requests.get(f"{chutes.url}/v1/models", timeout=PATIENCE_SECONDS).json()
    first = answer["data"][0]
    assert (answer["object"], first["id"]) == ("list", MODEL)
    assert first["pricing"] == {"prompt": 0.27, "completion": 0.27}
    assert first["price"]["input"]["usd"] == 0.27
    assert first["context_length"] > 0


# --- requests that are refused ------------------------------------------------------------------------------


@each_row(
    ("headers", "detail"),
    [
        ({}, "Authentication required."),
        ({"Authorization": "Bearer "}, "Authentication required."),
        ({"Authorization": "Bearer wrong-key"}, "Invalid token or user not found"),
    ],
    before={"chutes": reset},
)
def test_a_missing_or_wrong_key_is_401(chutes: Upstream, headers: dict[str, str], detail: str) -> None:
    url = f"{chutes.chat_url}/chat/completions"
    answer = requests.post(url, json=ask(), headers=headers, timeout=PATIENCE_SECONDS)
    assert (answer.status_code, answer.json()) == (401, {"detail": detail})
    assert chutes.calls()[0]["outcome"] == "refused"


@each_row(
    ("content", "named"),
    [
        (directive(colour="red"), "colour"),
        (directive(fault="flood"), "flood"),
        (directive(events=-1), "events"),
        (directive(usage=["end"]), "usage"),
        ("[[fake-chutes {broken}]]", "not JSON"),
        ('[[fake-chutes {"events": 1}', "not closed"),
    ],
    before={"chutes": reset},
)
def test_an_unknown_directive_is_400_and_named(chutes: Upstream, content: str, named: str) -> None:
    answer = post(chutes, ask(content=content))
    assert answer.status_code == 400
    assert named in answer.json()["detail"]
    with pytest.raises(ValueError, match="an unknown field"):
        chutes.default(**{"an unknown field": 1})


def test_a_fault_that_does_not_apply_to_the_request_is_400(chutes: Upstream) -> None:
    assert post(chutes, ask(stream=False, content=with_fault("split"))).status_code == 400
    assert post(chutes, {"inputs": with_fault("no_done")}, "/embed").status_code == 400
    assert post(chutes, ask(content=with_fault("too_long"))).status_code == 400


@each_row(
    "bad",
    [{"messages": []}, {"model": ""}, {"max_tokens": 0}, {"stream_options": 1}],
    before={"chutes": reset},
)
def test_a_bad_request_is_400(chutes: Upstream, bad: dict[str, Any]) -> None:
    assert post(chutes, {**ask(), **bad}).status_code == 400


def test_other_paths_and_methods_are_refused_and_recorded(chutes: Upstream) -> None:
    assert post(chutes, ask(), "/v1/elsewhere").status_code == 404
    assert requests.get(f"{chutes.url}/embed", timeout=PATIENCE_SECONDS).status_code == 405
    assert [call["path"] for call in chutes.calls()] == ["/v1/elsewhere", "/embed"]


def test_invalid_http_is_400_and_closes_the_connection(chutes: Upstream) -> None:
    url = urlsplit(chutes.url)
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_SECONDS) as sock:
        sock.sendall(b"nonsense\r\n\r\n")
        assert understand(*receive(sock)).status == 400


# --- directives ---------------------------------------------------------------------------------------------


def test_the_last_directive_of_all_messages_wins(chutes: Upstream) -> None:
    messages = [
        {"role": "system", "content": f"{directive(events=1)} and {directive(events=2)}"},
        {"role": "user", "content": [{"type": "text", "text": f"see {directive(events=3)}"}]},
        {"role": "assistant", "content": None},
    ]
    assert len(look(chutes, ask(messages=messages)).words()) == 3


def test_the_default_directive_serves_requests_without_one_until_the_reset(chutes: Upstream) -> None:
    chutes.default(events=2)
    assert len(look(chutes, ask()).words()) == 2
    assert len(look(chutes, ask(content=directive(events=4))).words()) == 4
    chutes.reset()
    assert len(look(chutes, ask()).words()) == 5


# --- faults -------------------------------------------------------------------------------------------------

STATUSES: dict[str, tuple[int, Any]] = {
    "auth_required": (401, "Authentication required."),
    "auth_invalid": (401, "Invalid token or user not found"),
    "quota": (402, {"message": "Quota exceeded and account balance is $", "quota_reset_timestamp": ""}),
    "quota_plain": (402, "Quota exceeded and account balance is $"),
    "model_not_found": (404, "model not found: "),
    "no_cord": (404, "No matching cord found!"),
    "invalid_request": (400, "Invalid request: "),
    "invalid_request_dict": (400, {"message": "Invalid request: ", "code": 400}),
    "at_capacity": (429, "Infrastructure is at maximum capacity, try again later"),
    "maintenance": (429, "model is under maintenance"),
    "spam": (429, "Stop spamming this prompt, please..."),
    "no_instances": (503, "No instances available (yet) for chute_id='"),
    "exhausted": (500, EXHAUSTED),
    "no_result": (500, "No result returned from upstream"),
    "gateway_timeout": (504, "The upstream did not answer in time"),
}

# With "after": 2 of five words: words received, finish_reason, usage, [DONE], end of the connection.
SHAPES: dict[str, tuple[int, bool, bool, bool, str]] = {
    "error_line": (2, False, False, False, "clean"),
    "error_event": (2, False, False, False, "clean"),
    "status_body": (2, False, False, False, "clean"),
    "restart": (7, True, True, True, "clean"),
    "cut": (2, False, False, False, "cut"),
    "cut_after_finish": (5, True, False, False, "cut"),
    "cut_after_usage": (5, True, True, False, "cut"),
    "reset_mid": (2, False, False, False, "reset"),
    "stall": (2, False, False, False, "open"),
    "no_done_no_finish": (2, False, False, False, "clean"),
    "no_done": (5, True, True, False, "clean"),
    "no_finish": (5, False, True, True, "clean"),
    "trickle": (5, True, True, True, "clean"),
    "malformed": (5, True, True, True, "clean"),
    "cookie": (5, True, True, True, "clean"),
    "wrong_length": (5, True, True, True, "cut"),
    "empty": (0, True, True, True, "clean"),
    "null_content": (0, True, True, True, "clean"),
    "reasoning_only": (0, True, True, True, "clean"),
    "other_model": (5, True, True, True, "clean"),
    "error_text": (1, True, True, True, "clean"),
    "split": (5, True, True, True, "clean"),
    "crlf": (5, True, True, True, "clean"),
    "comments": (5, True, True, True, "clean"),
}
# Completion tokens, where their number differs from the words in `content`.
TOKENS = {"restart": 5, "null_content": 5, "reasoning_only": 5}
# As a client receives them: status, end, and start of the body.
WITHOUT_A_STREAM: dict[str, tuple[int, str, bytes]] = {
    "close": (0, "cut", b""),
    "reset": (0, "reset", b""),
    "hang": (0, "open", b""),
    "html": (200, "clean", b"<!doctype html>"),
    "redirect": (307, "clean", b""),
    "json_whole": (200, "clean", b'{"id":"chatcmpl-'),
    "error_first": (200, "clean", b""),
}
IN_OTHER_TESTS = {"endless", "gzip"}
WHOLE = {
    "cut": (200, "cut", b'{"id"'),
    "reset_mid": (200, "reset", b'{"id"'),
    "stall": (200, "open", b'{"id"'),
    "malformed": (200, "clean", b'{"id"'),
    "cookie": (200, "clean", b'{"id"'),
    "gzip": (200, "clean", b"\x1f\x8b"),
    "wrong_length": (200, "cut", b'{"id"'),
    "error_event": (200, "clean", b'{"error":'),
    "status_body": (200, "clean", b'{"status":500,'),
    "no_finish": (200, "clean", b'{"id"'),
    "empty": (200, "clean", b'{"id"'),
    "null_content": (200, "clean", b'{"id"'),
    "reasoning_only": (200, "clean", b'{"id"'),
    "other_model": (200, "clean", b'{"id"'),
    "error_text": (200, "clean", b'{"id"'),
}
EMBEDDED = {
    "cut": (200, "cut", b"[["),
    "reset_mid": (200, "reset", b"[["),
    "stall": (200, "open", b"[["),
    "malformed": (200, "clean", b"[["),
    "cookie": (200, "clean", b"[["),
    "gzip": (200, "clean", b"\x1f\x8b"),
    "wrong_length": (200, "cut", b"[["),
    "too_long": (200, "clean", b'{"error":"`inputs` must have less than 512 tokens'),
}
NEVER_A_STREAM = set(WITHOUT_A_STREAM) - {"json_whole", "error_first"}


def test_every_fault_has_a_row(chutes: Upstream) -> None:
    known = {kind: set(names) for kind, names in chutes.faults().items()}
    assert known["stream"] == set(STATUSES) | set(SHAPES) | set(WITHOUT_A_STREAM) | IN_OTHER_TESTS
    assert known["chat"] == set(STATUSES) | set(WITHOUT_A_STREAM) | set(WHOLE)
    assert known["embed"] == set(STATUSES) | NEVER_A_STREAM | set(EMBEDDED)


@each_row("fault", STATUSES, before={"chutes": reset})
@each_row("path", ["stream", "whole", "embed"], before={"chutes": reset})
def test_an_early_failure_is_a_status_with_a_detail(chutes: Upstream, fault: str, path: str) -> None:
    content = with_fault(fault, greedy=True, billed=True)
    if path == "embed":
        answer = post(chutes, {"inputs": content}, "/embed")
    else:
        answer = post(chutes, ask(content=content, stream=path == "stream"))
    status, detail = STATUSES[fault]
    assert answer.status_code == status
    assert resembles(answer.json(), {"detail": detail})
    assert not {name.lower() for name in answer.headers} & {"retry-after", "x-ratelimit-remaining"}
    (call,) = chutes.calls()
    # A gateway's timeout comes after work, which `billed` bills.
    assert (call["outcome"], call["billed_nanousd"] > 0) == ("fault", fault == "gateway_timeout")


def resembles(found: object, pattern: object) -> bool:
    if isinstance(found, dict) and isinstance(pattern, dict):
        return found.keys() == pattern.keys() and all(resembles(found[key], pattern[key]) for key in pattern)
    if isinstance(found, str) and isinstance(pattern, str):
        return found.startswith(pattern)
    return found == pattern


def test_model_not_found_names_the_model(chutes: Upstream) -> None:
    detail = post(chutes, ask(content=with_fault("model_not_found"))).json()["detail"]
    assert detail == f"model not found: {MODEL}"


@each_row("fault", SHAPES, before={"chutes": reset})
def test_a_fault_ends_a_stream_at_its_place(chutes: Upstream, fault: str) -> None:
    seen = look(chutes, ask(content=with_fault(fault, after=2)), quiet=fault == "stall")
    assert seen.status == 200
    assert seen.shape() == SHAPES[fault]
    chutes.wait(finished=1)
    (row,) = chutes.calls()
    assert row["outcome"] == ("client_gone" if fault == "stall" else "fault")
    assert row["completion_tokens"] == TOKENS.get(fault, SHAPES[fault][0])
    assert row["billed_nanousd"] == cost(row["prompt_tokens"] + row["completion_tokens"])


@each_row("fault", WITHOUT_A_STREAM, before={"chutes": reset})
@each_row("stream", [True, False], before={"chutes": reset})
def test_a_fault_replaces_the_answer_to_a_chat_request(chutes: Upstream, fault: str, *, stream: bool) -> None:
    seen = look(chutes, ask(content=with_fault(fault), stream=stream), quiet=fault == "hang")
    status, end, start = WITHOUT_A_STREAM[fault]
    assert (seen.status, seen.end) == (status, end)
    assert seen.body.startswith(start)
    chutes.wait(finished=1)
    assert (chutes.books()["billed_nanousd"] > 0) == (fault == "json_whole")


@each_row("fault", WHOLE, before={"chutes": reset})
def test_a_fault_changes_a_json_completion(chutes: Upstream, fault: str) -> None:
    seen = look(chutes, ask(content=with_fault(fault), stream=False), quiet=fault == "stall")
    status, end, start = WHOLE[fault]
    assert (seen.status, seen.end) == (status, end)
    assert seen.body.startswith(start)


@each_row("fault", [*EMBEDDED, *sorted(NEVER_A_STREAM)], before={"chutes": reset})
def test_a_fault_changes_an_embedding(chutes: Upstream, fault: str) -> None:
    text = with_fault(fault) + "x" * 2100
    seen = look(chutes, {"inputs": text}, "/embed", quiet=fault in {"stall", "hang"})
    status, end, start = {**WITHOUT_A_STREAM, **EMBEDDED}[fault]
    assert (seen.status, seen.end) == (status, end)
    assert seen.body.startswith(start)


def test_the_error_line_has_no_data_prefix(chutes: Upstream) -> None:
    last = look(chutes, ask(content=with_fault("error_line"))).pieces[-1]
    error = {"error": f"Unhandled exception during response stream: {EXHAUSTED}"}
    assert last == json.dumps(error, separators=(",", ":")).encode() + b"\n"


def test_the_error_event_has_a_data_prefix(chutes: Upstream) -> None:
    last = look(chutes, ask(content=with_fault("error_event"))).pieces[-1]
    assert last.startswith(b'data: {"error":"Unhandled exception')


def test_the_status_body_is_the_whole_body(chutes: Upstream) -> None:
    body = look(chutes, ask(content=with_fault("status_body"))).body
    assert json.loads(body) == {"status": 500, "detail": EXHAUSTED}


def test_a_restart_changes_the_id_and_repeats_the_text(chutes: Upstream) -> None:
    seen = look(chutes, ask(content=with_fault("restart", after=2)))
    ids = [each["id"] for each in seen.events()]
    assert ids[0] != ids[3]
    assert ids == [ids[0]] * 3 + [ids[3]] * 8
    assert seen.words() == [f"word{n} " for n in (1, 2, 1, 2, 3, 4, 5)]
    assert seen.usage()["completion_tokens"] == 5


def test_a_malformed_event_is_not_json(chutes: Upstream) -> None:
    broken = look(chutes, ask(content=with_fault("malformed"))).pieces[2]
    assert broken.startswith(b"data: {")
    with pytest.raises(ValueError, match="char 48"):
        json.loads(broken.removeprefix(b"data: "))


@each_row("fault", ["split", "trickle"], before={"chutes": reset})
def test_each_byte_comes_in_its_own_chunk(chutes: Upstream, fault: str) -> None:
    seen = look(chutes, ask(content=with_fault(fault, events=1, pause_ms=0.1)))
    assert {len(piece) for piece in seen.pieces} == {1}
    assert seen.words() == ["word1 "]


def test_crlf_ends_lines_and_leaves_out_the_space(chutes: Upstream) -> None:
    pieces = look(chutes, ask(content=with_fault("crlf"))).pieces
    assert all(piece.startswith((b"data:{", b"data:[DONE]")) for piece in pieces)
    assert all(piece.endswith(b"\r\n\r\n") for piece in pieces)


def test_comments_stand_between_the_events(chutes: Upstream) -> None:
    pieces = look(chutes, ask(content=with_fault("comments"))).pieces
    assert all(piece.startswith(b": ping\n\ndata: ") for piece in pieces)


def test_gzip_can_be_decompressed_piece_by_piece(chutes: Upstream) -> None:
    seen = look(chutes, ask(content=with_fault("gzip")))
    assert seen.headers["content-encoding"] == "gzip"
    assert b"assistant" in zlib.decompressobj(wbits=31).decompress(seen.pieces[0])
    assert Seen("clean", pieces=[gzip.decompress(seen.body)]).shape() == (5, True, True, True, "clean")


def test_a_cookie_comes_with_a_good_answer(chutes: Upstream) -> None:
    assert look(chutes, ask(content=with_fault("cookie"))).headers["set-cookie"]


def test_a_redirect_points_to_another_path(chutes: Upstream) -> None:
    assert look(chutes, ask(content=with_fault("redirect"))).headers["location"] == "/v1/elsewhere"


def test_faults_replace_the_content_of_a_stream(chutes: Upstream) -> None:
    def pieces(fault: str) -> list[Any]:
        events = look(chutes, ask(content=with_fault(fault))).events()
        return [each["choices"][0]["delta"] for each in events if each["choices"]][1:-1]

    assert pieces("null_content") == [{"content": None}] * 5
    assert pieces("reasoning_only") == [{"reasoning_content": f"word{n} "} for n in range(1, 6)]
    assert "exhausted all available targets" in pieces("error_text")[0]["content"]
    assert pieces("empty") == []


def test_a_fault_reports_another_model(chutes: Upstream) -> None:
    events = look(chutes, ask(content=with_fault("other_model"))).events()
    assert {each["model"] for each in events} == {f"{MODEL}-0905"}


def test_an_endless_stream_ends_when_the_client_closes(chutes: Upstream) -> None:
    with sending(chutes, ask(max_tokens=2, content=with_fault("endless"))) as sock:
        received = b""
        while received.count(b"and so on") < 100:
            received += sock.recv(65536)
    assert chutes.wait(client_gone=1, idle=1)["finished"] == 1
    (call,) = chutes.calls()
    assert call["outcome"] == "client_gone"
    assert call["completion_tokens"] >= 100
    assert call["billed_nanousd"] == cost(call["prompt_tokens"] + call["completion_tokens"])


def test_too_long_applies_to_long_inputs_only(chutes: Upstream) -> None:
    chutes.default(fault="too_long")
    short, long = "x" * 2048, "x" * 2049
    assert len(post(chutes, {"inputs": short}, "/embed").json()) == 1
    answer = post(chutes, {"inputs": ["short", long]}, "/embed").json()
    assert answer["error_type"] == "Validation"
    assert "must have less than 512 tokens" in answer["error"]


def test_a_fault_placed_after_the_end_happens_at_the_end(chutes: Upstream) -> None:
    assert look(chutes, ask(content=with_fault("cut", after=99))).shape() == (5, False, False, False, "cut")


# --- usage and bills ----------------------------------------------------------------------------------------


@each_row(("kind", "factor"), [("end", 1), ("each", 1), ("above", 10)], before={"chutes": reset})
def test_a_directive_sets_the_usage_even_without_a_request_for_it(
    chutes: Upstream, kind: str, factor: int
) -> None:
    content = directive(usage=kind)
    usage = look(chutes, ask(content=content, stream_options=None)).usage()
    prompt = estimated_prompt_tokens(content)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt * factor, 5 * factor)
    assert chutes.books()["billed_nanousd"] == cost(prompt + 5)


def test_usage_below_is_a_tenth_of_the_real_usage(chutes: Upstream) -> None:
    usage = look(chutes, ask(content=directive(usage="below", events=30))).usage()
    (call,) = chutes.calls()
    assert usage["completion_tokens"] == 3
    assert usage["prompt_tokens"] == call["prompt_tokens"] // 10
    assert call["completion_tokens"] == 30


def test_usage_can_be_missing_null_or_any_value(chutes: Upstream) -> None:
    assert look(chutes, ask(content=directive(usage="none"))).usage() == {}
    nulls = look(chutes, ask(content=directive(usage="null"))).events()
    assert [each["usage"] for each in nulls] == [None] * 7
    assert look(chutes, ask(content=directive(usage={"total_tokens": "many"}))).usage() == {
        "total_tokens": "many"
    }
    whole = post(chutes, ask(stream=False, content=directive(usage="none"))).json()
    assert "usage" not in whole


def test_usage_on_each_event_is_a_running_total(chutes: Upstream) -> None:
    events = look(chutes, ask(content=directive(usage="each"))).events()
    running = [each["usage"]["completion_tokens"] for each in events]
    assert running == [0, 0, 1, 2, 3, 4, 5, 5]


def test_the_bill_is_exact_to_the_nano_usd(chutes: Upstream) -> None:
    messages = [{"role": "system", "content": "é" * 5}, {"role": "user", "content": "seven b"}]
    look(chutes, ask(messages=messages))
    (call,) = chutes.calls()
    assert call["prompt_tokens"] == (4 + 4) + (3 + 4), "ceil(16 / 4) + 4 and ceil(11 / 4) + 4"
    assert call["completion_tokens"] == 5
    assert call["billed_nanousd"] == 20 * 270
    books = chutes.books()
    assert (books["count"], books["billed_nanousd"], books["in_flight"]) == (1, 5400, 0)


def test_odd_prices_are_rounded_up() -> None:
    with Upstream("--price-usd-per-mtok", "0.2700001") as chutes:
        post(chutes, ask(content="hello"))
        (call,) = chutes.calls()
        tokens = call["prompt_tokens"] + call["completion_tokens"]
        assert call["billed_nanousd"] == tokens * 270 + 1


@each_row("stream", [True, False], before={"chutes": reset})
def test_greedy_bills_and_reports_the_maximum(chutes: Upstream, *, stream: bool) -> None:
    content = directive(greedy=True)
    body = ask(content=content, stream=stream)
    usage = look(chutes, body).usage() if stream else post(chutes, body).json()["usage"]
    prompt = len(f"user{content}") + 8
    assert usage == {"prompt_tokens": prompt, "completion_tokens": 100, "total_tokens": prompt + 100}
    assert chutes.books()["billed_nanousd"] == cost(prompt + 100)


@each_row("fault", ["close", "reset", "hang"], before={"chutes": reset})
def test_a_lost_answer_is_billed_at_the_maximum_on_request(chutes: Upstream, fault: str) -> None:
    content = with_fault(fault, billed=True)
    look(chutes, ask(content=content), quiet=fault == "hang")
    chutes.wait(finished=1)
    assert chutes.books()["billed_nanousd"] == cost(len(f"user{content}") + 8 + 100)


def test_an_embedding_is_billed_for_its_time(chutes: Upstream) -> None:
    post(chutes, {"inputs": directive(first_ms=30)}, "/embed")
    (call,) = chutes.calls()
    assert 30_000_000 <= call["elapsed_ns"] < 5_000_000_000
    assert call["billed_nanousd"] == -(-call["elapsed_ns"] * NANOUSD_PER_SECOND // 1_000_000_000)


def test_a_record_describes_the_request_without_the_key(chutes: Upstream) -> None:
    url = f"{chutes.chat_url}/chat/completions"
    headers = {"Authorization": "Bearer cpk-secret", "X-Odd": "yes"}
    requests.post(url, json=ask(top_p=1), headers=headers, timeout=PATIENCE_SECONDS)
    (call,) = chutes.calls()
    assert (call["n"], call["path"], call["model"]) == (1, "/v1/chat/completions", MODEL)
    assert (call["max_tokens"], call["stream"], call["stream_options"]) == (
        100,
        True,
        {"include_usage": True},
    )
    assert call["body_keys"] == ["max_tokens", "messages", "model", "stream", "stream_options", "top_p"]
    assert call["headers_seen"]["x-odd"] == "yes"
    assert "cpk-secret" not in json.dumps(call)
    assert call["authorization_sha256"] == hashlib.sha256(b"Bearer cpk-secret").hexdigest()
    assert call["outcome"] == "done"


# --- gates, waiting, and closed connections -----------------------------------------------------------------


def test_a_gate_before_the_headers_blocks_until_its_release(chutes: Upstream) -> None:
    with sending(chutes, ask(content=directive(gate="a"))) as sock:
        assert chutes.wait(at_gate=1)["in_flight"] == 1
        sock.settimeout(QUIET_SECONDS)
        assert receive(sock) == (b"", "open")
        sock.settimeout(PATIENCE_SECONDS)
        chutes.release("a")
        assert understand(*receive(sock)).shape() == (5, True, True, True, "clean")


@each_row("at", [0, 2], before={"chutes": reset})
def test_a_gate_between_events_blocks_after_the_given_number(chutes: Upstream, at: int) -> None:
    with sending(chutes, ask(content=directive(gate="b", gate_at=at))) as sock:
        chutes.wait(at_gate=1)
        sock.settimeout(QUIET_SECONDS)
        received, _ = receive(sock)
        assert len(understand(received, "open").words()) == at
        assert chutes.calls()[0]["outcome"] == "in_flight"
        sock.settimeout(PATIENCE_SECONDS)
        chutes.release("b")
        rest, end = receive(sock)
    assert understand(received + rest, end).shape() == (5, True, True, True, "clean")


def test_a_closed_gate_blocks_an_embedding_and_an_open_gate_does_not(chutes: Upstream) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, chutes, {"inputs": directive(gate="c")}, "/embed")
        chutes.wait(at_gate=1)
        chutes.release("c")
        assert answer.result().status_code == 200
    assert post(chutes, {"inputs": directive(gate="c")}, "/embed").status_code == 200


def test_a_release_lets_all_50_waiting_calls_continue(chutes: Upstream) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(post, chutes, ask(content=directive(gate="d"))) for _ in range(50)]
        assert chutes.wait(at_gate=50, in_flight=50)["finished"] == 0
        chutes.release("d")
        assert {answer.result().status_code for answer in answers} == {200}
    counters = chutes.wait(idle=1, finished=50)
    assert (counters["count"], counters["at_gate"]) == (50, 0)


@each_row(
    ("content", "path"),
    [
        (directive(gate="e"), "/v1/chat/completions"),
        (directive(gate="e", gate_at=2), "/v1/chat/completions"),
        (with_fault("hang"), "/v1/chat/completions"),
        (with_fault("stall"), "/v1/chat/completions"),
        (directive(pause_ms=60_000), "/v1/chat/completions"),
        (directive(first_ms=60_000), "/v1/chat/completions"),
        (with_fault("trickle", pause_ms=60_000), "/v1/chat/completions"),
        (with_fault("hang"), "/embed"),
        (with_fault("stall"), "/embed"),
    ],
    before={"chutes": reset},
)
@each_row("how", ["fin", "rst"], before={"chutes": reset})
def test_a_closed_connection_is_noticed_at_once(chutes: Upstream, content: str, path: str, how: str) -> None:
    body = {"inputs": content} if path == "/embed" else ask(content=content)
    with sending(chutes, body, path) as sock:
        chutes.wait(in_flight=1)
        if how == "rst":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert chutes.wait(client_gone=1, idle=1, timeout_seconds=3)["open_connections"] == 0
    (call,) = chutes.calls()
    assert call["outcome"] == "client_gone"


def test_an_abandoned_stream_is_billed_for_the_prompt_and_the_sent_tokens(chutes: Upstream) -> None:
    content = directive(gate="f", gate_at=3)
    with sending(chutes, ask(content=content)):
        chutes.wait(at_gate=1)
    assert chutes.wait(client_gone=1)["billed_nanousd"] == cost(estimated_prompt_tokens(content) + 3)


def test_a_call_abandoned_before_the_headers_is_not_billed(chutes: Upstream) -> None:
    with sending(chutes, ask(content=directive(gate="g"))):
        chutes.wait(at_gate=1)
    assert chutes.wait(client_gone=1)["billed_nanousd"] == 0


def test_waiting_ends_by_its_timeout_and_unknown_conditions_are_refused(chutes: Upstream) -> None:
    with pytest.raises(TimeoutError):
        chutes.wait(in_flight=1, timeout_seconds=0.05)
    with pytest.raises(ValueError, match="cannot wait"):
        chutes.wait(sunshine=1)
    assert chutes.wait()["count"] == 0


def test_a_reset_removes_the_records_of_running_calls(chutes: Upstream) -> None:
    with sending(chutes, ask(content=with_fault("stall"))):
        chutes.wait(in_flight=1)
        chutes.reset()
        assert chutes.wait(in_flight=1)["count"] == 0
    counters = chutes.wait(idle=1)
    assert (counters["finished"], counters["client_gone"], counters["billed_nanousd"]) == (0, 0, 0)


def test_a_client_can_reuse_its_connection_after_streams_and_errors(chutes: Upstream) -> None:
    with requests.Session() as session:
        session.headers.update(KEY)
        for content in ("hello", with_fault("at_capacity"), with_fault("error_line"), with_fault("comments")):
            for stream in (True, False):
                if content == with_fault("at_capacity") or stream:
                    body = ask(content=content, stream=stream)
                    session.post(f"{chutes.chat_url}/chat/completions", json=body, timeout=PATIENCE_SECONDS)
        session.post(chutes.embed_url, json={"inputs": "x"}, timeout=PATIENCE_SECONDS)
        books = chutes.books()
        assert (books["count"], books["accepted_connections"], books["open_connections"]) == (6, 1, 1)


def test_a_chunked_request_body_is_read(chutes: Upstream) -> None:
    data = json.dumps({"inputs": "x"}).encode()
    pieces = iter([data[:5], data[5:]])
    answer = requests.post(chutes.embed_url, data=pieces, headers=KEY, timeout=PATIENCE_SECONDS)
    assert len(answer.json()[0]) == 1024


def test_1000_clients_are_served_at_once(chutes: Upstream) -> None:
    url = urlsplit(chutes.url)
    body = json.dumps(ask(content=directive(gate="h"))).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}"
    address = (url.hostname, url.port)
    clients = [socket.create_connection(address, timeout=PATIENCE_SECONDS) for _ in range(1000)]
    try:
        for client in clients:
            client.sendall(head.encode() + b"\r\n\r\n" + body)
        assert chutes.wait(at_gate=1000)["open_connections"] == 1000
        chutes.release("h")
        assert chutes.wait(finished=1000, idle=1)["client_gone"] == 0
    finally:
        for client in clients:
            client.close()


def test_the_process_stops_at_once_with_calls_in_flight() -> None:
    with Upstream() as chutes, sending(chutes, ask(content=with_fault("stall"))):
        chutes.wait(in_flight=1)
        stopped: list[int] = []
        thread = threading.Thread(target=lambda: stopped.append(chutes.stop()))
        thread.start()
        thread.join(3)
        assert stopped == [0]


def test_the_command_prints_its_address_and_a_help_text() -> None:
    command = [sys.executable, "-m", "ridges_proxy.fake_chutes"]
    usage = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--embedding-usd-per-second" in usage
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        started.terminate()
        assert line.startswith("fake Chutes on http://127.0.0.1:")
        assert started.stdout.read() == ""
        assert started.wait(3) == 0
