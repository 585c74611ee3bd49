"""Imitates systemd for a service with a socket: it holds the socket, and receives notifications."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

from ridges_proxy.server.readiness import SYSTEMD_NAME
from tests.process.server import GUNICORN, Proxy, clean_environment

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.process.fake_chutes_control import Upstream

ON_THE_SOCKET = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{descriptor}'
"""The command of the shell that gives the server the listening socket, in the same process."""


class Systemd:
    """Holds the listening socket between servers, and receives their notifications."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(folder / "notify"))
        self._notices.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self._notices.close()

    def server(self, fake_chutes: Upstream, app: str = "wsgi:app", **settings: str) -> Proxy:
        """Return the next server on the socket. It starts when its context is entered."""
        descriptor = self._listener.fileno()
        defaults = {
            "LEDGER_URL": f"sqlite:///{self._folder}/ledger.db",
            "WORKERS": "2",
            "GRACEFUL_TIMEOUT_SECONDS": "40",
        }
        environ = clean_environment(fake_chutes, **(defaults | settings))
        environ[SYSTEMD_NAME] = str(self._folder / "notify")
        shell = ["bash", "-c", ON_THE_SOCKET.format(descriptor=descriptor), "bash"]
        proxy = Proxy(None, command=[*shell, GUNICORN, app], environ=environ)
        proxy.descriptors = (descriptor,)
        return proxy

    def notices(self) -> list[str]:
        """Return the notifications that have arrived since the last question."""
        found = []
        try:
            while True:
                found.append(self._notices.recv(4096).decode())
        except BlockingIOError:
            return found
