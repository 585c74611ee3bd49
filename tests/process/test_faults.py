"""Every failure of Chutes: the answer to the agent, and the settlement of the hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import pytest

from tests.process import expected_holds
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.row_fixtures import new_run, reset
from tests.process.server import Proxy
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.server import Usage
    from tests.process.wire import Answer

FAILED = "Failed to get {} due to internal server error. Please try again later."
NO_CONTENT = "No response content received from the model"
WORDS = "word1 word2 word3 word4 word5 "

ROLE = 1
"""Tokens: the first delta has no text, but counts as one token."""
WORD = 6
"""Tokens: the bytes of one of the fake Chutes's words."""
TORN_EVENT = 48
"""Bytes of the event that `malformed` sends."""

PART_OF_AN_EVENT = 400
"""Bytes, more than any event of the fake Chutes: an incomplete event counts by its bytes."""

MALFORMED = range(ROLE + WORD + TORN_EVENT, ROLE + 5 * WORD + TORN_EVENT + PART_OF_AN_EVENT)
"""Tokens: bytes received after the torn event count too."""


class Resolution(Enum):
    """How a hold ends."""

    RELEASED = "released"
    AT_HOLD = "settled at the hold"
    AT_USAGE = "settled at the usage"
    AT_BOUND = "settled at the bound of what was received"


@dataclass(frozen=True)
class Expected:
    """Consequences of a fault: with a code, the status is 500; without one, 200 with this answer."""

    resolution: Resolution
    code: str | None = None
    answer: object = WORDS
    received: int | range = 0
    """Tokens that the bound counts in addition to the prompt."""
    ended_by_time: bool = False
    """Only a time limit ends the call."""


def failed(
    code: str, resolution: Resolution, received: int | range = 0, *, ended_by_time: bool = False
) -> Expected:
    return Expected(resolution, f"upstream_{code}", None, received, ended_by_time)


GOOD = Expected(Resolution.AT_USAGE)
SILENT = Expected(Resolution.AT_USAGE, answer=NO_CONTENT)
AFTER_ONE_WORD = failed("broken", Resolution.AT_BOUND, ROLE + WORD)

STATUSES = {
    "auth_required": failed("auth", Resolution.RELEASED),
    "auth_invalid": failed("auth", Resolution.RELEASED),
    "quota": failed("quota", Resolution.RELEASED),
    "quota_plain": failed("quota", Resolution.RELEASED),
    "model_not_found": failed("model", Resolution.RELEASED),
    "no_cord": failed("model", Resolution.RELEASED),
    "invalid_request": failed("rejected", Resolution.RELEASED),
    "invalid_request_dict": failed("rejected", Resolution.RELEASED),
    "at_capacity": failed("busy", Resolution.RELEASED),
    "maintenance": failed("busy", Resolution.RELEASED),
    "spam": failed("busy", Resolution.RELEASED),
    "no_instances": failed("no_instance", Resolution.RELEASED),
    "exhausted": failed("failed", Resolution.RELEASED),
    "no_result": failed("failed", Resolution.RELEASED),
    "gateway_timeout": failed("timeout", Resolution.AT_HOLD),
    "redirect": failed("failed", Resolution.RELEASED),
}

NO_ANSWER = {
    "close": failed("broken", Resolution.AT_HOLD),
    "reset": failed("broken", Resolution.AT_HOLD),
    "hang": failed("timeout", Resolution.AT_HOLD, ended_by_time=True),
}

INFERENCES = {
    **STATUSES,
    **NO_ANSWER,
    "html": failed("broken", Resolution.AT_BOUND),
    "gzip": failed("broken", Resolution.AT_HOLD),
    "status_body": failed("failed", Resolution.RELEASED),
    "error_first": failed("rejected", Resolution.RELEASED),
    "error_line": AFTER_ONE_WORD,
    "error_event": AFTER_ONE_WORD,
    "cut": AFTER_ONE_WORD,
    "no_done_no_finish": AFTER_ONE_WORD,
    # An answer that cannot be parsed counts by its bytes: it may be a paid answer.
    "malformed": failed("broken", Resolution.AT_BOUND, MALFORMED),
    "json_whole": failed("broken", Resolution.AT_BOUND, range(5 * WORD, expected_holds.MAX_TOKENS)),
    # An RST may overtake the data sent before it.
    "reset_mid": failed("broken", Resolution.AT_BOUND, range(ROLE + WORD + 1)),
    # A thousand tokens a second may be generated after the last text.
    "stall": failed("timeout", Resolution.AT_BOUND, range(ROLE + WORD, 1000), ended_by_time=True),
    "endless": failed("overran", Resolution.AT_HOLD),
    "error_text": failed("broken", Resolution.AT_USAGE),
    "cut_after_finish": Expected(Resolution.AT_BOUND, received=ROLE + 5 * WORD),
    "cut_after_usage": GOOD,
    "no_done": GOOD,
    "no_finish": GOOD,
    "wrong_length": GOOD,
    "restart": GOOD,
    "split": GOOD,
    "trickle": GOOD,
    "crlf": GOOD,
    "comments": GOOD,
    "cookie": GOOD,
    "other_model": GOOD,
    "empty": SILENT,
    "null_content": SILENT,
    "reasoning_only": SILENT,
}

