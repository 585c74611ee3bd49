"""The chat route's call: what it answers, what it counts, and the answer in one piece."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from . import faults
from .call import MS_PER_SECOND, Call

if TYPE_CHECKING:
    from .books import Entry
    from .connection import Connection
    from .directive import Directive
    from .gates import Gates
    from .prices import Prices
    from .question import Question

WORD = re.compile(r"\s*\S+\s*")
USAGE_FACTOR = 10  # how wrong `below` and `above` are


def delta(fault: str | None, word: str) -> dict[str, Any]:
    """Return one piece of the answer as the model would send it."""
    if fault == "null_content":
        return {"content": None}
    if fault == "reasoning_only":
        return {"reasoning_content": word}
    return {"content": word}


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
        words = self._all_words()
        limit = len(words) if directive.ignore_max_tokens else question.max_tokens or len(words)
        self.words = words[:limit]
        self.finish_reason = "length" if limit < len(words) else "stop"
        entry.prompt_tokens = (
            question.greedy_prompt_tokens() if directive.greedy else question.prompt_tokens()
        )

    @property
    def model(self) -> str:
        """The name in the answer."""
        return self.question.model + ("-0905" if self.directive.fault == "other_model" else "")

    def _all_words(self) -> list[str]:
        if self.directive.fault == "empty":
            return []
        if self.directive.fault == "error_text":
            return [f"Unhandled exception: {faults.EXHAUSTED}"]
        if self.directive.answer is not None:
            return WORD.findall(self.directive.answer)
        return [f"word{n} " for n in range(1, self.directive.events + 1)]

    def bill(self, prices: Prices) -> int:
        """Prompt and completion, once the answer has begun."""
        tokens = self.entry.prompt_tokens + self.entry.completion_tokens
        return prices.for_tokens(tokens) if self.billable else 0

    def count_all(self) -> None:
        """Count the greedy amounts."""
        self.entry.prompt_tokens = self.question.greedy_prompt_tokens()
        self.entry.completion_tokens = self._most_tokens()

    def _most_tokens(self) -> int:
        return self.question.max_tokens or len(self.words)

    def start_billing(self) -> None:
        """Begin; a greedy call counts everything from here on."""
        super().start_billing()
        if self.directive.greedy:
            self.entry.completion_tokens = self._most_tokens()

    def pause(self) -> None:
        """Take the time that one content event takes."""
        self.connection.pause(self.directive.pause_ms / MS_PER_SECOND)

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
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def answer_whole(self) -> None:
        """Compute everything, then answer with one JSON body."""
        self.count(0)
        for events in range(1, len(self.words) + 1):
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
            "choices": [{"index": 0, "message": self._message(), "finish_reason": self.finish_reason}],
        }
        if self.directive.fault == "no_finish":
            del answer["choices"][0]["finish_reason"]
        if self.directive.usage != "none":
            answer["usage"] = None if self.directive.usage == "null" else self.usage()
        return answer

    def _message(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": None, **delta(self.directive.fault, "".join(self.words))}
        if self.directive.fault == "empty":
            message["content"] = ""
        return message
