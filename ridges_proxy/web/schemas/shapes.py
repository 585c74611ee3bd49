"""What a reader of values takes, as JSON Schema, beside the reader: `/openapi.json` is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Read = TypeVar("Read", bound="Callable[..., Any]")


def takes(**shape: Any) -> Callable[[Read], Read]:  # noqa: ANN401 - JSON Schema
    """Say what a reader takes."""

    def describe(read: Read) -> Read:
        vars(read)["shape"] = shape
        return read

    return describe


def shape_of(read: Callable[..., Any]) -> dict[str, Any]:
    """What a reader takes. Every reader of a field must say."""
    shape: dict[str, Any] = vars(read)["shape"]
    return shape
