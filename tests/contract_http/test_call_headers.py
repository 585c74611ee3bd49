"""X-Final-Call and X-Min-Tokens: how a call may end its run's budget."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.ledger import MemoryLedger
from ridges_proxy.web.call_headers import NO_SWITCH, NO_TOKENS
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HELLO,
    HELLO_TOKENS,
    NANOUSD_PER_TOKEN,
    RUN,
    answer_of,
    app_of,
    sent,
    services_of,
    spend,
)
from tests.support.app import AGENT
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

    from ridges_proxy.ledger import Hold, Kind, Run

KEY = "the-secret-of-run-tokens-in-tests"
WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
EVALUATED = {"evaluation_run_id": RUN}

SPENDING: dict[str, tuple[str, dict[str, Any]]] = {
    "/agents/inference": ("stream", {"run_id": RUN, "messages": [HELLO]}),
    "/agents/embedding": ("embedding", {"run_id": RUN, "input": "Hello"}),
    "/v1/chat/completions": ("whole", {"run_id": RUN, "messages": [HELLO]}),
    "/v1/responses": ("whole", {"run_id": RUN, "input": "Hello"}),
    "/v1/embeddings": ("embedding", {"run_id": RUN, "input": "Hello"}),
    "/api/inference": ("stream", {**EVALUATED, "model": "deepseek-ai/DeepSeek-V3-0324", "messages": [HELLO]}),
    "/api/embedding": ("embedding", {**EVALUATED, "input": "Hello"}),
    "/api/v1/chat/completions": ("whole", {"run_id": RUN, "messages": [HELLO]}),
    "/api/v1/embeddings": ("embedding", {"run_id": RUN, "input": "Hello"}),
}
"""The form of the upstream's answer on each route, and a body."""

ESTIMATED = {**SPENDING, "/v1/estimate": SPENDING["/v1/chat/completions"]}


class RecordingLedger(MemoryLedger):
    """Records the run of each reservation."""

    def __init__(self) -> None:
        super().__init__(1200.0)
        self.runs: list[Run] = []

    def reserve(self, run: Run, kind: Kind, *amounts: Any, **options: Any) -> Hold:  # noqa: ANN401 - passed on
        self.runs.append(run)
        return super().reserve(run, kind, *amounts, **options)


@pytest.fixture
def ledger() -> RecordingLedger:
    return RecordingLedger()


@pytest.fixture
def app(ledger: RecordingLedger, upstream: responses.RequestsMock) -> Flask:
    upstream.post(CHAT_URL, body=WHOLE)
    upstream.post(EMBED_URL, body=b"[[0.5]]")
    return app_of(ledger, RUN_TOKEN_KEY=KEY)


