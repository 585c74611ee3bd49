"""Every failure of Chutes on `/v1`: the answer to the client, and the settlement of the hold."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.event_stream import CHAT, DONE, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, Proxy
from tests.process.test_faults import Resolution
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Usage

MAX_TOKENS = 1024
ROLE = 1
WORD = 6
WORDS = "word1 word2 word3 word4 word5 "

REFUSALS = {
    "auth_required": (502, "upstream_auth"),
    "auth_invalid": (502, "upstream_auth"),
    "quota": (502, "upstream_quota"),
    "quota_plain": (502, "upstream_quota"),
    "model_not_found": (502, "upstream_model"),
    "no_cord": (502, "upstream_model"),
    "invalid_request": (400, "upstream_rejected"),
    "invalid_request_dict": (400, "upstream_rejected"),
    "at_capacity": (429, "upstream_busy"),
    "maintenance": (429, "upstream_busy"),
    "spam": (429, "upstream_busy"),
    "no_instances": (503, "upstream_no_instance"),
    "exhausted": (502, "upstream_failed"),
    "no_result": (502, "upstream_failed"),
    "gateway_timeout": (504, "upstream_timeout"),
    "redirect": (502, "upstream_failed"),
}
NO_ANSWER = {
    "close": (502, "upstream_broken"),
    "reset": (502, "upstream_broken"),
    "hang": (504, "upstream_timeout"),
}
IMPATIENT = {"hang", "stall"}
"""Faults that only a time limit ends."""

Expected = tuple[str | None, Resolution, int | range]
"""The error's code, or None for success; the settlement of the hold; the tokens that its bound counts."""

BROKEN = "upstream_broken"
AFTER_ONE_WORD: Expected = (BROKEN, Resolution.AT_BOUND, ROLE + WORD)
GOOD: Expected = (None, Resolution.AT_USAGE, 0)

STREAMS: dict[str, Expected] = {
    "html": (BROKEN, Resolution.AT_BOUND, 0),
    "status_body": ("upstream_failed", Resolution.RELEASED, 0),
    "error_first": ("upstream_rejected", Resolution.RELEASED, 0),
    "error_line": AFTER_ONE_WORD,
    "error_event": AFTER_ONE_WORD,
    "cut": AFTER_ONE_WORD,
    "no_done_no_finish": AFTER_ONE_WORD,
    "malformed": (BROKEN, Resolution.AT_BOUND, range(ROLE + WORD + 1, 500)),  # the bytes after it count, too
    "json_whole": (BROKEN, Resolution.AT_BOUND, range(5 * WORD, MAX_TOKENS)),
    "reset_mid": (BROKEN, Resolution.AT_BOUND, range(ROLE + WORD + 1)),
    # A thousand tokens a second may be generated after the last text.
    "stall": ("upstream_timeout", Resolution.AT_BOUND, range(ROLE + WORD, 1000)),
    "endless": ("upstream_overran", Resolution.AT_HOLD, 0),
    # Events that were relayed cannot be taken back: the client would read a second try as part of the first.
    "restart": (BROKEN, Resolution.AT_BOUND, range(ROLE + WORD + 1, 700)),
    "cut_after_finish": (None, Resolution.AT_BOUND, ROLE + 5 * WORD),
    **dict.fromkeys(
        (
            "cut_after_usage", "no_done", "no_finish", "wrong_length", "split", "trickle", "crlf", "comments",
            "cookie", "other_model", "empty", "null_content", "reasoning_only", "error_text",
        ),
        GOOD,
    ),
}  # fmt: skip

AT_ONCE = {"html": 502, "json_whole": 502, "status_body": 502, "error_first": 400}
"""Faults of a stream that come before its first event. They are answered with a status of their own."""

# An answer that is not streamed is sent only when it is complete.
WHOLES: dict[str, Expected] = {
    "html": (BROKEN, Resolution.AT_HOLD, 0),
    "cut": (BROKEN, Resolution.AT_HOLD, 0),
    "reset_mid": (BROKEN, Resolution.AT_HOLD, 0),
    "stall": ("upstream_timeout", Resolution.AT_HOLD, 0),
    "malformed": (BROKEN, Resolution.AT_HOLD, 0),
    "wrong_length": (BROKEN, Resolution.AT_HOLD, 0),
    "error_event": ("upstream_failed", Resolution.RELEASED, 0),
    "error_first": ("upstream_rejected", Resolution.RELEASED, 0),
    "status_body": ("upstream_failed", Resolution.RELEASED, 0),
    **dict.fromkeys(
        (
            "cookie", "no_finish", "empty", "null_content", "reasoning_only", "other_model", "error_text",
            "json_whole",
        ),
        GOOD,
    ),
}  # fmt: skip

