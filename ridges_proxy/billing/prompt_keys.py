"""Keys of the beginnings and of the sequences of a prompt's messages: keyed digests. Pure."""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.billing.repeats import may_be_result
from ridges_proxy.runtime.shared_table import KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ridges_proxy.billing.prompt import Prompt


NEAR_END = 4
"""Messages behind the beginnings that are hashed first. A step of an agent has two, or a few more."""


class PromptKeys:
    """The keys of what is known of one prompt. Each digest is computed once, and only if it is needed."""

    def __init__(self, prompt: Prompt, salt: bytes, head: int) -> None:
        """`salt` is secret. It stands for all that a count depends on beside the messages.

        `head` is the number of messages in a beginning that is asked for often, beside those near the end.
        """
        self._prompt, self._salt, self._head = prompt, salt, head
        self.first_user, self.last_user = _first_and_last(prompt.roles, "user")
        """The indexes of these messages; -1 if there is none."""
        self._beginnings: dict[int, bytes] = {}
        self._messages: dict[int, bytes] = {}
        self._contents: dict[int, bytes] = {}
        self._ids_of_calls: dict[int, frozenset[str]] = {}

    def exact(self, length: int) -> bytes:
        """Return the key of the count of a list of the first messages."""
        return self._beginning(length)[:KEY_BYTES]

    def limit(self, length: int) -> bytes:
        """Return the key of the smallest count of the lists that begin with the first messages."""
        return self._beginning(length)[-KEY_BYTES:]

    def message(self, index: int) -> bytes:
        """Return the key of a message, as the first one of a sequence.

        It is recognized by its content, a tool's result by that together with the call that it answers. A
        result that does not answer the calls before it is recognized only behind the same messages.
        """
        if index not in self._messages:
            key = self._content(index)
            if may_be_result(self._prompt.roles[index]):
                key = digest(self._salt, b"message", key, self._context(index))
            self._messages[index] = key
        return self._messages[index]

    def sequence(self, scope: bytes, start: int, end: int) -> bytes:
        """Return the key of the count of a sequence. `scope` names the limit that it belongs to, if any."""
        form = b"%d%d%d" % self._form(start, end)
        return digest(self._salt, b"sequence", form, scope, *map(self.message, range(start, end)))

    def _form(self, start: int, end: int) -> tuple[int, int, int]:
        """Return what decides how templates write a sequence, beside its messages and their callers.

        These are: whether it continues messages of the same role, which templates join; what follows it (the
        end of the list is like an assistant message, which the model begins there); and whether the assistant
        messages at its end are before the last user message. A small error of the form would be in many
        sequences of one list, and their sum would be missing from the one that is learned from this list.
        """
        roles = self._prompt.roles
        last, after = roles[end - 1], roles[end] if end < len(roles) else "assistant"
        behind_user = roles[start:end][::-1]
        if "user" in behind_user:
            behind_user = behind_user[: behind_user.index("user")]
        return (
            start > 0 and roles[start - 1] == roles[start],
            1 if after == last else 2 * (after != "assistant"),
            self.last_user >= end and "assistant" in behind_user,
        )

    def _beginning(self, length: int) -> bytes:
        """Return the digest of the first messages.

        SHA-256 takes 40 % of the time of BLAKE2b here: processors have instructions for it.
        """
        if length not in self._beginnings:
            count = len(self._prompt.parts)
            near = range(max(1, count - NEAR_END), count + 1)
            first = sorted({self._head or count, *near})
            lengths = first if length in first and not self._beginnings else range(1, count + 1)
            self._beginnings.update(self._hashed(lengths))
        return self._beginnings[length]

    def _hashed(self, lengths: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield each length with the digest of as many messages. The whole list is hashed once."""
        running, start = sha256(self._salt), 0
        for length in lengths:
            running.update(b"".join(self._prompt.parts[start:length]))
            yield length, running.copy().digest()
            start = length

    def _content(self, index: int) -> bytes:
        if index not in self._contents:
            text = b"".join((self._salt, b"content", self._prompt.parts[index]))
            self._contents[index] = sha256(text).digest()[:KEY_BYTES]
        return self._contents[index]

    def _context(self, index: int) -> bytes:
        caller = self._callers[index]
        call_id = orjson.loads(self._prompt.parts[index]).get("tool_call_id")
        answers = isinstance(call_id, str) and call_id in self._call_ids(caller)
        return self._content(caller) if answers else self._beginning(index + 1)

    @cached_property
    def _callers(self) -> list[int]:
        """For each message, the last one that is no tool's result; the first of all if there is none."""
        callers, caller = [], 0
        for index, role in enumerate(self._prompt.roles):
            caller = caller if may_be_result(role) else index
            callers.append(caller)
        return callers

    def _call_ids(self, index: int) -> frozenset[str]:
        """Return the ids of a message's tool calls. A text that looks like an id is none."""
        if index not in self._ids_of_calls:
            calls = orjson.loads(self._prompt.parts[index]).get("tool_calls") or []
            ids = (call.get("id") for call in calls)
            self._ids_of_calls[index] = frozenset(each for each in ids if isinstance(each, str))
        return self._ids_of_calls[index]


def _first_and_last(roles: tuple[str, ...], role: str) -> tuple[int, int]:
    """Return the indexes of the first and of the last message of a role; -1 if there is none."""
    if role not in roles:
        return -1, -1
    return roles.index(role), len(roles) - 1 - roles[::-1].index(role)


def digest(key: bytes, *parts: bytes) -> bytes:
    """Return the digest of all parts under a key of at most 64 bytes. Parts must not be taken for others."""
    return blake2b(b"\0".join(parts), digest_size=KEY_BYTES, key=key).digest()
