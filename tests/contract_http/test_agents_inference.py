from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from gevent.event import Event

from tests.contract_http.failures import EXCEPTIONS, REFUSALS, STREAMS, UPSTREAM_CANARY, Failure, each
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    DONE,
    HEADERS,
    HELLO,
    HELLO_TOKENS,
    INFERENCE_FAILED,
    MODEL,
    NANOUSD_PER_TOKEN,
    WHOLE_HOLD_NANOUSD,
    answer_of,
    app_of,
    delta,
    envelope,
    hold_of,
    infer,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
    sse,
    tokens,
    untouched,
)
from tests.support.app import CHUTES_KEY

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest

EXHAUSTED = {
    "error": "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more inference from this agent version."
}
USUAL_BODY = {
    "model": MODEL,
    "messages": [HELLO],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 1024,
    "temperature": 0.7,
}


def test_the_answer_is_the_whole_text_as_a_json_string(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hello", " there,\n", '"Zoë" \U0001f600'))
    reply = infer(app)
    assert reply.status_code == 200
    assert reply.data == '"Hello there,\\n\\"Zoë\\" \U0001f600"'.encode()
    assert reply.content_type == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(sse(delta("Hi"), DONE), id="done"),
        pytest.param(sse(delta("Hi", finish_reason="stop")), id="finish_reason"),
        pytest.param(sse(delta("Hi", finish_reason="length")), id="finish_reason_length"),
        pytest.param(sse(delta("Hi"), tokens(10, 5)), id="usage_event"),
        pytest.param(sse(delta("Hi"), tokens(10, 5), DONE).replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(b": comment\n\nevent: x\n" + sse(delta("Hi"), DONE), id="comments_and_other_fields"),
        pytest.param(sse(delta("Hi"), DONE).removesuffix(b"\n\n"), id="no_newline_at_the_end"),
        pytest.param(sse({**delta("Hi"), "model": "another"}, DONE), id="another_model_in_the_answer"),
        pytest.param(sse(delta(None), delta("Hi"), delta(None), DONE), id="null_content"),
    ],
)
def test_an_answer_is_complete_when_any_of_its_three_ends_has_come(
    app: Flask, upstream: responses.RequestsMock, body: bytes
) -> None:
    upstream.post(CHAT_URL, body=body)
    assert seen(infer(app)) == (200, "Hi")


def test_a_second_try_inside_one_stream_replaces_the_first(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    second = {**delta("Hello there"), "id": "chat-2"}
    upstream.post(CHAT_URL, body=sse(delta("Hel"), delta("lo"), second, DONE))
    assert seen(infer(app)) == (200, "Hello there")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(answer_of(), id="no_deltas"),
        pytest.param(answer_of(""), id="empty_delta"),
        pytest.param(sse(delta(None), tokens(10, 5), DONE), id="null"),
        pytest.param(
            sse({"choices": [{"index": 0, "delta": {"reasoning_content": "Hm"}}]}, DONE), id="reasoning_only"
        ),
        pytest.param(sse(DONE), id="done_alone"),
    ],
)
def test_an_empty_answer_is_told_in_the_guides_words(
    app: Flask, upstream: responses.RequestsMock, body: bytes
) -> None:
    upstream.post(CHAT_URL, body=body)
    assert seen(infer(app)) == (200, "No response content received from the model")


def test_the_upstream_is_asked_with_the_guides_defaults(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app)
    assert sent(upstream) == USUAL_BODY


@pytest.mark.parametrize(
    ("given", "expected"), [(0, 0.0), (0.0, 0.0), (0.3, 0.3), (1, 1.0), (2, 2.0), (2.0, 2.0), (None, 0.7)]
)
def test_the_temperature_goes_upstream_as_given_and_null_is_the_default(
    app: Flask, upstream: responses.RequestsMock, given: float | None, expected: float
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app, temperature=given)
    assert sent(upstream) == {**USUAL_BODY, "temperature": expected}


@pytest.mark.parametrize("model", [None, "", MODEL])
def test_a_model_left_open_is_the_default(
    app: Flask, upstream: responses.RequestsMock, model: str | None
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app, model=model)
    assert sent(upstream) == USUAL_BODY


def test_another_model_with_a_price_goes_upstream_by_its_name(upstream: responses.RequestsMock) -> None:
    app = app_of(MODEL_PRICES=f'{{"{MODEL}": 0.27, "other": 1}}')
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app, model="other")
    assert sent(upstream) == {**USUAL_BODY, "model": "other"}


