"""An upstream that answers piece by piece, when it is told to."""

from __future__ import annotations

import io
from typing import Any

from gevent.event import Event


class Pipe(io.RawIOBase):
    """An upstream's answer that consists of what it is handed, when it is handed it."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = Event()
        self._pieces: list[bytes] = []

    def hand(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._ready.set()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:  # noqa: ANN401 - a buffer
        while not self._pieces:
            self._ready.clear()
            self._ready.wait()
        piece = self._pieces.pop(0)
        into[: len(piece)] = piece
        return len(piece)