# An embedding is priced by time, so settling at its usage and at its bound is the same.
VECTORS = "vectors"
EMBEDDINGS = {
    **STATUSES,
    **NO_ANSWER,
    "html": failed("broken", Resolution.AT_BOUND),
    "gzip": failed("broken", Resolution.AT_BOUND),
    "cut": failed("broken", Resolution.AT_BOUND),
    "reset_mid": failed("broken", Resolution.AT_BOUND),
    "stall": failed("timeout", Resolution.AT_BOUND, ended_by_time=True),
    "malformed": failed("broken", Resolution.AT_BOUND),
    "wrong_length": failed("broken", Resolution.AT_BOUND),
    "cookie": Expected(Resolution.AT_USAGE, answer=VECTORS),
    "too_long": Expected(Resolution.AT_USAGE, answer="`inputs` must have less than 512 tokens"),
}


def test_every_fault_has_a_row(chutes: Upstream) -> None:
    known = chutes.faults()
    assert set(known["stream"]) == set(INFERENCES)
    assert set(known["embed"]) == set(EMBEDDINGS)


PER_ROW: dict[str, Callable[..., object]] = {"chutes": reset, "run": new_run}


@pytest.fixture(scope="module")
def single_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy that gets one call after another, and so needs one connection to the upstream."""
    with Proxy(fake_chutes) as started:
        yield started


@pytest.fixture
def proxies(single_proxy: Proxy, brief_proxy: Proxy) -> dict[bool, Proxy]:
    """Proxies by whether a time limit must end the call."""
    return {False: single_proxy, True: brief_proxy}


def billed_upstream(chutes: Upstream) -> int:
    """Return the bill of the one recorded call, after its end."""
    chutes.wait(idle=1, finished=1)
    (call,) = chutes.calls()
    billed: int = call["billed_nanousd"]
    return billed


def assert_nothing_leaks(proxy: Proxy, chutes: Upstream, open_before: int) -> None:
    assert proxy.in_flight() == 0
    assert proxy.upstream_connections(chutes) <= max(1, open_before)


@each_row("fault", INFERENCES, before=PER_ROW)
def test_each_fault_of_an_inference_is_answered_and_settled(
    proxies: dict[bool, Proxy], chutes: Upstream, run: str, fault: str
) -> None:
    expected = INFERENCES[fault]
    proxy = proxies[expected.ended_by_time]
    open_before = proxy.upstream_connections(chutes)
    prompt = directive(fault=fault)
    answer = proxy.infer(run, prompt)
    assert_answered(answer, expected, "inference")
    billed = billed_upstream(chutes)
    usage = proxy.usage(run)
    assert (usage.held, usage.embedding, usage.calls) == (
        0,
        0,
        expected.resolution is not Resolution.RELEASED,
    )
    assert_settled(usage, prompt, expected, billed)
    assert_nothing_leaks(proxy, chutes, open_before)
    line = proxy.lines.wait(event="request", run=run)[0]
    assert (line["status"], line["code"]) == (answer.status, expected.code)
    assert round(line["cost_usd"] * 10**9) == usage.spent


def assert_answered(answer: Answer, expected: Expected, noun: str) -> None:
    if expected.code is None:
        assert (answer.status, answer.json) == (200, expected.answer)
    else:
        assert answer.outcome == (500, expected.code)
        assert answer.json["detail"] == FAILED.format(noun)
        assert answer.json["request_id"] == answer.headers["x-request-id"]


def assert_settled(usage: Usage, prompt: str, expected: Expected, billed: int) -> None:
    match expected.resolution, expected.received:
        case Resolution.RELEASED, _:
            assert usage.spent == billed == 0
        case Resolution.AT_HOLD, _:
            assert usage.spent == expected_holds.hold(prompt)
        case Resolution.AT_USAGE, _:
            assert usage.spent == billed > 0
        case Resolution.AT_BOUND, int(tokens):
            assert expected_holds.may_be_cost(usage.spent, prompt, tokens)
        case Resolution.AT_BOUND, tokens:
            assert expected_holds.may_be_cost(usage.spent, prompt, min(tokens))


@each_row("fault", EMBEDDINGS, before=PER_ROW)
def test_each_fault_of_an_embedding_is_answered_and_settled(
    proxies: dict[bool, Proxy], chutes: Upstream, run: str, fault: str
) -> None:
    expected = EMBEDDINGS[fault]
    proxy = proxies[expected.ended_by_time]
    open_before = proxy.upstream_connections(chutes)
    answer = proxy.embed(run, directive(fault=fault) + "x" * 2100)
    assert_embedding_answered(answer, expected)
    billed = billed_upstream(chutes)
    usage = proxy.usage(run)
    assert (usage.held, usage.inference, usage.calls) == (
        0,
        0,
        expected.resolution is not Resolution.RELEASED,
    )
    hold = expected_holds.SHORT_EMBEDDING_HOLD if expected.ended_by_time else expected_holds.EMBEDDING_HOLD
    if expected.resolution is Resolution.RELEASED:
        assert usage.spent == billed == 0
    elif expected.resolution is Resolution.AT_HOLD:
        assert usage.spent == hold
    else:
        assert billed <= usage.spent <= hold
        assert usage.spent > 0
    assert_nothing_leaks(proxy, chutes, open_before)


def assert_embedding_answered(answer: Answer, expected: Expected) -> None:
    if expected.answer == VECTORS:
        assert answer.status == 200
        assert [len(vector) for vector in answer.json] == [1024]
    elif expected.code is None:
        assert answer.status == 200
        assert str(expected.answer) in answer.json["error"], "agents look for this text"
    else:
        assert_answered(answer, expected, "embedding")


def test_a_failed_call_does_not_affect_the_next_one(single_proxy: Proxy, chutes: Upstream, run: str) -> None:
    for fault in ("cut", "wrong_length", "malformed", "error_line", "cookie", "gzip"):
        single_proxy.infer(run, directive(fault=fault))
        assert single_proxy.infer(run).json == WORDS
    assert "cookie" not in {name for call in chutes.calls() for name in call["headers_seen"]}


def test_a_lost_answer_that_was_billed_is_settled_at_the_hold(
    single_proxy: Proxy,
    chutes: Upstream,
    run: str,
) -> None:
    prompt = directive(fault="close", billed=True)
    assert single_proxy.infer(run, prompt).outcome == (500, "upstream_broken")
    assert 0 < billed_upstream(chutes) <= single_proxy.usage(run).spent == expected_holds.hold(prompt)


@each_row("fault", ["json_whole", "malformed", "cut_after_finish", "gzip"], before=PER_ROW)
def test_a_long_answer_that_cannot_be_parsed_costs_at_least_its_bill(
    single_proxy: Proxy,
    chutes: Upstream,
    run: str,
    fault: str,
) -> None:
    single_proxy.infer(run, directive(fault=fault, events=1000, after=900))
    assert billed_upstream(chutes) <= single_proxy.usage(run).spent


@each_row("usage", ["none", "null", {"total_tokens": "many"}], before=PER_ROW)
def test_without_a_usage_the_bound_of_the_received_answer_is_charged(
    single_proxy: Proxy,
    chutes: Upstream,
    run: str,
    usage: object,
) -> None:
    prompt = directive(usage=usage)
    assert single_proxy.infer(run, prompt).json == WORDS
    assert (
        billed_upstream(chutes)
        <= single_proxy.usage(run).spent
        == expected_holds.bound(prompt, ROLE + 5 * WORD)
    )


@each_row("usage", ["each", "end"], before=PER_ROW)
def test_the_last_usage_counts(
    single_proxy: Proxy,
    chutes: Upstream,
    run: str,
    usage: str,
) -> None:
    assert single_proxy.infer(run, directive(usage=usage)).json == WORDS
    assert single_proxy.usage(run).spent == billed_upstream(chutes)


def test_an_upstream_call_has_only_the_allowed_fields_and_headers(
    single_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    single_proxy.infer(run, temperature=0.1, top_p=0.9, tools=[])
    (call,) = chutes.calls()
    assert call["body_keys"] == [
        "max_tokens", "messages", "model", "stream", "stream_options", "temperature",
    ]  # fmt: skip
    assert (call["max_tokens"], call["stream"], call["stream_options"]) == (
        1024,
        True,
        {"include_usage": True, "continuous_usage_stats": True},
    )
    assert call["headers_seen"]["accept-encoding"] == "identity"
    assert not {"cookie", "x-forwarded-for"} & set(call["headers_seen"])