STREAM_OPTIONS = {"include_usage": True, "continuous_usage_stats": True}
GZIP = "gzip"
"""An answer that cannot be read: its call costs the hold."""


FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, "max_tokens": MAX_TOKENS, **fields}


def test_the_tables_have_every_fault(chutes: Upstream) -> None:
    known = chutes.faults()
    early = REFUSALS.keys() | NO_ANSWER.keys() | {GZIP}
    assert set(known["stream"]) == early | STREAMS.keys()
    assert set(known["chat"]) == early | WHOLES.keys()


@pytest.fixture
def proxies(shared_proxy: Proxy, brief_proxy: Proxy) -> dict[bool, Proxy]:
    """Proxies by whether a time limit must end the call."""
    return {False: shared_proxy, True: brief_proxy}


@each_row("fault, stream", product([*REFUSALS, *NO_ANSWER], (False, True)), before=FRESH)
def test_a_failure_before_the_answer_has_its_own_status(
    proxies: dict[bool, Proxy], chutes: Upstream, run: str, fault: str, *, stream: bool
) -> None:
    proxy = proxies[fault in IMPATIENT]
    prompt = directive(fault=fault)
    answer = proxy.ask("POST", CHAT, chat(run, prompt, stream=stream))
    error = answer.json["error"]
    assert (answer.status, error["code"]) == {**REFUSALS, **NO_ANSWER}[fault]
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (answer.status in {429, 503})
    chutes.wait(idle=1, finished=1)
    spent = expected_holds.hold(prompt) if fault in {*NO_ANSWER, "gateway_timeout"} else 0
    assert_settled(proxy, run, spent)


def assert_settled(proxy: Proxy, run: str, spent: int) -> None:
    usage = proxy.usage(run)
    assert (usage.spent, usage.held, proxy.in_flight()) == (spent, 0, 0)
    line = proxy.lines.wait(event="request", run=run)[0]
    assert round(line["cost_usd"] * 10**9) == usage.spent


@each_row("stream", [False, True], before=FRESH)
def test_a_compressed_answer_costs_the_hold(
    shared_proxy: Proxy, chutes: Upstream, run: str, *, stream: bool
) -> None:
    prompt = directive(fault=GZIP)
    answer = shared_proxy.ask("POST", CHAT, chat(run, prompt, stream=stream))
    assert (answer.status, answer.json["error"]["code"]) == (502, BROKEN)
    chutes.wait(idle=1, finished=1)
    assert_settled(shared_proxy, run, expected_holds.hold(prompt))


@each_row("fault", STREAMS, before=FRESH)
def test_every_fault_of_a_stream_ends_and_settles_it(
    proxies: dict[bool, Proxy], chutes: Upstream, run: str, fault: str
) -> None:
    code, resolution, received = STREAMS[fault]
    proxy = proxies[fault in IMPATIENT]
    prompt = directive(fault=fault)
    if fault in AT_ONCE:
        answer = proxy.ask("POST", CHAT, chat(run, prompt, stream=True))
        assert (answer.status, answer.json["error"]["code"]) == (AT_ONCE[fault], code)
        assert_settlement(proxy.usage(run), prompt, resolution, received, billed_upstream(chutes))
        return
    with EventStream(proxy.port, chat(run, prompt)) as stream:
        assert stream.status == 200
        *before, last = stream.events()
    if code is None:
        assert last == DONE
    else:
        assert last["error"]["code"] == code
        assert last["request_id"] == stream.headers["x-request-id"]
        assert DONE not in before
    assert not [event for event in before if "usage" in event], (
        "only a client that asked for the usage receives it"
    )
    billed = billed_upstream(chutes)
    assert_settlement(proxy.usage(run), prompt, resolution, received, billed)
    (line,) = proxy.lines.wait(event="request", run=run)
    assert (line["status"], line["code"]) == (200, code)
    spent, left = (amount / 10**9 for amount in proxy.usage(run)[0:3:2])
    assert stream.comments[-1] == f": cost {spent:.9f} remaining {left:.9f} state ok"


