"""Items of a response's output while they grow: texts in parts, and calls of functions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ridges_proxy.upstream.tool_call_pieces import add_name_piece

if TYPE_CHECKING:
    from collections.abc import Callable

    Emit = Callable[..., None]
    """Takes the type of an event, and its fields."""


class PartKind(NamedTuple):
    """A kind of text in an item, and the names that its events have."""

    item: str
    """Type of the item."""
    parts: str
    """Field of the item that has the parts."""
    place: str
    """Field of an event that has the part's index."""
    type: str
    text: str
    """Field of the part that has the text."""
    part_event: str
    text_event: str


OUTPUT_TEXT = PartKind(
    *("message", "content", "content_index", "output_text", "text"),
    *("response.content_part", "response.output_text"),
)
REFUSAL = PartKind(
    *("message", "content", "content_index", "refusal", "refusal"),
    *("response.content_part", "response.refusal"),
)
REASONING_TEXT = PartKind(
    *("reasoning", "content", "content_index", "reasoning_text", "text"),
    *("response.content_part", "response.reasoning_text"),
)
REASONING_SUMMARY = PartKind(
    *("reasoning", "summary", "summary_index", "summary_text", "text"),
    *("response.reasoning_summary_part", "response.reasoning_summary_text"),
)

ID_PREFIXES = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_"}


@dataclass(slots=True)
class OpenText:
    """A message or reasoning whose text still grows."""

    item: dict[str, Any]
    output_index: int
    kind: PartKind
    """The kind of the part that grows."""
    texts: list[str] = field(default_factory=list)
    logprobs: list[object] = field(default_factory=list)

    @classmethod
    def begin(cls, kind: PartKind, item_id: str, output_index: int, emit: Emit) -> OpenText:
        """Begin an item with an empty part."""
        item: dict[str, Any] = {"id": item_id, "type": kind.item, "status": "in_progress", "content": []}
        own: dict[str, Any] = {"role": "assistant"} if kind.item == "message" else {"summary": []}
        item |= own
        emit("response.output_item.added", output_index=output_index, item=item)
        opened = cls(item, output_index, kind)
        opened.begin_part(kind, emit)
        return opened

    def begin_part(self, kind: PartKind, emit: Emit) -> None:
        """Begin a part, behind those that are done."""
        self.kind, self.texts, self.logprobs = kind, [], []
        emit(f"{kind.part_event}.added", **self._place(), part=self._part())

    def add(self, text: str, logprobs: list[object], emit: Emit, *, keep: bool) -> None:
        """Add a text to the part. `keep` says whether the part keeps the log probabilities."""
        self.texts.append(text)
        self.logprobs += logprobs if keep else []
        extra = {"logprobs": logprobs} if self.kind is OUTPUT_TEXT else {}
        emit(f"{self.kind.text_event}.delta", **self._place(), delta=text, **extra)

    def end_part(self, emit: Emit) -> None:
        """End the part, which then belongs to the item."""
        place, part = self._place(), self._part()
        extra = {"logprobs": self.logprobs} if self.kind is OUTPUT_TEXT else {}
        emit(f"{self.kind.text_event}.done", **place, **{self.kind.text: part[self.kind.text]}, **extra)
        emit(f"{self.kind.part_event}.done", **place, part=part)
        self.item[self.kind.parts].append(part)

    def end(self, status: str, emit: Emit) -> None:
        """End the part and the item."""
        self.end_part(emit)
        self.item["status"] = status
        emit("response.output_item.done", output_index=self.output_index, item=self.item)

    def _place(self) -> dict[str, Any]:
        index = len(self.item[self.kind.parts])
        return {"item_id": self.item["id"], "output_index": self.output_index, self.kind.place: index}

    def _part(self) -> dict[str, Any]:
        part = {"type": self.kind.type, self.kind.text: "".join(self.texts)}
        return {**part, "annotations": [], "logprobs": self.logprobs} if self.kind is OUTPUT_TEXT else part


@dataclass(slots=True)
class OpenCall:
    """A call of a function whose arguments still grow."""

    call_id: str
    names: list[str] = field(default_factory=list)
    """The pieces of the name."""
    item: dict[str, Any] = field(default_factory=dict)
    """Empty until the name is complete."""
    output_index: int = 0
    arguments: list[str] = field(default_factory=list)

    def add_name(self, text: str) -> None:
        """Add a piece of the name. It is complete when the item begins."""
        if not self.item:
            add_name_piece(self.names, text)

    def begin(self, item: dict[str, Any], output_index: int, emit: Emit) -> None:
        """Begin the item. `item` has its id and the function's name."""
        call = {"type": "function_call", "status": "in_progress", "call_id": self.call_id, "arguments": ""}
        self.item, self.output_index = {**item, **call}, output_index
        emit("response.output_item.added", output_index=output_index, item=self.item)

    def add(self, text: str, emit: Emit) -> None:
        """Add a piece of the arguments."""
        self.arguments.append(text)
        emit("response.function_call_arguments.delta", **self._place(), delta=text)

    def end(self, status: str, emit: Emit) -> None:
        """End the item with its complete arguments."""
        arguments = "".join(self.arguments)
        emit("response.function_call_arguments.done", **self._place(), arguments=arguments)
        self.item |= {"arguments": arguments, "status": status}
        emit("response.output_item.done", output_index=self.output_index, item=self.item)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.item["id"], "output_index": self.output_index}
