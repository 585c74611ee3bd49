"""The embedding route, with answers in TEI's form that are computed from a hash of the text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from .call import Call
from .chat_request import RefusedError, count_tokens

if TYPE_CHECKING:
    from .books import Entry
    from .connection import Connection
    from .directive import Directive
    from .gates import Gates
    from .prices import Prices

WIDTH = 1024
MAX_INPUT_TOKENS = 512
MAX_BATCH = 32
MIDDLE_OF_A_BYTE = 128


class TooManyInputsError(RefusedError):
    """More inputs than a batch may have; the error has TEI's form."""

    def __init__(self, count: int) -> None:
        super().__init__(413, f"batch size {count} > maximum allowed batch size {MAX_BATCH}")

    def answer(self) -> dict[str, str]:
        """Return the error in TEI's form."""
        return {"error": self.detail, "error_type": "Validation"}


def read_inputs(body: dict[str, Any]) -> list[str]:
    """Return the inputs as a list."""
    inputs = body.get("inputs")
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise RefusedError(422, "Invalid request: inputs")
    if len(texts) > MAX_BATCH:
        raise TooManyInputsError(len(texts))
    return texts


def embed(text: str) -> list[float]:
    """Return 1,024 numbers from -1 to 1 that depend on the text only."""
    digest = hashlib.shake_256(text.encode()).digest(WIDTH)
    return [byte / MIDDLE_OF_A_BYTE - 1 for byte in digest]


class EmbedCall(Call):
    """An embedding. It is billed for its time; its tokens are only recorded."""

    def __init__(
        self, connection: Connection, entry: Entry, directive: Directive, gates: Gates, inputs: list[str]
    ) -> None:
        super().__init__(connection, entry, directive, gates)
        self._inputs = inputs
        self._sizes = [count_tokens(len(text.encode())) for text in inputs]
        entry.prompt_tokens = sum(self._sizes)

    def bill(self, prices: Prices) -> int:
        """Return the cost of the time until the answer began."""
        return prices.for_elapsed(self.entry.elapsed_ns) if self.billable else 0

    def answer(self) -> None:
        """Send the vectors, or TEI's error for inputs that are too long."""
        longest = max(self._sizes)
        if self.directive.fault == "too_long" and longest > MAX_INPUT_TOKENS:
            message = f"`inputs` must have less than {MAX_INPUT_TOKENS} tokens. Given: {longest}"
            self.send_whole(orjson.dumps({"error": message, "error_type": "Validation"}))
        else:
            self.send_whole(orjson.dumps([embed(text) for text in self._inputs]))
