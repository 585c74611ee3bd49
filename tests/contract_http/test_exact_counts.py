"""Holds of a model whose price names a tokenizer file, on both surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from ridges_proxy.billing.exact_counts import TOKENS_PER_ELEMENT
from ridges_proxy.billing.rendered_bounds import CALL_BOUND_TOKENS
from tests.contract_http.openai_api import estimate
from tests.contract_http.service import (
    CHAT_URL,
    MODEL,
    NANOUSD_PER_TOKEN,
    RUN,
    app_of,
    delta,
    infer,
    services_of,
    sse,
)
from tests.support.small_tokenizer import small_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    import responses
    from flask import Flask
    from requests import PreparedRequest

TEXT = {"role": "user", "content": "hello" + " world" * 999}
"""A role of four tokens, and a text of 1,000 tokens and 5,999 bytes."""

TOKENS = 4 + 1000 + TOKENS_PER_ELEMENT + CALL_BOUND_TOKENS


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    price = {"input": 0.27, "output": 0.27, "tokenizer": str(small_tokenizer(tmp_path))}
    prices = {MODEL: price, "other": 0.27}
    return app_of(MODEL_PRICES=orjson.dumps(prices).decode())


def test_a_completion_is_held_at_its_tokens(app: Flask) -> None:
    for model in ({}, {"model": MODEL}):
        shown = estimate(app, messages=[TEXT], max_tokens=100, **model).json or {}
        assert shown["hold_cost_usd"] == (TOKENS + 100) * NANOUSD_PER_TOKEN / 1e9


def test_a_model_without_a_tokenizer_is_held_at_its_bytes(app: Flask) -> None:
    shown = estimate(app, messages=[TEXT], max_tokens=100, model="other").json or {}

    assert shown["hold_cost_usd"] > (5_999 + 100) * NANOUSD_PER_TOKEN / 1e9


def test_an_inference_is_held_at_its_tokens(app: Flask, upstream: responses.RequestsMock) -> None:
    held: list[int] = []

    def answer(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        usage = services_of(app).ledger.usage(RUN)
        assert usage is not None
        held.append(usage.held_nanousd)
        return 200, {}, sse(delta("Hi"), b"[DONE]")

    upstream.add_callback("POST", CHAT_URL, answer)

    assert infer(app, messages=[TEXT]).json == "Hi"
    assert held == [(TOKENS + 1024) * NANOUSD_PER_TOKEN]