@each_row("fault", WHOLES, before=FRESH)
def test_every_fault_of_a_whole_answer_ends_and_settles_it(
    proxies: dict[bool, Proxy], chutes: Upstream, run: str, fault: str
) -> None:
    code, resolution, received = WHOLES[fault]
    proxy = proxies[fault in IMPATIENT]
    prompt = directive(fault=fault)
    answer = proxy.ask("POST", CHAT, chat(run, prompt))
    if code is None:
        assert (answer.status, answer.json["object"]) == (200, "chat.completion"), (
            "the answer is relayed unchanged"
        )
    else:
        status = 400 if fault == "error_first" else 504 if fault in IMPATIENT else 502
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
    billed = billed_upstream(chutes)
    assert_settlement(proxy.usage(run), prompt, resolution, received, billed)


def billed_upstream(chutes: Upstream) -> int:
    chutes.wait(idle=1, finished=1)
    (call,) = chutes.calls()
    billed: int = call["billed_nanousd"]
    return billed


def assert_settlement(
    usage: Usage, prompt: str, resolution: Resolution, received: int | range, billed: int
) -> None:
    assert usage.held == 0
    if resolution is Resolution.RELEASED:
        assert usage.spent == billed == 0
        return
    if resolution is Resolution.AT_USAGE:
        assert usage.spent == billed > 0
    elif resolution is Resolution.AT_HOLD:  # the upstream exceeded its limit, so its bill has no bound
        assert usage.spent == expected_holds.hold(prompt)
        return
    elif isinstance(received, range):
        assert (
            expected_holds.bound(prompt, received.start)
            <= usage.spent
            <= expected_holds.bound(prompt, received.stop)
        )
    else:
        assert expected_holds.may_be_cost(usage.spent, prompt, received)
    assert billed <= usage.spent


@each_row("usage, stream", product(["none", "null", {"total_tokens": "many"}], (False, True)), before=FRESH)
def test_an_answer_without_usage_is_charged_at_its_bound(
    shared_proxy: Proxy, chutes: Upstream, run: str, usage: object, *, stream: bool
) -> None:
    prompt = directive(usage=usage)
    answer = shared_proxy.ask("POST", CHAT, chat(run, prompt, stream=stream))
    assert answer.status == 200
    assert b'"usage":null' not in answer.body or not stream
    role = ROLE if stream else 0
    assert (
        billed_upstream(chutes)
        <= shared_proxy.usage(run).spent
        == expected_holds.bound(prompt, role + 5 * WORD)
    )


@each_row("choices", [1, 3], before=FRESH)
def test_an_endless_answer_is_cut_where_its_hold_ends(
    shared_proxy: Proxy, chutes: Upstream, run: str, choices: int
) -> None:
    body = chat(run, directive(fault="endless", after=0), n=choices) | {"max_tokens": 8}
    with EventStream(shared_proxy.port, body) as stream:
        *events, last = stream.events()
    contents = [choice for event in events for choice in event["choices"] if choice["delta"].get("content")]
    assert (len(contents), last["error"]["code"]) == (8 * choices, "upstream_overran")
    chutes.wait(client_gone=1)


@each_row("usage", ["end", "each", "chunks"], before=FRESH)
def test_only_a_client_that_asks_for_the_usage_receives_it(
    shared_proxy: Proxy, chutes: Upstream, run: str, usage: str
) -> None:
    asked = chat(run, directive(usage=usage), stream_options={"include_usage": True})
    with EventStream(shared_proxy.port, asked) as stream:
        *_, last, done = stream.events()
    assert (last["choices"], last["usage"]["completion_tokens"], done) == ([], 5, DONE)
    with EventStream(shared_proxy.port, chat(run, directive(usage=usage))) as stream:
        *events, done = stream.events()
    assert not [event for event in events if "usage" in event]
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert (text, done) == (WORDS, DONE)
    assert [call["stream_options"] for call in chutes.calls()] == [STREAM_OPTIONS] * 2


def test_the_upstreams_message_reaches_the_client_and_no_log(shared_proxy: Proxy, run: str) -> None:
    answer = shared_proxy.ask("POST", CHAT, chat(run, directive(fault="invalid_request_dict")))
    assert answer.json["error"]["message"] == "Invalid request: max_tokens is too large"
    shared_proxy.lines.wait(event="request", run=run)
    assert not [line for line in shared_proxy.lines.raw if "max_tokens is too large" in line]
    assert json.dumps(answer.json["error"]["type"]) == '"invalid_request_error"'
