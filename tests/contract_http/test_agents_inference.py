from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gevent.event import Event

from tests.contract_http.failures import (
    ERROR_OBJECTS,
    EXCEPTIONS,
    REFUSALS,
    STREAMS,
    UPSTREAM_CANARY,
    Failure,
)
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
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest

EXHAUSTED = {
    "error": "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more inference from this agent version."
}
SMALLEST_NANOUSD = (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN
"""The hold of a call with MIN_COMPLETION_TOKENS."""

DEFAULT_BODY = {
    "model": MODEL,
    "messages": [HELLO],
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "max_tokens": 1024,
    "temperature": 0.7,
}


def test_the_answer_is_the_complete_text_as_a_json_string(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hello", " there,\n", '"Zoë" \U0001f600'))
    reply = infer(app)
    assert reply.status_code == 200
    assert reply.data == '"Hello there,\\n\\"Zoë\\" \U0001f600"'.encode()
    assert reply.content_type == "application/json"


def test_an_answer_is_complete_after_done_a_finish_reason_or_the_usage(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, bytes]) -> None:
        _, body = row
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        assert seen(infer(app_of())) == (200, "Hi")

    rows = {
        "done": sse(delta("Hi"), DONE),
        "finish_reason": sse(delta("Hi", finish_reason="stop")),
        "finish_reason_length": sse(delta("Hi", finish_reason="length")),
        "usage_event": sse(delta("Hi"), tokens(10, 5)),
        "crlf": sse(delta("Hi"), tokens(10, 5), DONE).replace(b"\n", b"\r\n"),
        "comments_and_other_fields": b": comment\n\nevent: x\n" + sse(delta("Hi"), DONE),
        "no_newline_at_the_end": sse(delta("Hi"), DONE).removesuffix(b"\n\n"),
        "another_model_in_the_answer": sse({**delta("Hi"), "model": "another"}, DONE),
        "null_content": sse(delta(None), delta("Hi"), delta(None), DONE),
    }
    check_rows(rows.items(), check)


def test_a_text_is_whole_where_ids_change_without_a_second_try(upstream: responses.RequestsMock) -> None:
    def piece(chunk_id: str, text: str, **choice: object) -> dict[str, object]:
        message = {"role": "assistant", "content": text}
        return {"id": chunk_id, "choices": [{"index": 0, "delta": message, **choice}]}

    def check(events: list[dict[str, object]]) -> None:
        upstream.reset()
        upstream.post(CHAT_URL, body=sse(*events, DONE))
        assert seen(infer(app_of())) == (200, "abc")

    ids = [piece("1", "a"), piece("2", "b"), piece("3", "c")]
    end = {**delta("", finish_reason="stop"), "id": "chat-2"}
    check_rows([ids, [*ids, piece("4", "", finish_reason="stop")], [delta("ab"), delta("c"), end]], check)


def test_a_second_try_inside_one_stream_replaces_the_first(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    choice = {"index": 0, "delta": {"role": "assistant", "content": "Hello there"}}
    second = {"id": "chat-2", "choices": [choice]}
    upstream.post(CHAT_URL, body=sse(delta("Hel"), delta("lo"), second, DONE))
    assert seen(infer(app)) == (200, "Hello there")


def test_an_empty_answer_gets_the_guides_text(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, bytes]) -> None:
        _, body = row
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        assert seen(infer(app_of())) == (200, "No response content received from the model")

    rows = {
        "no_deltas": answer_of(),
        "empty_delta": answer_of(""),
        "null": sse(delta(None), tokens(10, 5), DONE),
        "reasoning_only": sse({"choices": [{"index": 0, "delta": {"reasoning_content": "Hm"}}]}, DONE),
        "done_alone": sse(DONE),
    }
    check_rows(rows.items(), check)


def test_the_upstream_request_has_the_guides_defaults(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app)
    assert sent(upstream) == DEFAULT_BODY


def test_the_temperature_goes_upstream_and_null_is_the_default(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[float | None, float]) -> None:
        given, expected = row
        upstream.reset()
        upstream.post(CHAT_URL, body=answer_of("Hi"))
        infer(app_of(), temperature=given)
        assert sent(upstream) == {**DEFAULT_BODY, "temperature": expected}

    rows = [(0, 0.0), (0.0, 0.0), (0.3, 0.3), (1, 1.0), (2, 2.0), (2.0, 2.0), (None, 0.7)]
    check_rows(rows, check)


def test_no_model_or_an_empty_one_is_the_default_model(upstream: responses.RequestsMock) -> None:
    def check(model: str | None) -> None:
        upstream.reset()
        upstream.post(CHAT_URL, body=answer_of("Hi"))
        infer(app_of(), model=model)
        assert sent(upstream) == DEFAULT_BODY

    check_rows([None, "", MODEL], check)


def test_another_model_with_a_price_goes_upstream_by_its_name(upstream: responses.RequestsMock) -> None:
    app = app_of(MODEL_PRICES=f'{{"{MODEL}": 0.27, "other": 1}}')
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app, model="other")
    assert sent(upstream) == {**DEFAULT_BODY, "model": "other"}


