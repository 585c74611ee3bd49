"""What one attempt to call the upstream has shown so far: all that its cost is judged by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy.upstream.usage import is_disproved

if TYPE_CHECKING:
    from ridges_proxy.billing.prices import Usage


@dataclass(slots=True)
class Attempt:
    """Facts only, noted as they happen; whoever reads it later need not know what went wrong."""

    max_tokens: int | None = None
    """What the upstream was asked to keep to in each choice; an answer that goes on past it is cut off."""
    choices: int = 1
    """How many answers were asked for."""
    sent: bool = False
    """The first byte of the body was handed to a connected socket: the upstream may have begun to work."""
    refused: bool = False
    """An error status came: nothing was done that is billed."""
    answering: bool = False
    """A 200 came."""
    complete: bool = False
    """The answer has come to its end, however the connection ended afterwards."""
    usage: Usage | None = None
    """The latest that the upstream reported."""
    deltas: int = 0
    """Of a stream: those with something in them, of its last try."""
    text_bytes: int = 0
    """What its choices say, in the last try."""
    received_tokens: int = 0
    """The most tokens that what came can count."""
    upstream_status: int | None = None
    started_at: float | None = None
    first_event_at: float | None = field(default=None, compare=False)
    """When the first event of a stream came."""
    ended_at: float | None = None

    def begin(self) -> None:
        """Note that the body begins to leave, and when: once, however often it is told."""
        if not self.sent:
            self.sent = True
            self.started_at = time.monotonic()

    @property
    def usage_disproved(self) -> bool:
        """Whether the upstream reported far fewer tokens than it sent."""
        return self.usage is not None and is_disproved(self.usage, self.deltas, self.text_bytes)

    def note_event(self) -> None:
        """Note the moment of the first event; of all others, nothing."""
        if self.first_event_at is None:
            self.first_event_at = time.monotonic()

    def end(self) -> None:
        """Note the moment after the last byte, or the failure."""
        self.ended_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the upstream has had the call, on a monotonic clock."""
        if self.started_at is None:
            return 0.0
        return (self.ended_at or time.monotonic()) - self.started_at

    @property
    def first_event_seconds(self) -> float | None:
        """How long the upstream took to its first event; None if there was none."""
        if self.first_event_at is None or self.started_at is None:
            return None
        return self.first_event_at - self.started_at
