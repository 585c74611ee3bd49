"""One server of this proxy: gunicorn's master and its workers, started again and again at one address."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from bench.http_request import AUTHORIZATION
from bench.overspend.gateways import ALL_CORES
from bench.processes import free_port, process, process_tree, wait_until
from bench.servers import proxy_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.overspend.machines import Machine


ANSWER_SECONDS = 10.0


class ProxyServer:
    """A server on a machine. It runs from `start` to `stop`."""

    def __init__(
        self, machine: Machine, upstream_url: str, ledger_url: str, settings: Mapping[str, str], log: Path
    ) -> None:
        self.host = machine.host
        self.port = free_port()
        self.pid = 0
        self._machine = machine
        self._ledger_url = ledger_url
        self._settings = {
            **proxy_settings(upstream_url.replace("0.0.0.0", machine.address_of_this_machine)),
            **settings,
            "HOST": machine.host,
            "PORT": str(self.port),
        }
        self._running = contextlib.ExitStack()
        self._log = log

    def start(self, ledger_url: str | None = None) -> None:
        """Start it. Another URL of its ledger counts until it is stopped."""
        url = ledger_url or self._ledger_url
        environ = {
            **os.environ,
            **self._settings,
            "LEDGER_URL": url.replace("127.0.0.1", self._machine.address_of_this_machine),
        }
        command = [*self._machine.command_prefix, sys.executable, "-m", "gunicorn", "wsgi:app"]
        log = self._running.enter_context(self._log.open("ab"))
        started = process(command, environ, ALL_CORES, log.fileno(), log)
        self.pid = self._running.enter_context(started).pid

    def stop(self) -> None:
        """Stop it by SIGTERM, and wait until it has ended."""
        self._running.close()

    def times_logged(self, event: str) -> int:
        """How many lines of its log have this text as their event."""
        return self._log.read_bytes().count(f'"event":"{event}"'.encode())

    def children(self) -> list[int]:
        """The ids of its workers."""
        return process_tree(self.pid)[1:]

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET, once it is 200: the proxy leaves a ledger that failed alone for a second."""
        answers: list[dict[str, Any]] = []

        def is_answered() -> bool:
            status, document = self._get(path)
            answers[:] = [document]
            return status == 200

        wait_until(is_answered, f"the answer to {path}", ANSWER_SECONDS)
        return answers[0]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self._get("/ready")[0] == 200
        return False

    def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        with contextlib.closing(HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)) as connection:
            connection.request("GET", path, headers=AUTHORIZATION)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
