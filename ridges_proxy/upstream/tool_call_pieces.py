"""Which tool call each piece of a stream belongs to, and what its name is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ToolCallPieces:
    """The tool calls of one answer, by what their pieces have in common.

    OpenAI's API sends an index in each piece, and the id and the name in the first one. Some servers send no
    index, or null. Then an id names the call, in each piece or in the first one. Without an index and an id,
    a piece with a name starts the next call, and any other piece continues the last one.
    """

    def __init__(self) -> None:
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._named: set[int] = set()
        self._count = 0
        self._last = 0

    def number_of(self, piece: Mapping[str, Any]) -> int:
        """Return the number of the piece's call: 0 for the first call, and so on."""
        index, call_id, name = _index_in(piece), _text_in(piece, "id"), _name_in(piece)
        number = self._known(index, call_id, name)
        if number is None:
            number = self._count
            self._count += 1
        if index is not None:
            self._by_index[index] = number
        if call_id:
            self._by_id.setdefault(call_id, number)
        if name:
            self._named.add(number)
        self._last = number
        return number

    def _known(self, index: int | None, call_id: str, name: str) -> int | None:
        """The number of a call that has begun; None if the piece starts the next one."""
        if index is not None:
            return self._by_index.get(index)  # first: some servers change the id in each piece, or repeat one
        if call_id:
            return self._by_id.get(call_id)
        starts = not self._count or (name and self._last in self._named)
        return None if starts else self._last


def add_name_piece(names: list[str], piece: str) -> None:
    """Add a piece of a function's name to the others. Some servers repeat the whole name in each piece."""
    if piece and names != [piece]:
        names.append(piece)


def _index_in(piece: Mapping[str, Any]) -> int | None:
    index = piece.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None


def _name_in(piece: Mapping[str, Any]) -> str:
    function = piece.get("function")
    return _text_in(function, "name") if isinstance(function, dict) else ""


def _text_in(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
