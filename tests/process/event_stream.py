"""A client of a `/v1` stream. It reads event by event, and can close the connection in every way."""

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
    """One streamed response. The context manager closes it, if the test has not."""

    def __init__(self, port: int, body: dict[str, Any], *, key: str = PROXY_KEY) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._connection.request("POST", CHAT, json.dumps({**body, "stream": True}), headers)
        self._sock = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self.comments: list[str] = []
        """The comments that were read so far."""

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
        """Return the next line that is not blank, or None at the end. EOFError if the stream is cut."""
        try:
            while raw := self._answer.readline():
                if text := raw.decode().rstrip("\r\n"):
                    return text
        except (IncompleteRead, ConnectionResetError) as error:
            raise EOFError from error
        if not self._answer.isclosed():
            raise EOFError
        return None

    def event(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the JSON of the next event, or DONE, or None at the end."""
        while (text := self.line()) is not None:
            if text.startswith(":"):
                self.comments.append(text)
                continue
            data = text.removeprefix("data: ")
            return data if data == DONE else json.loads(data)
        return None

    def events(self) -> list[Any]:
        """Return the remaining events."""
        return list(iter(self.event, None))

    def words(self, number: int) -> list[str]:
        """Return the next pieces of content that are not empty."""
        found: list[str] = []
        while len(found) < number:
            found += [text for choice in self.event()["choices"] if (text := choice["delta"].get("content"))]
        return found

    def hang_up(self) -> None:
        """Close the connection with a FIN."""
        self._answer.close()
        self._connection.close()
        self._sock.close()

    def reset(self) -> None:
        """Close the connection with an RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.hang_up()

    def half_close(self) -> None:
        """Close the sending side only."""
        self._sock.shutdown(socket.SHUT_WR)
