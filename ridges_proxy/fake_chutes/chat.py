"""The chat route's call: what it answers, what it counts, and the answer in one piece."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from . import faults
from .answer import choices, in_turn
from .call import MS_PER_SECOND, Call
from .logprobs import logprobs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .answer import Choice, Piece
    from .books import Entry
    from .connection import Connection
    from .directive import Directive
    from .gates import Gates
    from .prices import Prices
    from .question import Question

USAGE_FACTOR = 10  # how wrong `below` and `above` are


def new_id() -> str:
    """Make an id as vLLM's."""
    return f"chatcmpl-{uuid.uuid4().hex}"


class ChatCall(Call):
    """A chat completion in the making."""

    def __init__(
        self, connection: Connection, entry: Entry, directive: Directive, gates: Gates, question: Question
    ) -> None:
        super().__init__(connection, entry, directive, gates)
        self.question = question
        self.created = int(time.time())
        self.choices = choices(directive, question)
        self.pieces = in_turn(self.choices)
        entry.prompt_tokens = (
            question.greedy_prompt_tokens() if directive.greedy else question.prompt_tokens()
        )

    @property
    def model(self) -> str:
        """The name in the answer."""
        return self.question.model + ("-0905" if self.directive.fault == "other_model" else "")

    def bill(self, prices: Prices) -> int:
        """Prompt and completion, once the answer has begun."""
        if not self.billable:
            return 0
        return prices.of(self.entry.model).cost(self.entry.prompt_tokens, self.entry.completion_tokens)

    def count_all(self) -> None:
        """Count the greedy amounts."""
        self.entry.prompt_tokens = self.question.greedy_prompt_tokens()
        self.entry.completion_tokens = self._most_tokens()

    def _most_tokens(self) -> int:
        if self.question.max_tokens is None:
            return len(self.pieces)
        return self.question.max_tokens * self.question.n

    def start_billing(self) -> None:
        """Begin; a greedy call counts everything from here on."""
        super().start_billing()
        if self.directive.greedy:
            self.entry.completion_tokens = self._most_tokens()

    def pause(self) -> None:
        """Take the time that one content event takes, and wait for its permit."""
        self.connection.pause(self.directive.pause_ms / MS_PER_SECOND)
        self.step()

    def count(self, events: int) -> None:
        """Note how many content events the answer has; stop if a gate stands here."""
        if not self.directive.greedy:
            self.entry.completion_tokens = events
        self.gate(events)

    def usage(self) -> dict[str, Any]:
        """Return the usage as reported, honest or not."""
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
        """Return the field that a choice has for these pieces: none if nobody asked."""
        return {"logprobs": logprobs(pieces, self.question.top_logprobs)} if self.question.logprobs else {}

    def answer_whole(self) -> None:
        """Compute everything, then answer with one JSON body."""
        self.count(0)
        for events in range(1, len(self.pieces) + 1):
            self.pause()
            self.count(events)
        self.start_billing()
        self.send_whole(orjson.dumps(self._whole()))

    def _whole(self) -> object:
        if self.directive.fault == "error_event":
            return {"error": faults.EXHAUSTED}
        if self.directive.fault == "status_body":
            return {"status": 500, "detail": faults.EXHAUSTED}
        answer: dict[str, Any] = {
            "id": new_id(),
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
