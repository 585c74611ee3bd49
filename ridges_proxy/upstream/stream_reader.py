"""One streamed chat completion, read event by event. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ridges_proxy.errors import UpstreamBrokenError, UpstreamOverranError
from ridges_proxy.upstream.chunk_tokens import (
    DONE,
    bound_of,
    list_in,
    parse,
    says_something,
    senseless_tokens,
    text_bytes_in,
    unread_tokens,
    written,
)
from ridges_proxy.upstream.usage import BYTES_PER_TOKEN, most_text_bytes, usage_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ridges_proxy.upstream.attempt import Attempt
    from ridges_proxy.upstream.sse import Event

    Put = Callable[[bytes], None]
    """Where events go that are passed on."""

FAILURE_TEXTS = ("Internal Server Error", "exhausted all available targets")
"""Texts that the upstream puts into an answer when it means a failure."""


class Limits(NamedTuple):
    """How much a stream may bring before it is cut off."""

    deltas: float
    text_bytes: float


class Completion:
    """Notes on the attempt what a streamed answer shows of its cost, and whether it is whole.

    When a try on another target follows the first inside one stream, the answer starts anew, while all
    that came counts as received. Each try may be as long as was asked for, and all together twice as long.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.done = False
        self._attempt = attempt
        self._id: object = None
        self._id_is_shared = False
        asked = math.inf if attempt.max_tokens is None else attempt.max_tokens * attempt.choices
        self._left = Limits(2 * asked, 2 * most_text_bytes(asked))
        self._limits = self._of_one_try = Limits(asked, most_text_bytes(asked))
        self._finished: set[int] = set()

    def add(self, event: Event) -> None:
        """Take in one event.

        Raises UpstreamBrokenError for errors and for what cannot be understood, UpstreamOverranError when
        more tokens have come than the upstream was asked for.
        """
        try:
            chunk = self._take(event)
        except UpstreamBrokenError:
            self._attempt.received_tokens += senseless_tokens(event.data)
            raise
        if self._attempt.deltas > self._limits.deltas or self._attempt.text_bytes > self._limits.text_bytes:
            self._attempt.complete = False
            raise UpstreamOverranError
        if chunk is not None:
            self._keep(event, chunk)

    def count_unread(self, events: Iterable[Event], rest_bytes: int) -> None:
        """Count what came and was never taken in; behind a whole answer's end, nothing is left to count."""
        if not self._attempt.complete:
            self._attempt.received_tokens += rest_bytes + sum(unread_tokens(event) for event in events)

    def check_complete(self) -> None:
        """Raise UpstreamBrokenError if the answer broke off."""
        if not self._attempt.complete:
            raise UpstreamBrokenError

    def _take(self, event: Event) -> dict[str, Any] | None:
        if event.data == DONE:
            self.done = self._attempt.complete = True
            return None
        if not event.data:
            return None  # an event without data keeps a connection open
        chunk = parse(event)
        choices = chunk.get("choices")
        if choices and isinstance(choices, list):
            chunk_id = chunk.get("id")
            if chunk_id == self._id:
                self._id_is_shared = True
            elif chunk_id and self._starts_anew(chunk_id, choices[0]):
                self._begin_again()
        if chunk.get("usage"):
            self._note_usage(chunk)
        some = choices if isinstance(choices, list) else list_in(choices)
        if len(some) > self._attempt.choices:
            raise UpstreamBrokenError
        for place, choice in enumerate(some):
            self._take_choice(place, choice)
        return chunk

    def _begin_again(self) -> None:
        """Forget what the first try brought; what it cost stays counted."""
        attempt = self._attempt
        self._left = Limits(self._left.deltas - attempt.deltas, self._left.text_bytes - attempt.text_bytes)
        self._limits = Limits(*map(min, self._of_one_try, self._left))
        attempt.deltas = attempt.text_bytes = 0
        self._finished.clear()
        self._attempt.complete = False
        self._attempt.usage = None

    def _keep(self, event: Event, chunk: dict[str, Any]) -> None:
        """Do with an event that was understood what this answer is for."""

    def _note_usage(self, chunk: dict[str, Any]) -> None:
        usage = usage_from(chunk["usage"])
        if usage:
            self._attempt.usage = usage
            if not chunk.get("choices"):
                self._attempt.complete = True

    def _starts_anew(self, chunk_id: object, choice: object) -> bool:
        """Whether another try's stream begins here: another id, on chunks that used to share theirs."""
        # An upstream that gives every chunk an id of its own has not started anew each time.
        anew = self._id is not None and (self._id_is_shared or _opens(choice))
        self._id, self._id_is_shared = chunk_id, False
        return anew

    def _take_choice(self, place: int, choice: object) -> None:
        delta = choice.get("delta") or {} if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict):
            raise UpstreamBrokenError
        most_tokens = bound_of(delta)
        self._attempt.received_tokens += most_tokens
        if most_tokens > 1 or says_something(delta):
            self._attempt.deltas += 1
            # Few bytes prove nothing, and need no closer look.
            self._attempt.text_bytes += (
                most_tokens if most_tokens <= BYTES_PER_TOKEN else text_bytes_in(delta)
            )
            self._attempt.complete = False  # an end that more comes behind was none
        if choice.get("finish_reason"):
            self._finish(choice.get("index", place))

    def _finish(self, index: object) -> None:
        if isinstance(index, int) and index in range(self._attempt.choices):
            self._finished.add(index)
            if len(self._finished) == self._attempt.choices:
                self._attempt.complete = True


class TextCompletion(Completion):
    """Collects the text of the first choice; of several tries, the last one's."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._parts: list[str] = []

    def text(self) -> str:
        """The whole answer. Raises UpstreamBrokenError if it broke off, or says that it is a failure."""
        self.check_complete()
        text = "".join(self._parts)
        if any(failure in text for failure in FAILURE_TEXTS):
            raise UpstreamBrokenError
        return text

    def _begin_again(self) -> None:
        super()._begin_again()
        self._parts.clear()

    def _keep(self, event: Event, chunk: dict[str, Any]) -> None:  # noqa: ARG002 - the chunk is what this one needs
        choices = chunk.get("choices")
        content = (choices[0].get("delta") or {}).get("content") if choices else None
        if isinstance(content, str):
            self._parts.append(content)


class RelayedCompletion(Completion):
    """Passes each event on as it came, the usage only to a client that asked for it."""

    def __init__(self, attempt: Attempt, put: Put, *, shows_usage: bool) -> None:
        super().__init__(attempt)
        self._put = put
        self._shows_usage = shows_usage

    def _begin_again(self) -> None:
        """Nothing that was passed on can be taken back: a second try would be read as part of the first."""
        if self._attempt.deltas:
            raise UpstreamBrokenError
        super()._begin_again()

    def _keep(self, event: Event, chunk: dict[str, Any]) -> None:
        data = event.data.replace(b"\n", b"\ndata: ")
        if not self._shows_usage and "usage" in chunk:
            if not chunk.get("choices"):
                return
            data = written({name: value for name, value in chunk.items() if name != "usage"})
        self._put(b"data: " + data + b"\n\n")


def _opens(choice: object) -> bool:
    """Whether a chunk's choice is the first of the first answer: only that one names the role."""
    delta = choice.get("delta") if isinstance(choice, dict) and not choice.get("index") else None
    return isinstance(delta, dict) and bool(delta.get("role"))
