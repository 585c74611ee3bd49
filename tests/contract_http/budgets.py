"""An app with BUDGETS at a time that a test sets, and agents with run tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.ledger import Kind, Run
from tests.contract_http.service import CAP_NANOUSD, HELLO, MODEL, app_of, services_of
from tests.support.clock import Clock

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

    from ridges_proxy.ledger import Hold, Ledger

KEY = "the-secret-of-run-tokens-in-tests"
CHEAP = "cheap-model"
PRICES = orjson.dumps({MODEL: 0.27, CHEAP: 0.1}).decode()

AFTERNOON = datetime(2026, 11, 30, 14, 20, tzinfo=UTC).timestamp()
MIDNIGHT = "2026-12-01T00:00:00.000+00:00"
HOUR_END = datetime(2026, 11, 30, 15, 0, tzinfo=UTC).timestamp()

CHAT = {"messages": [HELLO]}
TEXT = {"input": "Hello"}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "response": ("/v1/responses", {"input": "Hello"}),
    "stream of a response": ("/v1/responses", {"input": "Hello", "stream": True}),
    "embeddings": ("/v1/embeddings", TEXT),
    "OpenRouter's chat": ("/api/v1/chat/completions", CHAT),
    "OpenRouter's stream": ("/api/v1/chat/completions", {**CHAT, "stream": True}),
    "OpenRouter's embeddings": ("/api/v1/embeddings", TEXT),
    "platform": ("/api/inference", CHAT),
    "later platform": ("/api/inference", {**CHAT, "evaluation_run_id": ""}),
    "platform's embedding": ("/api/embedding", TEXT),
    "agents": ("/agents/inference", CHAT),
    "agents' embedding": ("/agents/embedding", TEXT),
}
"""A call on every route that spends, in each of its forms. The agent names its own run in it."""


def budget(name: str, usd: str, window: str, **match: str) -> dict[str, str]:
    """One entry of BUDGETS."""
    return {"name": name, "usd": usd, "window": window, **match}


class BudgetedApp:
    """An app with budgets, and with a clock for their periods."""

    def __init__(self, *budgets: dict[str, str], ledger: Ledger | None = None, **settings: str) -> None:
        entries = orjson.dumps(budgets).decode()
        own = {"EMBEDDING_PRICE_PER_SECOND": "0.0001", "HOLD_WAIT_SECONDS": "0", "MODEL_PRICES": PRICES}
        self.app: Flask = app_of(ledger, BUDGETS=entries, RUN_TOKEN_KEY=KEY, **{**own, **settings})
        self.clock = Clock(AFTERNOON)
        self.calls = services_of(self.app).calls
        self.calls.clock = self.clock

    def agent(self, run_id: str, *groups: str, **limits: str) -> Agent:
        token, _ = services_of(self.app).run_tokens.issue(run_id, 600, groups=groups or None, **limits)  # type: ignore[arg-type] # texts only
        return Agent(self.app, run_id, token)

    def use_up(
        self, usd: str, *groups: str, model: str = MODEL, kind: Kind = Kind.INFERENCE, run_id: str = "earlier"
    ) -> None:
        """Spend an amount by another run with these groups."""
        hold = self.hold(usd, *groups, model=model, kind=kind, run_id=run_id)
        self.calls.ledger.settle(hold, hold.amount_nanousd)

    def hold(
        self, usd: str, *groups: str, model: str = MODEL, kind: Kind = Kind.INFERENCE, run_id: str = "earlier"
    ) -> Hold:
        """Hold an amount, as a call in flight of another run with these groups does."""
        levels = self.calls.budgets.levels_of(groups, model, kind, self.clock())
        run = Run(run_id, 1_000 * CAP_NANOUSD, groups=groups, levels=levels)
        amount = round(float(usd) * 1e9)
        return self.calls.ledger.reserve(run, kind, amount, amount, 60.0, None, model)


class Agent:
    """An agent with a run token."""

    def __init__(self, app: Flask, run_id: str, token: str) -> None:
        self._app, self._run_id = app, run_id
        self._headers = {"Authorization": f"Bearer {token}"}

    def post(self, path: str, body: dict[str, Any], **fields: object) -> TestResponse:
        return self._app.test_client().post(
            path, json={**body, **fields}, headers=self._headers, buffered=True
        )

    def call(self, name: str) -> TestResponse:
        """Make a call of CALLS."""
        path, body = CALLS[name]
        run = {"evaluation_run_id": self._run_id} if "evaluation_run_id" in body else {}
        return self.post(path, body, **run)

    def begin(self, path: str) -> TestResponse:
        """Request a stream, and read nothing."""
        body = {**CHAT, "stream": True}
        return self._app.test_client().post(path, json=body, headers=self._headers)

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        return self._app.test_client().get(path, headers=self._headers).get_json()
