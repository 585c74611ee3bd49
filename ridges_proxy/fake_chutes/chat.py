"""A call of the chat route: its tokens, its usage and its answer in one piece."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from . import faults
from .answer import choices, interleaved
from .call import MS_PER_SECOND, Call
from .logprobs import logprobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .answer import Choice, Piece
    from .books import Entry
    from .chat_request import ChatRequest
    from .connection import Connection
    from .directive import Directive
    from .gates import Gates
    from .prices import Prices

LIFE_SECONDS = 0.1  # between two signs of life while hidden tokens are generated
USAGE_FACTOR = 10  # the factor of `below` and `above`


def new_id() -> str:
    """Make an id in vLLM's form."""
    return f"chatcmpl-{uuid.uuid4().hex}"


class ChatCall(Call):
    """A chat completion."""

    def __init__(
        self,
        connection: Connection,
        entry: Entry,
        directive: Directive,
        gates: Gates,
        chat_request: ChatRequest,
    ) -> None:
        super().__init__(connection, entry, directive, gates)
        self.chat_request = chat_request
        self.created = int(time.time())
        self.hidden_tokens = 0
        self.choices = choices(directive, chat_request)
        self.pieces = interleaved(self.choices)
        entry.prompt_tokens = (
            chat_request.greedy_prompt_tokens() if directive.greedy else chat_request.prompt_tokens()
        )

    @property
    def model(self) -> str:
        """The name of the model in the answer."""
        return self.chat_request.model + ("-0905" if self.directive.fault == "other_model" else "")

    def bill(self, prices: Prices) -> int:
        """Return the cost of prompt and completion; 0 before the answer begins."""
        if not self.billable:
            return 0
        return prices.of(self.entry.model).cost(self.entry.prompt_tokens, self.entry.completion_tokens)

    def count_all(self) -> None:
        """Count the amounts of a greedy upstream."""
        self.entry.prompt_tokens = self.chat_request.greedy_prompt_tokens()
        self.entry.completion_tokens = self._most_tokens()

    def _most_tokens(self) -> int:
        if self.chat_request.max_tokens is None:
            return len(self.pieces)
        return self.chat_request.max_tokens * self.chat_request.n

    @property
    def is_error_object(self) -> bool:
        """Whether an error object takes the place of the answer. It is not billed."""
        fault, after = self.directive.fault, self.directive.after
        if not self.chat_request.stream:
            return fault in {"error_first", "error_event", "status_body"}
        return fault == "error_first" or (fault == "status_body" and not after)

    def start_billing(self) -> None:
        """Begin the answer. A greedy call counts all its tokens at once."""
        if self.is_error_object:
            return
        super().start_billing()
        if self.directive.greedy:
            self.entry.completion_tokens = self._most_tokens()

    def pause(self) -> None:
        """Wait for the time and the permit of one content event."""
        self.connection.pause(self.directive.pause_ms / MS_PER_SECOND)
        self.step()

    def count(self, events: int) -> None:
        """Record the number of content events, and wait if a gate is here."""
        if not self.directive.greedy:
            self.entry.completion_tokens = self.hidden_tokens + events
        self.gate(events)

    def usage(self) -> dict[str, Any]:
        """Return the reported usage, true or false as the directive says."""
        prompt, completion = self.entry.prompt_tokens, self.entry.completion_tokens
        match self.directive.usage:
            case dict() as given:
                return given
            case "below":
                prompt, completion = prompt // USAGE_FACTOR, completion // USAGE_FACTOR
            case "above":
                prompt, completion = prompt * USAGE_FACTOR, completion * USAGE_FACTOR
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if self.directive.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.directive.cached_tokens}
        return usage

    def logprobs(self, pieces: Iterable[Piece]) -> dict[str, Any]:
        """Return the `logprobs` field for these pieces, empty if the request does not ask for it."""
        return (
            {"logprobs": logprobs(pieces, self.chat_request.top_logprobs)}
            if self.chat_request.logprobs
            else {}
        )

    def think(self, show_life: Callable[[], None]) -> None:
        """Generate the hidden tokens, which are billed and not sent; call `show_life` between them."""
        started = time.monotonic()
        limit = self.chat_request.max_tokens
        hidden = self.directive.hidden if limit is None else min(self.directive.hidden, limit)
        while self.hidden_tokens < hidden:
            try:
                self.connection.pause(LIFE_SECONDS)
            finally:
                made = int((time.monotonic() - started) * self.directive.hidden_per_second)
                self.hidden_tokens = min(hidden, made)
                self.entry.completion_tokens = self.hidden_tokens
            show_life()

    def answer_whole(self) -> None:
        """Compute the answer, then send it as one JSON body."""
        self.think(lambda: None)
        self.count(0)
        for events in range(1, len(self.pieces) + 1):
            self.pause()
            self.count(events)
        self.start_billing()
        self.send_whole(orjson.dumps(self._whole()))

    def _whole(self) -> object:
        if self.directive.fault == "error_first":
            return {"error": faults.TOO_LONG}
        if self.directive.fault == "error_event":
            return {"error": faults.EXHAUSTED}
        if self.directive.fault == "status_body":
            return {"status": 500, "detail": faults.EXHAUSTED}
        self.entry.answer_id = new_id()
        answer: dict[str, Any] = {
            "id": self.entry.answer_id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._choice(choice) for choice in self.choices],
        }
        if self.directive.usage != "none":
            answer["usage"] = None if self.directive.usage == "null" else self.usage()
        return answer

    def _choice(self, choice: Choice) -> dict[str, Any]:
        said = {"index": choice.index, "message": choice.message(), **self.logprobs(choice.pieces)}
        if self.directive.fault == "no_finish":
            return said
        return {**said, "finish_reason": choice.finish_reason}
