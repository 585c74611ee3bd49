"""An upstream answer that a test sends piece by piece."""

from __future__ import annotations

import io
from typing import Any

from gevent.event import Event


class Pipe(io.RawIOBase):
    """An upstream's answer. Each piece is readable once the test has passed it to `hand`."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = Event()
        self._pieces: list[bytes] = []

    def hand(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._ready.set()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        while not self._pieces:
            self._ready.clear()
            self._ready.wait()
        piece = self._pieces.pop(0)
        buffer[: len(piece)] = piece
        return len(piece)
