"""Facts about one attempt to call the upstream. Its cost is computed from them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy.upstream.usage import is_disproved

if TYPE_CHECKING:
    from ridges_proxy.billing.prices import Usage


@dataclass(slots=True)
class Attempt:
    """Facts that are recorded as they happen. They suffice to settle the call after any kind of failure."""

    max_tokens: int | None = None
    """The limit for each choice that the upstream was asked to keep. A response beyond it is cut off."""
    choices: int = 1
    """The number of choices that were requested."""
    sent: bool = False
    """Whether the first byte of the body was handed to a connected socket: it may be billed from then on."""
    refused: bool = False
    """Whether the upstream answered with an error status: it bills nothing then."""
    answering: bool = False
    """Whether a status of 200 was received."""
    complete: bool = False
    """Whether the response reached its end. What happens to the connection afterwards does not matter."""
    usage: Usage | None = None
    """The latest usage that the upstream reported."""
    deltas: int = 0
    """The number of deltas with content in the last try of a stream."""
    text_bytes: int = 0
    """The bytes of text in all choices of the last try."""
    received_tokens: int = 0
    """An upper bound of the tokens in all data that was received."""
    upstream_status: int | None = None
    started_at: float | None = None
    """When the body was sent, on the monotonic clock."""
    first_event_at: float | None = field(default=None, compare=False)
    """When the first event of a stream was received."""
    ended_at: float | None = None
    """When the last byte was received, or when the attempt failed."""

    def record_start(self) -> None:
        """Record that the body is being sent. Only the first call has an effect."""
        if not self.sent:
            self.sent = True
            self.started_at = time.monotonic()

    def record_first_event(self) -> None:
        """Record that an event was received. Only the first call has an effect."""
        if self.first_event_at is None:
            self.first_event_at = time.monotonic()

    def record_end(self) -> None:
        """Record that the last byte was received, or that the attempt failed."""
        self.ended_at = time.monotonic()

    @property
    def usage_disproved(self) -> bool:
        """Whether the upstream reported far fewer tokens than it sent."""
        return self.usage is not None and is_disproved(self.usage, self.deltas, self.text_bytes)

    @property
    def seconds(self) -> float:
        """How long the upstream has worked on the call; 0 before the body is sent."""
        if self.started_at is None:
            return 0.0
        return (self.ended_at or time.monotonic()) - self.started_at

    @property
    def first_event_seconds(self) -> float | None:
        """Time from sending the body to the first event; None without an event."""
        if self.first_event_at is None or self.started_at is None:
            return None
        return self.first_event_at - self.started_at
