"""The course of one response over time: how long it was silent, and how fast its tokens are generated. Pure.

An upstream goes on generating until it notices that its connection was closed, and some generate tokens that
they do not send. The tokens that may have been generated after the last report are computed from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SILENCE_SECONDS = 1.0
"""A longer pause between two texts may hide tokens, such as a model's thoughts. Models that Chutes serves
generate 20 to 200 tokens a second."""

ORDINARY_PAUSE_SECONDS = 0.05
"""A pause that is usual between two texts: 20 tokens a second have it."""

ABORT_SECONDS = 1.0
"""How long an upstream may take to notice that its connection was closed. Engines notice it at once or at the
next token; a gateway in between adds the time of a round trip or two."""

SPEED_MARGIN = 2
"""The speed since the last report may be higher than the mean before it: engines share their time between
requests."""

MEASURED_SECONDS = 0.5
"""Time between two reports that is enough to measure a speed."""

ASSUMED_TOKENS_PER_SECOND = 1_000
"""Speed of each choice where it cannot be measured: above that of every model that Chutes serves."""


@dataclass(slots=True)
class Progress:
    """Times of a response's events, in seconds of the monotonic clock, and the counts at these times."""

    now: float = 0.0
    """When the events that are being read have arrived."""
    last_text_at: float | None = None
    """When the last text was received, or the status 200 or the first event if none was."""
    longest_pause_seconds: float = 0.0
    """The longest time between two texts, or between the first event and the first text."""
    first_report_at: float | None = None
    first_reported_tokens: int = 0
    reported_at: float | None = None
    reported_tokens: int = 0
    """The completion tokens of the last usage that was reported."""
    most_reported_tokens: int = 0
    """The most completion tokens of all usages that were reported."""
    received_tokens: int = 0
    """The bound of the tokens that had been received at the last report."""

    def record_text(self) -> None:
        """Record that text has arrived."""
        if self.last_text_at is not None:
            self.longest_pause_seconds = max(self.longest_pause_seconds, self.now - self.last_text_at)
        self.last_text_at = self.now

    def record_report(self, completion_tokens: int, received_tokens: int) -> None:
        """Record that a usage was reported, after so many tokens were received."""
        if self.first_report_at is None:
            self.first_report_at, self.first_reported_tokens = self.now, completion_tokens
        self.reported_at, self.reported_tokens = self.now, completion_tokens
        self.most_reported_tokens = max(self.most_reported_tokens, completion_tokens)
        self.received_tokens = received_tokens

    def forget_reports(self) -> None:
        """Start again with the next try inside the same stream."""
        self.first_report_at = self.reported_at = None
        self.first_reported_tokens = self.reported_tokens = self.received_tokens = 0
        self.most_reported_tokens = 0

    def tokens_per_second(self, choices: int) -> float:
        """Return the speed of all choices together, with a margin if it was measured."""
        if self.first_report_at is None or self.reported_at is None:
            return ASSUMED_TOKENS_PER_SECOND * choices
        seconds = self.reported_at - self.first_report_at
        if seconds < MEASURED_SECONDS:
            return ASSUMED_TOKENS_PER_SECOND * choices
        return SPEED_MARGIN * (self.reported_tokens - self.first_reported_tokens) / seconds

    def tokens_since_report(self, ended_at: float, choices: int) -> int:
        """Return the tokens that may have been generated between the last report and the end."""
        if self.reported_at is None:
            return 0
        seconds = max(0.0, ended_at - self.reported_at) + ABORT_SECONDS
        return math.ceil(self.tokens_per_second(choices) * seconds)

    def tokens_since_text(self, ended_at: float, choices: int) -> int:
        """Return the tokens that may have been generated between the last text and the end."""
        if self.last_text_at is None:
            return 0
        seconds = max(0.0, ended_at - self.last_text_at - ORDINARY_PAUSE_SECONDS)
        return math.ceil(ASSUMED_TOKENS_PER_SECOND * choices * seconds)
