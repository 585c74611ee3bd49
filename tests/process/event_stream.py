"""A stream of `/v1` as its client reads it, event by event, and every way to leave it."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, IncompleteRead
from typing import TYPE_CHECKING, Any, Self

from tests.process.wire import PATIENCE_SECONDS, RESET_ON_CLOSE
from tests.support.app import PROXY_KEY

if TYPE_CHECKING:
    from types import TracebackType

CHAT = "/v1/chat/completions"
DONE = "[DONE]"


class EventStream:
    """One answer, from its headers on. It closes with the context, however it was left before."""

    def __init__(self, port: int, body: dict[str, Any], *, key: str = PROXY_KEY) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._connection.request("POST", CHAT, json.dumps({**body, "stream": True}), headers)
        self._sock = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self.comments: list[str] = []
        """Those that have been passed over so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()

    def line(self) -> str | None:
        """The next line that is not blank; None at the end. EOFError if the connection breaks before it."""
        try:
            while raw := self._answer.readline():
                if text := raw.decode().rstrip("\r\n"):
                    return text
        except (IncompleteRead, ConnectionResetError) as error:
            raise EOFError from error
        if not self._answer.isclosed():
            raise EOFError
        return None

    def event(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        """The next event's JSON, or DONE; None at the end."""
        while (text := self.line()) is not None:
            if text.startswith(":"):
                self.comments.append(text)
                continue
            data = text.removeprefix("data: ")
            return data if data == DONE else json.loads(data)
        return None

    def events(self) -> list[Any]:
        """All that is left."""
        return list(iter(self.event, None))

    def words(self, number: int) -> list[str]:
        """The next pieces of content that are not empty."""
        found: list[str] = []
        while len(found) < number:
            found += [text for choice in self.event()["choices"] if (text := choice["delta"].get("content"))]
        return found

    def hang_up(self) -> None:
        """Leave with a FIN."""
        self._answer.close()
        self._connection.close()
        self._sock.close()

    def reset(self) -> None:
        """Leave with an RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.hang_up()

    def half_close(self) -> None:
        """Send nothing more, and go on reading."""
        self._sock.shutdown(socket.SHUT_WR)