def test_unknown_fields_are_ignored_nested_ones_too(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    message = {**HELLO, "tool_calls": [{"id": 1}], "name": None, "role ": "system"}
    extra: dict[str, Any] = {
        "top_p": "x",
        "tools": [{}],
        "n": 50,
        "max_tokens": 9,
        "stream": False,
        "stream_options": None,
    }
    reply = infer(app, messages=[message], **extra)
    assert seen(reply) == (200, "Hi")
    assert sent(upstream) == USUAL_BODY


def test_messages_keep_their_order_and_may_be_empty_strings(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    messages = [
        {"role": "system", "content": ""},
        {"role": "", "content": "a\x00\n\u2028"},
        {"role": "assistant", "content": "\U0001f600"},
        HELLO,
    ]
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app, messages=messages)
    assert sent(upstream) == {**USUAL_BODY, "messages": messages}


def test_the_upstream_gets_our_key_and_nothing_of_the_callers_headers(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app, headers={**HEADERS, "Cookie": "a=b", "X-Forwarded-For": "10.0.0.1", "User-Agent": "agent"})
    call = upstream.calls[0].request
    headers = dict(call.headers)
    assert headers == {
        "Accept-Encoding": "identity",
        "Authorization": f"Bearer {CHUTES_KEY}",
        "Content-Length": headers["Content-Length"],
        "Content-Type": "application/json",
        "User-Agent": "ridges-proxy",
    }


def test_max_tokens_is_what_the_rest_of_the_budget_pays_for(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    spend(app, CAP_NANOUSD - (HELLO_TOKENS + 100) * NANOUSD_PER_TOKEN)
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(infer(app)) == (200, "Hi")
    assert sent(upstream) == {**USUAL_BODY, "max_tokens": 100}


def test_an_unsupported_model_is_refused_with_the_guides_text(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    text = "Model gpt-4 not supported. Please use one of the following models: ['{}']".format(MODEL)  # noqa: UP032 - braces beside braces
    assert seen(infer(app, model="gpt-4")) == (200, {"error": text})
    assert len(upstream.calls) == 0
    assert untouched(app)


def test_the_text_for_an_unsupported_model_lists_all_models_as_python_does() -> None:
    app = app_of(MODEL_PRICES='{"b\'c": 1, "a": 2}', DEFAULT_MODEL="a")
    text = "Model {x} 'y' not supported. Please use one of the following models: [\"b'c\", 'a']"
    assert seen(infer(app, model="{x} 'y'")) == (200, {"error": text})


def test_an_exhausted_budget_is_told_in_the_guides_words_and_nothing_is_sent(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    spend(app, CAP_NANOUSD)
    assert seen(infer(app)) == (200, EXHAUSTED)
    assert len(upstream.calls) == 0


def test_a_budget_is_exhausted_once_it_pays_for_less_than_the_smallest_answer(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    smallest = (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN
    spend(app, CAP_NANOUSD - smallest + 1)
    assert seen(infer(app)) == (200, EXHAUSTED)
    assert len(upstream.calls) == 0


def test_a_budget_for_just_the_smallest_answer_is_spent_on_it(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    smallest = (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN
    spend(app, CAP_NANOUSD - smallest)
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(infer(app)) == (200, "Hi")
    assert sent(upstream)["max_tokens"] == 16


def test_an_unsupported_model_is_named_even_when_the_budget_is_exhausted(app: Flask) -> None:
    spend(app, CAP_NANOUSD)
    assert infer(app, model="gpt-4").json != EXHAUSTED


def test_a_cap_of_nothing_is_exhausted_from_the_start() -> None:
    assert seen(infer(app_of(MAX_COST_PER_RUN="0"))) == (200, EXHAUSTED)


def test_a_budget_held_by_calls_in_flight_is_to_be_asked_for_again(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    hold_of(app, CAP_NANOUSD)
    reply = infer(app)
    detail = "The run's budget is held by its calls in flight"
    assert seen(reply) == (429, envelope(detail, "budget_held"))
    assert reply.headers["Retry-After"] == "2"
    assert len(upstream.calls) == 0


@pytest.mark.parametrize("failure", each(REFUSALS, EXCEPTIONS, STREAMS))
def test_every_failure_of_the_upstream_is_a_500_in_the_guides_words_with_a_code(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, CHAT_URL)
    reply = infer(app)
    assert seen(reply) == (500, envelope(INFERENCE_FAILED, failure.code))
    assert "Retry-After" not in reply.headers
    assert UPSTREAM_CANARY not in str(reply.headers)
    assert services_of(app).admission.in_flight == 0
    books = services_of(app).ledger.usage("run-of-the-test")
    assert books is not None
    assert (books.held_nanousd, books.in_flight) == (0, 0)


@pytest.mark.parametrize("failure", each(REFUSALS))
def test_a_call_that_the_upstream_refused_costs_nothing(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, CHAT_URL)
    infer(app)
    assert spent_nanousd(app) == 0


@pytest.mark.parametrize("status", [201, 204])
def test_a_status_that_refuses_nothing_costs_the_hold_as_it_may_be_billed(
    app: Flask, upstream: responses.RequestsMock, status: int
) -> None:
    upstream.post(CHAT_URL, status=status)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "upstream_failed"))
    assert spent_nanousd(app) == WHOLE_HOLD_NANOUSD


def test_an_upstream_that_cannot_be_reached_is_a_500_and_costs_nothing(
    refusing_url: str,
) -> None:
    app = app_of(CHUTES_BASE_URL=refusing_url)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "upstream_unreachable"))
    assert spent_nanousd(app) == 0


def test_a_failed_call_is_never_sent_twice(app: Flask, upstream: responses.RequestsMock) -> None:
    STREAMS["truncated_after_an_event"].arrange(upstream, CHAT_URL)
    infer(app)
    assert len(upstream.calls) == 1


def test_a_call_past_its_deadline_is_a_500_and_costs_its_whole_hold(
    upstream: responses.RequestsMock,
) -> None:
    def never(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        Event().wait()
        raise AssertionError

    app = app_of(DEADLINE_SECONDS="0.1")
    upstream.add_callback("POST", CHAT_URL, never)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "upstream_timeout"))
    assert spent_nanousd(app) == (HELLO_TOKENS + 1024) * NANOUSD_PER_TOKEN
