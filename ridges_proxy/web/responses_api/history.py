"""The input items of a Responses request as the messages of a chat. Pure."""

from __future__ import annotations

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
    return history.messages


class _History:
    """The messages so far."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._reasoning = ""
        """Reasoning that belongs to the assistant's next item."""

    def add(self, item: Item) -> None:
        match item.get("type") or "message":
            case "message":
                self._add_message(str(item["role"]), content_of(item["content"]))
            case "function_call":
                self._turn().setdefault("tool_calls", []).append(_tool_call(item))
            case "function_call_output":
                self._put(
                    {"role": "tool", "tool_call_id": item["call_id"], "content": content_of(item["output"])}
                )
            case "reasoning":
                self._reasoning += _reasoning_text(item)
            case _:  # a reference to reasoning, which is not stored
                pass

    def _add_message(self, role: str, content: Any) -> None:  # noqa: ANN401 - a text or a list of parts
        last = self.messages[-1] if self.messages else {}
        if role == "assistant":
            self._add_answer(last, content)
        elif role in SYSTEM_ROLES:
            self._add_instructions(last, _joined_texts(content))
        else:
            self._put({"role": role, "content": content})

    def _add_instructions(self, last: Message, content: str | list[Message]) -> None:
        """Add instructions. The leading ones become one message."""
        is_leading = len(self.messages) == 1 and last["role"] == "system"
        if is_leading and isinstance(content, str) and isinstance(last["content"], str):
            last["content"] += PARAGRAPH + content
        else:
            self._put({"role": "system", "content": content})

    def _add_answer(self, last: Message, content: Any) -> None:  # noqa: ANN401 - a text or a list of parts
        """Add a text of the assistant. Behind its own calls it belongs to the same message."""
        if not last.get("tool_calls"):
            self._put({"role": "assistant", "content": content, **self._taken_reasoning()})
        elif last.get("content") is None:
            last["content"] = content
        else:
            last["content"] = [*_parts(last["content"]), *_parts(content)]

    def _turn(self) -> Message:
        """The message of the assistant's present turn. A result of a function begins the next turn."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant":
            return self._put({"role": "assistant", "content": None, **self._taken_reasoning()})
        for name, text in self._taken_reasoning().items():
            last[name] = last.get(name, "") + text
        return last

    def _taken_reasoning(self) -> dict[str, str]:
        taken, self._reasoning = self._reasoning, ""
        return {"reasoning_content": taken} if taken else {}

    def _put(self, message: Message) -> Message:
        self._reasoning = ""  # without an item of the assistant behind it, it belongs to none
        self.messages.append(message)
        return message


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


def _reasoning_text(item: Item) -> str:
    """The text of a reasoning item: its content, or else its summary, which is the same text in an answer."""
    return "".join(part["text"] for part in item.get("content") or item.get("summary") or [])


def _joined_texts(content: str | list[Message]) -> str | list[Message]:
    """One text instead of several, unless there are images between them."""
    if isinstance(content, str) or any(part["type"] != "text" for part in content):
        return content
    return PARAGRAPH.join(str(part["text"]) for part in content)


def _parts(content: str | list[Message]) -> list[Message]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
