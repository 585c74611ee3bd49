"""Four kinds of clients that call the installed proxy while something happens to it."""

from __future__ import annotations

import itertools
import json
import select
import ssl
import threading
import uuid
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from pathlib import Path

PROXY_PORT, NGINX_PORT = 8000, 443
LEAD_CALLS = 40
"""Calls of all clients together before and after what happens."""

PAUSE_SECONDS = 0.2
"""Between a failed call and the next one. Otherwise the count of failures would show only their speed."""

ANSWER_SECONDS = 60.0
PROMPT = directive(events=5, pause_ms=40)
"""A call takes 0.2 s, so that some are always in flight."""


class Kind(NamedTuple):
    """How a client reaches the proxy. Each client alternates between whole answers and streams."""

    way: str
    connections: str

    def __str__(self) -> str:
        return f"{self.way}, {self.connections}"


CLIENTS = 2 * [
    Kind(*each) for each in itertools.product(("direct", "nginx"), ("keep-alive", "new connections"))
]


@dataclass
class Load:
    """A context manager: the clients call without a pause while it is open. No error ends a client."""

    key: str
    certificate: Path
    runs: list[str] = field(default_factory=lambda: [f"load-{uuid.uuid4().hex[:8]}" for _ in CLIENTS])
    calls: int = 0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        clients = [_Client(kind, run, self) for kind, run in zip(CLIENTS, self.runs, strict=True)]
        self._threads = [threading.Thread(target=self._call, args=(client,)) for client in clients]
        for thread in self._threads:
            thread.start()
        self.wait_for_calls()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.wait_for_calls()
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    def wait_for_calls(self, calls: int = LEAD_CALLS) -> None:
        """Wait until the clients have made so many more calls."""
        with self._changed:
            wanted = self.calls + calls
            assert self._changed.wait_for(lambda: self.calls >= wanted, ANSWER_SECONDS), "the calls hang"

    def _call(self, client: _Client) -> None:
        while not self._stopped.is_set():
            failure = client.call()
            with self._changed:
                self.calls += 1
                if failure:
                    self.failures.append(f"{client.kind}: {failure}")
                self._changed.notify_all()
            if failure:
                self._stopped.wait(PAUSE_SECONDS)
        client.close()


class _Client:
    """One client with a run of its own."""

    def __init__(self, kind: Kind, run: str, load: Load) -> None:
        self.kind = kind
        self._headers = {
            "Authorization": f"Bearer {load.key}",
            "Content-Type": "application/json",
            "X-Run-Id": run,
        }
        self._connection: HTTPConnection
        if kind.way == "nginx":
            context = ssl.create_default_context(cafile=load.certificate)
            self._connection = HTTPSConnection(
                "127.0.0.1", NGINX_PORT, timeout=ANSWER_SECONDS, context=context
            )
        else:
            self._connection = HTTPConnection("127.0.0.1", PROXY_PORT, timeout=ANSWER_SECONDS)
        self._streams = itertools.cycle((False, True))

    def call(self) -> str | None:
        """Make one call. Return why it failed, or None."""
        stream = next(self._streams)
        body = {"messages": [{"role": "user", "content": PROMPT}], "stream": stream}
        self._close_if_ended()
        try:
            self._connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, HTTPException) as error:
            self.close()
            return f"{type(error).__name__}: {error}"
        if self.kind.connections == "new connections":
            self.close()
        if response.status != 200:
            return f"{response.status} {data[:300].decode(errors='replace')}"
        if stream and b"\ndata: [DONE]\n\n" not in data:  # a comment with the cost follows
            return f"the stream ends with {data[-300:].decode(errors='replace')}"
        return None

    def close(self) -> None:
        self._connection.close()

    def _close_if_ended(self) -> None:
        """Open a new connection if the server has closed this one, as all common clients do."""
        sock = self._connection.sock
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self.close()
