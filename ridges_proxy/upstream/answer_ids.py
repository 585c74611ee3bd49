"""The ids by which a bill of the upstream names a call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ID_CHARACTERS = 128
"""A UUID has 36, the id of a completion about 40. Longer ids are dropped: each is stored with its call."""

INVOCATION_HEADERS = ("X-Chutes-InvocationID", "X-Request-ID")
"""The headers with the id of a request, the first choice first: that of Chutes, and that of most others."""


def usable_id(value: object) -> str:
    """Return an id of printable ASCII; an empty text for any other value, and for one that is too long."""
    if isinstance(value, str) and len(value) <= MAX_ID_CHARACTERS and value.isascii() and value.isprintable():
        return value
    return ""


def invocation_id_in(headers: Mapping[str, str]) -> str:
    """Return the id of the request in the headers of its answer; an empty text without a usable one."""
    for name in INVOCATION_HEADERS:
        if found := usable_id(headers.get(name)):
            return found
    return ""