def test_unknown_fields_are_ignored_also_in_messages(app: Flask, upstream: responses.RequestsMock) -> None:
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
    assert sent(upstream) == DEFAULT_BODY


def test_messages_keep_their_order_and_may_have_any_text(
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
    assert sent(upstream) == {**DEFAULT_BODY, "messages": messages}


def test_the_upstream_gets_the_proxys_key_and_none_of_the_callers_headers(
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


def test_max_tokens_is_reduced_to_what_the_remaining_budget_pays_for(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    spend(app, CAP_NANOUSD - (HELLO_TOKENS + 100) * NANOUSD_PER_TOKEN)
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(infer(app)) == (200, "Hi")
    assert sent(upstream) == {**DEFAULT_BODY, "max_tokens": 100}


def test_an_unsupported_model_is_refused_with_the_guides_text(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    text = "Model gpt-4 not supported. Please use one of the following models: ['{}']".format(MODEL)  # noqa: UP032 - an f-string would need doubled braces
    assert seen(infer(app, model="gpt-4")) == (200, {"error": text})
    assert len(upstream.calls) == 0
    assert untouched(app)


def test_the_text_for_an_unsupported_model_lists_all_models_as_a_python_list() -> None:
    app = app_of(MODEL_PRICES='{"b\'c": 1, "a": 2}', DEFAULT_MODEL="a")
    text = "Model {x} 'y' not supported. Please use one of the following models: [\"b'c\", 'a']"
    assert seen(infer(app, model="{x} 'y'")) == (200, {"error": text})


def test_an_exhausted_budget_gets_the_guides_text_and_nothing_is_sent(
    upstream: responses.RequestsMock,
) -> None:
    def check(remaining_nanousd: int) -> None:
        app = app_of()
        spend(app, CAP_NANOUSD - remaining_nanousd)
        assert seen(infer(app)) == (200, EXHAUSTED)
        assert len(upstream.calls) == 0

    check_rows([0, SMALLEST_NANOUSD - 1], check)


def test_a_budget_for_just_the_smallest_answer_is_enough(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    spend(app, CAP_NANOUSD - SMALLEST_NANOUSD)
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert seen(infer(app)) == (200, "Hi")
    assert sent(upstream)["max_tokens"] == 16


def test_an_unsupported_model_is_reported_before_an_exhausted_budget(app: Flask) -> None:
    spend(app, CAP_NANOUSD)
    assert infer(app, model="gpt-4").json != EXHAUSTED


def test_a_budget_of_zero_is_exhausted_from_the_start() -> None:
    assert seen(infer(app_of(MAX_COST_PER_RUN="0"))) == (200, EXHAUSTED)


def test_every_failure_of_the_upstream_is_a_500_with_the_guides_text_and_a_code(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, Failure]) -> None:
        name, failure = row
        app = app_of()
        upstream.reset()
        failure.arrange(upstream, CHAT_URL)
        reply = infer(app)
        assert seen(reply) == (500, envelope(INFERENCE_FAILED, failure.code))
        assert "Retry-After" not in reply.headers
        assert UPSTREAM_CANARY not in str(reply.headers)
        assert services_of(app).admission.in_flight == 0
        run = services_of(app).ledger.usage("run-of-the-test")
        assert run is not None
        assert (run.held_nanousd, run.in_flight) == (0, 0)
        is_refused = name in {**REFUSALS, **ERROR_OBJECTS}
        assert is_refused == (run.spent_nanousd == 0), "a refused call costs nothing"

    check_rows({**REFUSALS, **ERROR_OBJECTS, **EXCEPTIONS, **STREAMS}.items(), check)


def test_a_status_that_is_no_error_and_no_200_costs_the_hold(upstream: responses.RequestsMock) -> None:
    """The upstream may bill it."""

    def check(status: int) -> None:
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, status=status)
        assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "upstream_failed"))
        assert spent_nanousd(app) == WHOLE_HOLD_NANOUSD

    check_rows([201, 204], check)


def test_an_upstream_that_cannot_be_reached_is_a_500_and_costs_nothing(
    refusing_url: str,
) -> None:
    app = app_of(CHUTES_BASE_URL=refusing_url)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "upstream_unreachable"))
    assert spent_nanousd(app) == 0


def test_a_failed_call_is_not_retried(app: Flask, upstream: responses.RequestsMock) -> None:
    STREAMS["truncated_after_an_event"].arrange(upstream, CHAT_URL)
    infer(app)
    assert len(upstream.calls) == 1


def test_a_call_past_its_deadline_is_a_500_and_costs_its_full_hold(
    upstream: responses.RequestsMock,
) -> None:
    def never(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        Event().wait()
        raise AssertionError

    app = app_of(DEADLINE_SECONDS="0.1")
    upstream.add_callback("POST", CHAT_URL, never)
    assert seen(infer(app)) == (500, envelope(INFERENCE_FAILED, "upstream_timeout"))
    assert spent_nanousd(app) == (HELLO_TOKENS + 1024) * NANOUSD_PER_TOKEN
