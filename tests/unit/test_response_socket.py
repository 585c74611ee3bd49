"""The head of a response is sent together with the first bytes behind it."""

from __future__ import annotations

from io import BytesIO
from typing import IO, Any, cast

from ridges_proxy.server.response_socket import MAX_JOINED_BYTES, ResponseSocket
from tests.support.table import check_rows


class Kernel:
    """A socket that takes so many bytes of each write at once."""

    timeout = 7

    def __init__(self, taken_bytes: int) -> None:
        self.writes: list[bytes] = []
        self._taken_bytes = taken_bytes

    def send(self, data: bytes) -> int:
        self.writes.append(data[: self._taken_bytes])
        return len(self.writes[-1])

    def sendall(self, data: bytes) -> None:
        self.writes.append(data)

    def sendfile(self, file: IO[bytes], offset: int, count: int | None) -> int:
        file.seek(offset)
        self.writes.append(file.read(-1 if count is None else count))
        return len(self.writes[-1])


def writes(*pieces: bytes, taken_bytes: int = 1 << 20) -> list[bytes]:
    kernel = Kernel(taken_bytes)
    sock = ResponseSocket(cast("Any", kernel))
    for piece in pieces:
        sock.sendall(piece)
    sock.flush()
    sock.flush()
    assert sock.timeout == 7
    return kernel.writes


def test_the_first_two_pieces_are_one_write() -> None:
    large = b"x" * (MAX_JOINED_BYTES + 1)
    rows: list[tuple[list[bytes], list[bytes]]] = [
        ([], []),
        ([b"head"], [b"head"]),
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", b"one", b"two", b"end"], [b"headone", b"two", b"end"]),
        ([b"head", large, b"end"], [b"head", large, b"end"]),
        ([b"head", large[1:], b"end"], [b"head" + large[1:], b"end"]),
    ]

    def check(row: tuple[list[bytes], list[bytes]]) -> None:
        pieces, expected = row
        assert writes(*pieces) == expected

    check_rows(rows, check)


def test_a_file_is_sent_behind_the_head() -> None:
    kernel = Kernel(1 << 20)
    sock = ResponseSocket(cast("Any", kernel))
    sock.sendall(b"head")
    assert sock.sendfile(BytesIO(b"a file"), 2, 3) == 3
    sock.flush()
    assert kernel.writes == [b"head", b"fil"]


def test_what_the_kernel_does_not_take_at_once_is_sent_behind_it() -> None:
    assert b"".join(writes(b"head", b"body", b"end", taken_bytes=3)) == b"headbodyend"
