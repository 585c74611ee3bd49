"""One client's connection. It notices at once when the client leaves."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NoReturn

import gevent
from gevent.event import Event

if TYPE_CHECKING:
    from gevent.socket import socket as GeventSocket  # noqa: N812  (a class that gevent names in lower case)

READ_BYTES = 65_536
MAX_RECEIVED_BYTES = 64 * 1024 * 1024
HOLD_SECONDS = 600  # the limit of `hang` and `stall`
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class ConnectionOverError(Exception):
    """Nothing more can be sent on this connection.

    ConnectionOverError
    ├── ClientGoneError   the client closed first
    └── HungUpError       this server closed, as a directive said
    """


class ClientGoneError(ConnectionOverError):
    """The client closed its side, or reset the connection."""


class HungUpError(ConnectionOverError):
    """The fake Chutes closed or reset the connection."""


class Connection:
    """A socket with a greenlet that reads ahead, so that the end of the client is seen at any time."""

    def __init__(self, sock: GeventSocket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._received = bytearray()
        self._more = Event()
        self.gone = Event()
        self.control = False
        gevent.spawn(self._read_ahead)

    def _read_ahead(self) -> None:
        try:
            while len(self._received) < MAX_RECEIVED_BYTES and (data := self._sock.recv(READ_BYTES)):
                self._received += data
                self._more.set()
        except OSError:
            pass
        self.gone.set()
        self._more.set()

    def _wait_for_more(self) -> None:
        if self.gone.is_set():
            raise ClientGoneError
        self._more.clear()
        self._more.wait()

    def take_until(self, mark: bytes) -> bytes:
        """Take the bytes before the mark, and drop the mark."""
        while (end := self._received.find(mark)) < 0:
            self._wait_for_more()
        taken = bytes(self._received[:end])
        del self._received[: end + len(mark)]
        return taken

    def take(self, size: int) -> bytes:
        """Take exactly `size` bytes."""
        while len(self._received) < size:
            self._wait_for_more()
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def send(self, data: bytes) -> None:
        """Send all data; waits while the client is slow."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise ClientGoneError from error

    def pause(self, seconds: float) -> None:
        """Yield to other greenlets for `seconds`, or for one turn. Ends early if the client leaves."""
        if seconds > 0:
            self.gone.wait(seconds)
        else:
            gevent.sleep(0)
        self.check()

    def check(self) -> None:
        """Raise ClientGoneError if the client has left."""
        if self.gone.is_set():
            raise ClientGoneError

    def wait_for(self, event: Event, seconds: float) -> None:
        """Wait until the event is set, the time is up or the client is gone."""
        gevent.wait([event, self.gone], timeout=seconds, count=1)
        self.check()

    def hold(self) -> NoReturn:
        """Send nothing until the client leaves."""
        self.pause(HOLD_SECONDS)
        self.hang_up()

    def hang_up(self) -> NoReturn:
        """Close with a FIN, also in the middle of an answer."""
        self.close()
        raise HungUpError

    def reset(self) -> NoReturn:
        """Close with an RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()
        raise HungUpError

    def close(self) -> None:
        """Close the socket. The reading greenlet then ends."""
        self._sock.close()
