"""Tries inside one stream: where the next one starts, and how long each may be. Pure.

Chutes may repeat a completion on another target inside the same stream. The completion then starts again
under another id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ridges_proxy.upstream.chunk_tokens import has_content
from ridges_proxy.upstream.usage import max_text_bytes

if TYPE_CHECKING:
    from ridges_proxy.billing.prices import Usage
    from ridges_proxy.upstream.attempt import Attempt

FAILED_ENDS = frozenset({"abort", "error", "insufficient_system_resource"})
"""Finish reasons of a completion that failed: vLLM's and SGLang's, OpenRouter's, and DeepSeek's."""


def is_failed_end(reason: object) -> bool:
    """Whether a choice with this finish reason has failed: its text is not complete."""
    return isinstance(reason, str) and reason in FAILED_ENDS


@dataclass(slots=True)
class ChoiceStream:
    """State of one choice in the current try, as its chunks have shown it."""

    id: object = None
    """The id of its last chunk that had one."""
    shares_id: bool = False
    """Whether several of its chunks had this id."""
    has_text: bool = False
    has_text_without_role: bool = False

    def opens_again(self, chunk_id: object, choice: dict[str, Any], delta: dict[str, Any]) -> bool:
        """Whether the next try starts with this chunk, which has another id. Records the id.

        It does if the choice has text and opens, with a role, under another id. Some upstreams give every
        chunk its own id, and some write the role in every delta. Those that do both show no next try. Some
        give the last chunk another id.
        """
        if not chunk_id:
            return False
        opens_again = (
            self.id is not None
            and self.has_text
            and bool(delta.get("role"))
            and (self.shares_id or self.has_text_without_role)
            and (has_content(delta) or not choice.get("finish_reason"))
        )
        self.id, self.shares_id = chunk_id, False
        return opens_again


class TryCounters:
    """Counters and limits of the current try. `reset` starts the next one.

    Each try may be as long as requested, and all tries together twice as long. The deltas and text bytes are
    counted on the attempt.
    """

    def __init__(self, attempt: Attempt) -> None:
        requested = math.inf if attempt.max_tokens is None else attempt.max_tokens * attempt.choices
        self._attempt = attempt
        self._requested_deltas = self.max_deltas = requested
        self._requested_text_bytes = self.max_text_bytes = max_text_bytes(requested)
        self._remaining_deltas = 2 * self._requested_deltas
        self._remaining_text_bytes = 2 * self._requested_text_bytes
        self._start()

    def _start(self) -> None:
        self.choices = [ChoiceStream() for _ in range(self._attempt.choices)]
        self._indexes: dict[object, int] = {index: index for index in range(len(self.choices))}
        self.ended_choices: set[int] = set()
        """The choices with a finish reason and no text behind it."""
        self.failed_choices: set[int] = set()
        """Those of them whose finish reason is a failure."""
        self.reported_tokens: dict[int, int] = {}
        """The completion tokens that were last reported beside each choice."""

    def reset(self) -> None:
        """Start counting the next try. `received_tokens` stays: the tokens of all tries may be billed."""
        attempt = self._attempt
        self._remaining_deltas -= attempt.deltas
        self._remaining_text_bytes -= attempt.text_bytes
        self.max_deltas = min(self._requested_deltas, self._remaining_deltas)
        self.max_text_bytes = min(self._requested_text_bytes, self._remaining_text_bytes)
        self._start()
        attempt.record_next_try()

    def index_of(self, choice: dict[str, Any], position: int) -> int:
        """Return the index of a choice; its position in the chunk if the index is missing or not valid."""
        try:
            return self._indexes[choice.get("index")]
        except (KeyError, TypeError):  # TypeError: an object or a list
            return position

    def record_end(self, index: object, reason: object) -> None:
        """Record the finish reason of a choice. One that was not requested has none."""
        if not isinstance(index, int) or index not in range(len(self.choices)):
            return
        self.ended_choices.add(index)
        if is_failed_end(reason):
            self.failed_choices.add(index)

    def record_text_behind_end(self, index: int) -> None:
        """Record that a choice goes on behind a finish reason."""
        self.ended_choices.discard(index)
        self.failed_choices.discard(index)

    @property
    def all_have_ended(self) -> bool:
        """Whether every requested choice has a finish reason, and none is a failure."""
        return len(self.ended_choices) == len(self.choices) and not self.failed_choices

    def are_exceeded(self) -> bool:
        """Whether more tokens were received, or are reported so far, than were requested."""
        attempt = self._attempt
        if attempt.deltas > self.max_deltas or attempt.text_bytes > self.max_text_bytes:
            return True
        highest = max(self.reported_tokens.values(), default=0)
        return highest > self._requested_deltas and not attempt.complete

    def allow(self, deltas: int, text_bytes: int, reported_tokens: int) -> bool:
        """Whether so many more deltas and bytes of text, and a report of so many tokens, exceed no limit."""
        return (
            self._attempt.deltas + deltas <= self.max_deltas
            and self._attempt.text_bytes + text_bytes <= self.max_text_bytes
            and reported_tokens <= self._requested_deltas
        )

    def total_usage(self, usage: Usage, choice: object) -> Usage:
        """Return the usage of all choices, from one that was reported beside this choice.

        vLLM and SGLang report the completion of the one choice there. For an upstream that reports the total
        of all choices the sum is too high, until it reports the usage at the end.
        """
        index = self.index_of(choice, 0) if isinstance(choice, dict) else 0
        self.reported_tokens[index] = usage.completion_tokens
        return replace(usage, completion_tokens=sum(self.reported_tokens.values()))
