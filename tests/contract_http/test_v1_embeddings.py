"""`POST /v1/embeddings`: OpenAI's form around what the embed chute answers, whatever it answers."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.contract_http.failures import EXCEPTIONS, NOT_JSON, REFUSALS, Failure, each
from tests.contract_http.openai_api import embed, envelope
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

if TYPE_CHECKING:
    import responses
    from flask import Flask

MODEL = "BAAI/bge-large-en-v1.5"


def vectors(count: int) -> list[list[float]]:
    return [[0.5, -0.25, number] for number in range(count)]


def test_a_text_has_its_vector_in_openais_form(app: Flask, upstream: responses.RequestsMock) -> None:
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
    books = services_of(app).ledger.usage("run-of-the-test")
    assert books is not None
    assert (books.embedding_nanousd > 0, books.inference_nanousd, books.held_nanousd) == (True, 0, 0)
    assert reply.headers["X-Run-Cost-USD"] == f"{books.spent_nanousd / 1e9:.9f}"


@pytest.mark.parametrize("count", [1, 2, 2048])
def test_a_list_has_a_vector_each_in_order(app: Flask, upstream: responses.RequestsMock, count: int) -> None:
    upstream.post(EMBED_URL, json=vectors(count))
    texts = [f"é{number}" for number in range(count)]
    data = (embed(app, input=texts, model=MODEL, user="u", encoding_format="float").json or {})["data"]
    assert [(each["index"], each["embedding"][2]) for each in data] == [(n, n) for n in range(count)]
    assert sent(upstream) == {"inputs": texts}


def test_base64_is_the_same_vector_in_32_bit_floats(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(EMBED_URL, json=vectors(2))
    data = (embed(app, input=["a", "b"], encoding_format="base64").json or {})["data"]
    read = [list(struct.unpack("<3f", base64.b64decode(each["embedding"]))) for each in data]
    assert read == vectors(2)


BAD: dict[str, list[Any]] = {
    "input": [None, "", [], [""], ["a", ""], [1, 2], [[1]], 5, {}, ["a", None], ["a"] * 2049],
    "encoding_format": ["int8", "", 5, [], True],
    "model": [5, [], "x" * 257],
    "run_id": ["", 5, None],
    "user": [5],
    "dimensions": [1],
    "truncate": [1],
    "inputs": [1],
    "extra": [None],
}


@pytest.mark.parametrize(
    ("fields", "name"), [({name: value}, name) for name, values in BAD.items() for value in values]
)
def test_a_bad_field_is_named_and_leaves_no_trace(app: Flask, fields: dict[str, Any], name: str) -> None:
    reply = embed(app, **fields)
    assert reply.status_code == 400
    assert (reply.json or {})["error"]["param"] == name
    assert untouched(app)


@pytest.mark.parametrize("name", ["model", "encoding_format", "user"])
def test_a_null_is_as_good_as_an_absent_field(
    app: Flask, upstream: responses.RequestsMock, name: str
) -> None:
    upstream.post(EMBED_URL, json=vectors(1))
    assert embed(app, **{name: None}).status_code == 200


def test_another_model_is_a_404(app: Flask) -> None:
    expected = envelope("model_not_found", "not_found_error", "Model not supported")
    assert seen(embed(app, model="text-embedding-3-small")) == (404, expected)
    assert untouched(app)


BROKEN = envelope("upstream_broken", "server_error", "The upstream's answer broke off or was not understood")


@pytest.mark.parametrize(
    "answer",
    [
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
    ],
)
@pytest.mark.parametrize("form", ["float", "base64"])
def test_an_answer_of_another_shape_is_a_502(
    app: Flask, upstream: responses.RequestsMock, answer: bytes, form: str
) -> None:
    upstream.post(EMBED_URL, body=answer)
    assert seen(embed(app, encoding_format=form)) == (502, BROKEN)


def test_a_number_that_no_32_bit_float_holds_is_a_502_in_base64(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(EMBED_URL, body=b"[[1e300]]")
    assert embed(app).status_code == 200
    assert seen(embed(app, encoding_format="base64")) == (502, BROKEN)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"error": "`inputs` must have less than 512 tokens. Given: 600", "error_type": "Validation"},
            "`inputs` must have less than 512 tokens. Given: 600",
        ),
        ({"error": {"message": "batch size 64 > maximum 32"}}, "batch size 64 > maximum 32"),
        ({"error": f"no {CHUTES_KEY}"}, "The upstream rejected the request"),
        ({"error": 5}, "The upstream rejected the request"),
    ],
)
def test_a_refusal_inside_a_200_is_a_400_in_the_chutes_words(
    app: Flask, upstream: responses.RequestsMock, body: object, words: str
) -> None:
    upstream.post(EMBED_URL, json=body)
    reply = embed(app)
    assert seen(reply) == (400, envelope("upstream_rejected", "invalid_request_error", words))
    assert "X-Run-Cost-USD" in reply.headers


@pytest.mark.parametrize("failure", each(REFUSALS, EXCEPTIONS, NOT_JSON))
def test_every_failure_of_the_upstream_has_its_code(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, EMBED_URL)
    reply = embed(app)
    assert reply.status_code in {400, 429, 502, 503, 504}
    assert orjson.loads(reply.data)["error"]["code"] == failure.code
    assert services_of(app).admission.in_flight == 0


def test_both_kinds_of_calls_draw_on_the_one_cap() -> None:
    app = app_of()
    spend(app, CAP_NANOUSD - 99_999)
    assert embed(app).status_code == 402
