"""Tests that set the proxy's clock forwards and back: no run is forgotten and no usage changes.

test_clock.py runs them in a separate process that replaces `time.time` before any module imports it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.auth.token_claims import MAX_LIFETIME_SECONDS
from ridges_proxy.ledger import factory
from tests.contract.stores import for_the_session
from tests.contract_http.service import CHAT_URL, RUN, answer_of, app_of, hold_of, infer, services_of, usage
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import responses

    from ridges_proxy.config import LedgerSettings
    from ridges_proxy.ledger.redis.client import RedisClient

DAYS = 86_400.0
KEY = "run-token-key-of-the-tests-0123456789"
ANSWER_NANOUSD = 4_050
HOLD_NANOUSD = 1_000


@pytest.fixture(params=["memory", "sqlite", "redis"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server = for_the_session(RedisServer)
        server.ask("FLUSHALL")
        url: str = server.url
        return url
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture(autouse=True)
def redis_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RedisClient]]:
    """The clients that the app opens. They are closed, because the collector would report their sockets."""
    clients: list[RedisClient] = []
    client_of = factory._redis_client

    def recorded(settings: LedgerSettings) -> RedisClient:
        clients.append(client_of(settings))
        return clients[-1]

    monkeypatch.setattr(factory, "_redis_client", recorded)
    yield clients
    for client in clients:
        client.close()


@pytest.mark.parametrize("jump_seconds", [10 * DAYS, -10 * DAYS, 3_601.0, -3_601.0])
@pytest.mark.parametrize("by_token", [False, True], ids=["key", "token"])
def test_setting_the_clock_changes_only_the_validity_of_run_tokens(
    upstream: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
    ledger_url: str,
    jump_seconds: float,
    *,
    by_token: bool,
) -> None:
    """A run token has absolute times, so the clock decides about its validity."""
    token, _ = RunTokens(KEY, None).issue(RUN, MAX_LIFETIME_SECONDS)
    app = app_of(LEDGER_URL=ledger_url, RUN_TOKEN_KEY=KEY)
    ledger = services_of(app).ledger
    ask = partial(infer, app, {"Authorization": f"Bearer {token}"} if by_token else None)
    upstream.post(CHAT_URL, body=answer_of("Hello"))
    assert ask().status_code == 200
    hold = hold_of(app, HOLD_NANOUSD)
    before = usage(app).json
    answers = 1
    for offset in (jump_seconds, 0.0):
        monkeypatch.setattr(time, "jump_seconds", offset)
        swept = ledger.sweep(100)
        assert (swept.receipts, swept.expired) == ([], [])
        assert usage(app).json == before
        answer = ask()
        is_valid = not by_token or 0.0 <= offset < MAX_LIFETIME_SECONDS
        assert answer.status_code == (200 if is_valid else 401)
        if is_valid:
            answers += 1
            assert 0 <= int(answer.headers["RateLimit-Reset"]) <= 60
        before = usage(app).json
    after = ledger.settle(hold, HOLD_NANOUSD)
    assert after
    assert after.spent_nanousd == answers * ANSWER_NANOUSD + HOLD_NANOUSD
    ledger.disconnect()
