"""The input items of a Responses request as the messages of a chat. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridges_proxy.web.schemas.response_tools import joined_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Item = Mapping[str, Any]
    Message = dict[str, Any]

SYSTEM_ROLES = frozenset({"system", "developer"})
"""Roles of instructions. Many chat templates know no `developer`, and drop such a message."""

PARAGRAPH = "\n\n"


def messages_of(items: str | Iterable[Item], instructions: str | None) -> list[Message]:
    """The messages of an input, with the instructions before them.

    The instructions and the leading system messages become one message, because many chat templates accept
    only one. The items of one turn of the assistant become one message: its reasoning, text and calls.
    """
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    history = _History()
    if instructions:
        history.add({"role": "system", "content": instructions})
    for item in items:
        history.add(item)
    return history.complete()


@dataclass(slots=True)
class _Turn:
    """The items of one turn of the assistant. Texts are joined at the end: an input may have 10,000 items."""

    reasoning: list[str] = field(default_factory=list)
    contents: list[str | list[Message]] = field(default_factory=list)
    calls: list[Message] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        """Whether another text begins another turn. Behind a call it belongs to the same one."""
        return bool(self.contents) and not self.calls

    def message(self) -> Message:
        content: str | list[Message] | None = None
        if len(self.contents) == 1:
            content = self.contents[0]
        elif self.contents:
            content = [part for each in self.contents for part in _parts(each)]
        message: Message = {"role": "assistant", "content": content}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        return message


class _History:
    """The messages so far."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._instructions: list[str] = []
        """Texts of the leading system messages."""
        self._reasoning: list[str] = []
        """Reasoning that belongs to the assistant's next item."""
        self._turn: _Turn | None = None

    def complete(self) -> list[Message]:
        """All messages."""
        self._flush()
        return self._messages

    def add(self, item: Item) -> None:
        """Add an item."""
        match item.get("type") or "message":
            case "message":
                self._add_message(str(item["role"]), content_of(item["content"]))
            case "function_call":
                self._open_turn(self._turn or _Turn()).calls.append(_tool_call(item))
            case "function_call_output":
                content = content_of(item["output"])
                self._put({"role": "tool", "tool_call_id": item["call_id"], "content": content})
            case "reasoning":
                self._reasoning += _reasoning_texts(item)
            case _:  # a reference to reasoning, which is not stored
                pass

    def _add_message(self, role: str, content: str | list[Message]) -> None:
        if role == "assistant":
            turn = _Turn() if self._turn is None or self._turn.is_answered else self._turn
            self._open_turn(turn).contents.append(content)
        elif role not in SYSTEM_ROLES:
            self._put({"role": role, "content": content})
        elif isinstance(text := _joined_texts(content), str) and not self._messages and self._turn is None:
            self._instructions.append(text)
        else:
            self._put({"role": "system", "content": text})

    def _open_turn(self, turn: _Turn) -> _Turn:
        """Make this the present turn, and give it the reasoning before its next item."""
        if turn is not self._turn:
            self._flush()
            self._turn = turn
        turn.reasoning += self._reasoning
        self._reasoning = []
        return turn

    def _put(self, message: Message) -> None:
        self._flush()
        self._reasoning = []  # without an item of the assistant behind it, it belongs to none
        self._messages.append(message)

    def _flush(self) -> None:
        """Make a message of what is still open: the instructions, or the assistant's turn."""
        if self._instructions:
            self._messages.append({"role": "system", "content": PARAGRAPH.join(self._instructions)})
            self._instructions = []
        if self._turn is not None:
            self._messages.append(self._turn.message())
            self._turn = None


def content_of(content: str | Iterable[Item]) -> str | list[Message]:
    """A content in the form of a chat. A single text is a string: some templates accept no parts."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _part(part: Item) -> dict[str, Any]:
    match part["type"]:
        case "input_image":
            detail = part.get("detail")
            image = {"url": part["image_url"]}
            if detail:
                image["detail"] = "high" if detail == "original" else detail
            return {"type": "image_url", "image_url": image}
        case "refusal":
            return {"type": "refusal", "refusal": part["refusal"]}
        case _:
            return {"type": "text", "text": part["text"]}


def _tool_call(item: Item) -> dict[str, Any]:
    function = {"name": joined_name(item.get("namespace"), item["name"]), "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _reasoning_texts(item: Item) -> list[str]:
    """The texts of a reasoning item: its content, or else its summary. An answer has one of them."""
    return [str(part["text"]) for part in item.get("content") or item.get("summary") or []]


def _joined_texts(content: str | list[Message]) -> str | list[Message]:
    """One text instead of several, unless there are images between them."""
    if isinstance(content, str) or any(part["type"] != "text" for part in content):
        return content
    return PARAGRAPH.join(str(part["text"]) for part in content)


def _parts(content: str | list[Message]) -> list[Message]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