def call(
    app: Flask, path: str, headers: dict[str, str] | None = None, key: str = "", **fields: object
) -> TestResponse:
    given = {**AGENT, **({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    return app.test_client().post(path, json={**ESTIMATED[path][1], **fields}, headers=given)


def answer(upstream: responses.RequestsMock, path: str) -> None:
    upstream.replace("POST", CHAT_URL, body=answer_of("Hi") if ESTIMATED[path][0] == "stream" else WHOLE)


def test_an_invalid_header_is_refused_by_its_name(app: Flask, ledger: RecordingLedger) -> None:
    def check(row: tuple[str, tuple[str, str, str]]) -> None:
        path, (name, text, message) = row
        reply = call(app, path, {name: text})
        assert reply.status_code == (400 if "/v1/" in path else 422)
        assert name in reply.text
        assert message in reply.text
        assert not ledger.runs

    switches = [("X-Final-Call", text, NO_SWITCH) for text in ("", "2", "true", "yes", "01", "1, 1", "\xb9")]
    counts = ("", "0", "-1", "+5", "1.5", "1e3", "x", "1000001", "9" * 5000, "0x10", "1_0", "5, 5", "\xb2")
    rows = [*switches, *(("X-Min-Tokens", text, NO_TOKENS) for text in counts)]
    check_rows(product(ESTIMATED, rows), check)


def test_two_invalid_headers_are_both_named(app: Flask) -> None:
    reply = call(app, "/agents/inference", {"X-Final-Call": "x", "X-Min-Tokens": "x"})
    assert [each["loc"] for each in reply.get_json()["detail"]] == [
        ["header", "X-Final-Call"],
        ["header", "X-Min-Tokens"],
    ]


def test_only_a_final_call_may_use_what_the_token_keeps_for_it(
    app: Flask, ledger: RecordingLedger, upstream: responses.RequestsMock
) -> None:
    limits: dict[str, Any] = {"budget_usd": "1", "reserve_final_usd": "0.25", "groups": ["miner:a", "b"]}
    key, _ = services_of(app).run_tokens.issue(RUN, 600, **limits)

    def check(row: tuple[str, tuple[dict[str, str], int]]) -> None:
        path, (headers, reserved_nanousd) = row
        answer(upstream, path)
        reply = call(app, path, headers, key)
        assert reply.status_code == 200, reply.text
        run = ledger.runs.pop()
        assert (run.budget_nanousd, run.reserved_nanousd) == (1_000_000_000, reserved_nanousd)
        assert run.groups == ("miner:a", "b")

    kept: list[tuple[dict[str, str], int]] = [({}, 250_000_000), ({"X-Final-Call": "0"}, 250_000_000)]
    check_rows(product(SPENDING, [*kept, ({"X-Final-Call": "1"}, 0)]), check)


def test_no_more_than_the_budget_is_kept_for_the_final_call(
    app: Flask, ledger: RecordingLedger, upstream: responses.RequestsMock
) -> None:
    key, _ = services_of(app).run_tokens.issue(RUN, 600, reserve_final_usd="500")
    answer(upstream, "/agents/inference")
    call(app, "/agents/inference", {}, key)
    (run,) = ledger.runs
    assert run.reserved_nanousd == run.budget_nanousd == CAP_NANOUSD


def test_a_call_is_refused_rather_than_cut_below_the_tokens_of_its_header(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    tokens, choices = 100, 2

    def check(row: tuple[str, int, bool]) -> None:
        path, missing_nanousd, stream = row
        app = app_of()
        before = len(upstream.calls)
        price = choices * (HELLO_TOKENS + tokens) * NANOUSD_PER_TOKEN
        spend(app, CAP_NANOUSD - price + missing_nanousd)
        upstream.replace("POST", CHAT_URL, body=answer_of("Hi") if stream else WHOLE)
        reply = call(app, path, {"X-Min-Tokens": str(tokens)}, n=choices, stream=stream)
        if missing_nanousd:
            assert (reply.status_code, len(upstream.calls)) == (402, before)
        else:
            assert (reply.status_code, len(upstream.calls)) == (200, before + 1)
            assert sent(upstream)["max_tokens"] == tokens
        unnamed = call(app_of_spent(CAP_NANOUSD - price + missing_nanousd), path, n=choices, stream=stream)
        assert unnamed.status_code == 200, "without the header it is cut"

    paths = ("/v1/chat/completions", "/api/v1/chat/completions")
    check_rows(product(paths, (0, 1), (False, True)), check)


def app_of_spent(amount_nanousd: int) -> Flask:
    app = app_of()
    spend(app, amount_nanousd)
    return app


def test_a_header_above_max_tokens_asks_for_max_tokens(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    app = app_of_spent(CAP_NANOUSD - (HELLO_TOKENS + 50) * NANOUSD_PER_TOKEN)
    reply = call(app, "/v1/chat/completions", {"X-Min-Tokens": "1000000"}, max_tokens=50)
    assert (reply.status_code, sent(upstream)["max_tokens"]) == (200, 50)


def test_an_estimate_honours_the_tokens_of_the_header() -> None:
    app = app_of_spent(CAP_NANOUSD - (HELLO_TOKENS + 100) * NANOUSD_PER_TOKEN)

    def check(row: tuple[str, object, int]) -> None:
        tokens, code, max_tokens = row
        estimate = call(app, "/v1/estimate", {"X-Min-Tokens": tokens}).get_json()
        assert (estimate["code"], estimate["max_tokens"]) == (code, max_tokens)
        assert estimate["least_cost_usd"] == (HELLO_TOKENS + int(tokens)) * NANOUSD_PER_TOKEN / 1e9

    check_rows([("100", None, 100), ("101", "budget_exhausted", 0)], check)


def test_an_embedding_ignores_the_tokens_of_the_header(app: Flask, upstream: responses.RequestsMock) -> None:
    answer(upstream, "/agents/embedding")
    assert call(app, "/agents/embedding", {"X-Min-Tokens": "1000000"}).status_code == 200
