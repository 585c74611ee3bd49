"""A limit on the memory of upstream responses that are read completely before they are passed on."""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Self

from ridges_proxy.errors import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BUDGET_BYTES = 256 << 20
"""Memory of one worker for all complete bodies together."""

SMALL_BODY_BYTES = 1 << 20
"""Bodies up to this size are read even when the budget is used up.

Most responses are smaller. `n` and `top_logprobs` make large responses cheap to ask for: they must not block
the ordinary calls of other runs.
"""


class ByteBudget:
    """Counts the bytes of all complete bodies in memory. Each acquired byte must be released exactly once."""

    def __init__(self, limit_bytes: int = BUDGET_BYTES, small_body_bytes: int = SMALL_BODY_BYTES) -> None:
        self.used_bytes = 0
        self._limit_bytes = limit_bytes
        self._small_body_bytes = small_body_bytes

    def acquire(self, size_bytes: int, body_bytes: int) -> None:
        """Count `size_bytes` more. `body_bytes` is the size of the body, including them.

        Raises AnswerTooLargeError, and adds nothing, if the budget is used up and the body is not small.
        """
        if self.used_bytes + size_bytes > self._limit_bytes and body_bytes > self._small_body_bytes:
            raise AnswerTooLargeError
        self.used_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Give acquired bytes back."""
        self.used_bytes -= size_bytes


class BufferedBody:
    """A response body in memory, or several of one call.

    Their bytes count against the budget until `release`. As a context manager it is released at the end of
    the context.
    """

    def __init__(self, budget: ByteBudget, max_bytes: int) -> None:
        self.contents: list[bytes] = []
        """All complete bodies, in the order in which they were read."""
        self.received_bytes = 0
        """The bytes of all bodies."""
        self._budget = budget
        self._max_bytes = max_bytes
        self._acquired_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def content(self) -> bytes:
        """The last complete body; empty until `read` has returned."""
        return self.contents[-1] if self.contents else b""

    @content.setter
    def content(self, content: bytes) -> None:
        self.contents[-1:] = [content]

    def read(self, pieces: Iterable[bytes]) -> None:
        """Read all pieces into one more body. It may be called again for the next body of the same call.

        Raises AnswerTooLargeError. After any error the caller must call `release`.
        """
        buffer = BytesIO()  # its content needs no copy, which of 40 MB would take 20 ms
        for piece in pieces:
            buffer.write(piece)
            self.received_bytes += len(piece)
            if self.received_bytes > self._max_bytes:
                raise AnswerTooLargeError
            self._budget.acquire(len(piece), self.received_bytes)
            self._acquired_bytes = self.received_bytes
        self.contents.append(buffer.getvalue())

    def release(self) -> None:
        """Give the bytes back to the budget. Further calls do nothing."""
        acquired_bytes, self._acquired_bytes = self._acquired_bytes, 0
        self._budget.release(acquired_bytes)


@contextmanager
def released_on_error() -> Iterator[Callable[[BufferedBody], BufferedBody]]:
    """Release a body that cannot be returned, because a later step (such as settling its call) failed."""
    kept: list[BufferedBody] = []

    def keep(body: BufferedBody) -> BufferedBody:
        kept.append(body)
        return body

    try:
        yield keep
    except BaseException:
        for body in kept:
            body.release()
        raise
