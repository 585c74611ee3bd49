"""Facts about one attempt to call the upstream. Its cost is computed from them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus

from ridges_proxy.billing.prices import Usage
from ridges_proxy.upstream.progress import SILENCE_SECONDS, Progress
from ridges_proxy.upstream.usage import proven_tokens

UNANSWERED_STATUSES = frozenset({408, 460, 499, 504, 520, 522, 524, 598})
"""Statuses by which a gateway between here and the engine reports that it has sent the request on, and that
nothing came back. The engine may have generated the answer, and may bill it.

    408, 504    RFC 9110: a timeout
    460         AWS load balancers: the client has left
    499         nginx: the client has left
    520         Cloudflare: the origin's answer was empty or its connection was reset
    522, 524    Cloudflare: a timeout after the connection was made
    598         a timeout while reading (informal)

All others release the hold. 500 and 529 come from the engine or its queue. 521, 523, 525, 526 and 530
(Cloudflare) mean that no request reached it. 502 and 503 may mean both: mostly that no engine was reached
or had room, sometimes that its connection broke, after which an engine ends its work.
"""


@dataclass(slots=True)
class Attempt:
    """Facts that are recorded as they happen. They suffice to settle the call after any kind of failure."""

    max_tokens: int | None = None
    """The limit for each choice that the upstream was asked to keep. A response beyond it is cut off."""
    choices: int = 1
    """The number of choices that were requested."""
    upstream_model: str | None = None
    """The model's name in the request to the upstream."""
    hides_tokens: bool = False
    """Whether the upstream may generate tokens that it does not send, because the request allows it."""
    in_one_piece: bool = False
    """Whether the upstream sends nothing until it has generated all of the response."""
    sent: bool = False
    """Whether the first byte of the body was handed to a connected socket: it may be billed from then on."""
    refused: bool = False
    """Whether the upstream answered with an error status: it bills nothing then."""
    option_refused: bool = False
    """Whether the upstream named the usage in each chunk as the reason of a refusal."""
    answering: bool = False
    """Whether a status of 200 was received, and no error in place of the response."""
    began: bool = False
    """Whether the first event of the response was read, and was no error."""
    complete: bool = False
    """Whether the response reached its end. What happens to the connection afterwards does not matter."""
    usage: Usage | None = None
    """The latest usage that the upstream reported, in the last try of a stream."""
    progress: Progress = field(default_factory=Progress, compare=False)
    deltas: int = 0
    """The number of deltas with content in the last try of a stream."""
    deltas_at_usage: int = 0
    """The number of them that were received before the usage was reported."""
    text_bytes: int = 0
    """The bytes of text in all choices of the last try."""
    received_tokens: int = 0
    """An upper bound of the tokens in all data that was received; at least what earlier tries reported."""
    earlier_tokens: int = 0
    """An upper bound of the tokens of the tries before the last one."""
    upstream_status: int | None = None
    answer_id: str = ""
    """The upstream's id of the answer: the first one in the last try; empty without a usable one."""
    invocation_id: str = ""
    """The upstream's id of the request, from a header of the latest response."""
    started_at: float | None = None
    """When the body was sent, on the monotonic clock."""
    first_event_at: float | None = field(default=None, compare=False)
    """When the first event of a stream was received."""
    ended_at: float | None = None
    """When the last byte was received, or when the attempt failed."""
    earlier_seconds: float = 0.0
    """How long the upstream worked on the earlier requests of the same call. They were answered."""

    def record_start(self) -> None:
        """Record that the body is being sent. Only the first call has an effect."""
        if not self.sent:
            self.sent = True
            self.started_at = time.monotonic()

    def record_first_event(self) -> None:
        """Record that an event was received. Only the first call has an effect."""
        if self.first_event_at is None:
            self.first_event_at = self.progress.last_text_at = self.progress.now

    def record_end(self) -> None:
        """Record that the last byte was received, or that the attempt failed."""
        self.ended_at = time.monotonic()

    def record_status(self, status: int) -> None:
        """Record the status of the response, or of an error object in its place."""
        self.record_start()
        self.upstream_status = status
        self.answering = status == HTTPStatus.OK
        # A status below 300 is not an error: the upstream may go on working, and bill the call.
        self.refused = status >= HTTPStatus.MULTIPLE_CHOICES and status not in UNANSWERED_STATUSES
        if self.answering:
            self.progress.last_text_at = time.monotonic()

    def record_piece(self) -> None:
        """Record that data of the response has arrived."""
        self.progress.now = time.monotonic()

    def forget_refusal(self) -> None:
        """Start again after a request that was refused, with the next request of the same call."""
        self.sent = self.refused = self.option_refused = False
        self.answering = self.began = False
        self.received_tokens = 0
        self.upstream_status = self.started_at = self.first_event_at = self.ended_at = None

    def record_next_request(self) -> None:
        """Record that a request was answered, and that the next one of the same call follows."""
        self.earlier_seconds = self.seconds
        self.complete = False
        self.forget_refusal()

    def record_usage(self, usage: Usage) -> None:
        """Record a usage that was reported after everything that has been received so far."""
        self.usage, self.deltas_at_usage = usage, self.deltas
        self.progress.record_report(usage.completion_tokens, self.received_tokens)

    def record_next_try(self) -> None:
        """Record that the upstream starts the response again. The tokens of all tries may be billed."""
        reported_tokens = self.usage.completion_tokens if self.usage else 0
        self.earlier_tokens = max(self.received_tokens, self.earlier_tokens + reported_tokens)
        self.received_tokens = self.earlier_tokens  # the reported tokens include those that were not sent
        self.deltas = self.deltas_at_usage = self.text_bytes = 0
        self.answer_id = ""
        self.complete = False
        self.usage = None
        self.progress.forget_reports()

    @property
    def usage_disproved(self) -> bool:
        """Whether the response proves more tokens than the upstream reported."""
        return self.usage is not None and self.usage.completion_tokens < self._proven_tokens

    @property
    def usage_is_early(self) -> bool:
        """Whether more of the response came after the reported usage."""
        return self.usage is not None and self.deltas > self.deltas_at_usage

    @property
    def counted_usage(self) -> Usage | None:
        """The reported usage with all tokens that are to be paid; None if the upstream reported none.

        The prompt is always as reported. The completion has at least the tokens that the response proves. To
        it belong the texts that followed the report; and in a response that ended early, the tokens that may
        have been generated since the report, and those of earlier tries. There a report that is smaller than
        an earlier one of the same try counts as that one.
        """
        if self.usage is None:
            return None
        reported_tokens = self.usage.completion_tokens
        unreported_tokens = self.received_tokens - self.progress.received_tokens if self._reported else 0
        if not self.complete:
            reported_tokens = max(reported_tokens, self.progress.most_reported_tokens)
            made_tokens = self.progress.tokens_since_report(self._end, self.choices)
            unreported_tokens = max(unreported_tokens, made_tokens)
        tokens = max(reported_tokens + unreported_tokens, self._proven_tokens)
        if not self.complete:
            tokens += self.earlier_tokens
        return Usage(self.usage.prompt_tokens, tokens, self.usage.cached_tokens)

    @property
    def bound_tokens(self) -> int:
        """The most tokens of a response without a usage: those received, and those made afterwards."""
        if self.complete:
            return self.received_tokens
        return self.received_tokens + self.progress.tokens_since_text(self._end, self.choices)

    @property
    def may_have_unseen_tokens(self) -> bool:
        """Whether the upstream may have generated more tokens than the received data can contain."""
        pause_seconds = self.progress.longest_pause_seconds
        if not self.complete and self.progress.last_text_at is not None:
            pause_seconds = max(pause_seconds, self._end - self.progress.last_text_at)
        unseen_piece = self.in_one_piece and not self.complete
        return self.hides_tokens or unseen_piece or pause_seconds > SILENCE_SECONDS

    @property
    def _proven_tokens(self) -> int:
        return proven_tokens(self.deltas, self.text_bytes)

    @property
    def _reported(self) -> bool:
        return self.progress.reported_at is not None

    @property
    def _end(self) -> float:
        """When the response ended, or the time of its last data if it is still being received."""
        return self.progress.now if self.ended_at is None else self.ended_at

    @property
    def seconds(self) -> float:
        """How long the upstream has worked on the call; 0 before the body is sent."""
        if self.started_at is None:
            return self.earlier_seconds
        return self.earlier_seconds + (self.ended_at or time.monotonic()) - self.started_at

    @property
    def first_event_seconds(self) -> float | None:
        """Time from sending the body to the first event; None without an event."""
        if self.first_event_at is None or self.started_at is None:
            return None
        return self.first_event_at - self.started_at
