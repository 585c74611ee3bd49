"""Alerts of a server: from the calls of several workers to a receiver that verifies them."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
from standardwebhooks import Webhook as Verifier

from tests.process.event_stream import CHAT
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, chat, wait_until
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

KEY = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBhbGVydHM="
USAGE = {"prompt_tokens": 17, "completion_tokens": 13, "total_tokens": 30}
COST_USD = 30 * 0.27e-6
BUDGETS = json.dumps([{"name": "all", "usd": f"{80 * COST_USD:.7f}", "window": "lifetime"}])
CALLS = 120
"""More than the budget pays for. They come at once, to both workers."""


class Receiver:
    """An HTTP server that takes each message, and keeps it with its headers."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []
        messages, lock = self.messages, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts/secret-path"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def taken(self) -> list[dict[str, Any]]:
        """The alerts, each with a valid signature."""
        return [Verifier(KEY).verify(body, headers) for headers, body in list(self.messages)]


@pytest.fixture(params=["sqlite", "redis"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    with RedisServer() as server:
        yield server.url


def test_each_share_of_a_shared_budget_is_reported_once_by_two_workers(
    fake_chutes: Upstream, ledger_url: str
) -> None:
    prompt = directive(usage=USAGE)
    with (
        Receiver() as receiver,
        Proxy(
            fake_chutes,
            LEDGER_URL=ledger_url,
            WORKERS="2",
            BUDGETS=BUDGETS,
            HOLD_WAIT_SECONDS="0",
            ALERT_WEBHOOK_URL=receiver.url,
            ALERT_WEBHOOK_KEY=KEY,
            ALERT_PERCENTS="50,80,100",
        ) as proxy,
    ):

        def call(number: int) -> int:
            body = chat(f"run-{number % 5}", prompt, max_tokens=13)
            return proxy.ask("POST", CHAT, body).status

        with ThreadPoolExecutor(8) as pool:
            statuses = set(pool.map(call, range(CALLS)))
        while (status := call(0)) == 200:
            pass
        assert status == 402
        assert statuses <= {200, 402, 429}
        wait_until(lambda: len(receiver.messages) >= 3, "three alerts")
        proxy.lines.wait(3, event="budget alert")
        for _ in range(2):
            assert call(1) == 402
        logged = proxy.lines.matching(event="budget alert")

    alerts = [alert["data"] for alert in receiver.taken()]
    assert sorted(alert["percent"] for alert in alerts) == [50, 80, 100]
    assert {(alert["budget"], alert["scope"], alert["window"]) for alert in alerts} == {
        ("all", "all", "lifetime")
    }
    assert len({headers["webhook-id"] for headers, _ in receiver.messages}) == 3
    assert sorted(line["percent"] for line in logged) == [50, 80, 100]
    assert not [line for line in proxy.lines.raw if "secret-path" in line]
