"""`POST /v1/embeddings`: the embed chute's answer in OpenAI's form, or an error."""

from __future__ import annotations

import base64
import struct
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from ridges_proxy.calls.circuit_breaker import MIN_RUNS
from ridges_proxy.errors import BodyQueueError, DrainingError
from ridges_proxy.runtime.turn_queue import Caller
from ridges_proxy.upstream import Attempt, ChutesClient
from tests.contract_http.failures import EXCEPTIONS, NOT_JSON, REFUSALS
from tests.contract_http.openai_api import ask, embed, envelope
from tests.contract_http.service import (
    CAP_NANOUSD,
    EMBED_URL,
    app_of,
    seen,
    sent,
    services_of,
    spend,
    untouched,
)
from tests.support.app import CHUTES_KEY
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import responses
    from flask import Flask
    from requests import PreparedRequest

    from ridges_proxy.errors import ProxyError

MODEL = "BAAI/bge-large-en-v1.5"


def vectors(count: int) -> list[list[float]]:
    return [[0.5, -0.25, number] for number in range(count)]


def test_a_text_gets_its_vector_in_openais_form(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(EMBED_URL, json=vectors(1))
    reply = embed(app)
    assert seen(reply) == (
        200,
        {
            "object": "list",
            "model": MODEL,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 0]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    )
    assert sent(upstream) == {"inputs": "Hello"}
    usage = services_of(app).ledger.usage("run-of-the-test")
    assert usage is not None
    assert (usage.embedding_nanousd > 0, usage.inference_nanousd, usage.held_nanousd) == (True, 0, 0)
    assert reply.headers["X-Run-Cost-USD"] == f"{usage.spent_nanousd / 1e9:.9f}"


def test_a_list_gets_a_vector_for_each_text_in_order(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[int, int]) -> None:
        count, requests_sent = row
        serve(upstream)
        texts = [f"é{number}" for number in range(count)]
        reply = embed(app_of(), input=texts, model=MODEL, user="u", encoding_format="float")
        data = (reply.json or {})["data"]
        assert [(each["index"], each["embedding"][0]) for each in data] == [(n, n) for n in range(count)]
        assert inputs_of(upstream) == [texts[start : start + 32] for start in range(0, count, 32)]
        assert len(upstream.calls) == requests_sent

    check_rows([(1, 1), (2, 1), (32, 1), (33, 2), (64, 2), (2048, 64)], check)


def serve(upstream: responses.RequestsMock, answers: Mapping[int, bytes | int] | None = None) -> None:
    """Answer each text `éN` with a vector that begins with N; some requests with another body or a status."""
    upstream.reset()
    given = answers or {}

    def reply(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        texts = orjson.loads(cast("bytes", request.body))["inputs"]
        answer = given.get(len(upstream.calls), orjson.dumps([[int(text[1:]), 0.5] for text in texts]))
        return (answer, {}, b"{}") if isinstance(answer, int) else (200, {}, answer)

    upstream.add_callback("POST", EMBED_URL, reply)


def inputs_of(upstream: responses.RequestsMock) -> list[list[str]]:
    return [orjson.loads(cast("bytes", call.request.body))["inputs"] for call in upstream.calls]


ERROR = b'{"error": "`inputs` must have less than 512 tokens", "error_type": "Validation"}'
LATE_FAILURES: list[tuple[str, dict[int, bytes | int], int, str, int, float]] = [
    # What happens, the answers by request, the status and the code, the requests sent, and the seconds paid
    # (each request takes a second, and the hold is for 30).
    ("refused", {1: 429}, 429, "upstream_busy", 2, 1),
    ("refused at once", {0: 400}, 400, "upstream_rejected", 1, 0),
    ("a gateway's timeout", {1: 504}, 504, "upstream_timeout", 2, 30),
    ("an error object", {1: ERROR}, 400, "upstream_rejected", 2, 2),
    ("no JSON", {2: b"<html>"}, 502, "upstream_broken", 3, 3),
    ("a vector too many", {0: orjson.dumps([[0.5]] * 33)}, 502, "upstream_broken", 4, 4),
    ("one too few, then one too many", {0: b"[[1]]", 1: b"[[1]]"}, 502, "upstream_broken", 4, 4),
    ("no vectors", {1: b"[]"}, 502, "upstream_broken", 4, 4),
]


def test_a_list_that_fails_in_the_middle_pays_for_what_was_answered_and_releases_the_rest(
    upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(row: tuple[str, dict[int, bytes | int], int, str, int, float]) -> None:
        _, answers, status, code, requests_sent, seconds = row
        app, clock = app_of(), Clock()
        serve(upstream, answers)
        send = ChutesClient._post

        @contextmanager
        def slow(*args: Any) -> Iterator[Any]:  # noqa: ANN401 - as the method that it calls
            with send(*args) as response:
                clock.advance(1)
                yield response

        def slow_end(attempt: Attempt) -> None:
            attempt.ended_at = clock()

        with monkeypatch.context() as patch:
            patch.setattr("ridges_proxy.upstream.attempt.time", SimpleNamespace(monotonic=clock))
            patch.setattr(ChutesClient, "_post", slow)
            patch.setattr(Attempt, "record_end", slow_end)
            reply = embed(app, input=[f"é{number}" for number in range(100)])
        assert (reply.status_code, (reply.json or {})["error"]["code"]) == (status, code)
        assert len(upstream.calls) == requests_sent
        usage = services_of(app).ledger.usage("run-of-the-test")
        assert usage is not None
        assert (usage.held_nanousd, usage.in_flight) == (0, 0)
        assert usage.spent_nanousd == seconds * services_of(app).settings.embedding_nanousd_per_second
        assert usage.calls == (1 if seconds else 0)

    check_rows(LATE_FAILURES, check)


def test_a_failure_in_the_middle_of_a_list_counts_for_the_circuit_breaker(
    upstream: responses.RequestsMock,
) -> None:
    app = app_of(CIRCUIT_FAILURES="1")
    for number in range(MIN_RUNS):
        assert services_of(app).circuits.down == []
        serve(upstream, {1: 500})
        reply = ask(app, "/v1/embeddings", {"input": ["é0"] * 33}, **{"X-Run-ID": f"run-{number}"})
        assert (reply.json or {})["error"]["code"] == "upstream_failed"
    assert len(services_of(app).circuits.down) == 1


def test_a_long_list_is_one_call_with_one_hold(app: Flask, upstream: responses.RequestsMock) -> None:
    holds: list[tuple[int, int]] = []
    serve(upstream)
    (embed_texts,) = [each for each in upstream.registered() if each.url == EMBED_URL]
    answer = embed_texts.callback  # type: ignore[attr-defined] # it is one

    def recording(request: PreparedRequest) -> Any:  # noqa: ANN401 - as `answer`
        usage = services_of(app).ledger.usage("run-of-the-test")
        assert usage is not None
        holds.append((usage.held_nanousd, usage.in_flight))
        return answer(request)

    embed_texts.callback = recording  # type: ignore[attr-defined] # as above
    reply = embed(app, input=[f"é{number}" for number in range(70)], usage={"include": True})
    assert holds == [(3_000_000, 1)] * 3
    usage = services_of(app).ledger.usage("run-of-the-test")
    assert usage is not None
    assert (usage.calls, usage.spent_nanousd) == (1, round((reply.json or {})["usage"]["cost"] * 1e9))


def test_the_batch_is_that_of_the_settings(upstream: responses.RequestsMock) -> None:
    serve(upstream)
    assert embed(app_of(EMBEDDING_BATCH="3"), input=["é1", "é2", "é3", "é4"]).status_code == 200
    assert inputs_of(upstream) == [["é1", "é2", "é3"], ["é4"]]


def test_token_numbers_are_refused_with_the_switch_of_the_client(app: Flask) -> None:
    def check(tokens: object) -> None:
        reply = embed(app, input=tokens)
        error = (reply.json or {})["error"]
        assert (reply.status_code, error["param"]) == (400, "input")
        assert "check_embedding_ctx_length=False" in error["message"]
        assert untouched(app)

    check_rows([[1], [1, 2], [[1]], [[1, 2], [3]], [-1]], check)


def test_base64_has_the_same_vectors_as_32_bit_floats(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(EMBED_URL, json=vectors(2))
    data = (embed(app, input=["a", "b"], encoding_format="base64").json or {})["data"]
    read = [list(struct.unpack("<3f", base64.b64decode(each["embedding"]))) for each in data]
    assert read == vectors(2)


def test_a_large_answer_is_read_in_turn_and_in_pieces(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    loads = orjson.loads

    def measured(text: bytes) -> object:
        sizes.append(len(text))
        return loads(text)

    written: list[int] = []
    dumps = orjson.dumps

    def measured_writing(value: object, option: int | None = None) -> bytes:
        text = dumps(value, option=option)
        written.append(len(text))
        return text

    large = [[1 / (number + 3)] * 1_000 for number in range(20)]
    texts, turns = ["a"] * len(large), services_of(app).turns
    monkeypatch.setattr(orjson, "loads", measured)
    callers: list[Caller] = []
    do = turns.do

    def recording(caller: Caller, step: Callable[[], object]) -> object:
        callers.append(caller)
        return do(caller, step)

    monkeypatch.setattr(turns, "do", recording)
    upstream.post(EMBED_URL, json=large)
    monkeypatch.setattr(orjson, "dumps", measured_writing)
    reply = embed(app, input=texts)
    assert max(written) < 25_000
    assert callers == [Caller("address\n127.0.0.1", "run-of-the-test")]
    assert [each["embedding"] for each in (reply.json or {})["data"]] == large
    assert max(sizes) < 25_000 < len(reply.data)


@pytest.mark.parametrize("error", [BodyQueueError, DrainingError])
def test_a_large_answer_that_gets_no_turn_is_sent_all_the_same(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch, error: type[ProxyError]
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(services_of(app).turns, "do", refuse)
    large = [[0.5] * 1_000 for _ in range(32)]
    upstream.post(EMBED_URL, json=large)
    reply = embed(app, input=["a"] * len(large))
    assert [each["embedding"] for each in (reply.json or {})["data"]] == large


BAD: dict[str, list[Any]] = {
    "input": [None, "", [], [""], ["a", ""], [1, 2], [[1]], 5, {}, ["a", None], ["a"] * 2049],
    "encoding_format": ["int8", "", 5, [], True],
    "model": [5, [], "x" * 257],
    "run_id": ["", 5, None],
    "user": [5],
    "dimensions": [1],
    "truncate": [1],
    "inputs": [1],
    "extra": [0],
}


def test_a_bad_field_is_named_and_changes_nothing(app: Flask) -> None:
    def check(row: tuple[str, object]) -> None:
        name, value = row
        reply = embed(app, **{name: value})
        assert reply.status_code == 400
        assert (reply.json or {})["error"]["param"] == name
        assert untouched(app)

    check_rows([(name, value) for name, values in BAD.items() for value in values], check)


def test_null_counts_as_absent(upstream: responses.RequestsMock) -> None:
    upstream.post(EMBED_URL, json=vectors(1))

    def check(name: str) -> None:
        assert embed(app_of(), **{name: None}).status_code == 200

    check_rows(["model", "encoding_format", "user"], check)


def test_another_model_is_a_404(app: Flask) -> None:
    message = "Model not supported: GET /v1/models lists those that are. Supported here, the closest first: "
    expected = envelope("model_not_found", "not_found_error", message + MODEL)
    assert seen(embed(app, model="text-embedding-3-small")) == (404, expected)
    assert untouched(app)


BROKEN = envelope("upstream_broken", "server_error", "The upstream's answer broke off or was not understood")


BROKEN_ANSWERS = [
    b"[]",
    b"[[1],[2]]",
    b"[1]",
    b"null",
    b"{}",
    b'{"data":[]}',
    b'{"error":null}',
    b'[["1"]]',
    b"[[true]]",
    b"[[null]]",
    b"[[[1]]]",
    b'"text"',
]


def test_an_answer_of_another_shape_is_a_502(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, bytes]) -> None:
        encoding, answer = row
        upstream.reset()
        upstream.post(EMBED_URL, body=answer)
        assert seen(embed(app_of(), encoding_format=encoding)) == (502, BROKEN)

    check_rows([(encoding, answer) for encoding in ("float", "base64") for answer in BROKEN_ANSWERS], check)


def test_a_number_too_large_for_a_32_bit_float_is_a_502_in_base64(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(EMBED_URL, body=b"[[1e300]]")
    assert embed(app).status_code == 200
    assert seen(embed(app, encoding_format="base64")) == (502, BROKEN)


REFUSED_INPUTS: list[tuple[object, str]] = [
    (
        {"error": "`inputs` must have less than 512 tokens. Given: 600", "error_type": "Validation"},
        "`inputs` must have less than 512 tokens. Given: 600",
    ),
    ({"error": {"message": "batch size 64 > maximum 32"}}, "batch size 64 > maximum 32"),
    ({"error": f"no {CHUTES_KEY}"}, "The upstream rejected the request"),
    ({"error": 5}, "The upstream rejected the request"),
    ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "too long"),
    ({"detail": [{"msg": "too long"}]}, "too long"),
]


def test_an_error_of_the_chute_with_status_200_is_a_400_with_its_text(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[object, str]) -> None:
        body, message = row
        upstream.reset()
        upstream.post(EMBED_URL, json=body)
        reply = embed(app_of())
        assert seen(reply) == (400, envelope("upstream_rejected", "invalid_request_error", message))
        assert "X-Run-Cost-USD" in reply.headers

    check_rows(REFUSED_INPUTS, check)


def test_the_field_that_the_chute_names_has_openais_name(upstream: responses.RequestsMock) -> None:
    upstream.post(EMBED_URL, json={"detail": [{"loc": ["body", "inputs"], "msg": "too long"}]}, status=422)
    expected = envelope("upstream_rejected", "invalid_request_error", "too long", "input")
    assert seen(embed(app_of())) == (400, expected)


def test_an_error_of_the_chute_that_is_no_fault_of_the_input_has_its_own_status(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[object, int, str]) -> None:
        body, status, code = row
        upstream.reset()
        upstream.post(EMBED_URL, json=body)
        reply = embed(app_of())
        assert (reply.status_code, (reply.json or {})["error"]["code"]) == (status, code)

    rows: list[tuple[object, int, str]] = [
        ({"error": "Model is overloaded", "error_type": "Overloaded"}, 429, "upstream_busy"),
        ({"error": "Unhealthy", "error_type": "Unhealthy"}, 503, "upstream_no_instance"),
        ({"status": 500, "detail": "No result"}, 502, "upstream_failed"),
        ({"error": {"message": "timed out", "code": 504}}, 504, "upstream_timeout"),
    ]
    check_rows(rows, check)


def test_every_failure_of_the_upstream_has_its_code(upstream: responses.RequestsMock) -> None:
    failures = {**REFUSALS, **EXCEPTIONS, **NOT_JSON}

    def check(name: str) -> None:
        app, failure = app_of(), failures[name]
        upstream.reset()
        failure.arrange(upstream, EMBED_URL)
        reply = embed(app)
        assert reply.status_code in {400, 429, 502, 503, 504}
        assert orjson.loads(reply.data)["error"]["code"] == failure.v1_code
        assert services_of(app).admission.in_flight == 0

    check_rows(failures, check)


def test_embeddings_and_chats_share_one_budget() -> None:
    app = app_of()
    spend(app, CAP_NANOUSD - 99_999)
    assert embed(app).status_code == 402
