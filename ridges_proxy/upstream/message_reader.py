"""Reading of one streamed chat completion as a message: its text and its tool calls. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ridges_proxy.upstream.chunk_tokens import arguments_in
from ridges_proxy.upstream.stream_reader import TextStreamReader
from ridges_proxy.upstream.tool_call_pieces import ToolCallPieces, add_name_piece

if TYPE_CHECKING:
    from ridges_proxy.upstream.attempt import Attempt


class ToolCall(NamedTuple):
    """A call of a tool. The model wrote the arguments, so they may be no JSON."""

    name: str
    arguments: str


class AnswerMessage(NamedTuple):
    """The complete message of an answer."""

    content: str
    tool_calls: list[ToolCall]


@dataclass(slots=True)
class _PartialCall:
    """The pieces of a tool call that were received so far."""

    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def add(self, function: dict[str, Any]) -> None:
        """Add a piece. The name is complete when the arguments begin."""
        name = function.get("name")
        if isinstance(name, str) and not any(self.arguments):
            add_name_piece(self.names, name)
        self.arguments.append(arguments_in(function))


class MessageStreamReader(TextStreamReader):
    """Reader that collects the text and the tool calls of the first choice. Only the last try is kept."""

    def __init__(self, attempt: Attempt, redacted: str = "") -> None:
        super().__init__(attempt, redacted)
        self._calls: dict[int, _PartialCall] = {}
        self._pieces = ToolCallPieces()

    def message(self) -> AnswerMessage:
        """Return the complete message. Raises UpstreamBrokenError if it is cut, or ended with a failure."""
        self.check_complete()
        calls = [ToolCall("".join(each.names), "".join(each.arguments)) for each in self._calls.values()]
        return AnswerMessage("".join(self._texts), calls)

    def _start_next_try(self) -> None:
        super()._start_next_try()
        self._calls.clear()
        self._pieces = ToolCallPieces()

    def _handle(self, data: bytes, chunk: dict[str, Any]) -> None:
        super()._handle(data, chunk)
        choices = chunk.get("choices")
        pieces = (choices[0].get("delta") or {}).get("tool_calls") if choices else None
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                number = self._pieces.number_of(piece)
                if isinstance(function := piece.get("function"), dict):
                    self._calls.setdefault(number, _PartialCall()).add(function)
